"""`translit-scale doctor`: checks hosts, network, folders and an experiment before anything is trained."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands.arguments import WIDTH, add_command
from translit_scale.commands.train import add_local_rank, add_settings
from translit_scale.errors import ConfigError
from translit_scale.shipped_files import find_file

if TYPE_CHECKING:
    from translit_scale.train.doctor import Diagnosis
    from translit_scale.train.launching.machines import Finding

TIMEOUT = timedelta(minutes=3)
"""A check in which a rank takes longer has failed."""


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "doctor",
        "check hosts, network, folders and an experiment, started as the training will be",
        "Start it with the launcher, hosts and variables of the training: it checks that all ranks have the same "
        "software, settings, shards and tokenizer, that they share the run directory, that locks work in it, free "
        "space, clocks, host names, GPUs, and how fast they add up gradients. Nothing is trained. The exit code is 2 "
        "if something would stop a training.",
        "translit-scale doctor --config paper_a/pol-ukr paper_a/model5\n"
        "srun translit-scale doctor\n"
        "deepspeed --hostfile hosts --module translit_scale doctor --config my-experiment.yaml",
    )
    add_settings(parser, "experiment to check (default: none, only the hosts are checked)", None)
    add_local_rank(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    ds_config = find_file("ds_configs", args.ds_config)
    files = [find_file("configs", word) for word in args.config or ()]
    if args.settings and not files:
        raise ConfigError("settings without an experiment", "name one: --config EXPERIMENT")
    from translit_scale.config import load_config
    from translit_scale.train.doctor import diagnose
    from translit_scale.train.launching.environment import join_world
    from translit_scale.train.launching.ranks import start_rank

    experiment = (load_config(files, args.settings), ds_config) if files else None
    folder = experiment[0].run.dir if experiment else Path("runs")
    rank = start_rank(TIMEOUT)
    diagnosis = diagnose(rank, folder, experiment)
    if rank.is_first:
        print(report(diagnosis, join_world().launcher), flush=True)
    if errors := sum(finding.level == "error" for finding in diagnosis.findings):
        raise ConfigError(
            f"{errors} of {len(diagnosis.findings)} checks failed", "what to do stands below each of them"
        )


def report(diagnosis: Diagnosis, launcher: str) -> str:
    """The table of all checks."""
    machines, findings = diagnosis.machines, diagnosis.findings
    hosts = list(dict.fromkeys(machine.host for machine in machines))
    named = ", ".join(hosts[:6]) + (f" and {len(hosts) - 6} more" if len(hosts) > 6 else "")
    ranks = f"{len(machines)} ranks of {launcher}" if len(machines) > 1 else "1 rank, started without a launcher"
    lines = [f"{ranks}, on {named}", "", *(line for finding in findings for line in _lines(finding, findings)), ""]
    warnings = sum(finding.level == "warning" for finding in findings)
    if all(finding.level != "error" for finding in findings):
        lines.append(f"ready to train{f', with {warnings} warnings' if warnings else ''}")
    return "\n".join(lines)


def _lines(finding: Finding, findings: Sequence[Finding]) -> list[str]:
    width = max(len(finding.check) for finding in findings)
    indent = " " * (width + 11)
    texts = [*finding.found.splitlines(), *([f"→ {finding.advice}"] if finding.advice else [])]
    wrapped = [part for text in texts for part in textwrap.wrap(text, WIDTH - len(indent), break_on_hyphens=False)]
    first = f"{finding.level:<7}  {finding.check:<{width}}  "
    return [first + wrapped[0], *(indent + line for line in wrapped[1:])]
