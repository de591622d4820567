#!/usr/bin/env bash
# Creates .venv if needed and runs every stage of the project on text from pip packages (about 5 minutes on 2 cores, installation included).
source "$(dirname "$0")/environment.sh"
make_environment demo,dev
translit-scale demo "$@"
