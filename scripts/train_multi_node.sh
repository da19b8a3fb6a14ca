#!/usr/bin/env bash
# Trains on several hosts that share a file system. Run it on every one of them, with equal words.
# When a process or a host fails, all are started again, up to RESTARTS times, and go on from the
# last checkpoint; start the script again on a host that was lost, within WAIT seconds. JOB names
# the launch, another one each time; --run-dir is needed.
#
#   JOB=1 NODES=2 HEAD=host1:29500 ./scripts/train_multi_node.sh --run-dir runs/a --batch-size 16
#   sbatch --nodes 2 --ntasks-per-node 1 --gpus-per-node 8 \
#       --wrap "srun ./scripts/train_multi_node.sh --run-dir runs/a --batch-size 16"
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
if [ -n "${SLURM_JOB_NODELIST:-}" ]; then
    HEAD="${HEAD:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500}"
fi
LAUNCH="--nnodes ${NODES:-${SLURM_NNODES:-1}} --max-restarts ${RESTARTS:-3} --rdzv-backend c10d"
LAUNCH+=" --rdzv-conf join_timeout=${WAIT:-120}"
LAUNCH+=" --rdzv-endpoint ${HEAD:-localhost:29500} --rdzv-id ${JOB:-${SLURM_JOB_ID:-none}}"
launch train.py "$@"
