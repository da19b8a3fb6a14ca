#!/usr/bin/env bash
# DeepLabV3-ResNet18 on Cityscapes: crops of 768x768, 200 epochs, batch 16 over all GPUs.
#
#   ./scripts/train_cityscapes.sh                        # all GPUs here, or the CPU
#   CITYSCAPES_DATASET=/data/cityscapes ./scripts/train_cityscapes.sh --arch deeplabv3_resnet50
#   NPROC=4 ./scripts/train_cityscapes.sh --run-dir runs/mine
#   LAUNCH="--nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500" ./scripts/train_cityscapes.sh
#
# Expected: not measured. Published for this architecture: 59.3 % val mIoU with --eval-size 512 1024
# (fregu856/deeplabv3, trained with 4,078 extra images).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
launch train.py --dataset cityscapes --arch deeplabv3_resnet18 --output-stride 8 \
    --crop-size 768 768 --scale 0.5 2.0 --batch-size 16 --epochs 200 --val-every 5 --ema 0.999 \
    --optimizer sgd --lr 0.01 --schedule poly --weight-decay 1e-4 --sync-bn "$@"
