#!/usr/bin/env bash
# From nothing to pictures: sets up Python, draws a small synthetic city (or takes your data),
# trains, scores, runs the demo.
#
#   ./scripts/quickstart.sh                                        # about 5 minutes on 2 cores
#   ./scripts/quickstart.sh --dataset camvid --data-root data/camvid
#
# Other options go to train.py, for example --max-steps 100. Results are in runs/quickstart-DATASET.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "$ROOT/requirements.txt" torch torchvision cv2 PIL scipy tqdm tensorboard

dataset=cityscapes data_root=
words=("$@")
for i in "${!words[@]}"; do
    case "${words[$i]}" in
        --dataset) dataset="${words[$i + 1]:-}" ;;
        --dataset=*) dataset="${words[$i]#*=}" ;;
        --data-root | --data_root) data_root="${words[$i + 1]:-}" ;;
        --data-root=* | --data_root=*) data_root="${words[$i]#*=}" ;;
        -h | --help)
            sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
    esac
done
if [ -z "$data_root" ]; then
    if [ "$dataset" != cityscapes ]; then
        echo "error: --dataset $dataset needs --data-root DIR" >&2
        exit 2
    fi
    dataset=cityscapes data_root="$ROOT/data/synthetic"
    echo "== drawing a synthetic city: $data_root"
    "$PYTHON" -m datasets.synthetic "$data_root" --train 96 --val 16 --size 256x512 --seed 0
fi

run="$ROOT/runs/quickstart-$dataset"
resume=()
if [ -e "$run/last.pth" ]; then
    echo "== training in $run goes on where it was"
    resume=(--resume)
else
    echo "== training: $run"
fi
"$PYTHON" "$ROOT/train.py" --arch deeplabv3_resnet18 --dataset "$dataset" --data-root "$data_root" \
    --run-dir "$run" --crop-size 256 256 --scale 0.75 1.5 --batch-size 8 --epochs 20 --val-every 5 \
    --optimizer adamw --lr 1e-3 --weight-decay 0.01 --warmup-steps 10 --schedule cosine \
    --class-weights enet110 "${resume[@]}" "$@"

echo "== scores of $run/best.pth on the val split"
"$PYTHON" "$ROOT/evaluate.py" --snapshot "$run/best.pth" --data-root "$data_root" \
    --json "$run/scores.json"

echo "== demo"
image="$("$PYTHON" - "$dataset" "$data_root" <<'PYTHON'
import sys
from datasets import build_dataset
print(build_dataset(*sys.argv[1:], "val").samples[0].image)
PYTHON
)"
"$PYTHON" "$ROOT/demo.py" --demo-image "$image" --snapshot "$run/best.pth" --save-dir "$run/demo"
