"""`translit-scale evaluate all`: every test set that a folder has."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, codes, positive
from translit_scale.commands.options import add_models, embedding_settings
from translit_scale.commands.transfer import add_grid, add_sources, add_training, grid_settings, worker_count
from translit_scale.testsets.registry import TASKS, default_tasks


def add(kinds: Any) -> None:
    """Declares `evaluate all`."""
    titles = ", ".join(TASKS[name].title for name in default_tasks())
    parser = add_command(
        kinds,
        "all",
        "retrieval and transfer on every test set in a folder, as one page of tables",
        f"Looks for the test sets under --data ({titles}), measures those it finds as `evaluate retrieval` and "
        "`evaluate transfer` do, lists the missing ones, and writes DIR/evaluation.txt. Finished transfer jobs are "
        "reused. `report tables` makes the papers' tables of the results.",
        "translit-scale evaluate all --model mlm=runs/mlm/export --model tcm=runs/tcm/export --data DIR \\\n"
        "    --source eng_Latn --source hin_Deva --languages hin_Deva,urd_Arab,eng_Latn",
    )
    add_models(parser)
    group = parser.add_argument_group("test sets")
    group.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the test sets (DIR/srb, DIR/sib200, ...)"
    )
    left_out = ", ".join(name for name in TASKS if name not in default_tasks())
    group.add_argument(
        "--tasks", type=codes, metavar="TASKS",
        help=f"one or more of {','.join(TASKS)} (default: all{f' but {left_out}' if left_out else ''})",
    )  # fmt: skip
    add_sources(group, "query of retrieval, and language to train on")
    group.add_argument(
        "--languages", type=codes, default=[], metavar="CODES",
        help="candidates of retrieval and targets of transfer: pol_Latn,ukr_Cyrl (default: all that a test set has)",
    )  # fmt: skip
    group.add_argument(
        "--limit", type=positive, metavar="N", help="the first N pairs of each retrieval set (default: all)"
    )
    add_training(parser)
    add_grid(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.errors import ConfigError
    from translit_scale.evaluate.results import name_models
    from translit_scale.evaluate.suite import find_suite, run_suite
    from translit_scale.evaluate.transfer.grid import raise_failures

    tasks = args.tasks or default_tasks()
    if unknown := [task for task in tasks if task not in TASKS]:
        raise ConfigError(f"--tasks: unknown {', '.join(unknown)}", f"there are {', '.join(TASKS)}")
    models = name_models(args.model)
    suite = find_suite(models, args.data, tasks, args.source, args.languages, grid_settings(args), args.out, args.limit)
    page, failures = run_suite(suite, models, embedding_settings(args), args.out, worker_count(args), args.force)
    print(page)
    print(f"\nwritten to {args.out}")
    raise_failures(failures, len(suite.jobs))
