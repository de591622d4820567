"""`translit-scale reproduce`: a study from text to its page and tables."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands.arguments import add_command, positive
from translit_scale.commands.submit import add_hardware, hardware_given, sbatch_options, submit_chain, training_options
from translit_scale.errors import ConfigError

if TYPE_CHECKING:
    from translit_scale.study.settings import Scale, Study
    from translit_scale.study.steps import Place, Step

KINDS = ("text", "prepare", "tokenizer", "train", "measure")
"""Stages, as --sbatch names them; everything after the trainings is `measure`."""


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "reproduce",
        "run an experiment of the papers as a whole, from text to a page and tables",
        "Runs all steps of a study that are not done yet: prepare, tokenizer, train, evaluate, analyze and report. It "
        "can be killed at any time; the same command goes on. One failing step ends no other. Everything that it makes "
        "is in --out, with a log of each step. `translit-scale configs STUDY --kind configs/study` prints the settings "
        "of a study.",
        "translit-scale reproduce paper_a --scale minutes\n"
        "translit-scale reproduce paper_a --scale gpu --text DIR --tests DIR --jobs 6",
    )
    parser.add_argument("study", metavar="STUDY", help="name that `translit-scale configs` lists, or path of a file")
    parser.add_argument("--scale", default="minutes", metavar="NAME", help="how much of it (default: minutes)")
    parser.add_argument("--text", type=Path, metavar="DIR", help="text to train on (default: that of the demo)")
    parser.add_argument("--tests", type=Path, metavar="DIR", help="folder of the test sets (default: held-out text)")
    parser.add_argument(
        "--pretrained", metavar="MODEL",
        help="folder or hub id, for scales that start from a pretrained model (default: that of the scale)",
    )  # fmt: skip
    parser.add_argument(
        "--families", type=Path, metavar="FILE",
        help="table of language families, as report tables takes it, for studies with averages (default: none)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the study (default: studies/STUDY-SCALE)")
    parser.add_argument("--list", action="store_true", help="only show what is done, what is missing and what it costs")
    parser.add_argument("--print-tables", action="store_true", help="only print the tables of what has been measured")
    parser.add_argument(
        "--only", action="append", metavar="STEP",
        help="run only these steps, if those that they need are done: a kind (train), a name "
        "(train/pol-ukr/model1-seed0) or a pattern in quotes ('*/pol-ukr*'); repeat for several (default: all)",
    )  # fmt: skip
    group = parser.add_argument_group("this machine")
    group.add_argument("--jobs", type=positive, default=1, metavar="N", help="steps at the same time (default: 1)")
    group.add_argument("--ranks", type=positive, default=1, metavar="N", help="processes of a training (default: 1)")
    group = add_hardware(parser, KINDS)
    group.add_argument("--slurm", action="store_true", help="submit a job for each missing step instead of running it")
    group.add_argument("--dry-run", action="store_true", help="only print the commands of the missing steps")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from translit_scale.study.manifest import steps_of
    from translit_scale.study.overview import overview
    from translit_scale.study.runner import Runner
    from translit_scale.study.settings import read_study, scale_of
    from translit_scale.study.steps import await_inputs, done_steps

    if not args.slurm and (given := hardware_given(args)):
        raise ConfigError(f"{', '.join(given)}: these are options of jobs", "add --slurm")
    study = read_study(args.study)
    scale = scale_of(study, args.scale)
    place = _place(args, scale)
    if args.print_tables:
        print(_tables(study, scale, place.study), end="")
        return
    steps = steps_of(study, scale, place)
    chosen = _chosen(steps, args.only)
    done = done_steps(steps, place)
    if not args.dry_run:
        print(overview(study, scale, steps, done, args.jobs), flush=True)
    if args.list or chosen <= done.keys():
        return
    missing = [step for step in steps if step.name in chosen - done.keys()]
    if args.slurm:
        _submit(args, place, missing)
        return
    if args.dry_run:
        print("\n".join(shlex.join(["translit-scale", *step.words]) for step in missing))
        return
    if "SLURM_JOB_ID" in os.environ:  # of a chain: the steps before have just ended, perhaps on other hosts
        done = await_inputs(steps, place, chosen)
    try:
        Runner(steps, done, place, args.jobs, args.ranks).run(chosen)
    finally:
        _write_tables(study, scale, place)


def _write_tables(study: Study, scale: Scale, place: Place) -> None:
    """Writes what the steps have measured so far. Its own errors, of a damaged result for example, are only printed:
    the error of a step must not be hidden by them, nor a job of SLURM fail whose step is done.
    """
    from translit_scale.files import write_bytes
    from translit_scale.study.curves import write_curves
    from translit_scale.study.manifest import runs_of

    if not any((place.study / name).is_dir() for name in ("runs", "results")):
        return
    path = place.study / "tables.md"
    try:
        write_curves(runs_of(study, scale), place)
        write_bytes(path, _tables(study, scale, place.study).encode())
    except Exception as error:
        print(
            f"note: {path} and curves.csv beside it are not up to date: {error}\n"
            "  → mend the cause; the same command with --print-tables shows the tables",
            file=sys.stderr,
        )
        return
    print(f"\ntables: {path}")


def _tables(study: Study, scale: Scale, folder: Path) -> str:
    """The study's own tables, and then the papers'."""
    from translit_scale.study.paper_tables import paper_tables
    from translit_scale.study.tables import study_tables

    return "\n".join(part for make in (study_tables, paper_tables) if (part := make(study, scale, folder)))


def _submit(args: argparse.Namespace, place: Place, steps: Sequence[Step]) -> None:
    """Submits a job for each of some steps; all but trainings call this command, which notes that they are done."""
    from translit_scale.submit import Chain, Stage

    stages = []
    given = [
        f"--{name}={value}" for name in ("text", "tests", "pretrained", "families") if (value := getattr(args, name))
    ]
    for step in steps:
        words = [
            "reproduce",
            args.study,
            f"--scale={args.scale}",
            *given,
            f"--out={place.study}",
            f"--only={step.name}",
        ]
        kind = step.kind if step.kind in KINDS else "measure"
        options = training_options(args) if step.is_training else []
        options += ["--gpus=1"] if kind == "measure" and args.gpus_per_node else []
        script, words = ("train", list(step.words[1:])) if step.is_training else ("command", words)
        options += sbatch_options(args, kind, KINDS)
        stages.append(Stage(step.name, script, words, options, after=step.after))
    chain = Chain(place.study, stages)
    if args.dry_run:
        print(chain.script())
    else:
        submit_chain(chain)


def _chosen(steps: Sequence[Step], only: Sequence[str] | None) -> set[str]:
    """Names of the steps that may be started.

    Raises:
        ConfigError: a pattern fits no step.
    """
    if only is None:
        return {step.name for step in steps}
    chosen: set[str] = set()
    for pattern in only:
        found = {step.name for step in steps if pattern == step.kind or fnmatchcase(step.name, pattern)}
        if not found:
            kinds = ", ".join(dict.fromkeys(step.kind for step in steps))
            raise ConfigError(f"--only {pattern}: no step has this kind or name", f"kinds of steps: {kinds}")
        chosen |= found
    return chosen


def _place(args: argparse.Namespace, scale: Scale) -> Place:
    from translit_scale.report.families import read_families
    from translit_scale.study.steps import Place

    for option, needed in (("text", scale.text == "files"), ("tests", scale.needs_tests)):
        if needed and getattr(args, option) is None and not args.print_tables:
            raise ConfigError(
                f"--scale {args.scale} needs --{option} DIR", "translit-scale docs study says what is in it"
            )
    out = args.out or Path("studies") / f"{Path(args.study).stem}-{args.scale}"
    if args.pretrained and not scale.pretrained:
        raise ConfigError(f"--scale {args.scale} starts from no pretrained model", "leave --pretrained out")
    if args.families:
        if not any("{families}" in measurement.command for measurement in scale.measurements.values()):
            raise ConfigError(f"--scale {args.scale} has no averages over families", "leave --families out")
        read_families(args.families)
    return Place(out, args.text, args.tests, args.pretrained, args.families)
