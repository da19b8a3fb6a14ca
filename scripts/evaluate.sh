#!/usr/bin/env bash
# Scores a checkpoint on all GPUs here, or on the CPU.
#
#   ./scripts/evaluate.sh --snapshot runs/NAME/best.pth --data-root data/cityscapes
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
launch evaluate.py "$@"
