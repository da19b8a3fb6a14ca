#!/usr/bin/env bash
# From nothing to pictures: sets up Python, trains on the drawn city of data/city (or on your data),
# scores, runs the demo.
#
#   ./scripts/quickstart.sh                    # under 5 minutes on 2 cores, after installation
#   ./scripts/quickstart.sh --long             # about a quarter of an hour
#   ./scripts/quickstart.sh --dataset camvid --data-root data/camvid --name quickstart-camvid
#
# Your data is learned at half its size first, where four times as many scenes are seen in the same
# time, then at its full size. Other options go to train.py, for example --max-steps 100. Results are
# in runs/NAME, default runs/quickstart; a second run with the same options finds them and trains no
# more, an interrupted one goes on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

dataset=cityscapes data_root='' name='' image='' options=() scored=() init=()
city=(--max-steps 2400 --batch-size 8)
first=(--max-steps 1200 --batch-size 8) second=(--max-steps 540 --batch-size 4) # of your data
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            print_header
            exit 0
            ;;
        --long)
            name="${name:-quickstart-long}" city=(--max-steps 8000 --batch-size 8)
            first=(--max-steps 4000 --batch-size 16) second=(--max-steps 2400 --batch-size 8)
            ;;
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
half="$run/half-size"
if { [ -z "$data_root" ] && [ -e "$half" ]; } ||
    { [ -n "$data_root" ] && [ -e "$run/last.pth" ] && [ ! -e "$half/last.pth" ]; }; then
    echo "error: $run: was trained otherwise; give another --name, or delete it" >&2
    exit 2
fi

# usage: train FOLDER OPTION...   continues what was interrupted, passes over what is done
train() {
    local start=(--run-dir "$1" ${init[@]+"${init[@]}"})
    [ ! -e "$1/last.pth" ] || start=(--resume "$1")
    "$PYTHON" "$ROOT/train.py" "${start[@]}" --dataset "$dataset" \
        --data-root "$data_root" --epochs 9999 --val-every 9999 --optimizer adamw \
        --weight-decay 0.01 --schedule cosine --jitter 0.1 --hue 0 --blur 0 \
        --class-weights enet110 "${@:2}" ${options[@]+"${options[@]}"}
}
small=(--warmup-steps 20 --lr 3e-3 --crop-size 128 128)
if [ -z "$data_root" ]; then
    data_root="$ROOT/data/city"
    image="$data_root/leftImg8bit/val/dornfels/dornfels_000000_000019_leftImg8bit.webp"
    echo "== training: $run"
    train "$run" --arch cspsg_n "${city[@]}" "${small[@]}" --scale 0.64 1.12 --ema 0.98 --cache raw
else
    echo "== training on half the size: $half"
    train "$half" --arch cspsg_s "${first[@]}" "${small[@]}" --scale 0.4 0.7
    echo "== training on the full size: $run"
    init=(--init "$half/best.pth")
    train "$run" --arch cspsg_s "${second[@]}" --warmup-steps 10 --lr 2e-3 \
        --crop-size 256 256 --scale 0.8 1.3 --ema 0.98
fi

echo "== scores of $run/best.pth on the val split"
"$PYTHON" "$ROOT/evaluate.py" --snapshot "$run/best.pth" --data-root "$data_root" \
    --json "$run/scores.json" ${scored[@]+"${scored[@]}"}

echo "== demo on a val image"
image="${image:-$("$PYTHON" -c 'import sys
from datasets import build_dataset
print(build_dataset(*sys.argv[1:], "val").samples[0].image)' "$dataset" "$data_root")}"
demo=("$PYTHON" "$ROOT/demo.py" --snapshot "$run/best.pth")
"${demo[@]}" --demo-image "$image" --save-dir "$run/demo"
echo "== and on yours: $(printf '%q ' "${demo[@]}")--demo-image FILE"
