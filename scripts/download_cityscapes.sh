#!/usr/bin/env bash
# Cityscapes, fine labels and images (11 GB packed): to data/cityscapes, or $CITYSCAPES_DATASET.
#
#   ./scripts/download_cityscapes.sh
#   ./scripts/download_cityscapes.sh leftImg8bit_trainextra.zip gtCoarse.zip --to DIR
#
# Needs an account of cityscapes-dataset.com and pip install cityscapesscripts, whose csDownload
# asks for the login, compares each md5 and lists the packages (csDownload -l). Run it again after
# an interruption: it goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/archives.sh"
read_options "${CITYSCAPES_DATASET:-data/cityscapes}" "$@"
[ ${#packages[@]} -gt 0 ] || packages=(gtFine_trainvaltest.zip leftImg8bit_trainvaltest.zip)
for package in "${packages[@]}"; do
    if ! is_whole "$folder/$package"; then
        PATH="$PATH:${VIRTUAL_ENV:-$ROOT/.venv}/bin"
        command -v csDownload >/dev/null || fail "csDownload: not installed; pip install cityscapesscripts"
        # asking for more than there is of a finished archive fails, hence the look at it before
        csDownload -r -d "$folder" "$package" ||
            fail "$package: csDownload stopped, see above; run this again to go on; if it always stops" \
                "there, delete $folder/$package first"
        is_whole "$folder/$package" || fail "$folder/$package: damaged; delete it and run this again"
    fi
    unpack "$folder/$package"
done
for package in "${packages[@]}"; do
    case "$package" in
        gtFine_trainvaltest.zip)
            expect 2975 "gtFine/train/*/*_labelIds.png"
            expect 500 "gtFine/val/*/*_labelIds.png"
            ;;
        leftImg8bit_trainvaltest.zip)
            expect 2975 "leftImg8bit/train/*/*_leftImg8bit.png"
            expect 500 "leftImg8bit/val/*/*_leftImg8bit.png"
            expect 1525 "leftImg8bit/test/*/*_leftImg8bit.png"
            ;;
    esac
done
echo "Cityscapes is in $folder"
