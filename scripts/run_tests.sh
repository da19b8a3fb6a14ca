#!/usr/bin/env bash
# Sets up Python and runs the tests. Arguments go to pytest: ./scripts/run_tests.sh -k metrics
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "$ROOT/requirements-dev.txt" "${RUNTIME[@]}" pytest ruff mypy
exec "$PYTHON" -m pytest --rootdir "$ROOT" -c "$ROOT/pyproject.toml" "$ROOT/tests" "$@"
