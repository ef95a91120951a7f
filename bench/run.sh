#!/bin/sh
# The benchmark with its environment: makes .bench-venv when it is missing or its inputs changed, then runs
# bench/run.py with the given arguments. PYTHON chooses the interpreter, BENCH_VENV the environment's place.
set -eu
cd "$(dirname "$0")/.."
venv=${BENCH_VENV:-.bench-venv}
python=${PYTHON:-python3}
stamp=$venv/bench-inputs
inputs=$(cat bench/peers/requirements.txt pyproject.toml | cksum)

if [ ! -x "$venv/bin/python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$inputs" ]; then
    echo "bench: installing the peers and holdfast into $venv" >&2
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --allow-existing --python "$python" "$venv"
        uv pip install --quiet --python "$venv/bin/python" -r bench/peers/requirements.txt -e '.[postgres]'
    else
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r bench/peers/requirements.txt -e '.[postgres]'
    fi
    printf '%s' "$inputs" >"$stamp"
fi
exec "$venv/bin/python" -m bench.run "$@"
