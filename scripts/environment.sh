# Sourced by the scripts that set themselves up. Sets ROOT and PYTHON, makes the environment once.
#
# An active virtual environment or an existing .venv is used as it is; else .venv is made, with uv
# where there is one. An installed torch is kept, so a CPU-only or a vendor's build stays.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"

# usage: ensure_environment REQUIREMENTS_FILE MODULE...   installs when a module is missing
ensure_environment() {
    local requirements="$1"
    shift
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        PYTHON="$VIRTUAL_ENV/bin/python"
    elif [ -n "${CONDA_PREFIX:-}" ]; then
        PYTHON="$CONDA_PREFIX/bin/python"
    else
        PYTHON="$ROOT/.venv/bin/python"
        if [ ! -x "$PYTHON" ]; then
            echo "making $ROOT/.venv"
            if command -v uv >/dev/null; then
                uv venv --quiet --python ">=3.11" "$ROOT/.venv"
            else
                "$(find_python)" -m venv "$ROOT/.venv"
            fi
        fi
    fi
    if ! "$PYTHON" -c 'import sys
for module in sys.argv[1:]: __import__(module)' "$@" 2>/dev/null; then
        echo "installing $(basename "$requirements") (PyTorch alone is several GB with CUDA)"
        if command -v uv >/dev/null; then
            uv pip install --quiet --python "$PYTHON" -r "$requirements"
        else
            "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements"
        fi
    fi
}

find_python() {
    local name
    for name in python3 python python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "error: no Python 3.11 or newer found; install one, or uv" >&2
    exit 2
}
