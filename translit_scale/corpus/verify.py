"""`shards verify`: lists every difference between a shard set and its manifest.

Checksums tell whether a set has changed since it was made. `deep` also tells whether it was made correctly: it
romanizes some rows of every block again, which reveals a block in which line i of `latn` does not belong to line i of
`orig` although all checksums agree.
"""

from __future__ import annotations

import hashlib
import reprlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from translit_scale.corpus.blocks import Block, decode_block
from translit_scale.corpus.manifest import Manifest, ShardEntry, read_manifest
from translit_scale.corpus.shards import read_span, size_problem
from translit_scale.files import open_regular, sha256_file
from translit_scale.languages import listed
from translit_scale.progress import Advance
from translit_scale.romanize.romanizer import LcodePolicy
from translit_scale.romanize.transliterator import SOURCES, Transliterator, source, sources
from translit_scale.schema import changed_settings

ROMANIZED_ROWS = 10
"""Rows of a block that are romanized again: the first, the last and others chosen by a hash. Rows whose original is
ASCII are all compared, because their transliteration is the original itself."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def verify(directory: Path, deep: bool, advance: Advance) -> list[str]:
    """Everything that is wrong with a shard set, one line each; an empty list if it agrees with its manifest.

    Compares sizes and sha256 of all shards and finds tar files that are not in the manifest. `deep` also decodes every
    block (members, rows, lengths, crc32), which tells exactly what is damaged, and romanizes some of its rows again; if
    that is not possible, a line on stderr gives the reason. `advance` is called with the bytes of each finished shard.

    Raises:
        DataError: the manifest cannot be read.
    """
    manifest, _ = read_manifest(directory)
    known = {shard.name for shard in manifest.shards}
    problems = [
        f"{str(path)!r}: not in the manifest"  # repr: it may be called anything
        for path in sorted(directory.glob("*.tar"))
        if path.name not in known
    ]
    romanizers = _romanizers(manifest) if deep else {}
    for shard in manifest.shards:
        problems.extend(_file_problems(directory, shard))
        if deep:
            problems.extend(_block_problems(directory / shard.name, shard, romanizers.get(shard.language, [])))
        advance(shard.bytes)
    return problems


def _file_problems(directory: Path, shard: ShardEntry) -> Iterator[str]:
    if problem := size_problem(directory, shard):
        yield problem
        return
    path = directory / shard.name
    try:
        digest = sha256_file(path)
    except OSError as error:
        yield f"cannot read {path}: {error.strerror}"
        return
    if digest != shard.sha256:
        yield f"{path}: expected sha256 {shard.sha256}, found {digest}"


def _block_problems(path: Path, shard: ShardEntry, romanizers: Sequence[Transliterator]) -> Iterator[str]:
    try:
        file = open_regular(path)
    except OSError:
        return  # `_file_problems` has reported it
    with file:
        for index, entry in enumerate(shard.blocks):
            key = shard.block_key(index)
            try:
                block = decode_block(key, entry, read_span(file, entry.offset, entry.bytes), shard.transliterations)
                problem = _misalignment(romanizers, shard.language, key, block)
            except (OSError, ValueError) as error:
                problem = str(error)
            if problem:
                yield f"{path}:{key}: {problem}"


def _misalignment(romanizers: Sequence[Transliterator], language: str, key: str, block: Block) -> str:
    """Which rows differ when they are romanized again; "" if none does.

    Args:
        romanizers: the first one made `latn`, and all of them what else a row has.
    """
    if not romanizers:
        return ""
    rows = _rows_to_romanize(key, block)
    originals = [block.orig[row] for row in rows]
    romanized = zip(*(one.transliterate(originals, language, Counter()) for one in romanizers), strict=True)
    columns = (block.latn, *block.further)
    found = [[column[row] for column in columns] for row in rows]
    wrong = [
        row
        for row, made, (first, *others) in zip(rows, romanized, found, strict=True)
        if first != made[0] or {*others, first} - {""} != {*made} - {""}
    ]
    if not wrong:
        return ""
    row = wrong[0]
    return (
        f"{len(wrong)} of {len(rows)} rows looked at are not transliterations of their originals: row {row + 1} has "
        f"{' and '.join(_SHORT.repr(column[row]) for column in columns)} for {_SHORT.repr(block.orig[row])}"
    )


def _rows_to_romanize(key: str, block: Block) -> list[int]:
    ascii_rows = {row for row, sentence in enumerate(block.orig) if sentence.isascii()}
    return sorted(chosen_rows(key, len(block.orig)) | ascii_rows)


def chosen_rows(key: str, rows: int) -> set[int]:
    """Some rows of a block of `rows`, the same ones in every run: the first, the last and up to eight others."""
    digests = (hashlib.sha256(f"{key} {number}".encode()).digest() for number in range(ROMANIZED_ROWS - 2))
    return {0, rows - 1} | {int.from_bytes(digest[:8]) % rows for digest in digests}


def _romanizers(manifest: Manifest) -> dict[str, list[Transliterator]]:
    """What made the transliterations of each language, where it can do so again; says on stderr where it cannot."""
    own = {code: counts.from_column for code, counts in manifest.languages.items() if counts.from_column}
    if own:
        rows = f"{sum(own.values()):,} transliterations of {listed(list(own))}"
        print(f"alignment is not checked in languages with transliterations of their own: {rows}", file=sys.stderr)
    romanized = [code for code in manifest.languages if code not in own]
    if not romanized or (found := _policies(manifest.provenance)) is None:
        return {}
    return {language: sources(*found, language) for language in romanized}


def _policies(provenance: dict[str, Any]) -> tuple[str, list[LcodePolicy]] | None:
    """The source that the recipe names and its policies; None, and a line on stderr, if others made the set."""
    further = provenance.get("further_romanizers", [])
    recorded = [provenance.get("romanizer"), *(further if isinstance(further, list) else [None])]
    by: Any = provenance
    for key in ("recipe", "romanize", "by"):  # recipes are written without `by` if it is uroman
        by = by.get(key) if isinstance(by, dict) else None
    by = by if by in list(SOURCES) else "uroman"
    lcodes: list[LcodePolicy] = []
    for one in recorded:
        if not isinstance(one, dict):
            print("alignment is not checked: the manifest names no romanizer", file=sys.stderr)
            return None
        lcodes.append("by_language" if one.get("lcode") == "by_language" else "none")
        if differences := changed_settings(one, source(by, lcodes[-1]).provenance()):
            name, then, now = differences[0]
            print(
                f"alignment is not checked: the set was made with another romanizer ({_SHORT.repr(name)[1:-1]} "
                f"{_SHORT.repr(then)}, here {_SHORT.repr(now)})",
                file=sys.stderr,
            )
            return None
    return by, lcodes
