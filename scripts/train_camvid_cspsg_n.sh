#!/usr/bin/env bash
# CSPSG-n (1.2 M parameters) on CamVid (480x360, 11 classes) from random weights, for CPUs in real
# time; images are seen at 1.5 times the size.
#
#   ./scripts/train_camvid_cspsg_n.sh --run-dir runs/camvid_fast_scratch
#   ./scripts/train_camvid_cspsg_n.sh --init runs/camvid_fast_scratch/last.pth \
#       --teacher weights/camvid_train.pth --epochs 40 --val-every 10 --lr 1e-3 --warmup-steps 100 \
#       --loss lovasz+cross_entropy --run-dir runs/camvid_fast_teacher
#   ./scripts/train_camvid_cspsg_n.sh --init runs/camvid_fast_teacher/last.pth \
#       --teacher weights/camvid_train.pth --epochs 60 --val-every 15 --warmup-steps 100 \
#       --loss lovasz+cross_entropy --run-dir runs/camvid_fast
#
# weights/camvid_fast.pth is 0.7 of that and 0.3 of the part before it.
#
# From the second part on it learns from another network's answers too, whose encoder had seen
# ImageNet; the weights themselves began as random ones. How, and what was measured: docs/camvid.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
launch train.py --dataset camvid --arch cspsg_n --crop-size 320 384 --scale 1.0 2.2 \
    --eval-size 720 --jitter 0.3 --blur 0.3 --batch-size 12 --epochs 120 --val-every 20 \
    --optimizer adamw --lr 2e-3 --weight-decay 0.02 --schedule cosine --warmup-steps 200 \
    --ema 0.998 --class-weights enet110 --loss cross_entropy --class-uniform 0.5 --tile 120 \
    --paste 0.5 "$@"
