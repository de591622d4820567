"""The results of a model card: an average for each task, and the scores of some or all languages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from translit_scale.escaping import escape_markdown
from translit_scale.evaluate.bootstrap import Estimate, mean_over_languages
from translit_scale.evaluate.results import difference, percent
from translit_scale.export.results import Score, title
from translit_scale.export.settings import public_name

METRIC_NAMES = {"top1": "top-1 accuracy", "top5": "top-5 accuracy", "top10": "top-10 accuracy", "main_score": "F1"}
MOST_ROWS = 20
"""Rows of a task that are all shown; of more, those at both ends."""
ENDS = 5
Row = tuple[str, int, list[Score]]
"""Languages, number of texts, and a score for each metric."""


def describe_results(scores: Sequence[Score], base: str | None) -> str:
    """A table for each task: the average with its interval, the difference to the base model, and languages.

    Args:
        base: the model that training continued from, as in the run's configuration.
    """
    lines = ["Percent. Averages are unweighted, with 95 % bootstrap intervals over the rows that they average."]
    if base and any(score.base is not None for score in scores):
        lines[0] += (
            f" In brackets: {escape_markdown(public_name(base))}, from which training continued; `*`: the paired "
            "interval of the difference does not contain 0."
        )
    for task, kind in dict.fromkeys((score.task, score.kind) for score in scores):
        of_task = [score for score in scores if (score.task, score.kind) == (task, kind)]
        of_row: dict[tuple[str, int], list[Score]] = {}
        for score in of_task:
            of_row.setdefault((score.languages, score.n), []).append(score)
        rows = [(languages, n, found) for (languages, n), found in of_row.items()]
        names = [METRIC_NAMES[score.metric] for score in rows[0][2]]
        what = "query → candidates" if kind == "retrieval" else "fine-tuned on → tested on"
        shown, omitted = _shown(rows)
        lines += [
            "",
            f"| {escape_markdown(title(task))}: {what} | n | {' | '.join(names)} |",
            f"|---|---:|{'---:|' * len(names)}",
            *_averages(rows),
            *(f"| {escape_markdown(name)} | {n:,} | {' | '.join(map(_cell, found))} |" for name, n, found in shown),
            *([f"\n{omitted}"] if omitted else []),
        ]
    return "\n".join(lines)


def main_scores(scores: Sequence[Score]) -> list[Score]:
    """The scores themselves, but of a task with more rows than the card shows one average for each metric."""
    found: list[Score] = []
    for task, metric in dict.fromkeys((score.task, score.metric) for score in scores):
        rows = [score for score in scores if (score.task, score.metric) == (task, metric)]
        if len(rows) > MOST_ROWS:
            mean = float(np.mean([score.value for score in rows]))
            rows = [Score(task, rows[0].kind, f"average of {len(rows)}", sum(s.n for s in rows), metric, mean, None)]
        found += rows
    return found


def _averages(rows: Sequence[Row]) -> list[str]:
    """Lines with the average of all rows, and with the difference to the base model over those that it has."""
    lines = []
    if len(rows) > 1:
        values = np.array([[score.value for score in found] for _, _, found in rows])
        means = mean_over_languages(values)
        lines.append(_line(f"average of {len(rows):,}", [percent(mean) for mean in means]))
    both = [[(s.value, s.base) for s in found if s.base is not None] for _, _, found in rows]
    both = [pairs for (_, _, found), pairs in zip(rows, both, strict=True) if len(pairs) == len(found)]
    if len(both) > 1:
        changes: list[Estimate] = mean_over_languages(np.array([[value - base for value, base in p] for p in both]))
        lines.append(_line(f"minus the base model, {len(both):,}", [difference(change) for change in changes]))
    return lines


def _line(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | | {' | '.join(map(escape_markdown, cells))} |"


def _shown(rows: Sequence[Row]) -> tuple[Sequence[Row], str]:
    """The rows of the table, and a sentence about those that are left out."""
    if len(rows) <= MOST_ROWS:
        return rows, ""
    compared = all(found[-1].base is not None for _, _, found in rows)

    def rank(row: Row) -> float:
        last = row[2][-1]
        return last.value - (last.base or 0.0 if compared else 0.0)

    order = sorted(rows, key=rank)
    of = "difference to the base model" if compared else "value"
    return [*order[:ENDS], *order[-ENDS:]], (
        f"Shown are the {ENDS} rows with the smallest and the {ENDS} with the largest {of} in the last column; "
        f"{len(rows) - 2 * ENDS:,} others are left out."
    )


def _cell(score: Score) -> str:
    return f"{100 * score.value:.1f}" + ("" if score.base is None else f" ({100 * score.base:.1f})")
