#!/usr/bin/env bash
# SGCPNet on CamVid (960x720, 11 classes), with the settings of its Cityscapes recipe: Hao et al.,
# "Real-Time Semantic Segmentation via Spatial-Detail Guided Context Propagation", TNNLS 2022,
# https://arxiv.org/abs/2005.11034.
#
#   ./scripts/train_camvid_sgcpnet.sh --pretrained-encoder mbv3_small.pth.tar
#   ./scripts/train_camvid_sgcpnet.sh --init runs/cityscapes/best.pth
#
# Published: 69.0 % test mIoU at 960x720, quoted without the paper at hand; no script or settings for
# CamVid. Not trained in full here. Differs as train_cityscapes_sgcpnet.sh says, which also says how 36
# images are divided among GPUs. For images of 480x360 end the line with --crop-size 352 480.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --pretrained-encoder mbv3_small.pth.tar "$@"
launch train.py --dataset camvid --arch sgcpnet --batch-size 36 --sync-bn --epochs 350 \
    --val-every 10 --crop-size 720 960 --scale 0.5 2.0 --jitter 0 --hue 0 --blur 0 \
    --optimizer sgd --lr 0.3 --encoder-lr-factor 1 --momentum 0.9 --weight-decay 1e-5 --decay-all \
    --schedule poly --poly-power 0.9 "$@"
