"""How test sets name their files, and which files hold a language: one set of rules for every task.

A language is asked for as `iso3_Script`. It is found under that code, or else under its other codes
(`languages.matching_codes`). If several match, the error lists them; none is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import pycountry

from translit_scale.corpus.compression import COMPRESSIONS
from translit_scale.corpus.find import lower_suffix, matching_files
from translit_scale.corpus.script import script_fraction
from translit_scale.corpus.tables import read_records
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import (
    check_language,
    inventory,
    listed,
    matching_codes,
    resolve_language,
    written_in_glot500,
)
from translit_scale.testsets.parallel import ParallelText

SPLITS = ("train", "dev", "test")
LANGUAGE = r"(?P<language>[a-z]{2,3}(?:_[A-Z][a-z]{3})?)"
"""Part of a layout's pattern: a language with or without its script."""
CODE = r"(?P<language>[a-z]{3}_[A-Z][a-z]{3})"
"""Part of a layout's pattern: a language with its script."""
SPLIT = r"(?P<split>train|dev|test)"
COMPRESSED = rf"(?:{'|'.join(map(re.escape, COMPRESSIONS))})?"
_SAMPLE_LINES = 200
"""Lines that are read to detect the script of a file whose name does not state it."""


@dataclass(frozen=True)
class Layout:
    """One way of naming the files of a test set."""

    shown: str
    """Path in messages and docs, with `{language}`, `{iso3}`, `{iso}` (the shortest code) and `{split}`."""
    glob: str
    """Finds the files below the folder."""
    pattern: str
    """Matches their paths below the folder; groups `language` and, if files belong to one split, `split`."""
    content: str
    """What a line holds, for messages and docs."""
    text_column: int | None = None
    """Column of a table with the text, which shows the script where a name does not; None: Glot500-c's main script."""
    several: bool = False
    """Whether a language may have several files, which are read in the order of their names."""


@dataclass(frozen=True, kw_only=True)
class ParallelLayout(Layout):
    """A layout of a retrieval test set."""

    pair: Callable[[LanguageFiles, LanguageFiles], ParallelText]
    """Pairs the sentences of two languages."""
    note: str = ""
    """What readers of the numbers should know."""
    aligned_with: str | None = None
    """A language without files of its own: it is the second side of every other language's files."""


@dataclass(frozen=True)
class LanguageFiles:
    """The files of one language in one split."""

    language: str
    """Code that was asked for."""
    code: str
    """Code under which the folder has it."""
    split: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class NamedFile:
    """A file of a test set and the language in its name: `hin_Deva`, `hin` or `hi`."""

    path: Path
    language: str
    layout: Layout

    @property
    def iso3(self) -> str | None:
        """ISO 639-3; None if the name is not a language."""
        code = resolve_language(f"{self.language.partition('_')[0]}_Latn")
        return code and code.partition("_")[0]

    @cached_property
    def code(self) -> str | None:
        """`iso3_Script`; None if the name is not a language.

        Raises:
            DataError: the file must be read to detect its script, and cannot be.
        """
        script = self.language.partition("_")[2]
        if self.layout.text_column is None:
            return self.language if script else resolve_language(self.language) or self.language
        if self.iso3 is None or (script and resolve_language(self.language) is None):
            return None
        return f"{self.iso3}_{script or self._detect_script(self.iso3, self.layout.text_column)}"

    def _detect_script(self, iso3: str, column: int) -> str:
        """Of the scripts that Glot500-c has of this language (or of any language) the one with most letters."""
        known = written_in_glot500(iso3) or list(inventory())
        records = (fields for _, fields in read_records(self.path) if column < len(fields) and fields[0][:1] != "#")
        sample = "\n".join(fields[column] for fields in islice(records, _SAMPLE_LINES))
        return max(
            sorted({code.partition("_")[2] for code in known}), key=lambda script: script_fraction(sample, script)
        )

    def may_be(self, language: str) -> bool:
        """Whether the name fits, before the text is read to detect a script that the name does not state."""
        if self.layout.text_column is None:
            return True
        name = self.language if "_" in self.language else self.iso3
        return name is not None and bool(matching_codes(language, [name]))


class TaskFolder:
    """A folder with the files of one task."""

    def __init__(self, path: Path, layouts: Sequence[Layout]) -> None:
        self.path, self.layouts = path, layouts
        self._files: dict[str, list[NamedFile]] = {}

    def files(self, split: str) -> list[NamedFile]:
        """All files of one split: layout by layout, in the order of their names."""
        if split not in self._files:
            self._files[split] = [
                NamedFile(self.path / name, match["language"], layout)
                for layout in self.layouts
                for name in matching_files(layout.glob, self.path)
                if (match := re.fullmatch(layout.pattern, lower_suffix(name)))
                and match.groupdict().get("split", split) == split
            ]
        return self._files[split]

    def languages(self, split: str = "test") -> list[str]:
        """Sorted codes of the languages that have files of one split; files of unknown languages are left out.

        Raises:
            DataError: a file whose name does not state its script cannot be read.
        """
        codes = {file.code for file in self.files(split)} | self._aligned_with(split)
        return sorted(code for code in codes if code is not None)

    def find(self, language: str, split: str = "test") -> LanguageFiles:
        """The files of a language: one, or several if the layout allows that; of several layouts the first is read.

        Raises:
            ConfigError: there is no such split.
            DataError: the code is unknown, no file matches, or it is unclear which is meant.
        """
        check_language(language)
        if split not in SPLITS:
            raise ConfigError(f"there is no split {split!r}", f"there are {', '.join(SPLITS)}")
        candidates = [file for file in self.files(split) if file.may_be(language)]
        aligned_with = self._aligned_with(split)
        codes = matching_codes(language, sorted({file.code for file in candidates if file.code} | aligned_with))
        if not codes:
            raise DataError(
                f"no {split} data for {language}: there is no {self.expected(language, split)}",
                f"the folder has {listed(self.languages(split), 40) or 'no file of that layout'}",
            )
        if len(codes) > 1:
            raise DataError(f"{language} may be {' or '.join(codes)} in {self.path}", "name the one you mean")
        paths = () if codes[0] in aligned_with else self._of_first_layout(candidates, codes[0], language, split)
        return LanguageFiles(language, codes[0], split, paths)

    def expected(self, language: str, split: str) -> str:
        """The paths at which the files of a language would be found, for messages."""
        iso3 = language.partition("_")[0]
        entry = pycountry.languages.get(alpha_3=iso3)
        names = {"language": language, "iso3": iso3, "iso": getattr(entry, "alpha_2", iso3), "split": split}
        return " or ".join(str(self.path / layout.shown.format(**names)) for layout in self.layouts)

    def _of_first_layout(
        self, candidates: Sequence[NamedFile], code: str, language: str, split: str
    ) -> tuple[Path, ...]:
        files = [file for file in candidates if file.code == code]
        layout = files[0].layout
        paths = tuple(file.path for file in files if file.layout is layout)
        uncompressed = {re.sub(rf"{COMPRESSED}$", "", str(path)) for path in paths}
        if len(paths) > 1 and (not layout.several or len(uncompressed) < len(paths)):
            names = ", ".join(map(str, paths))
            raise DataError(f"several files for {language}, {split}: {names}", "leave one of them in the folder")
        return paths

    def _aligned_with(self, split: str) -> set[str]:
        """Languages that are the second side of all files here."""
        layouts = [file.layout for file in self.files(split) if isinstance(file.layout, ParallelLayout)]
        return {layout.aligned_with for layout in layouts if layout.aligned_with}
