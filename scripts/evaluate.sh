#!/usr/bin/env bash
# Scores a checkpoint on all GPUs here, or on the CPU.
#
#   ./scripts/evaluate.sh --snapshot runs/NAME/best.pth --data-root data/cityscapes
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "$ROOT/requirements.txt" torch torchvision cv2 PIL scipy tqdm tensorboard
NPROC="${NPROC:-$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))')}"
exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$NPROC" "$ROOT/evaluate.py" "$@"
