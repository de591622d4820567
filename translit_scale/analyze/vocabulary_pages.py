"""Tables for the terminal, and charts, of a `vocabulary` result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from translit_scale.analyze.vocabulary import SIDES
from translit_scale.charts import Axes, Chart, Row, interval_chart, scatter_chart
from translit_scale.languages import listed
from translit_scale.text_table import format_table

_MOST = 20
"""Lines of a table in the terminal; the CSV files have all."""
_MOST_PAIRS = 8
_MANY_UNKNOWN = 0.05
_MOST_BARS = 40
"""Categories of one chart; for more there is a point for each language instead."""


def vocabulary_tables(result: Mapping[str, Any]) -> str:
    """Pairs beside paper A's Table 1, groups beside paper B's Table 6, languages, and nearest neighbours."""
    tokenizer, settings = result["tokenizer"], result["settings"]
    sentences = "all" if settings["sentences"] is None else f"up to {settings['sentences']:,}"
    head = (
        f"{tokenizer['label']}: {tokenizer['size']:,} entries in the vocabulary\n"
        f"{sentences} sentences of each of {len(result['languages']):,} languages"
    )
    parts = [head, *filter(None, [_pairs(result), _groups(result), _languages(result), _neighbours(result)])]
    return "\n\n".join(parts)


def _pairs(result: Mapping[str, Any]) -> str:
    """Shared types, types of either language, and their ratio; of many pairs those of paper A and the largest rises."""
    pairs = result["pairs"]
    if len(pairs) > _MOST_PAIRS:
        others = sorted((pair for pair in pairs if not pair["published"]), key=_rise, reverse=True)
        pairs = [pair for pair in pairs if pair["published"]] + others
    lines = []
    for pair in pairs[:_MOST_PAIRS]:
        for side in SIDES:
            found, published = pair[side], pair["published"]
            counts = [f"{found['shared']:,}", f"{found['total']:,}", f"{100 * found['overlap']:.1f}"]
            printed = [f"{100 * published[side]['overlap']:.1f}"] if published else ["-"]
            lines.append([" ".join(pair["languages"]) if side == SIDES[0] else "", side, *counts, *printed])
    if not lines:
        return ""
    title = "Token types that two languages share, of those of either (paper A, Table 1)"
    table = format_table(["languages", "script", "shared", "total", "overlap %", "paper %"], lines, left=2)
    more = f"… {len(pairs) - _MOST_PAIRS:,} more in pairs.csv; shown are the largest rises"
    return "\n".join([title, table, *([more] if len(pairs) > _MOST_PAIRS else [])])


def _rise(pair: Mapping[str, Any]) -> float:
    return float(pair["transliteration"]["overlap"] - pair["original"]["overlap"])


def _groups(result: Mapping[str, Any]) -> str:
    lines = []
    for group in result["groups"]:
        published = group["published"]
        printed = [f"{published[side]:,}" if published else "-" for side in SIDES]
        members = f"{len(group['languages'])}/{len(group['languages']) + len(group['missing'])}"
        lines.append([group["group"], members, *(f"{group[side]:,}" for side in SIDES), *printed])
    columns = ["group", "languages", "original", "transliterated", "paper: orig.", "translit."]
    title = "Unique tokens of a group (paper B, Table 6, which counts whole corpora)"
    return "\n".join([title, format_table(columns, lines)]) if lines else ""


def _languages(result: Mapping[str, Any]) -> str:
    """Figures of the first languages, and a note about those whose text is mostly unknown."""
    languages = result["languages"]
    lines = []
    for code, figures in list(languages.items())[:_MOST]:
        for side in SIDES:
            of_side = figures[side]
            lines.append([
                code if side == SIDES[0] else "", side, f"{of_side['sentences']:,}",
                f"{of_side['tokens_per_character']:.2f}", f"{of_side['tokens_per_word']:.2f}",
                f"{100 * of_side['unknown_rate']:.2f}", f"{of_side['types']:,}", f"{100 * of_side['cut_rate']:.2f}",
            ])  # fmt: skip
    title = f"Tokens of each language (cut: sentences of more than {result['settings']['max_length']} tokens)"
    columns = ["language", "script", "sent.", "tok/char", "tok/word", "unk %", "types", "cut %"]
    table = format_table(columns, lines, left=2)
    return "\n".join([title, table, *_rest(len(languages), "languages.csv"), *_unknown(languages)])


def _unknown(languages: Mapping[str, Any]) -> list[str]:
    """A note if the tokenizer does not know the script of some languages."""
    many = [code for code, figures in languages.items() if figures["original"]["unknown_rate"] > _MANY_UNKNOWN]
    if not many:
        return []
    return [
        f"note: over {_MANY_UNKNOWN:.0%} of the original tokens are unknown in {len(many):,} languages: "
        f"{listed(many, 1)}.",
        "Unknown tokens are no types, so the overlaps of these originals mean little.",
    ]


def _neighbours(result: Mapping[str, Any]) -> str:
    """The nearest language before and after transliteration; with many, those whose overlap with it rises most."""
    rows = [
        (code, near[SIDES[0]][0], near[SIDES[1]][0]) for code, near in result["neighbours"].items() if near["original"]
    ]
    if not rows:
        return ""
    changed = sum(before[0] != after[0] for _, before, after in rows)
    other_script = [
        sum(
            code.partition("_")[2] != neighbour[0].partition("_")[2]
            for code, *both in rows
            for neighbour in [both[side]]
        )
        for side in (0, 1)
    ]
    summary = (
        f"Nearest language by overlap: transliteration changes it for {changed:,} of {len(rows):,}\n"
        f"languages. It has another script for {other_script[0]:,} languages in the original, and for\n"
        f"{other_script[1]:,} in transliteration."
    )
    rows.sort(key=lambda row: (row[1][1] - row[2][1], row[0]))
    lines = [
        [code, before[0], after[0], f"{100 * before[1]:.1f}", f"{100 * after[1]:.1f}"]
        for code, before, after in rows[:_MOST]
    ]
    columns = ["language", "nearest, original", "nearest, translit.", "overlap %", "translit. %"]
    return "\n".join([summary, format_table(columns, lines, left=3), *_rest(len(rows), "neighbours.csv")])


def _rest(count: int, file: str) -> list[str]:
    return [f"… {count - _MOST:,} more in {file}"] if count > _MOST else []


def vocabulary_charts(label: str, result: Mapping[str, Any]) -> Iterator[Chart]:
    """Overlap of pairs or of nearest neighbours, and tokens per word, before and after transliteration."""
    title = f"{label}: types shared by two languages, of those of either"
    pairs = result["pairs"]
    rows: list[Row]
    if 0 < len(pairs) <= _MOST_BARS:
        rows = [
            {"pair": " ".join(pair["languages"]), "script": side, "overlap": 100 * pair[side]["overlap"]}
            for pair in pairs for side in SIDES
        ]  # fmt: skip
        yield interval_chart(
            f"{label}.overlap", title, rows, Axes("overlap", "pair", "script", x_title="lexical overlap (%)")
        )
    languages = result["languages"]
    if len(languages) > 2:
        rows = [
            {
                "language": code, "script": code.partition("_")[2],
                **{side: 100 * near[side][0][1] for side in SIDES},
                **{f"nearest {side}": near[side][0][0] for side in SIDES},
            }
            for code, near in result["neighbours"].items()
        ]  # fmt: skip
        yield _before_and_after(f"{label}.nearest", f"{label}: lexical overlap with the nearest language (%)", rows)
    rows = [
        {"language": code, "script": side, "tokens per word": figures[side]["tokens_per_word"]}
        for code, figures in languages.items() for side in SIDES
    ]  # fmt: skip
    title = f"{label}: tokens per word"
    if len(languages) <= _MOST_BARS:
        yield interval_chart(f"{label}.tokens", title, rows, Axes("tokens per word", "language", "script"))
    else:
        rows = [
            {
                "language": code, "script": code.partition("_")[2],
                **{side: figures[side]["tokens_per_word"] for side in SIDES},
            }
            for code, figures in languages.items()
        ]  # fmt: skip
        yield _before_and_after(f"{label}.tokens", title, rows)


def _before_and_after(name: str, title: str, rows: list[Row]) -> Chart:
    """A point for each language; the seven most frequent scripts have a colour of their own."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row["script"])] = counts.get(str(row["script"]), 0) + 1
    frequent = sorted(counts, key=lambda script: (-counts[script], script))[:7]
    ordered = sorted(rows, key=lambda row: [*frequent, row["script"]].index(row["script"]))
    shown = [{**row, "series": row["script"] if row["script"] in frequent else "other"} for row in ordered]
    return scatter_chart(
        name, title, shown, Axes("original", "transliteration", "series", x_title="original", y_title="transliteration")
    )
