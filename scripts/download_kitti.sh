#!/usr/bin/env bash
# KITTI semantics 2015 (200 labelled images, 200 of the test): to data/kitti, or $KITTI_DATASET.
#
#   ./scripts/download_kitti.sh                        # --to DIR for another folder
#   KITTI_URL=https://MIRROR/data_semantics.zip ./scripts/download_kitti.sh
#
# No checksum is published; the number of images is compared with the known one. Run it again after
# an interruption: it goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/archives.sh"
read_options "${KITTI_DATASET:-data/kitti}" "$@"
fetch "${KITTI_URL:-https://s3.eu-central-1.amazonaws.com/avg-kitti/data_semantics.zip}" \
    "$folder/data_semantics.zip"
unpack "$folder/data_semantics.zip"
expect 200 "training/image_2/*.png"
expect 200 "training/semantic/*.png"
expect 200 "testing/image_2/*.png"
echo "KITTI is in $folder"
