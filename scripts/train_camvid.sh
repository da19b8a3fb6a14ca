#!/usr/bin/env bash
# DeepLabV3-ResNet18 on CamVid (480x360, 11 classes), from scratch. Expected: not measured in full.
#
#   CAMVID_DATASET=data/camvid ./scripts/train_camvid.sh
#   ./scripts/train_camvid.sh --data-root data/camvid --holdout 0006R0
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
launch train.py --dataset camvid --arch deeplabv3_resnet18 --crop-size 352 480 --scale 0.6 2.0 \
    --batch-size 8 --epochs 200 --val-every 10 --ema 0.999 --optimizer adamw --lr 1e-3 \
    --weight-decay 0.03 --warmup-steps 100 --schedule cosine --class-weights enet110 "$@"
