# Sourced by download_*.sh: fetches archives and unpacks them; what is there is passed over.

source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

fail() {
    echo "error: $1" >&2
    exit 2
}

# usage: read_options DEFAULT "$@"   sets `folder`, and `packages` to the words that are no options
read_options() {
    folder="$1" packages=()
    shift
    while [ $# -gt 0 ]; do
        case "$1" in
            -h | --help)
                print_header
                exit 0
                ;;
            --to) [ -n "${2:-}" ] || fail "--to: give a folder" && folder="$2" && shift ;;
            --to=*) folder="${1#*=}" ;;
            -*) fail "$1: no such option; --help lists them" ;;
            *) packages+=("$1") ;;
        esac
        shift
    done
    command -v unzip >/dev/null || fail "unzip: not installed; install it with the system's packages"
    mkdir -p "$folder"
}

# usage: is_whole ARCHIVE   compares every checksum in it; a part of an archive has no directory
is_whole() {
    [ -e "$1" ] && unzip -tqq "$1" >/dev/null 2>&1
}

# usage: fetch URL ARCHIVE
fetch() {
    local url="$1" archive="$2" code=0
    is_whole "$archive" && return
    command -v curl >/dev/null || fail "curl: not installed; install it with the system's packages"
    curl --fail --location --retry 6 --continue-at - --output "$archive" "$url" || code=$?
    if [ "$code" = 33 ]; then # this server cannot go on in the middle
        code=0
        curl --fail --location --retry 6 --output "$archive" "$url" || code=$?
    fi
    is_whole "$archive" && return
    [ "$code" = 0 ] || fail "$url: curl stopped with code $code, see above; run this again to go on"
    fail "$archive: damaged; delete it and run this again"
}

# usage: unpack ARCHIVE [FOLDER_IN_IT]   into `folder`; each file appears there when all are whole
unpack() {
    local archive="$1" inner="${2:-}" stage name
    local wanted=("$archive" ${inner:+"$inner/*"})
    if ! unzip -Z1 "${wanted[@]}" | while read -r name; do
        [ -e "$folder/${name#"${inner:+$inner/}"}" ] || exit 1
    done 2>/dev/null; then
        echo "unpacking $archive"
        rm -rf "$folder"/.unpacking-?????? # of killed ones
        stage="$(mktemp -d "$folder/.unpacking-XXXXXX")" # a name that no archive can hold
        unzip -q "${wanted[@]}" -d "$stage" || fail "$archive: unzip stopped, see above"
        "$(find_python)" -c 'import os, shutil, sys
shutil.copytree(*sys.argv[1:], copy_function=os.replace, dirs_exist_ok=True)' \
            "$stage${inner:+/$inner}" "$folder"
        rm -rf "$stage"
    fi
}

# usage: expect NUMBER PATTERN   of files under `folder`
expect() {
    local found
    found="$(find "$folder" -path "$folder/$2" | wc -l)"
    [ "$found" -eq "$1" ] || fail "$folder/$2: $((found)) files, expected $1; delete the archive and run this again"
}
