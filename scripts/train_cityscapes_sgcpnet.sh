#!/usr/bin/env bash
# SGCPNet on Cityscapes, as published: Hao et al., "Real-Time Semantic Segmentation via Spatial-Detail
# Guided Context Propagation", TNNLS 2022, https://arxiv.org/abs/2005.11034.
#
#   ./scripts/train_cityscapes_sgcpnet.sh --pretrained-encoder mbv3_small.pth.tar
#
# Published: 70.9 % test mIoU at 1024x2048. Not trained in full here. GPUs and hours: not published.
# 36 images are divided among 1, 2, 3, 4 or 6 GPUs; on 8, end the line with --batch-size 32.
# Encoder and rest are published with a rate each; both are 0.3.
# Differs: images are resized by area and linearly, not cubically; the lower bound of 350 pixels for
# an image's shorter side is left out, since 1024 * 0.5 is above; the best epoch on val is kept beside
# the last, which is the published one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --pretrained-encoder mbv3_small.pth.tar "$@"
launch train.py --dataset cityscapes --arch sgcpnet --batch-size 36 --sync-bn --epochs 350 \
    --val-every 10 --crop-size 1024 1024 --scale 0.5 2.0 --jitter 0 --hue 0 --blur 0 \
    --optimizer sgd --lr 0.3 --encoder-lr-factor 1 --momentum 0.9 --weight-decay 1e-5 --decay-all \
    --schedule poly --poly-power 0.9 "$@"
