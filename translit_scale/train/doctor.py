"""Checks everything that ranks must have in common, without training: `translit-scale doctor`.

The checks are those of a training, but each one is tried even if an earlier one has failed, so that one start under the
launcher names everything that is wrong.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from translit_scale.config import Config, MonitorConfig, SelectionConfig
from translit_scale.corpus.tokenizer import load_tokenizer, tokenizer_fingerprint
from translit_scale.deepspeed_json import read_ds_json
from translit_scale.errors import UserError
from translit_scale.testsets.registry import retrieval_tasks
from translit_scale.train.early_stopping import test_set_errors
from translit_scale.train.engine import resolve_hardware
from translit_scale.train.launching.agreement import check_agreement, check_shared, gathered, software
from translit_scale.train.launching.machines import Finding, Machine, check_machines, gather_machines
from translit_scale.train.launching.probes import check_locks, check_network, measure_all_reduce
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.preflight import open_shards
from translit_scale.train.run_directory import counted


@dataclass(frozen=True)
class Diagnosis:
    """What the ranks have found; the same on every rank."""

    machines: list[Machine]
    findings: list[Finding]


def diagnose(rank: Rank, folder: Path, experiment: tuple[Config, Path] | None) -> Diagnosis:
    """Runs all checks. Every rank must call it.

    Args:
        folder: the parent of the run directories, in which files are tried out; the first rank makes it.
        experiment: an experiment and its DeepSpeed JSON, whose files are checked as well.
    """
    machines = gather_machines(rank, folder)
    findings = check_machines(machines)
    findings.append(_agreement("software", {"version": software()}, "the same versions and code on all ranks"))
    findings += _check_folder(rank, folder)
    if experiment:
        findings += _check_experiment(rank, *experiment)
    findings.append(check_network(measure_all_reduce(rank), machines))
    return Diagnosis(machines, findings)


def _check_folder(rank: Rank, folder: Path) -> list[Finding]:
    def make() -> str:
        if rank.is_first:
            folder.mkdir(parents=True, exist_ok=True)
        return ""

    name = "run directory"
    if (made := _everywhere(name, make)).level == "error":
        return [made]
    shared = _checked(name, lambda: check_shared(folder, rank.is_first), f"{folder} is written and read by all ranks")
    return [shared] if shared.level == "error" else [shared, check_locks(folder, rank)]


def _check_experiment(rank: Rank, config: Config, ds_config: Path) -> list[Finding]:
    def hardware() -> str:
        found = resolve_hardware(ds_config, config, rank)
        layout = found.layout
        pairs = layout.batch_pairs / layout.world_size / layout.micro_batches
        micro = counted(layout.micro_batches, "micro-batch")
        if found.micro_batch_is_open:
            return f'{found.precision}, ZeRO-{found.zero_stage}, micro-batches as large as fit ("auto")'
        return f"{found.precision}, ZeRO-{found.zero_stage}, {micro} of about {pairs:.3g} pairs a rank"

    def shards() -> str:
        found = open_shards(config.data)
        return f"{sum(found.rows(language) for language in found.languages):,} pairs, {found.fingerprint[:12]}"

    def tokenizer() -> str:
        found = load_tokenizer(config.model.tokenizer or str(config.model.pretrained))
        return f"{len(found):,} pieces, {tokenizer_fingerprint(found)[:12]}"

    def model() -> str:
        name = config.model.pretrained
        if name is None:
            return "from scratch"
        try:
            return f"{name}: {AutoConfig.from_pretrained(name).model_type}"
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot load {name!r}: {error}", "download it once to a folder that all hosts see"
            ) from None

    settings = {**config.model_dump(mode="json"), "--ds_config": _json(ds_config)}
    return [
        _agreement("experiment", settings, "the same settings and DeepSpeed JSON on all ranks"),
        _everywhere("hardware", hardware),
        _everywhere("shards", shards),
        _everywhere("tokenizer", tokenizer),
        _everywhere("model", model),
        *_check_test_sets(rank, config),
    ]


def _check_test_sets(rank: Rank, config: Config) -> list[Finding]:
    """Reads the test sets by which checkpoints are chosen and monitored, on the first rank, as a training does."""
    sections = {"selection": (config.selection, "early stopping"), "monitor": (config.monitor, "monitoring")}
    return [
        _everywhere(section, partial(_read_test_set, section, settings, without), ask=rank.is_first)
        for section, (settings, without) in sections.items()
        if settings
    ]


def _read_test_set(section: str, settings: SelectionConfig | MonitorConfig, without: str) -> str:
    with test_set_errors(section, without):
        task = retrieval_tasks()[settings.task]
        texts, _ = task.read(settings.data, settings.languages, settings.source, settings.limit)
    pairs = counted(len(texts), "language pair")
    return f"{settings.task}: {pairs}, {counted(sum(map(len, texts)), 'sentence')}"


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_ds_json(path)
    except UserError:  # the check of the hardware names it
        return {}


def _agreement(check: str, facts: Mapping[str, Any], ok: str) -> Finding:
    return _checked(check, lambda: check_agreement(facts), ok)


def _checked(check: str, call: Callable[[], object], ok: str) -> Finding:
    """The result of a check that raises the same error on all ranks."""
    try:
        call()
    except UserError as error:
        return Finding(check, "error", error.message, error.hint)
    return Finding(check, "ok", ok)


def _everywhere(check: str, call: Callable[[], str], ask: bool = True) -> Finding:
    """Calls a function that must succeed, with the same text, on every rank that asks; at least one of them does."""
    answers = gathered((socket.gethostname(), *_answer(call)) if ask else None)
    of_ranks: list[tuple[str, str, str | None]] = [answer for answer in answers if answer is not None]
    failed = [(host, text, hint) for host, text, hint in of_ranks if hint is not None]
    if failed:
        host, text, hint = failed[0]
        hosts = {host for host, *_ in failed}
        where = f"{host}: " if len({host for host, *_ in of_ranks}) > len(hosts) else ""
        return Finding(check, "error", where + text, hint)
    texts = {text: host for host, text, _ in of_ranks}
    if len(texts) > 1:
        differing = "; ".join(f"{text} ({host})" for text, host in texts.items())
        return Finding(check, "error", f"differ: {differing}", "all hosts must read the same files")
    return Finding(check, "ok", next(iter(texts)))


def _answer(call: Callable[[], str]) -> tuple[str, str | None]:
    """What a function returns or the message of its error, and the hint of its error."""
    try:
        return call(), None
    except UserError as error:
        return error.message, error.hint
    except OSError as error:
        return f"{error.strerror}: {error.filename}", "give this user the right to write and read there"
