"""`translit-scale evaluate all`: every test set that a folder has."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from translit_scale.commands.arguments import add_command, codes, positive
from translit_scale.commands.measuring import add_models, embedding_settings
from translit_scale.commands.transfer import (
    add_grid,
    add_sources,
    add_training,
    grid_settings,
    workers_of,
)
from translit_scale.testsets.hyperparameters import PAPER_B


def add(kinds: Any) -> None:
    """Declares `evaluate all`."""
    parser = add_command(
        kinds,
        "all",
        "retrieval and transfer on every test set that a folder has, one page of tables",
        "Looks for SR-B, SR-F, Tatoeba, SIB-200, Taxi1500, NER and parts of speech under --data; measures what is "
        "there as `evaluate retrieval` and `evaluate transfer` do, names what is not, and writes DIR/evaluation.txt. "
        "Jobs of transfer that are done are not done again. `report tables` makes the papers' tables of the results.",
        "translit-scale evaluate all --model mlm=runs/mlm/export --model tcm=runs/tcm/export --data DIR \\\n"
        "    --source eng_Latn --source hin_Deva --languages hin_Deva,urd_Arab,eng_Latn",
    )
    add_models(parser)
    group = parser.add_argument_group("test sets")
    group.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="where the sets lie (DIR/srb, DIR/sib200, ...)"
    )
    group.add_argument(
        "--tasks", type=codes, metavar="TASKS",
        help=f"sr_b,sr_f,tatoeba,{','.join(PAPER_B)} or some of them (default: all but pos_words)",
    )  # fmt: skip
    add_sources(group, "query of retrieval, and language to train on")
    group.add_argument(
        "--languages", type=codes, default=[], metavar="CODES",
        help="candidates of retrieval and targets of transfer: pol_Latn,ukr_Cyrl (default: all that a set has)",
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
    from translit_scale.evaluate.suite import ALL_TASKS, find_battery, run_battery
    from translit_scale.evaluate.transfer.grid import raise_failures

    tasks = args.tasks or ALL_TASKS
    if unknown := [task for task in tasks if task not in (*ALL_TASKS, *PAPER_B)]:
        raise ConfigError(f"--tasks: unknown {', '.join(unknown)}", f"there are {', '.join(ALL_TASKS)}, pos_words")
    models = name_models(args.model)
    found = find_battery(
        models, args.data, tasks, args.source, args.languages, grid_settings(args), args.out, args.limit
    )
    embedding = embedding_settings(args)
    page, failures = run_battery(found, models, embedding, args.out, workers_of(args), args.force)
    print(page)
    print(f"\nwritten to {args.out}")
    raise_failures(failures, len(found.jobs))
