#!/usr/bin/env bash
# From nothing to pictures: sets up Python, draws a small synthetic city (or takes your data),
# trains, scores, runs the demo.
#
#   ./scripts/quickstart.sh                    # 4 to 5 minutes on 2 cores, after installation
#   ./scripts/quickstart.sh --long             # about half an hour
#   ./scripts/quickstart.sh --dataset camvid --data-root data/camvid --name quickstart-camvid
#
# The city is learned at about half its size, where four times as many scenes are seen in the same
# time: the network sees 160x320 pixels (--eval-size 320), labels have the size of the image. With
# --long and with your data a training at full size follows. Other options go to train.py, for
# example --max-steps 100. Results are in runs/NAME, default runs/quickstart; a second run with the
# same options finds them and trains no more, an interrupted one goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dataset=cityscapes data_root='' name='' half_steps=1300 half_batch=8 full_steps=0 full_batch=4
options=() half_size=() seen=() scored=() cache=() images=() average=()
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
        --eval-size | --eval_size | --eval-size=* | --eval_size=*)
            echo "error: $1: the quickstart chooses the size; for another, use train.py" >&2
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
if [ -n "$data_root" ]; then
    [ "$full_steps" != 0 ] || half_steps=1200 full_steps=540
else
    half_size=(--eval-size 320) cache=(--cache raw)
    data_root="$ROOT/data/quickstart"
    echo "== drawing a synthetic city: $data_root"
    "$PYTHON" -m datasets.synthetic "$data_root" --train 192 --val 64 --size 256x512 --seed 0
    images=("$data_root"/leftImg8bit/val/*/*.png)
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
half="$run/half-size"
if [ "$full_steps" = 0 ]; then
    half="$run" seen=("${half_size[@]}") average=(--ema 0.98)
fi
if { [ "$half" = "$run" ] && [ -e "$run/half-size" ]; } ||
    { [ "$half" != "$run" ] && [ -e "$run/last.pth" ] && [ ! -e "$half/last.pth" ]; }; then
    echo "error: $run: was trained otherwise; give another --name, or delete it" >&2
    exit 2
fi
echo "== training on half the size: $half"
train "$half" --max-steps "$half_steps" --warmup-steps 20 --lr 3e-3 \
    --batch-size "$half_batch" --crop-size 128 128 --scale 0.4 0.7 ${average[@]+"${average[@]}"} \
    ${half_size[@]+"${half_size[@]}"} ${options[@]+"${options[@]}"}
if [ "$full_steps" != 0 ]; then
    echo "== training on the full size: $run"
    train "$run" --init "$half/best.pth" --max-steps "$full_steps" --warmup-steps 10 --ema 0.98 \
        --batch-size "$full_batch" --lr 2e-3 --crop-size 256 256 --scale 0.8 1.3 ${options[@]+"${options[@]}"}
fi

echo "== scores of $run/best.pth on the val split"
"$PYTHON" "$ROOT/evaluate.py" --snapshot "$run/best.pth" --data-root "$data_root" \
    --json "$run/scores.json" ${seen[@]+"${seen[@]}"} ${scored[@]+"${scored[@]}"}

echo "== demo on a val image"
if [ -z "${images[*]-}" ]; then
    images=("$("$PYTHON" -c 'import sys
from datasets import build_dataset
print(build_dataset(*sys.argv[1:], "val").samples[0].image)' "$dataset" "$data_root")")
fi
demo=("$PYTHON" "$ROOT/demo.py" --snapshot "$run/best.pth" ${seen[@]+"${seen[@]}"})
"${demo[@]}" --demo-image "${images[0]}" --save-dir "$run/demo"
echo "== and on yours: $(printf '%q ' "${demo[@]}")--demo-image FILE"
