"""`shards verify --data`: compares rows of a shard set with the lines of the files that they came from.

`verify` sees what happens from the cleaned sentence on. This check begins at the input file, and romanizes its lines
with uroman itself, so that a fault in cleaning, or in front of the romanizer, is seen too.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from translit_scale.corpus.clean import clean
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.text import Sentence, read_sentences
from translit_scale.corpus.verify import chosen_rows
from translit_scale.corpus.web import Kind, remove
from translit_scale.errors import DataError
from translit_scale.files import sha256_file
from translit_scale.prepare.recipe import Recipe
from translit_scale.prepare.sources import NamedFiles, recipe_files
from translit_scale.progress import Advance, Progress
from translit_scale.romanize.transliterator import source


class Row(NamedTuple):
    """A row of a shard set that is looked for in the input."""

    place: str
    """Key of its block and its number."""
    latn: str


class Rows(NamedTuple):
    """What became of the rows of a language that were looked for."""

    same: int
    """The line of the file, but for white space."""
    changed: int
    """The line as cleaning changes it."""
    problems: list[str]


def compare_with_source(directory: Path, data_dir: Path) -> dict[str, Rows]:
    """Looks for some rows of every block in the input files, and for their transliterations.

    Args:
        data_dir: as for `prepare`.

    Raises:
        DataError: the set names no recipe that can be read, or an input file is missing or unreadable.
    """
    shard_set = ShardSet.open(directory)
    recipe, files = _inputs(shard_set, data_dir)
    recorded = shard_set.manifest.provenance.get("inputs", {})
    romanize = _uroman(recipe)
    result = {}
    total = sum((data_dir / name).stat().st_size for of_language in files.values() for name, _ in of_language)
    with Progress("source", total, "bytes") as progress:
        for language in shard_set.languages:
            present = {name: sha256_file(data_dir / name) for name, _ in files.get(language, ())}
            if differing := dict(present.items() ^ recorded.get(language, {}).items()):
                other = [f"{data_dir / name}: not the file that the set was made from" for name in sorted(differing)]
                result[language] = Rows(0, 0, other)
                continue
            sentences = _sentences(data_dir, files[language], progress.advance)
            wanted, removed = _wanted(shard_set, language), recipe.of(language).clean
            result[language] = _compare(wanted, language, sentences, romanize, removed)
    return result


def _inputs(shard_set: ShardSet, data_dir: Path) -> tuple[Recipe, dict[str, NamedFiles]]:
    try:
        recipe = Recipe.model_validate(shard_set.manifest.provenance.get("recipe"))
    except ValidationError as error:
        raise DataError(f"{shard_set.directory}: the recipe in its manifest cannot be read: {error}") from None
    return recipe, recipe_files(recipe, data_dir).languages


def _wanted(shard_set: ShardSet, language: str) -> dict[str, Row]:
    """Some rows of every block, by their originals."""
    rows = {}
    for number, _ in enumerate(shard_set.block_rows(language)):
        block, key = shard_set.read_block(language, number), f"{language} block {number}"
        for row in chosen_rows(key, len(block.orig)):
            rows[block.orig[row]] = Row(f"{key}, row {row + 1}", block.latn[row])
    return rows


def _sentences(data_dir: Path, files: NamedFiles, advance: Advance) -> Iterator[Sentence]:
    for name, columns in files:
        yield from read_sentences(data_dir / name, columns, Counter(), advance)


def _uroman(recipe: Recipe) -> Any:
    """uroman itself under the recipe's policy: a function of a text and a language."""
    if recipe.romanize.by != "uroman":
        print(f"transliterations by {recipe.romanize.by} are not compared", file=sys.stderr)
        return None
    romanizer: Any = source("uroman", recipe.romanize.lcodes[0])

    def romanize(text: str, language: str) -> str:
        try:
            iso3 = language.partition("_")[0] if romanizer.lcode == "by_language" else None
            return " ".join(romanizer.uroman.romanize_string(text, romanizer.lcode_of(iso3)).split())
        except Exception:  # uroman fails on some sentences, see `Romanizer`
            return str(romanizer(clean(text), language)[0])

    return romanize


def _compare(
    wanted: dict[str, Row], language: str, sentences: Iterator[Sentence], romanize: Any, removed: Sequence[Kind]
) -> Rows:
    """Takes every row that is found out of `wanted`."""
    same, changed, problems = 0, 0, []
    for text, transliteration in sentences:
        line = " ".join(text.split())
        orig = line if line in wanted else clean(remove(text, removed))
        row = wanted.pop(orig, None)
        if row is None:
            continue
        same, changed = (same + 1, changed) if orig == line else (same, changed + 1)
        if transliteration is not None:
            expected = clean(remove(transliteration, removed))
        elif romanize:
            expected = romanize(text if orig == line else orig, language)
        else:
            continue
        if row.latn != expected:
            problems.append(f"{row.place}: {row.latn!r} for {orig!r}, expected {expected!r}")
    problems += [f"{row.place}: not in the input: {orig!r}" for orig, row in wanted.items()]
    return Rows(same, changed, problems)
