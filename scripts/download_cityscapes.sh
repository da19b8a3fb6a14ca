#!/usr/bin/env bash
# Cityscapes, fine labels and images (11 GB packed): to data/cityscapes, or $CITYSCAPES_DATASET.
#
#   ./scripts/download_cityscapes.sh
#   ./scripts/download_cityscapes.sh leftImg8bit_trainextra.zip gtCoarse.zip --to DIR
#
# Needs an account of cityscapes-dataset.com and pip install cityscapesscripts, whose csDownload
# asks for the login. Run it again after an interruption: it goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "$ROOT/requirements.txt" "${RUNTIME[@]}"
exec "$PYTHON" -m datasets.cityscapes_packages "$@"
