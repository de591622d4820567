"""What tokenizers do to the text in both scripts, from the files that `analyze vocabulary` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from translit_scale.charts import Axes, Row, interval_chart
from translit_scale.errors import DataError
from translit_scale.report.page.elements import Cell, Section, Table
from translit_scale.report.page.inputs import Analysis, Inputs

SIDES = ("original", "transliteration")
MOST_PAIRS = 20
"""Language pairs in the chart, those with the largest overlap in transliteration; the table has all."""
EXPLAINED = (
    "Shared token types are entries of the vocabulary that both languages use; the overlap divides them by the types "
    "of either language (paper A, Table 1). Transliteration raises the overlap of languages in different scripts. Read "
    "a high overlap with care where there are few types: they may be single letters, which nearly all languages share."
)


def vocabulary(inputs: Inputs) -> Section:
    """Shared token types of language pairs and groups, and the figures of every language."""
    section = Section("vocabulary", "Vocabulary")
    for analysis in inputs.of_kind("vocabulary"):
        try:
            label = str(analysis.content["tokenizer"]["label"])
            tables = [_pairs(label, analysis), _groups(label, analysis), _languages(label, analysis)]
            rows = list(_overlaps(analysis.content["pairs"]))
        except (KeyError, TypeError, ValueError) as error:
            inputs.damaged.append(DataError(f"{analysis.path} is not a complete result: {error}", "analyze again"))
            continue
        section.tables += [table for table in tables if table.rows]
        if rows:
            axes = Axes("percent", "languages", "script", x_title="percent of the types of either language")
            name = f"vocabulary.{len(section.charts) + 1}"
            section.charts.append(interval_chart(name, f"Token types that two languages share, {label}", rows, axes))
    if section.tables:
        section.paragraphs.append(EXPLAINED)
    else:
        run = inputs.runs[0]
        section.missing = (
            f"There is no vocabulary. Make it with `translit-scale analyze vocabulary --tokenizer {run.path}/model "
            f"--shards {run.shards} --out {run.path}/analysis`."
        )
    return section


def _overlaps(pairs: list[Mapping[str, Any]]) -> Iterator[Row]:
    largest = sorted(pairs, key=lambda pair: -pair["transliteration"]["overlap"])[:MOST_PAIRS]
    for pair in largest:
        for side in SIDES:
            languages = " and ".join(pair["languages"])
            yield {"languages": languages, "script": side, "percent": 100 * pair[side]["overlap"]}


def _pairs(label: str, analysis: Analysis) -> Table:
    rows: list[list[Cell | str]] = []
    for pair in analysis.content["pairs"]:
        cells = []
        for side in SIDES:
            cells.append(_shared(pair[side]))
        printed = pair.get("published") or {}
        cells += [_shared(printed[side]) if side in printed else Cell("–") for side in SIDES]
        rows.append([" and ".join(pair["languages"]), *cells])
    heads = ["languages", *(f"shared, {side}" for side in SIDES), *(f"paper A, Table 1, {side}" for side in SIDES)]
    return Table(f"Token types shared by language pairs, {label}", heads, rows, closed=len(rows) > 6)


def _groups(label: str, analysis: Analysis) -> Table:
    rows: list[list[Cell | str]] = [
        [
            str(group["group"]), str(len(group["languages"])), *(f"{group[side]:,}" for side in SIDES),
            *(f"{printed[side]:,}" if side in printed else "–" for side in SIDES),
        ]
        for group in analysis.content["groups"]
        for printed in [group.get("published") or {}]
    ]  # fmt: skip
    heads = ["group", "languages", *(f"unique, {side}" for side in SIDES)]
    heads += [f"paper B, Table 6, {side}" for side in SIDES]
    return Table(f"Unique token types of groups, {label}", heads, rows)


def _shared(numbers: Mapping[str, Any]) -> Cell:
    return Cell(f"{numbers['shared']:,}", f"{100 * numbers['overlap']:.1f} % of {numbers['total']:,}")


def _languages(label: str, analysis: Analysis) -> Table:
    names = ("tokens_per_character", "tokens_per_word", "unknown_rate", "cut_rate")
    heads = ["language", "script", "tokens per character", "tokens per word", "unknown tokens, %", "sentences cut, %"]
    rows: list[list[Cell | str]] = []
    for code, figures in analysis.content["languages"].items():
        for side in SIDES:
            numbers = [figures[side][name] * (100 if name.endswith("rate") else 1) for name in names]
            rows.append([code, side, *(f"{number:.2f}" for number in numbers)])
    return Table(f"Tokens of every language, {label}", heads, rows, names=2, closed=True)
