#!/usr/bin/env python
"""Trains one experiment: `translit-scale train` as a file that `deepspeed`, `torchrun` or `python` can start."""

import sys

from translit_scale.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
