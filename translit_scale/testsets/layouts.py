"""Which files of a test set belong to a language, however its makers call files and languages.

A test set has one or more layouts. Files are found by the language code asked for; a file whose name has no script
(`hin`, `hi`) is given one by its letters. What a language is also called is `languages.py`'s business. Nothing is
guessed: where several files could be meant, the error names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pycountry

from translit_scale.corpus.script import script_fraction
from translit_scale.corpus.text import read_records
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import (
    called_there,
    check_language,
    inventory,
    listed,
    resolve_language,
    written_in_glot500,
)

SPLITS = ("train", "dev", "test")
LANGUAGE = r"(?P<language>[a-z]{2,3}(?:_[A-Z][a-z]{3})?)"
"""Part of a layout's pattern: a language with or without its script."""
SPLIT = r"(?P<split>train|dev|test)"
_COMPRESSED = re.compile(r"\.(?:gz|xz|zst)$")
_SAMPLE = 200
"""Lines read to see the script of a file whose name does not say it."""


@dataclass(frozen=True)
class Layout:
    """One way of naming the files of a test set.

    `shown` says it in messages: `{language}`, `{iso3}`, `{iso}` (the shortest code) and `{split}` are filled in. `glob`
    finds the files, `pattern` matches their path below the folder (without `.gz`, `.xz`, `.zst`) with the groups
    `language` and `split`. Text stands in the field `text_column`. `several`: all files of a language are read, in name
    order.
    """

    shown: str
    glob: str
    pattern: str
    text_column: int
    several: bool = False


@dataclass(frozen=True)
class Named:
    """A file of a test set and what its name says about its language: `hin_Deva`, `hin` or `hi`."""

    path: Path
    written: str
    layout: Layout

    @property
    def iso3(self) -> str | None:
        """ISO 639-3; None where the name is no language."""
        found = resolve_language(f"{self.written.partition('_')[0]}_Latn")
        return found and found.partition("_")[0]

    def code(self) -> str | None:
        """`iso3_Script`; a script that the name does not say is read off the text. None where the name is no language.

        Raises:
            DataError: the file has to be read and cannot be.
        """
        iso3, script = self.iso3, self.written.partition("_")[2]
        if iso3 is None or (script and resolve_language(self.written) is None):
            return None
        return f"{iso3}_{script or self._script(iso3)}"

    def _script(self, iso3: str) -> str:
        """Of the scripts that Glot500-c has of this language (or of all languages) the one with most letters."""
        known = written_in_glot500(iso3) or list(inventory())
        column = self.layout.text_column
        records = (fields for _, fields in read_records(self.path) if column < len(fields) and fields[0][:1] != "#")
        sample = "\n".join(fields[column] for fields in islice(records, _SAMPLE))
        return max(
            sorted({code.partition("_")[2] for code in known}), key=lambda script: script_fraction(sample, script)
        )


def files_of(folder: Path, layouts: Sequence[Layout], split: str) -> Iterator[Named]:
    """All files of one split in name order, for one layout after the other."""
    for layout in layouts:
        for path in sorted(folder.glob(layout.glob)):
            name = _COMPRESSED.sub("", path.relative_to(folder).as_posix())
            match = re.fullmatch(layout.pattern, name)
            if match and match["split"] == split and path.is_file():
                yield Named(path, match["language"], layout)


def languages_in(folder: Path, layouts: Sequence[Layout], split: str) -> list[str]:
    """The codes of the languages that a folder has of one split, sorted; files of no known language are left out."""
    codes = (named.code() for named in files_of(folder, layouts, split))
    return sorted({code for code in codes if code is not None})


def find_files(folder: Path, layouts: Sequence[Layout], language: str, split: str) -> list[Path]:
    """The files of a language in one split: one, or all of a layout with `several`.

    The code asked for comes first, then what else the language may be called (`languages.called_there`). Of several
    layouts that have the language the first is read.

    Raises:
        ConfigError: there is no such split.
        DataError: unknown code, no file, or several that may be meant.
    """
    check_language(language)
    if split not in SPLITS:
        raise ConfigError(f"there is no split {split!r}", f"there are {', '.join(SPLITS)}")
    coded = [(named.code(), named) for named in files_of(folder, layouts, split) if _may_be(named, language)]
    codes = called_there(language, sorted({code for code, _ in coded if code}))
    if not codes:
        raise DataError(
            f"no {split} data for {language}: there is no {looked_for(folder, layouts, language, split)}",
            f"the folder has {listed(languages_in(folder, layouts, split)) or 'no file of that layout'}",
        )
    if len(codes) > 1:
        raise DataError(f"{language} may be {' or '.join(codes)} in {folder}", "name the one you mean")
    candidates = [named for code, named in coded if code == codes[0]]
    layout = candidates[0].layout
    paths = [named.path for named in candidates if named.layout is layout]
    if len(paths) > 1 and (not layout.several or len({_COMPRESSED.sub("", str(path)) for path in paths}) < len(paths)):
        names = ", ".join(map(str, paths))
        raise DataError(f"several files for {language}, {split}: {names}", "leave one of them in the folder")
    return paths


def _may_be(named: Named, language: str) -> bool:
    """Whether a name fits, as long as the script that it does not say is not looked at."""
    name = named.written if "_" in named.written else named.iso3
    return name is not None and bool(called_there(language, [name]))


def looked_for(folder: Path, layouts: Sequence[Layout], language: str, split: str) -> str:
    """The paths at which a language's file would be found, for messages."""
    iso3 = language.partition("_")[0]
    entry = pycountry.languages.get(alpha_3=iso3)
    names = {"language": language, "iso3": iso3, "iso": getattr(entry, "alpha_2", iso3), "split": split}
    return " or ".join(str(folder / layout.shown.format(**names)) for layout in layouts)
