#!/usr/bin/env bash
# Makes .venv if needed, then checks style, types and imports and runs all tests. Arguments go to pytest: scripts/test.sh -m "not slow"
source "$(dirname "$0")/environment.sh"
make_environment demo,dev
say "style, types and imports"
ruff check .
ruff format --check .
mypy
lint-imports --no-cache
say "tests"
# A test mostly keeps one core busy; those that start several ranks are few.
python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"
say "all passed; times of the slowest tests stand above"
