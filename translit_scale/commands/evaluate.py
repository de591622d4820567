"""`translit-scale evaluate`: measures encoders by retrieval and transfer, on one test set or on all in a folder."""

from __future__ import annotations

import argparse
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands.arguments import (
    add_aliases,
    add_array_task,
    add_command,
    add_embedding,
    add_encoders,
    add_kinds,
    add_measurement,
    codes,
    embedding_settings,
    joined_codes,
    own_part,
    positive,
    raise_skipped,
    read_texts,
    run_and_print,
)
from translit_scale.cores import cores
from translit_scale.errors import DataError
from translit_scale.testsets.hyperparameters import SEEDS
from translit_scale.testsets.registry import TASKS, default_tasks, retrieval_tasks, transfer_tasks

if TYPE_CHECKING:
    from translit_scale.evaluate.suite import Suite
    from translit_scale.evaluate.transfer.job import GridSettings


def add(commands: Any) -> None:
    """Declares `evaluate retrieval`, `evaluate transfer` and `evaluate all`."""
    kinds = add_kinds(commands, "evaluate", "measure any Hugging Face encoder: retrieval, zero-shot transfer")
    _add_retrieval(kinds)
    _add_transfer(kinds)
    _add_all(kinds)


def _add_retrieval(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "retrieval",
        "sentence retrieval (top-1/5/10) in both directions, with several models side by side",
        "Ranks all sentences of the other language for every sentence, by cosine of mean-pooled hidden states, in both "
        "directions, with 95 % bootstrap intervals. Writes DIR/NAME/LABEL.json and "
        "LABEL.items.npz (the rank of every item) for each model, and comparison.json with the paired differences to "
        "the first model.",
        "translit-scale evaluate retrieval --model mlm=runs/mlm/export --model tcm=runs/tcm/export \\\n"
        "    --parallel pol_Latn:flores.pol ukr_Cyrl:flores.ukr --name sr_f",
    )
    add_measurement(parser, name="retrieval", out="results")
    parser.set_defaults(run=_retrieval)


def _retrieval(args: argparse.Namespace) -> None:
    texts, notes, skipped = read_texts(args)
    from translit_scale.evaluate.retrieval.run import run_retrieval

    run_and_print(args, texts, notes, partial(run_retrieval, notes=notes))
    raise_skipped(skipped)


def _add_transfer(kinds: Any) -> None:
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
        help="folder of the test sets (DIR/sib200, ...), or of one task; translit-scale docs test-sets has the layouts",
    )  # fmt: skip
    group.add_argument(
        "--task", action="append", required=True, choices=list(transfer_tasks()), metavar="TASK",
        help=f"{', '.join(transfer_tasks())}; repeat for several",
    )  # fmt: skip
    _add_sources(group, "language to train on and to choose the epoch with")
    group.add_argument(
        "--languages", type=codes, default=[], metavar="CODES",
        help="languages to test on: pol_Latn,ukr_Cyrl (default: all that have a test set)",
    )  # fmt: skip
    add_aliases(group)
    _add_training(parser)
    processes = _add_grid(parser)
    add_array_task(processes, processes)
    parser.set_defaults(run=_transfer)


def _add_all(kinds: Any) -> None:
    titles = ", ".join(TASKS[name].title for name in default_tasks())
    parser = add_command(
        kinds,
        "all",
        "retrieval and transfer on every test set in a folder, as one page of tables",
        f"Looks for the test sets under --data ({titles}), measures those it finds as `evaluate retrieval` and "
        "`evaluate transfer` do, lists the missing ones, and writes DIR/evaluation.txt. Finished transfer jobs are "
        "reused. With --task-id it only runs a part of the transfer jobs. `report tables` makes the papers' tables of "
        "the results.",
        "translit-scale evaluate all --model mlm=runs/mlm/export --model tcm=runs/tcm/export --data DIR \\\n"
        "    --source eng_Latn --source hin_Deva --languages hin_Deva,urd_Arab,eng_Latn",
    )
    add_embedding(add_encoders(parser))
    group = parser.add_argument_group("test sets")
    group.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the test sets (DIR/srb, DIR/sib200, ...)"
    )
    left_out = ", ".join(name for name in TASKS if name not in default_tasks())
    group.add_argument(
        "--task", action="append", choices=list(TASKS), metavar="TASK",
        help=f"{', '.join(TASKS)}; repeat for several (default: all{f' but {left_out}' if left_out else ''})",
    )  # fmt: skip
    _add_sources(group, "query of retrieval, and language to train on")
    group.add_argument(
        "--languages", type=codes, default=[], metavar="CODES",
        help="candidates of retrieval and targets of transfer: pol_Latn,ukr_Cyrl (default: all that a test set has)",
    )  # fmt: skip
    add_aliases(group)
    group.add_argument(
        "--limit", type=_limit, action="append", default=[], metavar="[TASK=]N",
        help="the first N pairs of each retrieval set, or of one: --limit sr_b=450; repeat for several (default: all)",
    )  # fmt: skip
    _add_training(parser)
    processes = _add_grid(parser)
    add_array_task(processes, processes)
    parser.set_defaults(run=_all)


def _add_sources(group: argparse._ArgumentGroup, meaning: str) -> None:
    """Declares the source languages."""
    group.add_argument(
        "--source", type=joined_codes, action="append", required=True, metavar="CODE[+CODE]",
        help=f"{meaning}; codes joined by + form one training set; required, repeat for several sources",
    )  # fmt: skip


def _add_training(parser: argparse.ArgumentParser) -> None:
    """Declares how models are fine-tuned."""
    group = parser.add_argument_group("fine-tuning (presets: translit-scale docs evaluation)")
    group.add_argument(
        "--preset", choices=list(SEEDS), default="paper_b",
        help="hyperparameters and seeds of a paper: paper_a has 3 seeds, paper_b has 5 (default: paper_b)",
    )  # fmt: skip
    for option, kind, meaning in (
        ("--num-seeds", positive, "number of seeds, counted from the preset's first, 42"),
        ("--epochs", positive, "passes over the training set; the dev set is scored after each"),
        ("--lr", _rate, "learning rate of the first update; it falls linearly to 0"),
        ("--batch-size", positive, "sequences of one update"),
        ("--max-length", positive, "tokens of a sequence, special ones included"),
        ("--weight-decay", _decay, "of AdamW, on all weights"),
    ):
        group.add_argument(option, type=kind, metavar="X", help=f"{meaning} (default: the preset's)")
    group.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32",
        help="of training and testing; bf16 is autocast, meant for GPUs (default: fp32)",
    )  # fmt: skip


def _add_grid(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declares results and processes; more options may be added to the group that is returned."""
    group = parser.add_argument_group("results and processes")
    out = Path("results")
    group.add_argument("--out", type=Path, default=out, metavar="DIR", help="write to DIR/TASK (default: %(default)s)")
    group.add_argument(
        "--force", action="store_true",
        help="replace results that were made with other settings, weights or texts (default: they are an error)",
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


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"expected a number such as 2e-5, found {text!r}")
    return rate


def _decay(text: str) -> float:
    return 0.0 if re.fullmatch(r"0(\.0*)?", text) else _rate(text)


def _limit(text: str) -> tuple[str, int]:
    """`450` → ("", 450); `sr_b=450` → ("sr_b", 450)."""
    task, _, number = text.rpartition("=")
    if task and task not in retrieval_tasks():
        raise argparse.ArgumentTypeError(f"{task!r} is not one of {', '.join(retrieval_tasks())}")
    return task, positive(number)


def _grid_settings(args: argparse.Namespace) -> GridSettings:
    """Reads the options that all jobs share."""
    from translit_scale.evaluate.transfer.job import GridSettings

    given = {name: getattr(args, name) for name in ("epochs", "lr", "batch_size", "max_length", "weight_decay")}
    changes = {name: value for name, value in given.items() if value is not None}
    return GridSettings(args.preset, args.num_seeds, changes, args.precision, args.device, args.threads)


def _worker_count(args: argparse.Namespace) -> int:
    """--workers, or a number that suits the machine."""
    from translit_scale.evaluate.embedding import pick_device

    if args.workers:
        return int(args.workers)
    if pick_device(args.device).type == "cuda":
        return 1
    return max(1, cores() // args.threads)


def _transfer(args: argparse.Namespace) -> None:
    """Runs all jobs and prints their tables, or runs this array task's part of them."""
    from translit_scale.evaluate.models import name_models
    from translit_scale.evaluate.suite import find_suite
    from translit_scale.evaluate.transfer.grid import raise_failures, run_grid
    from translit_scale.evaluate.transfer.tables import transfer_tables

    suite = find_suite(
        name_models(args.model), args.data, args.task, args.source, args.languages, _grid_settings(args), args.out,
        aliases=tuple(args.aliases),
    )  # fmt: skip
    if problems := [*suite.missing, *map(str, suite.failed)]:
        hint = "no job was started: fine-tuned models are not kept, so a language cannot be tested later on its own"
        raise DataError("\n".join(problems), f"{hint}; put the files there, or leave these languages out")
    if part := own_part(args):
        _run_part(suite, *part, args)
        return
    failures = run_grid(suite.jobs, _worker_count(args), args.force)
    print(transfer_tables(suite.jobs))
    print(f"\nwritten to {args.out}")
    raise_failures(failures, len(suite.jobs))


def _run_part(suite: Suite, task: int, tasks: int, args: argparse.Namespace) -> None:
    """Runs an array task's part of the jobs and prints one line."""
    from translit_scale.evaluate.transfer.grid import raise_failures, run_grid

    selected = suite.jobs[task::tasks]
    failures = run_grid(selected, _worker_count(args), args.force)
    print(f"task {task} of {tasks}: {len(selected) - len(failures)} of its {len(selected)} jobs are finished")
    print(f"\nwritten to {args.out}")
    raise_failures(failures, len(selected))


def _all(args: argparse.Namespace) -> None:
    from translit_scale.evaluate.models import name_models
    from translit_scale.evaluate.suite import find_suite, run_suite
    from translit_scale.evaluate.transfer.grid import raise_failures

    tasks = args.task or default_tasks()
    models, limits = name_models(args.model), dict(args.limit)
    limits = {name: limit for name in retrieval_tasks() if (limit := limits.get(name, limits.get("")))}
    suite = find_suite(
        models, args.data, tasks, args.source, args.languages, _grid_settings(args), args.out,
        limits, tuple(args.aliases),
    )  # fmt: skip
    if part := own_part(args):
        _run_part(suite, *part, args)
        return
    page, failures = run_suite(suite, models, embedding_settings(args), args.out, _worker_count(args), args.force)
    print(page)
    if suite.choices:
        options = " ".join(dict.fromkeys([*suite.choices, *([] if args.force else ["--force"])]))
        print(f"\nto measure what is ambiguous as well, with the names that you mean:\n  {args.command_line} {options}")
    print(f"\nwritten to {args.out}")
    raise_failures(failures, len(suite.jobs))
    raise_skipped(suite.failed)
