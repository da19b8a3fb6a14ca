#!/usr/bin/env bash
# KITTI semantics 2015 (200 labelled images, 200 of the test): to data/kitti, or $KITTI_DATASET.
#
#   ./scripts/download_kitti.sh                        # --to DIR for another folder
#   KITTI_URL=https://MIRROR/data_semantics.zip ./scripts/download_kitti.sh
#
# No checksum is published; the number of images is compared with the known one. Run it again after
# an interruption: it goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "$ROOT/requirements.txt" cv2 PIL tqdm # torch takes seconds to load
url="${KITTI_URL:-https://s3.eu-central-1.amazonaws.com/avg-kitti/data_semantics.zip}"
exec "$PYTHON" -m utils.download "$url" --to "${KITTI_DATASET:-data/kitti}" --unpack \
    --expect "training/image_2/*.png=200" "training/semantic/*.png=200" \
    "testing/image_2/*.png=200" "$@"
