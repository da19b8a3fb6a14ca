#!/usr/bin/env bash
# DeepLabV3+ on WideResNet38, pre-trained on Mapillary Vistas, 65 classes, as published:
# Zhu et al., "Improving Semantic Segmentation via Video Propagation and Label Relaxation", CVPR 2019.
#
#   ./scripts/train_mapillary_wide_resnet38.sh --pretrained-encoder wider_resnet38.pth.tar
#
# Expected: not published for this step; it gives the weights that the Cityscapes recipe starts from.
# Validates at a longer side of 2048, where the published code takes a height of 1536; void is not
# counted as the last class, as it does (--upstream-last-bin).
# GPUs: 8; hours: not published.
# Two images on each GPU: the loss adds up the images of a GPU as the published code does, so with
# another number per GPU change --lr too.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --pretrained-encoder wider_resnet38.pth.tar "$@"
launch train.py --dataset mapillary --arch deeplabv3plus_wide_resnet38 \
    --batch-size 16 --sync-bn --epochs 175 --val-every 5 --eval-size 2048 --eval-crop 1536 1536 \
    --crop-size 896 896 --scale 0.5 2.0 --jitter 0.25 --hue 0.25 --blur 1 \
    --class-uniform 0.5 --tile 1024 \
    --loss image_weighted --class-weight-bound 6 --upstream-batch-scale \
    --optimizer sgd --lr 2e-2 --momentum 0.9 --weight-decay 1e-4 --decay-all \
    --schedule poly --poly-power 1 --schedule-per epoch "$@"
