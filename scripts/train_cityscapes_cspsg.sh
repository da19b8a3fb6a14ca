#!/usr/bin/env bash
# CSPSG on Cityscapes, as published: Zhou et al., "Real-time semantic segmentation in traffic scene
# using Cross Stage Partial-based encoder-decoder network", EAAI 2023.
#
#   ./scripts/train_cityscapes_cspsg.sh --arch cspsg_m
#   ./scripts/train_cityscapes_cspsg.sh --arch cspsg_l --train-split train+train_extra
#
# Published: s 80.1, m 82.0, l 82.5 % val mIoU; from pretrained encoders and, for the best, with the
# coarse labels of train_extra. Not trained in full here. 64 images a step, as published by
# accumulation: 4 images of a GPU at a time are --accumulate 16 on one GPU, 2 on eight.
# Differs: the running mean of the weights is validated and saved (published code makes it and uses
# the raw weights); the color changes in every crop, not in half; momentum does not warm up;
# no mosaic of four crops.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
launch train.py --dataset cityscapes --arch cspsg_m --batch-size 64 --epochs 300 \
    --crop-size 512 1024 --scale 0.5 1.5 --jitter 0.2 --hue 0.2 --blur 0 --loss bce --ema 0.9999 \
    --optimizer sgd --nesterov --lr 0.01 --momentum 0.937 --weight-decay 5e-4 \
    --schedule linear --final-factor 0.01 --schedule-per epoch --warmup-steps 140 "$@"
