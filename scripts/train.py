#!/usr/bin/env python
"""Trains one experiment; the script that `deepspeed` and `torchrun` start, or plain `python` for one process."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "configs" / "demo.yaml"

OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)+=")

EXAMPLES = """examples:
  deepspeed --num_gpus 8 scripts/train.py --ds_config ds_configs/zero2.json
  deepspeed --num_gpus 8 scripts/train.py --ds_config ds_configs/zero2.json \\
      --config configs/paper_a/pol-ukr.yaml configs/paper_a/model5.yaml train.seed=1 run.name=pol-ukr/model5-seed1
  torchrun --nproc-per-node 2 scripts/train.py train.max_steps=20
"""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line; `--local_rank` is what the deepspeed launcher adds."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--ds_config",
        type=Path,
        default=ROOT / "ds_configs" / "zero2.json",
        metavar="JSON",
        help="DeepSpeed configuration: ZeRO, micro-batch, precision, offload (default: ds_configs/zero2.json)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        nargs="+",
        metavar="YAML",
        help="experiment; several files are merged, later ones win (default: configs/demo.yaml, whose data is made "
        "from installed packages when it is missing)",
    )
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|CHECKPOINT",
        help="go on from the newest complete checkpoint of the run, if any (default: auto)",
    )
    parser.add_argument("--local_rank", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.setting=value",
        help="settings that win over the files, for example train.max_steps=20 (all settings: docs/configuration.md)",
    )
    args = parser.parse_intermixed_args(argv)  # launchers put options in front, users anywhere
    words = args.config or []  # `--config a.yaml train.lr=1`: argparse gives both words to --config
    args.overrides += [str(word) for word in words if OVERRIDE.match(str(word))]
    args.config = [word for word in words if not OVERRIDE.match(str(word))]
    return args


def run(args: argparse.Namespace) -> int:
    """Joins the ranks and trains."""
    from translit_scale.config import load_config
    from translit_scale.train.launch import start_rank

    config = load_config(args.config or [DEMO], args.overrides)
    rank = start_rank(args.local_rank)
    from torch.distributed import barrier

    from translit_scale.train.loop import train

    if not args.config and rank.is_first and not config.data.shards.is_dir():
        from translit_scale.demo import make_demo_data

        make_demo_data()
    barrier()
    train(config, args.ds_config, args.resume, rank)
    return 0


def main() -> None:
    """Runs, reports an error once, and makes sure that no rank is left waiting."""
    from translit_scale.cli import run_guarded
    from translit_scale.errors import ConfigError

    args = parse()
    first = os.environ.get("RANK", "0") == "0"

    def run_once_reported() -> int:
        try:
            return run(args)
        except ConfigError as error:  # every rank finds the same one: let the first say it
            if first:
                raise
            time.sleep(3)  # a launcher ends all ranks when one is gone
            return error.exit_code

    code = run_guarded(run_once_reported)
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)  # not sys.exit: cleaning up would wait for ranks that may hang in a collective


if __name__ == "__main__":
    main()
