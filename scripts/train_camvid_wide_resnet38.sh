#!/usr/bin/env bash
# DeepLabV3+ on WideResNet38 on CamVid (960x720 or 480x360, 11 classes), from Cityscapes weights:
# Zhu et al., "Improving Semantic Segmentation via Video Propagation and Label Relaxation", CVPR 2019.
#
#   ./scripts/train_camvid_wide_resnet38.sh --init runs/cityscapes/best.pth
#
# Published: 81.7 % test mIoU at one scale, 82.9 % at several, 960x720, trained on train and val
# (--train-split trainval). No script was published for it; this is KITTI's with a larger crop.
# GPUs: 8; hours: not published.
# Two images on each GPU: the loss adds up the images of a GPU as the published code does, so with
# another number per GPU change --lr too.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --init cityscapes_wide_resnet38.pth "$@"
launch train.py --dataset camvid --arch deeplabv3plus_wide_resnet38 \
    --batch-size 16 --sync-bn --epochs 90 --val-every 5 \
    --crop-size 640 640 --scale 1.0 2.0 --jitter 0.25 --hue 0.25 --blur 1 \
    --class-uniform 0.5 --tile 300 \
    --loss image_weighted --class-weight-bound 1 --upstream-batch-scale \
    --optimizer sgd --lr 1e-3 --momentum 0.9 --weight-decay 1e-4 --decay-all \
    --schedule poly --poly-power 1 --schedule-per epoch "$@"
