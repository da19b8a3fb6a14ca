#!/usr/bin/env bash
# Predicts the test split and packs it for the benchmark server, on all GPUs here, or on the CPU.
#
#   ./scripts/submit.sh runs/NAME/best.pth results/mine --data-root data/cityscapes
#   ./scripts/submit.sh --snapshot runs/NAME/best.pth --save-dir results/mine
#
# Averages three scales, each also mirrored, which is 10.5 times the pixels of one plain forward
# (--scales 1 --no-flip); --window PIXELS bounds the memory. Writes pred/*.png (ids) and the checked
# zip; --skip-done goes on after an interruption.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [[ "${1:--}" != -* ]]; then
    if [[ "${2:--}" != -* ]]; then
        set -- --snapshot "$1" --save-dir "${@:2}"
    else
        set -- --snapshot "$@"
    fi
fi
launch test.py --save-dir results/submit --scales 0.5 1.0 2.0 --flip "$@"
