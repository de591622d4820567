"""Tables of what `prepare` did and of what a shard set holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from translit_scale.corpus.manifest import LanguageCounts, Manifest


def preparation_table(manifest: Manifest) -> str:
    """A line per language: what was read, where it went, and the share of pairs with two equal halves."""
    dropped = [
        reason
        for reason in next(iter(manifest.languages.values())).dropped
        if any(counts.dropped[reason] for counts in manifest.languages.values())
    ]
    header = ["language", "read", *(reason.replace("_", " ") for reason in dropped), "pairs", "identical", "bytes"]
    rows = [
        [
            language,
            f"{counts.read:,}",
            *(f"{counts.dropped[reason]:,}" for reason in dropped),
            f"{counts.rows:,}",
            _share(counts),
            f"{_bytes(manifest, language):,}",
        ]
        for language, counts in manifest.languages.items()
    ]
    return "\n".join([_table(header, rows), *_remarks(manifest)])


def _remarks(manifest: Manifest) -> Iterator[str]:
    """What a reader of the table should look into."""
    for language, counts in manifest.languages.items():
        if (undecodable := counts.dropped["undecodable"]) > 0.01 * counts.read:
            share = undecodable / counts.read
            yield f"{language}: {share:.0%} of the lines are not UTF-8; is a file in another encoding?"
    if fallbacks := sum(counts.fallbacks for counts in manifest.languages.values()):
        yield f"{fallbacks:,} sentences on which uroman fails were romanized word by word"


def statistics_table(manifest: Manifest) -> str:
    """A line per language: blocks, pairs, bytes and lengths in characters."""
    header = ["language", "blocks", "pairs", "bytes", "bytes/pair", "identical", "chars orig", "chars latn"]
    rows = [
        [
            language,
            f"{sum(len(shard.blocks) for shard in manifest.shards if shard.language == language):,}",
            f"{counts.rows:,}",
            f"{_bytes(manifest, language):,}",
            f"{_bytes(manifest, language) / counts.rows:.0f}",
            _share(counts),
            f"{counts.orig_chars / counts.rows:.1f}",
            f"{counts.latn_chars / counts.rows:.1f}",
        ]
        for language, counts in manifest.languages.items()
    ]
    return _table(header, rows)


def _share(counts: LanguageCounts) -> str:
    return f"{100 * counts.identical / counts.rows:.1f} %"


def _bytes(manifest: Manifest, language: str) -> int:
    return sum(shard.bytes for shard in manifest.shards if shard.language == language)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, numbers to the right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
