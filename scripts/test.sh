#!/usr/bin/env bash
# Creates .venv if needed, checks style, types and imports, and runs the tests. Arguments are passed to pytest:
#   scripts/test.sh -m "not slow"
#   scripts/test.sh -m hosts       several hosts and a SLURM on this machine; skipped without root or Debian packages
source "$(dirname "$0")/environment.sh"
make_environment demo,dev
say "style, types and imports"
ruff check .
ruff format --check .
mypy
lint-imports --no-cache
say "tests"
# Most tests use one core; only few start several ranks.
python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
say "all checks passed; the slowest tests are listed above"
