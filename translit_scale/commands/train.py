"""`translit-scale train`: trains one experiment."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import Any

from translit_scale.commands.arguments import add_command
from translit_scale.commands.parser import Parser
from translit_scale.shipped_files import find_file

SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)*=")


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "train",
        "train one experiment, started by deepspeed or torchrun, or alone for one process",
        "Trains an encoder, and resumes if the run has a checkpoint. Start it with a launcher for several processes, "
        "as in the examples. Arguments of the form section.setting=value may stand anywhere and override the files. "
        "Experiments and DeepSpeed configurations are paths or names that `translit-scale configs` lists.",
        "translit-scale train --config demo train.max_steps=20\n"
        "deepspeed --num_gpus 8 --module translit_scale train --ds_config zero2 \\\n"
        "    --config paper_a/pol-ukr paper_a/model5 train.seed=1 run.name=pol-ukr/model5-seed1\n"
        "torchrun --nproc-per-node 8 -m translit_scale train --config my-experiment.yaml",
    )
    add_settings(
        parser,
        "experiment; several files are merged, and later ones win (default: demo, whose data is made from installed "
        "packages when it is missing)",
        ["demo"],
    )
    parser.add_argument(
        "--resume", default="auto", metavar="auto|none|CHECKPOINT",
        help="resume from the newest complete checkpoint of the run, if any (default: auto)",
    )  # fmt: skip
    add_local_rank(parser)
    parser.set_defaults(run=_run)


def add_settings(parser: Parser, config_help: str, default: list[str] | None) -> None:
    """Declares `--ds_config`, `--config` and settings that win over the files and may stand anywhere."""
    parser.free_words = SETTING
    parser.add_argument(
        "--ds_config", default="zero2", metavar="JSON",
        help="DeepSpeed configuration: ZeRO, micro-batch, precision, offload (default: zero2)",
    )  # fmt: skip
    parser.add_argument("--config", nargs="+", default=default, metavar="YAML", help=config_help)
    parser.add_argument(
        "settings", nargs="*", metavar="section.setting=value",
        help="settings that win over the files, for example train.max_steps=20 (all settings: translit-scale docs "
        "configuration)",
    )  # fmt: skip


def add_local_rank(parser: argparse.ArgumentParser) -> None:
    """Declares the option that the deepspeed launcher puts in front of all other words; LOCAL_RANK says the same."""
    parser.add_argument("--local_rank", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _run(args: argparse.Namespace) -> None:
    """Joins the ranks and trains."""
    ds_config = find_file("ds_configs", args.ds_config)
    files = [find_file("configs", word) for word in args.config]
    from translit_scale.config import load_config
    from translit_scale.train.launching.ranks import start_rank

    config = load_config(files, args.settings)
    # Longer than the watch takes, which knows who is missing.
    rank = start_rank(timedelta(minutes=config.run.stalled_minutes + 2))
    from torch.distributed import barrier

    from translit_scale.demo.run import SHARDS, TOKENIZER, make_demo_data
    from translit_scale.evaluate.retrieval.model_selection import make_scorer
    from translit_scale.train.loop import train

    if config.data.shards == SHARDS:
        if rank.is_first and not ((SHARDS / "manifest.json").is_file() and TOKENIZER.is_dir()):
            make_demo_data()
        barrier()
    train(config, ds_config, args.resume, rank, make_scorer)
