# Sourced by the scripts that set themselves up. Sets ROOT and PYTHON, makes the environment once.
#
# An active virtual environment or an existing .venv is used as it is; else .venv is made, with uv
# where there is one. An installed torch is kept, so a CPU-only or a vendor's build stays.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONSAFEPATH=1 # else a datasets.py in the caller's folder would win over ours

RUNTIME=(torch torchvision cv2 av PIL tqdm tensorboard safetensors)

# usage: ensure_environment REQUIREMENTS_FILE MODULE...   installs when a module is missing
ensure_environment() {
    local requirements="$1" python
    shift
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        PYTHON="$VIRTUAL_ENV/bin/python"
    elif [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-}" != base ]; then
        PYTHON="$CONDA_PREFIX/bin/python"
    else
        PYTHON="$ROOT/.venv/bin/python"
        if [ ! -x "$PYTHON" ]; then
            echo "making $ROOT/.venv"
            if command -v uv >/dev/null; then
                uv venv --quiet --python ">=3.11" "$ROOT/.venv"
            else
                python="$(find_python)" || exit 2
                "$python" -m venv "$ROOT/.venv"
            fi
        fi
    fi
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: $PYTHON is older than Python 3.11; activate a newer one" >&2
        exit 2
    fi
    if ! "$PYTHON" -c 'import sys
from importlib.util import find_spec
sys.exit(not all(map(find_spec, sys.argv[1:])))' "$@"; then
        echo "installing $(basename "$requirements") (PyTorch alone is several GB with CUDA)"
        if command -v uv >/dev/null; then
            uv pip install --quiet --python "$PYTHON" -r "$requirements"
        else
            "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements"
        fi
    fi
}

find_python() {
    local name
    for name in python3 python python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "error: no Python 3.11 or newer found; install one, or uv" >&2
    return 2
}

# usage: print_header   the comment that the running script begins with
print_header() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
}

# usage: explain SCRIPT.py OPTION...   what a launcher says of itself, with the options that it sets
explain() {
    local word options=''
    for word in "${@:2}"; do
        case "$word" in -h | --help) continue ;; --*) options+=$'\n '; esac
        options+=" $word"
    done
    print_header
    [ -z "$options" ] || printf '\noptions, which further ones replace:%s\n' "$options"
    printf '\nall options, with the defaults of those that are not set here: python %s --help\n' "$1"
    exit 0
}

# usage: launch SCRIPT.py OPTION...   one process per GPU here, or one on the CPU.
# NPROC sets the processes per node; LAUNCH holds options of the launcher, for several nodes.
launch() {
    local processes="${NPROC:-}" word
    for word in "${@:2}"; do
        case "$word" in -h | --help) explain "$@" ;; esac
    done
    ensure_environment "$ROOT/requirements.txt" "${RUNTIME[@]}"
    if [ -z "$processes" ]; then
        processes="$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))')"
    fi
    case "$processes" in
        gpu | cpu | auto) ;; # words of the launcher
        *[!0-9]* | 0) echo "error: NPROC=$processes: a number of processes is expected" >&2; exit 2 ;;
    esac
    if [ "$processes" = 1 ] && [ -z "${LAUNCH:-}" ]; then
        exec "$PYTHON" "$ROOT/$1" "${@:2}"
    fi
    # shellcheck disable=SC2086  # a list of words
    exec "$PYTHON" -m utils.processes.launcher --nproc-per-node "$processes" \
        ${LAUNCH:---standalone} "$ROOT/$1" "${@:2}"
}

# usage: starts_from OPTION EXAMPLE "$@"   says so when a recipe is started without its first weights
starts_from() {
    local option="$1" example="$2" word
    shift 2
    for word in "$@"; do
        case "$word" in
            --init* | --snapshot* | --pretrained* | --resume* | -h | --help) return ;;
        esac
    done
    echo "note: random weights; the published recipe starts from $option $example" >&2
}
