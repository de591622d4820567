"""The summary at the top of the page: plain sentences about training, results and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from translit_scale.batch.sizes import BatchSizes
from translit_scale.evaluate.bootstrap import Estimate
from translit_scale.languages import listed
from translit_scale.report.averages import Average, AverageBlock
from translit_scale.report.averages_page import FEWEST
from translit_scale.report.page.elements import Cell, Section, Table
from translit_scale.report.page.inputs import Inputs
from translit_scale.report.page.languages import LanguageTable
from translit_scale.report.page.runs import Run
from translit_scale.report.page.scores import Measured, main_measure, mark, overall, title_of

MOST_IN_SENTENCES = 2
"""Models whose figures are said in sentences; those of more are in a table."""


@dataclass(frozen=True)
class Summary:
    """Sentences about the runs, the main figures, and what the page could show but has no files for."""

    runs: list[str]
    figures: list[str]
    missing: list[str]
    table: Table | None
    """The figures of more models than fit into sentences."""


def summary(
    inputs: Inputs, measured: Measured | None, languages: LanguageTable | None, sections: Sequence[Section]
) -> Summary:
    """The summary of a page whose sections are made already."""
    figures: list[str] = []
    table = None
    if measured is not None and len(inputs.models) > MOST_IN_SENTENCES:
        table = _table(measured, list(inputs.models))
    elif measured is not None:
        figures = [_figure(block) for block in measured.blocks]
    missing = [section.missing for section in sections if section.missing]
    if measured is not None and len(inputs.models) < 2:
        missing.append(
            "There is one model, so there are no differences. Evaluate the base model with the same command: add "
            "`--model base=BASE_MODEL`."
        )
    figures += [] if languages is None else languages.sentences
    return Summary(_about(inputs.runs), figures, missing, table)


def _about(runs: Sequence[Run]) -> list[str]:
    """What all runs have in common, and a paragraph for each group of runs that does not differ."""
    facts = {run.name: _facts(run) for run in runs}
    common = [fact for fact in facts[runs[0].name] if all(fact in other for other in facts.values())]
    if len(runs) == 1:
        return [_paragraph(runs[0].name, common)]
    paragraphs = [_paragraph(f"Each of the {len(runs)} runs", common)] if common else []
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, of_run in facts.items():
        groups.setdefault(tuple(fact for fact in of_run if fact not in common), []).append(name)
    for own, names in groups.items():
        if own:
            paragraphs.append(_paragraph(f"Each of {', '.join(names)}" if len(names) > 1 else names[0], own))
    return paragraphs


def _paragraph(subject: str, facts: Sequence[str]) -> str:
    return " ".join(f"{subject if number == 0 else 'It'} {fact}." for number, fact in enumerate(facts))


def _facts(run: Run) -> list[str]:
    """Sentences about a run without their subject."""
    facts = [_model(run), *_data(run), *_training(run), *_place(run)]
    state, best = run.status.get("state"), run.best.get("checkpoint")
    facts += [f"has the state “{state}”"] if state and state != "finished" else []
    facts += [f"has {best} as its chosen checkpoint"] if best else []
    return facts


def _get(value: Mapping[str, object] | object, *names: str) -> object:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _model(run: Run) -> str:
    model = run.settings.get("model")
    base = _get(model, "pretrained")
    if base:
        return f"continues the pretrained model {base}"
    layers, width = _get(model, "num_layers"), _get(model, "hidden_size")
    return f"is an encoder of {layers} layers with width {width}, trained from scratch"


def _data(run: Run) -> Iterator[str]:
    trained = list(run.pairs)
    shards = _get(run.settings, "data", "shards")
    if not trained:
        yield f"has the shards {shards} as its training data"
        return
    number = f"{len(trained)} languages" if len(trained) > 1 else "one language"
    is_copy = _get(run.settings, "objectives", "pair_with") == "copy"
    yield f"was trained on {sum(run.pairs.values()):,} sentences in {number} ({listed(trained, 6)}) of {shards}"
    yield f"pairs each sentence with {'a copy of itself' if is_copy else 'its transliteration'}"


def _training(run: Run) -> Iterator[str]:
    objectives = run.settings.get("objectives")
    names = ["masked language modelling (MLM)"]
    names += ["the contrastive objective (TCM)"] if _get(objectives, "tcm", "weight") else []
    names += ["transliteration language modelling (TLM)"] if _get(objectives, "tlm", "weight") else []
    batch, first, rate = (_get(run.settings, "train", name) for name in ("batch_pairs", "first_batch_pairs", "lr"))
    grown = f"{first} to " if first else ""
    yield f"took {run.step:,} steps of {grown}{batch} pairs{_passes(run)} at a peak learning rate of {rate}"
    yield f"was trained with {', '.join(names[:-1])}{' and ' if names[:-1] else ''}{names[-1]}"


def _passes(run: Run) -> str:
    sentences, batch = sum(run.pairs.values()), _get(run.settings, "train", "batch_pairs")
    if not sentences or not isinstance(batch, int) or not run.step:
        return ""
    sizes = BatchSizes(batch)
    first, warmup = (_get(run.settings, "train", name) for name in ("first_batch_pairs", "batch_warmup_steps"))
    if isinstance(first, int) and isinstance(warmup, int):
        sizes = BatchSizes(batch, first, warmup)
    pairs = sizes.before(run.step)
    passes = f"{pairs / sentences:.1f} passes over" if pairs >= sentences else f"{pairs / sentences:.0%} of"
    return f" (in all {pairs:,}, {passes} the sentences)"


def _place(run: Run) -> Iterator[str]:
    ranks, device = run.environment.get("world_size"), run.environment.get("device")
    if ranks is None:
        return
    hosts = [str(_get(host, "host")) for host in run.environment.get("hosts") or []]
    where = (
        f" on {', '.join(hosts[:4])}{f' and {len(hosts) - 4} more hosts' if len(hosts) > 4 else ''}" if hosts else ""
    )
    number = "one rank" if ranks == 1 else f"{ranks} ranks"
    yield f"ran with {number} ({device}, {run.environment.get('precision')}){where}"


def _of_test(block: AverageBlock) -> tuple[str, dict[str, Average], dict[str, Average]]:
    """What a block measures, its scores and its differences by model."""
    name = main_measure(block.measures)
    means = [average for average in overall(block) if name in average.estimates]
    values = {average.model: average for average in means if not average.minus}
    differences = {average.model: average for average in means if average.minus}
    targets = max((average.languages for average in values.values()), key=len, default=())
    return title_of(block.task, block.source, name, targets), values, differences


def _table(measured: Measured, models: Sequence[str]) -> Table:
    """A row for each test, a column for each model, in its cells the score and the difference to the first model."""
    rows: list[list[Cell | str]] = []
    for block in measured.blocks:
        title, values, differences = _of_test(block)
        name = main_measure(block.measures)
        cells = (_cell(values.get(model), differences.get(model), name) for model in models)
        rows.append([title, *cells])
    note = (
        f"Percent with 95 % intervals, then the difference to {measured.first} in points; ▲ and ▼ mark differences "
        f"whose interval does not contain 0, if they are of one language or of at least {FEWEST}."
    )
    return Table("Scores of all models", ["test", *models], rows, note=note)


def _cell(score: Average | None, difference: Average | None, name: str) -> Cell | str:
    if score is None:
        return "–"
    shown = _percent(score.estimates[name], "")
    if difference is None:
        return Cell(shown)
    estimate = difference.estimates[name]
    return Cell(shown, _percent(estimate, "", "+"), mark(estimate) if _has_interval(difference, name) else "")


def _has_interval(difference: Average, name: str) -> bool:
    """Whether its interval says something: of many languages, or of one over its test items."""
    estimate, n = difference.estimates[name], len(difference.languages)
    return n >= FEWEST or (n == 1 and estimate.low < estimate.high)


def _figure(block: AverageBlock) -> str:
    """`SR-B from eng_Latn, top-10: tcm has 42.9 % [38.2, 47.6] …`"""
    title, values, differences = _of_test(block)
    name = main_measure(block.measures)
    return f"{title}: {'; '.join(_value(average, name, differences.get(model)) for model, average in values.items())}."


def _value(average: Average, name: str, difference: Average | None) -> str:
    text = f"{average.model} has {_percent(average.estimates[name], ' %')}"
    if difference is None:
        return text
    estimate = difference.estimates[name]
    sure = ", which may be chance" if _has_interval(difference, name) and estimate.low <= 0 <= estimate.high else ""
    return f"{text}, a difference to {difference.minus} of {_percent(estimate, ' points', '+')}{sure}"


def _percent(estimate: Estimate, unit: str, sign: str = "") -> str:
    value, low, high = (f"{100 * x:{sign}.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value}{unit} [{low}, {high}]" if estimate.low < estimate.high else f"{value}{unit}"
