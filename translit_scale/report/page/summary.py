"""The summary at the top of the page: plain sentences about training, results and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from translit_scale.evaluate.bootstrap import Estimate
from translit_scale.languages import listed
from translit_scale.report.averages import Average, AverageBlock
from translit_scale.report.averages_page import FEWEST
from translit_scale.report.page.elements import Section
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.page.languages import LanguageTable
from translit_scale.report.page.runs import Run
from translit_scale.report.page.scores import Measured, main_measure, overall, title_of


@dataclass(frozen=True)
class Summary:
    """Sentences about each run, the main figures, and what the page could show but has no files for."""

    runs: list[str]
    figures: list[str]
    missing: list[str]


def summary(
    inputs: Inputs, measured: Measured | None, languages: LanguageTable | None, sections: Sequence[Section]
) -> Summary:
    """The summary of a page whose sections are made already."""
    figures = [] if measured is None else [_figure(block, measured.first) for block in measured.blocks]
    missing = [section.missing for section in sections if section.missing]
    if measured is not None and len(inputs.models) < 2:
        missing.append(
            "There is one model, so there are no differences. Evaluate the base model with the same command: add "
            "`--model base=BASE_MODEL`."
        )
    figures += [] if languages is None else languages.sentences
    return Summary([_run(run) for run in inputs.runs], figures, missing)


def _run(run: Run) -> str:
    parts = [_model(run), _data(run), _training(run), _place(run)]
    return " ".join(part for part in parts if part)


def _get(value: Mapping[str, object] | object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _model(run: Run) -> str:
    model = run.settings.get("model")
    base = _get(model, "pretrained")
    if base:
        return f"{run.name} continues the pretrained model {base}."
    layers, width = _get(model, "num_layers"), _get(model, "hidden_size")
    return f"{run.name} is an encoder of {layers} layers with width {width}, trained from scratch."


def _data(run: Run) -> str:
    trained = [code for code, pairs in run.pairs.items() if pairs]
    shards = _get(run.settings, "data", "shards")
    if not trained:
        return f"Its training data are the shards {shards}."
    number = f"{len(trained)} languages" if len(trained) > 1 else "one language"
    is_copy = _get(run.settings, "objectives", "pair_with") == "copy"
    other = "a copy of itself" if is_copy else "its transliteration"
    return (
        f"It was trained on {sum(run.pairs.values()):,} sentences, each paired with {other}, in {number} "
        f"({listed(trained, 6)}) of {shards}."
    )


def _training(run: Run) -> str:
    objectives = run.settings.get("objectives")
    names = ["masked language modelling (MLM)"]
    names += ["the contrastive objective (TCM)"] if _get(objectives, "tcm", "weight") else []
    names += ["transliteration language modelling (TLM)"] if _get(objectives, "tlm", "weight") else []
    state = run.status.get("state")
    batch, rate = _get(run.settings, "train", "batch_pairs"), _get(run.settings, "train", "lr")
    ended = f" The run has the state “{state}”." if state and state != "finished" else ""
    best = run.best.get("checkpoint")
    chosen = f" The chosen checkpoint is {best}." if best else ""
    return (
        f"It took {run.step:,} steps of {batch} pairs{_passes(run, batch)} at a peak learning rate of {rate}, with "
        f"{', '.join(names[:-1])}{' and ' if names[:-1] else ''}{names[-1]}.{ended}{chosen}"
    )


def _passes(run: Run, batch: object) -> str:
    sentences = sum(run.pairs.values())
    if not sentences or not isinstance(batch, int) or not run.step:
        return ""
    pairs = run.step * batch
    passes = f"{pairs / sentences:.1f} passes over" if pairs >= sentences else f"{pairs / sentences:.0%} of"
    return f" (in all {pairs:,}, {passes} the sentences)"


def _place(run: Run) -> str:
    ranks, device = run.environment.get("world_size"), run.environment.get("device")
    if ranks is None:
        return ""
    hosts = [str(_get(host, "host")) for host in run.environment.get("hosts") or []]
    where = (
        f" on {', '.join(hosts[:4])}{f' and {len(hosts) - 4} more hosts' if len(hosts) > 4 else ''}" if hosts else ""
    )
    ranks = "one rank" if ranks == 1 else f"{ranks} ranks"
    return f"It ran with {ranks} ({device}, {run.environment.get('precision')}){where}."


def _figure(block: AverageBlock, first: str) -> str:
    """`SR-B from eng_Latn, top-10: tcm has 42.9 % [38.2, 47.6] …`"""
    name = main_measure(block.measures)
    means = [average for average in overall(block) if name in average.estimates]
    values = [average for average in means if not average.minus]
    differences = {average.model: average for average in means if average.minus}
    parts = [_value(average, name, differences.get(average.model)) for average in values]
    languages = max((len(average.languages) for average in values), default=0)
    over = f", mean over {languages} languages" if languages > 1 else f", {values[0].languages[0]}" if values else ""
    return f"{title_of(block.task, block.source, name)}{over}: {'; '.join(parts)}."


def _value(average: Average, name: str, difference: Average | None) -> str:
    text = f"{average.model} has {_percent(average.estimates[name], ' %')}"
    if difference is None:
        return text
    estimate, n = difference.estimates[name], len(difference.languages)
    has_interval = n >= FEWEST or (n == 1 and estimate.low < estimate.high)  # of one language over its test items
    sure = ", which may be chance" if has_interval and estimate.low <= 0 <= estimate.high else ""
    return f"{text}, a difference to {difference.minus} of {_percent(estimate, ' points', '+')}{sure}"


def _percent(estimate: Estimate, unit: str, sign: str = "") -> str:
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value}{unit} [{low}, {high}]" if estimate.low < estimate.high else f"{value}{unit}"
