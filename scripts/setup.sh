#!/bin/sh
# Prepares .venv from requirements.lock; every make target calls it first.
#
#   PYTHON=python3.12 scripts/setup.sh    chooses the Python (3.11, 3.12 or 3.13), otherwise the first one found
#
# uv installs the packages and checks their hashes: the uv on PATH, else one installed into .uv/ (pinned by the same lock).
# .venv/.ready is written last and contains everything that .venv was made from. As long as it matches there is nothing to
# do; a .venv without it was left by an interrupted set-up and is made again.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)

# Settings of another environment must not take effect in this one.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV
unset UV_PYTHON UV_SYSTEM_PYTHON UV_TARGET UV_PREFIX UV_PROJECT_ENVIRONMENT UV_WORKING_DIRECTORY

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$@" >&2
    exit 2
}

# ── Is there anything to do? ─────────────────────────────────────────────────────────────────────────────────────────
supported() { # the real path of a Python from 3.11 to 3.13; fails for a pyenv shim that does not run
    "$1" -c 'import sys; print(sys.executable) if (3, 11) <= sys.version_info < (3, 14) else sys.exit(1)' 2>/dev/null
}
sources() { # everything that .venv is made from, with the Python $1
    printf '%s\n' "$root" "$1"
    cat scripts/setup.sh pyproject.toml requirements.lock
}
ready() {
    [ -x .venv/bin/python ] && [ -f .venv/.ready ] || return 1
    made_with=$(sed -n 2p .venv/.ready)
    [ -z "${PYTHON:-}" ] || [ "$made_with" = "$(supported "$PYTHON")" ] || return 1
    sources "$made_with" | cmp -s - .venv/.ready
}
if ready; then exit 0; fi
begin=$(date +%s)

# If two run at the same time (make demo and make test), one waits for the other, provided that the system has flock.
mkdir -p .uv
if command -v flock >/dev/null 2>&1; then
    exec 9>.uv/lock
    flock -n 9 || { say "waiting for another set-up in this folder" && flock 9; }
    if ready; then exit 0; fi
fi

# ── Python ───────────────────────────────────────────────────────────────────────────────────────────────────────────
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "PYTHON=$PYTHON does not run, or is not Python 3.11, 3.12 or 3.13"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11 python; do
        supported "$name" && return
    done
    if command -v uv >/dev/null 2>&1; then
        uv python find --system --no-python-downloads '>=3.11,<3.14' 2>/dev/null && return
    fi
    fail "found no Python 3.11, 3.12 or 3.13 on PATH" \
        "install one (with uv: uv python install 3.12), or name it: make demo PYTHON=/path/to/python3.12"
}
python=$(find_python)

# ── uv ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
bootstrap_uv() {
    say "there is no uv on PATH: installing one into .uv/"
    rm -rf .uv/venv
    "$python" -m venv .uv/venv >.uv/venv.log 2>&1 ||
        fail "$python cannot make a virtual environment (.uv/venv.log says why)" \
            "install its venv module (Debian and Ubuntu: apt install python3-venv) or uv itself, then run this again"
    awk '/^[^ ]/ { wanted = /^uv==/ } wanted && !/#/' requirements.lock >.uv/requirements.txt
    .uv/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --requirement .uv/requirements.txt ||
        fail "pip could not install uv (see above); run this again with a network connection"
}
if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    uv=.uv/venv/bin/uv
    "$uv" --version >/dev/null 2>&1 || bootstrap_uv
fi

# ── .venv ────────────────────────────────────────────────────────────────────────────────────────────────────────────
install() { # uv's own progress bars on a terminal, else a line every 30 s
    if [ -t 2 ]; then
        "$uv" pip "$@"
        return
    fi
    (while sleep 30 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do say "still installing after $(($(date +%s) - begin)) s"; done) 9>&- &
    beat=$!
    "$uv" pip "$@" --quiet && result=0 || result=$?
    kill "$beat" 2>/dev/null || true
    return "$result"
}
unfinished() {
    fail "the installation did not finish (see above); run the same command again" \
        "behind a package mirror set UV_DEFAULT_INDEX, behind a proxy with its own certificate UV_SYSTEM_CERTS=1"
}

if [ -x .venv/bin/python ] && [ -f .venv/.ready ] &&
    [ "$(head -n 2 .venv/.ready)" = "$(sources "$python" | head -n 2)" ]; then
    say "updating .venv"
    rm .venv/.ready
else
    say "making .venv with $("$python" --version) ($python)"
    rm -rf .venv
    "$uv" venv --quiet --python "$python" .venv || unfinished
fi
say "installing the packages of requirements.lock (5.5 GB with PyTorch's CUDA libraries)"
install sync --python .venv/bin/python --require-hashes requirements.lock || unfinished
install install --python .venv/bin/python --no-deps --no-build-isolation --offline --editable . || unfinished
sources "$python" >.venv/.ready.new
mv .venv/.ready.new .venv/.ready
say "ready after $(($(date +%s) - begin)) s"
