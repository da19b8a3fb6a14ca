#!/usr/bin/env bash
# DeepLabV3+ on WideResNet38 on Cityscapes with label relaxation, as published:
# Zhu et al., "Improving Semantic Segmentation via Video Propagation and Label Relaxation", CVPR 2019.
#
#   ./scripts/train_cityscapes_wide_resnet38.sh --init runs/mapillary/best.pth
#   ./scripts/train_cityscapes_wide_resnet38.sh --init FILE --propagated-root data/propagated
#
# Expected: 81.4 % val mIoU on split 0 without propagated frames; 83.5 % test, multi-scale, with
# propagated frames.
# GPUs: 8 V100; hours: 14. Validates on cross-validation split 2.
# Coarse labels (gtCoarse.zip and train_extra images) have to be there; without them leave out
# --coarse-boost: end the line with --coarse-boost and no class. With another --loss or --schedule end
# it with --strict-classes too, or take out what belongs to these.
# Two images on each GPU: the loss adds up the images of a GPU as the published code does, so with
# another number per GPU change --lr too.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --init mapillary_wide_resnet38.pth "$@"
launch train.py --dataset cityscapes --cv-split 2 --arch deeplabv3plus_wide_resnet38 \
    --batch-size 16 --sync-bn --epochs 175 --val-every 5 \
    --crop-size 896 896 --scale 0.5 2.0 --jitter 0.25 --hue 0.25 --blur 1 \
    --class-uniform 0.5 --tile 1024 --max-cu-epoch 150 \
    --coarse-boost truck bus train wall rider motorcycle fence \
    --loss label_relaxation --relax-until 100 --class-weight-bound 1 --upstream-batch-scale \
    --strict-classes pole "traffic light" "traffic sign" person rider motorcycle bicycle \
    --optimizer sgd --lr 1e-3 --momentum 0.9 --weight-decay 1e-4 --decay-all \
    --schedule scl-poly --poly-power 1 --restart-factor 1 --restart-power 1.5 \
    --schedule-per epoch "$@"
