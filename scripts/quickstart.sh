#!/usr/bin/env bash
# From nothing to pictures: sets up Python, draws a small synthetic city (or takes your data),
# trains, scores, runs the demo.
#
#   ./scripts/quickstart.sh                    # 4 to 7 minutes on 2 cores, after installation
#   ./scripts/quickstart.sh --long             # about eight times the training
#   ./scripts/quickstart.sh --dataset camvid --data-root data/camvid --name quickstart-camvid
#
# Training starts on images of half the size, which teaches four times as many scenes in the same
# time, and ends on the full size. Other options go to train.py, for example --max-steps 100.
# Results are in runs/NAME, default runs/quickstart; a second run with the same options finds them
# and trains no more, an interrupted one goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dataset=cityscapes data_root='' name='' half_steps=1200 half_batch=8 full_steps=540 full_batch=4
options=() half_size=() scored=() cache=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --long) half_steps=4000 half_batch=16 full_steps=2400 full_batch=8 name="${name:-quickstart-long}" ;;
        --name) name="${2:-}" && shift ;;
        --run-dir | --run_dir | --run-dir=* | --run_dir=*)
            echo "error: $1: the quickstart writes to runs/NAME; give --name NAME" >&2
            exit 2
            ;;
        --holdout) scored+=("$1" "${2:-}") && options+=("$1" "${2:-}") && shift ;;
        --dataset) dataset="${2:-}" && shift ;;
        --dataset=*) dataset="${1#*=}" ;;
        --data-root | --data_root) data_root="${2:-}" && shift ;;
        --data-root=* | --data_root=*) data_root="${1#*=}" ;;
        *) options+=("$1") ;;
    esac
    shift
done
if [ -z "$data_root" ] && [ "$dataset" != cityscapes ]; then
    echo "error: --dataset $dataset needs --data-root DIR" >&2
    exit 2
fi
ensure_environment "$ROOT/requirements.txt" "${RUNTIME[@]}"
run="$ROOT/runs/${name:-quickstart}"
if [ -z "$data_root" ]; then
    half_size=(--eval-size 128 256) cache=(--cache raw)
    data_root="$ROOT/data/quickstart"
    echo "== drawing a synthetic city: $data_root"
    "$PYTHON" -m datasets.synthetic "$data_root" --train 192 --val 64 --size 256x512 --seed 0
fi

# usage: train FOLDER OPTION...   continues what was interrupted, passes over what is done
train() {
    local folder="$1"
    shift
    if [ -e "$folder/last.pth" ]; then
        "$PYTHON" "$ROOT/train.py" --resume "$folder" --dataset "$dataset" \
            --data-root "$data_root" ${options[@]+"${options[@]}"}
    else
        "$PYTHON" "$ROOT/train.py" --arch cspsg_s --dataset "$dataset" \
            --data-root "$data_root" --run-dir "$folder" --epochs 9999 \
            --val-every 9999 --optimizer adamw --weight-decay 0.01 --schedule cosine \
            --jitter 0.1 --hue 0 --blur 0 --class-weights enet110 ${cache[@]+"${cache[@]}"} "$@"
    fi
}
echo "== training on half the size: $run/half-size"
train "$run/half-size" --max-steps "$half_steps" --warmup-steps 20 --lr 3e-3 \
    --batch-size "$half_batch" --crop-size 128 128 --scale 0.4 0.7 ${half_size[@]+"${half_size[@]}"} ${options[@]+"${options[@]}"}
echo "== training on the full size: $run"
train "$run" --init "$run/half-size/best.pth" --max-steps "$full_steps" --warmup-steps 10 \
    --batch-size "$full_batch" --lr 2e-3 --crop-size 256 256 --scale 0.8 1.3 --ema 0.98 ${options[@]+"${options[@]}"}

echo "== scores of $run/best.pth on the val split"
"$PYTHON" "$ROOT/evaluate.py" --snapshot "$run/best.pth" --data-root "$data_root" \
    --json "$run/scores.json" ${scored[@]+"${scored[@]}"}

echo "== demo on a val image"
image="$("$PYTHON" -c 'import sys
from datasets import build_dataset
print(build_dataset(*sys.argv[1:], "val").samples[0].image)' "$dataset" "$data_root")"
"$PYTHON" "$ROOT/demo.py" --demo-image "$image" --snapshot "$run/best.pth" --save-dir "$run/demo"
