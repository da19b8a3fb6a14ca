#!/usr/bin/env bash
# CSPSG on Cityscapes, fine and coarse labels, as published: Zhou et al., "Real-time semantic
# segmentation in traffic scene using Cross Stage Partial-based encoder-decoder network", EAAI 2023.
#
#   ./scripts/train_cityscapes_cspsg.sh                                  # cspsg_m
#   ./scripts/train_cityscapes_cspsg.sh --arch cspsg_l --mosaic 1 --crop-size 1024 2048
#   ./scripts/train_cityscapes_cspsg.sh --train-split train --warmup-steps 138     # fine labels only
#
# Published: 80.1, 82.0, 82.5 % val mIoU of s, m and l; 80.8 and 81.5 % test mIoU of m and l. Not
# trained in full here. GPUs and hours: not published.
# Needs gtCoarse.zip and the images of train_extra; the second line is the published mosaic.
# A step is 64 images in forwards of 4, on one GPU; on N GPUs end the line with --accumulate 16/N.
# The published loss is 64 times ours, a mean, so --lr is 64 times the published 0.01 and
# --weight-decay its 5e-4 divided by 64. The warm-up is 3 epochs, 22,973 images / 64 * 3 steps.
# Differs: starts from random weights, not from a COCO detector's; the running mean of the weights is
# validated and saved, where published code makes one and uses the raw weights (--ema 0 --ema-ramp 0);
# steps of the warm-up are not smaller; colors change in every crop, not in half of them.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
launch train.py --dataset cityscapes --train-split train+train_extra --arch cspsg_m \
    --batch-size 64 --accumulate 16 --epochs 300 --crop-size 512 1024 --scale 0.5 1.5 \
    --jitter 0.2 --hue 0.2 --blur 0 --loss bce --ema 0.9999 --ema-ramp 2000 \
    --optimizer sgd --nesterov --lr 0.64 --momentum 0.937 --weight-decay 7.8125e-6 \
    --schedule linear --final-factor 0.01 --schedule-per epoch \
    --warmup-steps 1074 --warmup-momentum 0.8 "$@"
