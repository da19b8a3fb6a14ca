#!/usr/bin/env bash
# What is measured on a GPU, in at most 10 minutes; without one, its short form on the CPU.
#
#   ./benchmarks/on_a_gpu.sh [DIR]     # DIR (default: results/gpu) gets what is printed
#
# Tests that need a GPU; latency through the project's own capture; seconds and share of matrix
# products of a training step; what scales and windows add to one forward.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"
case "${1:-}" in -h | --help) print_header; exit 0 ;; esac
ensure_environment "$ROOT/requirements-dev.txt" "${RUNTIME[@]}" pytest
folder="$(realpath -m "${1:-results/gpu}")"
mkdir -p "$folder"
cd "$ROOT"

# usage: measure NAME COMMAND...   its output goes to NAME.txt too; one that fails ends nothing
measure() {
    echo "== ${*:2}"
    timeout 200 "${@:2}" 2>&1 | tee "$folder/$1.txt" || echo "failed: $1" | tee -a "$folder/failed.txt"
}

if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    measure tests "$PYTHON" -m pytest -q -m gpu
    for size in "512 1024" "1024 2048"; do
        # shellcheck disable=SC2086  # two numbers
        measure "latency_${size/ /x}" "$PYTHON" latency.py --device cuda --size $size \
            --arch sgcpnet cspsg_s deeplabv3_resnet18 deeplabv3plus_efficientnet_lite0
    done
    measure published "$PYTHON" -m benchmarks.latency --device cuda --no-compile
    measure step_wide "$PYTHON" -m benchmarks.gpu_step --arch deeplabv3plus_wide_resnet38 --crop 896
    measure step_sgcpnet "$PYTHON" -m benchmarks.gpu_step --arch sgcpnet --crop 896 --batch 16
    measure multiscale "$PYTHON" -m benchmarks.gpu_step --multiscale --arch deeplabv3_resnet18
else
    echo "no GPU: the short form, on the CPU"
    measure latency "$PYTHON" latency.py --size 128 256 --runs 5 --arch sgcpnet
    measure step "$PYTHON" -m benchmarks.gpu_step --arch sgcpnet --crop 96 --batch 2 --steps 2
    measure multiscale "$PYTHON" -m benchmarks.gpu_step --multiscale --arch sgcpnet --crop 96
fi
echo "written: $folder"
[ ! -e "$folder/failed.txt" ]
