"""How well words are found in the transliteration of their sentence, from the files that `analyze words` writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from translit_scale.charts import Axes, Row, interval_chart
from translit_scale.errors import DataError
from translit_scale.report.page.elements import Cell, Section, Table
from translit_scale.report.page.inputs import Inputs

MOST_LANGUAGES = 20
"""Languages in the chart, those whose F1 differs most between models; the table has all."""
EXPLAINED = (
    "Every word of a sentence looks for its transliteration among the words of the transliterated sentence, and the "
    "other way round. F1 is that of the words that choose each other, in percent with a 95 % interval over sentences; "
    "chance is the F1 of random similarities. Words that transliteration leaves as they are can be found without "
    "having learned anything, so F1 of the changed ones is shown as well."
)


def words(inputs: Inputs) -> Section:
    """A chart of the languages and a table of all figures."""
    section = Section("words", "Words and their transliterations")
    rows = [row for analysis in inputs.of_kind("words") for row in _rows(analysis.content, str(analysis.path), inputs)]
    if not rows:
        run = inputs.runs[0]
        section.missing = (
            f"There is no word alignment. Make it with `translit-scale analyze words --model {run.path} --shards "
            f"{run.shards} --out {run.path}/analysis`."
        )
        return section
    section.paragraphs.append(EXPLAINED)
    spread: dict[str, list[float]] = {}
    for row in rows:
        spread.setdefault(row["language"], []).append(row["f1"])
    shown = sorted(spread, key=lambda code: min(spread[code]) - max(spread[code]))[:MOST_LANGUAGES]
    names = ("language", "model", "f1", "low", "high", "chance")
    charted: list[Row] = [
        {name: row[name] for name in names} for code in shown for row in rows if row["language"] == code
    ]
    some = f", {MOST_LANGUAGES} of {len(spread)} languages" if len(spread) > MOST_LANGUAGES else ""
    axes = Axes("f1", "language", "model", low="low", high="high", x_title="F1 of word alignment (%)")
    section.charts.append(interval_chart("words", f"Words that find their transliteration{some}", charted, axes))
    body: list[list[Cell | str]] = [
        [
            row["language"], row["model"], Cell(f"{row['f1']:.1f}", f"[{row['low']:.1f}, {row['high']:.1f}]"),
            f"{row['chance']:.1f}", row["changed"], f"{row['n']:,}",
        ]
        for row in rows
    ]  # fmt: skip
    heads = ["language", "model", "F1", "chance", "F1 of changed words", "sentences"]
    section.tables.append(Table("Word alignment of every language", heads, body, names=2, closed=True))
    return section


def _rows(content: Any, path: str, inputs: Inputs) -> Iterator[dict[str, Any]]:
    """A row for each language of one model, in percent."""
    try:
        for score in content["scores"]["test"]:
            if score["n"]:
                every, changed = score["all"], score["changed"]
                low, high = every["ci95"]["f1"]
                yield {
                    "language": str(score["hf_subset"]), "model": str(content["model"]["label"]), "n": int(score["n"]),
                    "f1": 100 * every["f1"], "low": 100 * low, "high": 100 * high,
                    "chance": 100 * every["chance"]["f1"],
                    "changed": f"{100 * changed['f1']:.1f}" if changed["words"] else "–",
                }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        inputs.damaged.append(DataError(f"{path} is not a complete result: {error}", "analyze again"))
