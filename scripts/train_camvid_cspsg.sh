#!/usr/bin/env bash
# CSPSG on CamVid, from Cityscapes weights, as published: Zhou et al., "Real-time semantic
# segmentation in traffic scene using Cross Stage Partial-based encoder-decoder network", EAAI 2023.
#
#   ./scripts/train_camvid_cspsg.sh --init runs/cityscapes/best.pth
#
# Published: m 81.3 % test mIoU, whose best epoch was chosen on the test split; here it is on val.
# Not trained in full here. Differs otherwise as train_cityscapes_cspsg.sh says.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --init cityscapes_cspsg.pth "$@"
launch train.py --dataset camvid --arch cspsg_l --batch-size 64 --epochs 300 --val-every 5 \
    --crop-size 640 640 --scale 0.5 1.5 --jitter 0.2 --hue 0.2 --blur 0 --loss bce --ema 0.9999 \
    --optimizer sgd --nesterov --lr 0.01 --momentum 0.937 --weight-decay 5e-4 \
    --schedule linear --final-factor 0.01 --schedule-per epoch --warmup-steps 100 "$@"
