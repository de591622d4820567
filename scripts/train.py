#!/usr/bin/env python
"""Trains one experiment; the script that `deepspeed` and `torchrun` start, or plain `python` for one process."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NoReturn

from translit_scale.errors import ConfigError
from translit_scale.train.launching.failure import run_rank

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "configs" / "demo.yaml"

OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)+=")

EXAMPLES = """examples:
  deepspeed --num_gpus 8 scripts/train.py --ds_config ds_configs/zero2.json
  deepspeed --num_gpus 8 scripts/train.py --ds_config ds_configs/zero2.json \\
      --config configs/paper_a/pol-ukr.yaml configs/paper_a/model5.yaml train.seed=1 run.name=pol-ukr/model5-seed1
  torchrun --nproc-per-node 2 scripts/train.py train.max_steps=20
"""


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line like any other wrong setting: once, not once per rank."""

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(message, "python scripts/train.py --help")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line; `--local_rank` is what the deepspeed launcher adds.

    Raises:
        ConfigError: an unknown option.
    """
    parser = Parser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        help="resume from the newest complete checkpoint of the run, if any (default: auto)",
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


def main(argv: list[str] | None = None) -> None:
    """Joins the ranks and trains.

    Raises:
        UserError: anything the user can mend; see `run_rank` for what becomes of it.
    """
    args = parse(argv)
    from translit_scale.config import load_config
    from translit_scale.train.launching.ranks import start_rank

    config = load_config(args.config or [DEMO], args.overrides)
    rank = start_rank(args.local_rank)
    from torch.distributed import barrier

    from translit_scale.demo.run import SHARDS, TOKENIZER, make_demo_data
    from translit_scale.evaluate.select import scorer_of
    from translit_scale.train.loop import train

    if config.data.shards == SHARDS:
        if rank.is_first and not ((SHARDS / "manifest.json").is_file() and TOKENIZER.is_dir()):
            make_demo_data()
        barrier()
    train(config, args.ds_config, args.resume, rank, scorer_of)


def run() -> None:
    """`main` as a process of its own."""
    main()
    from translit_scale.train.launching.ranks import leave_ranks

    leave_ranks()


if __name__ == "__main__":
    run_rank(run)
