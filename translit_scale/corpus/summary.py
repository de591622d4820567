"""Tables about what `prepare` did and what a shard set contains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from translit_scale.corpus.manifest import LanguageCounts, Manifest
from translit_scale.corpus.text import UNREADABLE
from translit_scale.corpus.thin import summarize_thin_languages
from translit_scale.corpus.web import KINDS, Kind
from translit_scale.languages import inventory, listed
from translit_scale.text_table import format_table

_MOST_SHOWN = 40
"""Languages that have a line each after a preparation; of more, half of so many with most pairs, and with fewest."""
_NOTED_FRACTION = 0.01
_NOTED_WEB_FRACTION = 0.001
_WEB: dict[Kind, str] = {"html": "HTML tags or entities", "url": "URLs", "email": "e-mail addresses"}


def preparation_table(manifest: Manifest, directory: Path) -> str:
    """A line per language and one for all: lines read, dropped by reason, pairs, and the fraction with equal sides.

    Of many languages, only those with most and with fewest pairs have a line.

    Args:
        directory: of the set, for the commands that are recommended.
    """
    totals = Counter[str]()
    for counts in manifest.languages.values():
        totals.update(counts.dropped)
    dropped = [reason for reason, total in totals.items() if total]
    header = ["language", "read", *(reason.replace("_", " ") for reason in dropped), "pairs", "identical", "bytes"]
    numbers = {
        language: [counts.read, *(counts.dropped.get(name, 0) for name in dropped), counts.rows, counts.identical, size]
        for (language, counts), size in zip(manifest.languages.items(), _bytes(manifest), strict=True)
    }
    remarks = list(_remarks(manifest, directory))
    if len(numbers) > 1:
        total = [sum(column) for column in zip(*numbers.values(), strict=True)]
        if (left_out := len(numbers) - _MOST_SHOWN) > 0:
            ordered, half = sorted(numbers, key=lambda language: -numbers[language][-3]), _MOST_SHOWN // 2
            numbers = {language: numbers[language] for language in (*ordered[:half], *ordered[-half:])}
            remarks.insert(0, f"{left_out:,} languages between these: translit-scale shards stats {directory}")
        numbers["all"] = total
    rows = [
        [name, *(f"{number:,}" for number in (*before, pairs)), _percent(identical, pairs), f"{size:,}"]
        for name, (*before, pairs, identical, size) in numbers.items()
    ]
    return "\n".join([format_table(header, rows, rule=False), *remarks])


def _remarks(manifest: Manifest, directory: Path) -> Iterator[str]:
    """What deserves attention in the table."""
    for language, counts in manifest.languages.items():
        yield from _unreadable(language, counts)
        if counts.from_column:
            yield f"{language}: {counts.from_column:,} of {counts.rows:,} transliterations are the input's own"
    if further := {code: counts.further for code, counts in manifest.languages.items() if counts.further}:
        yield f"{sum(further.values()):,} further transliterations of the same sentences: {_largest(further)}"
    if fallbacks := sum(counts.fallbacks for counts in manifest.languages.values()):
        yield f"{fallbacks:,} sentences that could not be romanized as a whole were romanized in parts"
    yield from _web(manifest.languages)
    yield from summarize_thin_languages(manifest, directory)
    if incomplete := [*_fewer_than_published(manifest)]:
        yield (
            "Less than half of the sentences that the authors of Glot500-c count (translit-scale docs languages) were "
            f"there: {listed(incomplete)}"
        )
    if manifest.provenance.get("held_out"):
        yield (
            "Held-out sentences may remain inside longer ones and in other wordings.\n"
            "This lists them, with the files of `exclude` or any other test sets:\n"
            f"  translit-scale shards contamination {directory} --near 0.8 --files FILE ..."
        )


def _unreadable(language: str, counts: LanguageCounts) -> Iterator[str]:
    """The files with many lines that could not be read."""
    for reason, (what, remedy) in UNREADABLE.items():
        number, of_files = counts.dropped.get(reason, 0), counts.unreadable.get(reason, {})
        if number > _NOTED_FRACTION * counts.read:
            yield f"{language}: {number / counts.read:.0%} of the lines {what}: {_largest(of_files)}\n  {remedy}"


def _web(languages: Mapping[str, LanguageCounts]) -> Iterator[str]:
    """Languages with HTML, URLs or e-mail addresses, and what was removed."""
    noted = []
    for kind in KINDS:
        of_each = {code: counts.contains[kind] for code, counts in languages.items() if kind in counts.contains}
        least = 0 if kind == "email" else _NOTED_WEB_FRACTION
        if any(number > least * languages[code].rows for code, number in of_each.items()):
            noted.append(kind)
            yield f"{sum(of_each.values()):,} pairs contain {_WEB[kind]}: {_largest(of_each)}"
    if noted:
        yield f"  `clean: [{', '.join(noted)}]` in the recipe removes them (translit-scale docs preparing)"
    cleaned = Counter[str]()
    for counts in languages.values():
        cleaned.update(counts.cleaned)
    if cleaned:
        of_kinds = ", ".join(f"{_WEB[kind]} from {number:,}" for kind in KINDS if (number := cleaned[kind]))
        yield f"removed from sentences of the input: {of_kinds}"


def _largest(numbers: Mapping[str, int]) -> str:
    """Names with their numbers, the largest first."""
    ordered = sorted(numbers.items(), key=lambda item: -item[1])
    return listed([f"{name} {number:,}" for name, number in ordered], 8)


def _fewer_than_published(manifest: Manifest) -> Iterator[str]:
    """Languages that lack most of their sentences in Glot500-c as the hub has it: `{language}/train/*.arrow`."""
    for language, names in manifest.provenance.get("inputs", {}).items():
        of_hub = all(name.startswith(f"{language}/train/") and name.endswith(".arrow") for name in names)
        read, published = manifest.languages[language].read, inventory().get(language, 0)
        if of_hub and read < published / 2:
            yield f"{language} {read:,} of {published:,}"


def statistics_table(manifest: Manifest, directory: Path) -> str:
    """A line per language: blocks, pairs, bytes and lengths in characters; and the languages with little text."""
    header = ["language", "blocks", "pairs", "bytes", "bytes/pair", "identical", "chars orig", "chars latn"]
    blocks = Counter[str]()
    for shard in manifest.shards:
        blocks[shard.language] += len(shard.blocks)
    rows = [
        [
            language,
            f"{blocks[language]:,}",
            f"{counts.rows:,}",
            f"{size:,}",
            f"{size / counts.rows:.0f}",
            _percent(counts.identical, counts.rows),
            f"{counts.orig_chars / counts.rows:.1f}",
            f"{counts.latn_chars / counts.rows:.1f}",
        ]
        for (language, counts), size in zip(manifest.languages.items(), _bytes(manifest), strict=True)
    ]
    return "\n".join([format_table(header, rows, rule=False), *summarize_thin_languages(manifest, directory)])


def _percent(identical: int, rows: int) -> str:
    return f"{100 * identical / rows:.1f} %"


def _bytes(manifest: Manifest) -> list[int]:
    """Bytes of the shards of each language."""
    sizes = Counter[str]()
    for shard in manifest.shards:
        sizes[shard.language] += shard.bytes
    return [sizes[language] for language in manifest.languages]
