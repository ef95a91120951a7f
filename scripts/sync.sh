#!/bin/sh
# Bring .venv in line with uv.lock: scripts/sync.sh GROUP...
# Needs Python 3.11+ and a package index. uv is taken from PATH or, if it is missing or too old, installed into .uv/.
set -eu
cd "$(dirname "$0")/.."

uv_release=0.13.8
uv_minimum=0.8 # as tool.uv.required-version

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if is_recent "$name"; then
            command -v "$name"
            return
        fi
    done
    fail "Holdfast needs Python 3.11 or later; found: $(${PYTHON:-python3} --version 2>&1 || true)" \
        "  Debian 12+, Ubuntu 24.04+:  sudo apt-get install python3 python3-venv" \
        "  Fedora, RHEL 9+:            sudo dnf install python3.12" \
        "  macOS:                      brew install python@3.13" \
        "Then run make again, or name an interpreter: make PYTHON=/path/to/python3.12 ..."
}

is_usable_uv() {
    version=$("$1" --version 2>/dev/null) || return 1
    "$python" - "$version" $uv_minimum <<'END'
import sys
number = lambda text: tuple(int(part) for part in text.split(".")[:3])
sys.exit(number(sys.argv[1].split()[1]) < number(sys.argv[2]))
END
}

find_uv() {
    for name in uv "$PWD/.uv/bin/uv"; do
        if is_usable_uv "$name"; then
            command -v "$name"
            return
        fi
    done
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "The venv module of $python is incomplete." \
        "  Debian, Ubuntu:  sudo apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" \
        "Then run make again."
    "$python" -m venv .uv >&2
    .uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_release" >&2
    echo "$PWD/.uv/bin/uv"
}

# uv reads none of pip's settings; a machine that reaches its index only through them must still work.
pip_setting() {
    for pip in "$python" .uv/bin/python; do
        "$pip" -m pip config get "$1" 2>/dev/null && return
    done
    return 0
}

python=$(find_python)
uv=$(find_uv)
groups=
for group in "$@"; do
    groups="$groups --group $group"
done

unset VIRTUAL_ENV
export UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON="$python"
certificates=${SSL_CERT_FILE:-${PIP_CERT:-$(pip_setting global.cert)}}
[ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"
index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(pip_setting global.index-url)}}}

case ${index%/} in
"" | https://pypi.org/simple)
    unset UV_DEFAULT_INDEX UV_INDEX_URL
    # shellcheck disable=SC2086 # one word each
    "$uv" sync --locked --inexact --no-default-groups $groups
    ;;
*) # A mirror: the lock names pypi.org, so take its versions and hashes only.
    export UV_DEFAULT_INDEX="$index"
    [ -x .venv/bin/python ] || "$uv" venv .venv
    # shellcheck disable=SC2086
    "$uv" export --frozen --quiet --no-emit-project --no-default-groups $groups --output-file .venv/requirements.txt
    "$uv" pip install --python .venv --require-hashes --requirements .venv/requirements.txt
    "$uv" pip install --python .venv --no-deps --editable .
    ;;
esac
