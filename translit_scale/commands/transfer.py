"""`translit-scale evaluate transfer`: fine-tunes on source languages and tests on target languages."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands.arguments import add_command, codes, cores, own_part, positive
from translit_scale.commands.options import add_encoders
from translit_scale.testsets.hyperparameters import SEEDS
from translit_scale.testsets.registry import transfer_tasks

if TYPE_CHECKING:
    from translit_scale.evaluate.transfer.grid import GridSettings
    from translit_scale.evaluate.transfer.job import TransferJob


def add(kinds: Any) -> None:
    """Declares `evaluate transfer`."""
    parser = add_command(
        kinds,
        "transfer",
        "zero-shot transfer: fine-tune on source languages, test on target languages, with several seeds",
        "Fine-tunes every model on every source language with every seed, keeps the epoch with the best score on the "
        "source's dev set, and tests it on all target languages. Each of these jobs writes "
        "DIR/TASK/LABEL.SOURCE.seedN.json when it is finished. The same command runs only the jobs without this file, "
        "so it can be killed at any time. Prints a table of targets and sources with mean and spread over seeds.",
        "translit-scale evaluate transfer --model mlm=runs/mlm/export --model tcm=runs/tcm/export --data DIR \\\n"
        "    --task sib200 --source eng_Latn --source hin_Deva+urd_Arab --preset paper_b --workers 8",
    )
    add_encoders(parser)
    group = parser.add_argument_group("tasks")
    group.add_argument(
        "--data", type=Path, required=True, metavar="DIR",
        help="folder of the test sets (DIR/sib200, ...), or of one task; docs/test-sets.md has the layouts",
    )  # fmt: skip
    group.add_argument(
        "--task", action="append", required=True, choices=list(transfer_tasks()), metavar="TASK",
        help=f"{', '.join(transfer_tasks())}; repeat for several",
    )  # fmt: skip
    add_sources(group, "language to train on and to choose the epoch with")
    group.add_argument(
        "--targets", type=codes, default=[], metavar="CODES",
        help="languages to test on: pol_Latn,ukr_Cyrl (default: all that have a test set)",
    )  # fmt: skip
    add_training(parser)
    group = add_grid(parser)
    group.add_argument(
        "--task-id", metavar="I",
        help="run part I of the jobs, counted from 0; 'slurm': this task's number in its job array (default: all jobs)",
    )  # fmt: skip
    group.add_argument(
        "--num-tasks", type=positive, metavar="N",
        help="number of parts, with --task-id; does not change results (default with 'slurm': N of an array 0-(N-1))",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def add_sources(group: argparse._ArgumentGroup, meaning: str) -> None:
    """Declares the source languages."""
    group.add_argument(
        "--source", action="append", required=True, metavar="CODE[+CODE]",
        help=f"{meaning}; codes joined by + form one training set; required, repeat for several sources",
    )  # fmt: skip


def add_training(parser: argparse.ArgumentParser) -> None:
    """Declares how models are fine-tuned."""
    group = parser.add_argument_group("fine-tuning (see docs/evaluation.md for the presets)")
    group.add_argument(
        "--preset", choices=list(SEEDS), default="paper_b",
        help="hyperparameters and seeds of a paper: paper_a has 3 seeds, paper_b has 5 (default: paper_b)",
    )  # fmt: skip
    for option, kind, meaning in (
        ("--seeds", positive, "how many, counted from the preset's first, 42"),
        ("--epochs", positive, "passes over the training set; the dev set is scored after each"),
        ("--lr", _rate, "learning rate of the first update; it falls linearly to 0"),
        ("--batch-size", positive, "sequences of one update"),
        ("--max-length", positive, "tokens of a sequence, special ones included"),
    ):
        group.add_argument(option, type=kind, metavar="X", help=f"{meaning} (default: the preset's)")
    group.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32",
        help="of training and testing; bf16 is autocast, meant for GPUs (default: fp32)",
    )  # fmt: skip


def add_grid(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declares results and processes; more options may be added to the group that is returned."""
    group = parser.add_argument_group("results and processes")
    out = Path("results")
    group.add_argument("--out", type=Path, default=out, metavar="DIR", help="write to DIR/TASK (default: %(default)s)")
    group.add_argument(
        "--force", action="store_true",
        help="run jobs again whose result was made with other settings, weights or texts (default: they are an error)",
    )  # fmt: skip
    group.add_argument(
        "--workers", type=positive, metavar="N",
        help="parallel jobs; does not change results (default: cores / threads, or 1 with a GPU)",
    )  # fmt: skip
    group.add_argument(
        "--threads", type=positive, default=1, metavar="N",
        help="threads of each job; changes the last digits of results (default: %(default)s)",
    )  # fmt: skip
    return group


def grid_settings(args: argparse.Namespace) -> GridSettings:
    """Reads the options that all jobs share."""
    from translit_scale.evaluate.transfer.grid import GridSettings

    given = {name: getattr(args, name) for name in ("epochs", "lr", "batch_size", "max_length")}
    changes = {name: value for name, value in given.items() if value is not None}
    return GridSettings(args.preset, args.seeds, changes, args.precision, args.device, args.threads)


def _run_jobs(args: argparse.Namespace, jobs: Sequence[TransferJob]) -> None:
    """Runs all jobs and prints their tables, or runs this array task's part of them and prints one line.

    Raises:
        UserError: as `run_grid`, or jobs have failed.
    """
    from translit_scale.evaluate.transfer.grid import raise_failures, run_grid
    from translit_scale.evaluate.transfer.tables import transfer_tables

    part = own_part(args)
    selected = jobs[part[0] :: part[1]] if part else jobs
    failures = run_grid(selected, worker_count(args), args.force)
    if part:
        print(f"task {part[0]} of {part[1]}: {len(selected) - len(failures)} of its {len(selected)} jobs are finished")
    else:
        print(transfer_tables(jobs))
    print(f"\nwritten to {args.out}")
    raise_failures(failures, len(selected))


def worker_count(args: argparse.Namespace) -> int:
    """--workers, or a number that suits the machine."""
    from translit_scale.evaluate.embedding import pick_device

    if args.workers:
        return int(args.workers)
    if pick_device(args.device).type == "cuda":
        return 1
    return max(1, cores() // args.threads)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"expected a number such as 2e-5, found {text!r}")
    return rate


def _run(args: argparse.Namespace) -> None:
    from translit_scale.evaluate.results import name_models
    from translit_scale.evaluate.transfer.grid import plan_jobs

    models, settings = name_models(args.model), grid_settings(args)
    jobs = []
    for name in dict.fromkeys(args.task):
        task = transfer_tasks()[name]
        jobs += plan_jobs(models, task, task.find(args.data).path, args.source, args.targets, settings, args.out)
    _run_jobs(args, jobs)
