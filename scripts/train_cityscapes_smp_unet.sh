#!/usr/bin/env bash
# Unet on EfficientNet-B4 of segmentation_models_pytorch (pip install segmentation-models-pytorch) on
# Cityscapes, as in github.com/massimilianoviola/semantic-segmentation-cityscapes.
#
#   ./scripts/train_cityscapes_smp_unet.sh --pretrained-encoder imagenet     # downloads it
#   ./scripts/train_cityscapes_smp_unet.sh --arch smp:deeplabv3plus:efficientnet-b4
#
# Expected: not measured, and no figure is published. One GPU there; crops of the full resolution,
# no flip, no change of size or color. Two things differ from there: the learning rate ends at 0, not
# 1e-6, and void is not trained as a class of its own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
starts_from --pretrained-encoder imagenet "$@"
launch train.py --dataset cityscapes --arch smp:unet:efficientnet-b4 \
    --crop-size 512 512 --scale 1 1 --flip 0 --jitter 0 --hue 0 --blur 0 \
    --batch-size 8 --epochs 60 --val-every 5 --loss cross_entropy \
    --optimizer adam --lr 5e-4 --momentum 0.9 --weight-decay 0 \
    --schedule cosine --schedule-per epoch "$@"
