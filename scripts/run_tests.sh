#!/usr/bin/env bash
# Sets up Python and runs the tests. Arguments go to pytest: ./scripts/run_tests.sh -k metrics
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
case "${1:-}" in -h | --help) print_header && exit 0 ;; esac
ensure_environment "$ROOT/requirements-dev.txt" "${RUNTIME[@]}" pytest xdist ruff mypy
unset PYTHONDONTWRITEBYTECODE # many tests start a script: kept bytecode saves each a few seconds
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # three tests at a time, a thread each
exec "$PYTHON" -m pytest -n 3 --dist worksteal --rootdir "$ROOT" -c "$ROOT/pyproject.toml" "$ROOT/tests" "$@"
