"""Languages that have fewer pairs than the recipe's minimum, or no text at all: as a file of the set and in short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.manifest import Manifest
from translit_scale.files import write_bytes
from translit_scale.languages import language_set, listed

THIN_LANGUAGES = "thin_languages.tsv"
"""Name of the file beside `manifest.json`; it exists only if there are such languages."""
_NAMED = 6


class ThinLanguage(NamedTuple):
    """A language with less text than asked for."""

    language: str
    pairs: int
    minimum: int
    """`sample.minimum` of the recipe; 0 if the recipe has none and the language has no text."""


def thin_languages(manifest: Manifest) -> list[ThinLanguage]:
    """Languages with fewer pairs than `sample.minimum`, the fewest first, with those of its set that have no text."""
    recipe = manifest.provenance.get("recipe", {})
    minimum = recipe.get("sample", {}).get("minimum", 0)
    special = {code: settings.get("sample") or {} for code, settings in recipe.get("per_language", {}).items()}
    rows = {language: counts.rows for language, counts in manifest.languages.items()}
    of_set = (recipe.get("language_set") or {}).get("of", "found")
    missing = set() if of_set == "found" else set(language_set(of_set)) - rows.keys()
    found = [
        ThinLanguage(language, pairs, special.get(language, {}).get("minimum", minimum))
        for language, pairs in (rows | dict.fromkeys(missing, 0)).items()
    ]
    return sorted((thin for thin in found if thin.pairs < max(thin.minimum, 1)), key=lambda thin: (thin.pairs, thin))


def write_thin_languages(directory: Path, manifest: Manifest) -> None:
    """Writes a line for each of them, or removes the file of an older set if there are none."""
    thin = thin_languages(manifest)
    path = directory / THIN_LANGUAGES
    if not thin:
        path.unlink(missing_ok=True)
        return
    lines = ["\t".join(ThinLanguage._fields), *("\t".join(map(str, entry)) for entry in thin)]
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def summarize_thin_languages(manifest: Manifest, directory: Path) -> Iterator[str]:
    """How many there are, of which size, and the worst; the file has all."""
    thin = thin_languages(manifest)
    if not thin:
        return
    without_text = sum(not entry.pairs for entry in thin)
    yield (
        f"{len(thin):,} of {len(manifest.languages) + without_text:,} languages have fewer pairs than sample.minimum "
        "in the recipe, or no text:"
    )
    digits = Counter(len(str(entry.pairs)) if entry.pairs else 0 for entry in thin)
    largest = max(entry.minimum for entry in thin) - 1
    yield "  " + "; ".join(
        f"{number:,} with {f'{10 ** (size - 1):,} to {min(10**size - 1, largest):,} pairs' if size else 'none'}"
        for size, number in sorted(digits.items())
    )
    yield f"  the fewest: {listed([f'{entry.language} {entry.pairs:,}' for entry in thin], _NAMED)}"
    yield f"  all of them: {directory / THIN_LANGUAGES}"
