"""The plan as a page of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import Config
from translit_scale.plan.calibrate import Comparison
from translit_scale.plan.inputs import Corpus, Inputs
from translit_scale.plan.machine import Machine
from translit_scale.plan.step import (
    batch_seconds,
    largest_micro_batch,
    overlappable,
    seconds_range,
    step_memory,
    step_seconds,
    step_sent,
)
from translit_scale.plan.training import (
    COPY_RATE,
    GOOD_EFFICIENCY,
    ROMANIZED,
    SELECTED,
    Checkpoints,
    Preparation,
    Row,
    checkpoints,
    last_good,
    make_row,
    preparation,
    scaling,
)
from translit_scale.plan.workload import PairTokens, Workload
from translit_scale.text_table import format_table

WIDTH = 80
MEMORY_NAMES = {
    "parameters": "parameters", "optimizer": "optimizer: fp32 copy, moments", "gradients": "gradients",
    "reduction": "buffers of their reduction", "batch": "batch and embeddings",
    "activations": "activations, weights in bf16", "logits": "head: logits, its gradient",
    "contrast": "contrastive loss", "process": "Python and libraries, other",
}  # fmt: skip
SECONDS_NAMES = {
    "products": "matrix products, attention", "elementwise": "element-wise work",
    "embeddings": "contrastive loss, its first pass", "per_micro_batch": "fixed work of micro-batches",
    "update": "update", "traffic": "traffic", "waiting": "waiting for the slowest rank",
    "reading": "waiting for batches",
}  # fmt: skip


class Saved(NamedTuple):
    """Fractions of what a training with `objectives.identical=keep` takes."""

    tokens: float
    step_seconds: float


@dataclass(frozen=True)
class Plan:
    """A training on a number of ranks of a machine."""

    config: Config
    inputs: Inputs
    corpus: Corpus
    workload: Workload
    kept: PairTokens
    """What a pair would have with `objectives.identical=keep`."""
    machine: Machine
    ranks: int
    steps: int
    copied: float = COPY_RATE
    """Bytes/s at which a rank copies its part of a checkpoint."""
    comparisons: Sequence[Comparison] = ()

    @property
    def unit(self) -> str:
        """Hours of all ranks together."""
        return "GPU-hours" if self.machine.is_gpu else "rank-hours"

    @property
    def chosen(self) -> Row:
        """The training on this number of ranks, with the largest micro-batch that fits if that of the JSON does not."""
        largest = None if self.fits else largest_micro_batch(self.workload, self.machine, self.ranks)
        return make_row(largest or self.workload, self.machine, self.ranks, self.steps, 0)

    @property
    def fits(self) -> bool:
        """Whether the micro-batch of the JSON fits; with `"auto"`, whether all pairs of a rank do at once."""
        return step_memory(self.workload, self.machine, self.ranks).total <= self.machine.memory

    @property
    def saved(self) -> Saved:
        """By what `objectives.identical` leaves out; nothing with `keep`."""
        whole = replace(self, workload=replace(self.workload, tokens=self.kept, longest=None)).chosen.seconds.total
        tokens = self.workload.tokens.tokens / self.kept.tokens
        return Saved(1 - tokens, 1 - self.chosen.seconds.total / whole)

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of the table."""
        return scaling(self.workload, self.machine, self.steps)

    @property
    def checkpoints(self) -> Checkpoints:
        """On this number of ranks."""
        step = 3600 * self.chosen.hours / self.steps
        return checkpoints(self.chosen.workload, self.config.run, self.steps, step, self.ranks, self.copied)

    @property
    def preparation(self) -> Preparation:
        """Of the corpus."""
        return preparation(self.corpus)


def page(plan: Plan) -> str:
    """The whole page."""
    name = "CPU" if not plan.machine.is_gpu else plan.machine.name
    nodes = -(-plan.ranks // plan.machine.ranks_per_node)
    title = f"Plan of {plan.config.run.name} on {plan.ranks} × {name}, {nodes} node{'s' * (nodes > 1)}"
    sections = [
        title,
        section("Inputs", columns(plan.inputs.rows)),
        section("Calibration", calibration(plan.comparisons)) if plan.comparisons else "",
        section("Training", training(plan)),
        section("Memory of a rank", memory(plan)),
        section("Traffic that a rank sends in a step", traffic(plan)),
        section("Time of a step", seconds(plan)),
        section("Preparation", prepared(plan)),
        section(f"From 1 to {plan.rows[-1].ranks:,} ranks", table(plan)),
        "\n".join(advice(plan)),
    ]
    return "\n\n".join(part for part in sections if part)


def section(title: str, text: str) -> str:
    """A titled part."""
    return f"{title}\n{textwrap.indent(text, '  ')}"


def columns(rows: Iterable[tuple[str, str, str]]) -> str:
    """A name, and beside it a value with an explanation in brackets, wrapped."""
    rows = list(rows)
    width = 2 + max(len(name) for name, _, _ in rows)
    lines = [
        textwrap.fill(
            f"{value} ({about})",
            WIDTH - 2,
            initial_indent=f"{name:<{width}}",
            subsequent_indent=" " * (width + 2),
            break_on_hyphens=False,
        )
        for name, value, about in rows
    ]
    return "\n".join(lines)


def calibration(comparisons: Sequence[Comparison]) -> str:
    """Predicted and measured values of a run."""
    rows = [
        [f"{c.name}{f', {c.unit}' if c.unit else ''}", f"{c.predicted:.3g}", f"{c.measured:.3g}", f"{c.error:+.0%}"]
        for c in comparisons
    ]
    return format_table(["of the run", "predicted", "measured", "error"], rows)


def training(plan: Plan) -> str:
    """Steps, hours, checkpoints, and how the batch is divided."""
    row, kept = plan.chosen, plan.checkpoints
    ranges = [(number, seconds_range(seconds, plan.machine)) for number, seconds in row.stages]
    low, high = (sum(number * of_step[end] for number, of_step in ranges) / 3600 for end in (0, 1))
    waits = kept.number * kept.wait / 3600
    sizes = row.workload.sizes
    pairs, full = sizes.before(plan.steps), " with full batches" if sizes.first else ""
    tokens = row.workload.tokens.tokens
    ranks = plan.ranks * (row.hours + waits)
    rows = [
        ("pairs seen", f"{pairs:,}", f"{pairs / plan.corpus.total:.3g} epochs"),
        ("tokens", f"{pairs * tokens:.3g}", f"{tokens:.0f} a pair"),
        *left_out(plan),
        ("steps", f"{plan.steps:,}", f"of {sizes} pairs"),
        ("hours", f"{row.hours + waits:.3g}", f"{low + waits:.3g} to {high + waits:.3g}; {waits:.2g} for checkpoints"),
        (plan.unit, f"{ranks:.3g}", f"{sizes.full / row.seconds.total:,.0f} pairs/s{full}"),
        ("checkpoint, GB", gigabytes(kept.bytes), f"training waits {kept.wait:.2g} s, written in {kept.write:.2g} s"),
        ("checkpoints, GB", gigabytes(kept.kept * kept.bytes), f"at most {kept.kept:,} of {kept.number:,} are kept"),
    ]  # fmt: skip
    return columns(rows) + "\n" + "\n".join(batch_lines(plan))


def left_out(plan: Plan) -> list[tuple[str, str, str]]:
    """A row about identical pairs, where anything of them is left out."""
    setting, tokens = plan.config.objectives.identical, plan.workload.tokens
    if setting == "keep":
        return []
    parts = {"mlm": "no contrast, no TLM", "mlm_once": "no contrast, no TLM, MLM of one side"}[setting]
    saved = f"saves {plan.saved.tokens:.0%} of the tokens and {plan.saved.step_seconds:.0%} of the time of a step"
    return [("identical pairs", f"{tokens.identical:.1%}", f"{parts}: {saved}")]


def batch_lines(plan: Plan) -> list[str]:
    """How the batch is divided, whether it fits, and the largest micro-batch."""
    machine, ranks, asked, row = plan.machine, plan.ranks, plan.workload, plan.chosen
    largest, is_auto = largest_micro_batch(asked, machine, ranks), asked.zero.micro_batch_pairs is None
    if is_auto and largest:
        asked = largest
    text = (
        f"batch of {asked.batch_pairs:,} pairs = {ranks:,} rank{'s' * (ranks > 1)} × K {asked.micro_batches(ranks):,} "
        f"micro-batches of at most {asked.micro_batch_pairs(ranks):,} pairs"
    )
    if not machine.is_gpu:
        return textwrap.wrap(text, WIDTH - 2, subsequent_indent="  ")
    needed = step_memory(asked, machine, ranks).total
    fits = needed <= machine.memory
    text += ' ("auto")' * is_auto
    text += f": {'fits' if fits else 'does not fit'}, {needed / 1e9:.3g} of {machine.memory / 1e9:.3g} GB"
    lines = [text]
    if largest is None:
        lines.append("not even one pair fits: what follows is not possible; raise the ZeRO stage or offload states")
    elif not fits:
        lines.append(f"what follows is for the largest that fits: {largest.micro_batch_pairs(ranks):,} pairs")
    elif largest.micro_batches(ranks) < asked.micro_batches(ranks):
        step = step_seconds(largest, machine, ranks).total
        lines.append(
            f"largest micro-batch that fits: {largest.micro_batch_pairs(ranks):,} pairs "
            f"(K {largest.micro_batches(ranks):,}), {step:.3g} s a step instead of {row.seconds.total:.3g}"
        )
    return [line for text in lines for line in textwrap.wrap(text, WIDTH - 2, subsequent_indent="  ")]


def memory(plan: Plan) -> str:
    """Memory by part."""
    found = step_memory(plan.chosen.workload, plan.machine, plan.ranks)
    parts = found._asdict()
    rows = [[name, gigabytes(parts[key])] for key, name in MEMORY_NAMES.items() if parts[key]]
    rows.append(["together, at the largest moment", gigabytes(found.total)])
    if found.host:
        rows.append(["besides, offloaded to host memory", gigabytes(found.host)])
    return format_table(["part", "GB"], rows)


def traffic(plan: Plan) -> str:
    """Traffic by part, and what could overlap."""
    w, ranks = plan.chosen.workload, plan.ranks
    if ranks == 1:
        return "nothing: there is one rank"
    sent, rate = step_sent(w, ranks), plan.machine.rate(ranks)
    rows = [[name, gigabytes(value), f"{value / rate:.2g}"] for name, value in sent._asdict().items() if value]
    rows.append(["together", gigabytes(sent.total), f"{sent.total / rate:.2g}"])
    share = overlappable(w, ranks) / sent.total
    note = (
        f"Nothing of it overlaps with computing: gradients are reduced once, after the last backward pass. At most "
        f"{share:.0%} could."
    )
    return format_table(["part", "GB", "s"], rows) + "\n" + textwrap.fill(note, WIDTH - 2)


def seconds(plan: Plan) -> str:
    """Time by part, with its range."""
    row = plan.chosen
    low, high = seconds_range(row.seconds, plan.machine)
    parts = row.seconds._asdict()
    rows = [
        [name, f"{parts[key]:.2g}", f"{parts[key] / row.seconds.total:.0%}"]
        for key, name in SECONDS_NAMES.items()
        if parts[key]
    ]
    rows.append(["together", f"{row.seconds.total:.3g}", f"{low:.2g} to {high:.2g}"])
    host = batch_seconds(row.workload, plan.ranks)
    note = (
        f"Each rank's host plans and packs a batch in {host:.2g} s, in {row.workload.workers} process"
        f"{'es' * (row.workload.workers > 1)} beside the step (many_ranks.md, loader.md)."
    )
    offload = plan.workload.zero.optimizer_on_host or plan.workload.zero.parameters_on_host
    note += " The time of moving offloaded states to the host and of the update there is not in it." * offload
    return format_table(["part", "s", "of the step"], rows) + "\n" + textwrap.fill(note, WIDTH - 2)


def prepared(plan: Plan) -> str:
    """Preparation."""
    found, (spaces, none) = plan.preparation, ROMANIZED.values()
    about = f"{SELECTED:,} lines/s read, {spaces:,} pairs/s, {none:,} without spaces: measured, prepare.md"
    rows = [
        ("core-hours", f"{found.core_hours:.3g}", about),
        ("shards, GB", gigabytes(found.bytes), "and about as much again while they are made"),
    ]
    return columns(rows)


def table(plan: Plan) -> str:
    """A row for each number of ranks."""
    names = ["ranks", "K × pairs", "s a step", "efficiency", "hours", plan.unit, "most time"]
    text = format_table(names, [cells(row) for row in plan.rows], left=0)
    if plan.machine.is_gpu:
        text = "each with the largest micro-batch that fits\n" + text
    if all(row.fits for row in plan.rows):
        return text
    return text + "\n* not even one pair fits"


def cells(row: Row) -> list[str]:
    """A row of the table."""
    k, together = row.workload.micro_batches(row.ranks), row.ranks * row.hours
    return [
        f"{row.ranks:,}",
        f"{k:,} × {row.workload.batch_pairs / row.ranks / k:.0f}",
        f"{row.seconds.total:.3g}",
        f"{row.efficiency:.0%}",
        f"{row.hours:.3g}",
        f"{together:,.0f}" if together >= 10 else f"{together:.2g}",
        row.limit + " *" * (not row.fits),
    ]


REASONS = {
    "micro-batch": "each rank has few pairs, and the fixed work of a micro-batch takes most of the time",
    "traffic": "traffic takes most of the time",
    "imbalance": "waiting for the slowest rank takes most of the time",
    "reading": "making batches takes most of the time, so raise data.workers first",
    "computing": "the fixed work of micro-batches and the traffic do not shrink with the number of ranks",
}
"""By `Row.limit`, of the first row that is not efficient."""


def advice(plan: Plan) -> list[str]:
    """Where it stops scaling, and what to change."""
    rows = plan.rows
    good, last = last_good(rows), rows[-1]
    if good.ranks == last.ranks:
        lines = [f"It scales to {last.ranks:,} ranks: their efficiency is above {GOOD_EFFICIENCY:.0%}."]
        if last.ranks > plan.workload.sizes.smallest // 2:
            lines.append("More ranks would not have a pair each.")
    else:
        worse = rows[rows.index(good) + 1]
        lines = [
            f"It stops scaling after {good.ranks:,} ranks, the last with an efficiency above {GOOD_EFFICIENCY:.0%}: "
            f"with {worse.ranks:,}, {REASONS[worse.limit]}.",
            *changes(plan, good, worse),
        ]
    return [line for text in lines for line in textwrap.wrap(text, WIDTH, subsequent_indent="  " * (text[0] == "-"))]


def changes(plan: Plan, good: Row, worse: Row) -> list[str]:
    """What would help, each with its effect by the same formulas."""
    lines, w, before = [], worse.workload, worse.seconds.total
    larger = replace(plan.workload, sizes=BatchSizes(4 * plan.workload.batch_pairs))
    if (moved := last_good(scaling(larger, plan.machine, plan.steps))).ranks > good.ranks:
        lines.append(
            f"- With train.batch_pairs={larger.batch_pairs} it scales to {moved.ranks:,} ranks. That is another "
            "experiment: more negatives, fewer steps an epoch."
        )
    setting = '"stage": 1' if w.zero.stage == 3 else '"use_multi_rank_bucket_allreduce": false'
    zero = replace(w.zero, stage=1) if w.zero.stage == 3 else replace(w.zero, to_owner=True)
    after = step_seconds(replace(w, zero=zero), plan.machine, worse.ranks).total
    if w.zero.stage and after < 0.97 * before:
        steps = f"{after:.3g} s a step of {worse.ranks:,} ranks, not {before:.3g}"
        lines.append(f"- {setting} in zero_optimization: {steps}.")
    return [*lines, f"- Or use {good.ranks:,} ranks, and run other experiments on the rest."]


def gigabytes(value: float) -> str:
    """In 10⁹ bytes."""
    return f"{value / 1e9:.2f}" if value >= 5e6 else f"{value / 1e9:.1g}"
