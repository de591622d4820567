# Sourced by demo.sh and test.sh: creates .venv with the tested versions if it is missing or the requirements have changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }

install() { # arguments of pip install; prints one line per package
  # Python itself compiles the modules that are imported; compiling all of them takes more than a minute.
  .venv/bin/pip install --disable-pip-version-check --progress-bar off --no-compile -c constraints.txt "$@" |
    { grep -E '^(Collecting|Successfully)' || true; }
}

make_environment() { # extras
  local python=${PYTHON:-python3.11} requirements
  command -v "$python" >/dev/null || python=python3
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: Python 3.11 or newer is needed, found $("$python" -V 2>&1)"
    echo "  → install it, or give its path: PYTHON=/path/to/python3.11 $0"
    exit 2
  }
  requirements="$1 $(cat pyproject.toml constraints.txt | sha256sum)"
  if [ "$(cat .venv/installed 2>/dev/null)" = "$requirements" ]; then
    say "environment .venv is up to date"
  else
    say "installing into .venv (only once; takes some minutes)"
    "$python" -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=24'
    # Install the pinned torch first: otherwise pip may choose a build with gigabytes of CUDA libraries.
    install torch
    install -e ".[$1]"
    echo "$requirements" >.venv/installed
  fi
  export PATH="$PWD/.venv/bin:$PATH"
  # Without a GPU, tell DeepSpeed to use the CPU: otherwise it guesses, with a warning in every process.
  if ! command -v nvidia-smi >/dev/null; then export DS_ACCELERATOR=${DS_ACCELERATOR:-cpu}; fi
}
