#!/usr/bin/env bash
# SGCPNet on Cityscapes, as published: Hao et al., "Real-Time Semantic Segmentation via Spatial-Detail
# Guided Context Propagation", TNNLS 2022, https://arxiv.org/abs/2005.11034.
#
#   ./scripts/train_cityscapes_sgcpnet.sh --pretrained-encoder mobilenet_imagenet.pth
#
# Published: 70.9 % test mIoU at 1024x2048. Not trained in full here. Encoder and rest are published
# with a rate each, which are equal. Differs: images are enlarged linearly, not cubically, and the
# scale has no lower bound of 350 pixels a side; void at image borders is padded with the mean color.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --pretrained-encoder mobilenet_imagenet.pth "$@"
launch train.py --dataset cityscapes --arch sgcpnet --batch-size 36 --sync-bn --epochs 350 \
    --val-every 10 --crop-size 1024 1024 --scale 0.5 2.0 --jitter 0 --hue 0 --blur 0 \
    --optimizer sgd --lr 0.3 --encoder-lr-factor 1 --momentum 0.9 --weight-decay 1e-5 --decay-all \
    --schedule poly --poly-power 0.9 "$@"
