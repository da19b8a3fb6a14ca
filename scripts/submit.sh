#!/usr/bin/env bash
# Predicts the test split for the benchmark server, on all GPUs here, or on the CPU.
#
#   ./scripts/submit.sh --snapshot runs/NAME/best.pth --data-root data/cityscapes
#
# Writes results/submit/pred/*.png (ids); --save-dir DIR for another place.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
launch test.py --save-dir results/submit "$@"
