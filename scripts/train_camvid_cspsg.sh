#!/usr/bin/env bash
# CSPSG on CamVid (960x720, 11 classes), from Cityscapes weights, as published: Zhou et al.,
# "Real-time semantic segmentation in traffic scene using Cross Stage Partial-based encoder-decoder
# network", EAAI 2023.
#
#   ./scripts/train_camvid_cspsg.sh --init runs/cityscapes/best.pth
#   ./scripts/train_camvid_cspsg.sh --init FILE --arch cspsg_l
#
# Published: 81.3 % test mIoU of m, with the epoch that was the best on the test split; here val
# chooses it. Not trained in full here. GPUs and hours: not published.
# A step is 66 images in forwards of 6, on one GPU, or of 3 on two; for more, give a --batch-size and
# an --accumulate that they divide. The published loss is 66 times ours, a mean, so --lr is 66 times
# the published 0.01 and --weight-decay its 5.16e-4 divided by 66. The warm-up is 3 epochs of 5 steps.
# Differs otherwise as train_cityscapes_cspsg.sh says, and pads with the mean color, not gray. For
# images of 480x360 end the line with --crop-size 352 480.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --init cityscapes_cspsg.pth "$@"
launch train.py --dataset camvid --arch cspsg_m \
    --batch-size 66 --accumulate 11 --epochs 300 --val-every 5 --crop-size 640 640 --scale 0.5 1.5 \
    --jitter 0.2 --hue 0.2 --blur 0 --loss bce --ema 0.9999 --ema-ramp 2000 \
    --optimizer sgd --nesterov --lr 0.66 --momentum 0.937 --weight-decay 7.8125e-6 \
    --schedule linear --final-factor 0.01 --schedule-per epoch \
    --warmup-steps 15 --warmup-momentum 0.8 "$@"
