"""How test sets name their files, and which files hold a language: one set of rules for every task.

A language is asked for as `iso3_Script`. Only files of that language count: they are found under this code, or else
under another name of the same language (`languages.matching_codes`, `names.py`). If several match, the error lists
them; none is chosen. The user can state a set's own name for a language (`Aliases`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    same_macrolanguage,
    to_iso3,
    written_in_glot500,
)
from translit_scale.testsets.names import WORD_PREFIX
from translit_scale.testsets.parallel import ParallelText

SPLITS = ("train", "dev", "test")
LANGUAGE = r"(?P<language>[a-z]{2,3}(?:_[A-Z][a-z]{3})?)"
"""Part of a layout's pattern: a language with or without its script."""
CODE = r"(?P<language>[a-z]{3}_[A-Z][a-z]{3})"
"""Part of a layout's pattern: a language with its script."""
SPLIT = r"(?P<split>train|dev|test)"
COMPRESSED = rf"(?:{'|'.join(map(re.escape, COMPRESSIONS))})?"
Aliases = tuple[tuple[str, str], ...]
"""Code asked for, and a set's own name for it (`zho_Hani`, `zho_Hans`); of several names the first that is there."""
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
    """Matches their paths below the folder; groups `language` and, if files belong to one split, `split`. A group
    `variety`, if it is there, is a part of the name that states more than the language (`cat_Latn` `vale1252`)."""
    content: str
    """What a line holds, for messages and docs."""
    text_column: int | None = None
    """Column of a table with the text, which shows the script where a name does not; None: Glot500-c's main script,
    and the first column's for a language that Glot500-c does not have."""
    several: bool = False
    """Whether a language may have several files, which are read in the order of their names."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of languages in this set that are not codes of ISO 639 → code: `zh-yue` is `yue_Hani`."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """Names of varieties of a language → its code; they are read only where the language has no other file."""


@dataclass(frozen=True, kw_only=True)
class ParallelLayout(Layout):
    """A layout of a retrieval test set."""

    pair: Callable[[LanguageFiles, LanguageFiles], ParallelText]
    """Pairs the sentences of two languages."""
    note: str = ""
    """What readers of the numbers should know."""
    aligned_with: str | None = None
    """A language without files of its own: it is the second side of every other language's files."""
    languages_of: Callable[[Path], Sequence[str]] | None = None
    """The codes of the languages in a file that holds several; its name then states none."""


class LanguageError(DataError):
    """A folder does not have a language, or it is unclear under which name.

    `candidates` are names there that `--as` may state; `is_same` says whether they are this very language.
    """

    def __init__(self, language: str, message: str, hint: str, candidates: Sequence[str], is_same: bool) -> None:
        super().__init__(message, hint)
        self.language, self.candidates, self.is_same = language, candidates, is_same

    @property
    def option(self) -> str:
        """The option that chooses the first of the candidates."""
        return f"--as {self.language}={self.candidates[0]}"


@dataclass(frozen=True)
class LanguageFiles:
    """The files of one language in one split."""

    language: str
    """Code that was asked for."""
    name: str
    """What the folder calls it: the same code, the code of a synonym, or the name of a variety or alias."""
    split: str
    paths: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class NamedFile:
    """A file of a test set and its name for the language: `hin_Deva`, `hin`, `hi`, `zh-yue` or `cat_Latn_vale1252`."""

    path: Path
    language: str
    variety: str
    layout: Layout

    @property
    def name(self) -> str:
        """With what the name states beside the language."""
        return f"{self.language}_{self.variety}" if self.variety else self.language

    @property
    def stated(self) -> str | None:
        """The code that the set's own table has for this name."""
        return self.layout.names.get(self.name) or self.layout.variants.get(self.name)

    @property
    def is_variant(self) -> bool:
        """Whether the file is read only where the language has no other."""
        return self.name in self.layout.variants or (bool(self.variety) and not self.layout.several)

    @cached_property
    def code(self) -> str | None:
        """`iso3_Script`; None if the name is not a language.

        Raises:
            DataError: the file must be read to detect its script, and cannot be.
        """
        if self.stated:
            return self.stated
        name, _, script = self.language.partition("_")
        iso3 = to_iso3(name)
        if iso3 is None or (script and pycountry.scripts.get(alpha_4=script) is None):
            return None
        known = written_in_glot500(iso3)
        if not script and known and self.layout.text_column is None:
            return max(known, key=lambda code: (code != "jpn_Latn", inventory()[code]))
        return f"{iso3}_{script or self._detect_script(known, self.layout.text_column or 0)}"

    def _detect_script(self, known: Sequence[str], column: int) -> str:
        """Of the scripts that Glot500-c has of this language (or of any language) the one with most letters."""
        records = (fields for _, fields in read_records(self.path) if column < len(fields) and fields[0][:1] != "#")
        sample = "\n".join(WORD_PREFIX.sub("", fields[column]) for fields in islice(records, _SAMPLE_LINES))
        scripts = {code.partition("_")[2] for code in known or inventory()}
        return max(sorted(scripts), key=lambda script: script_fraction(sample, script))

    def may_be(self, language: str) -> bool:
        """Whether the name fits, before the text is read to detect a script that the name does not state."""
        if self.stated or "_" in self.language:
            return bool(self.code and matching_codes(language, [self.code]))
        iso3 = to_iso3(self.language)
        return iso3 is not None and bool(matching_codes(language, [iso3]))


def _code_of(file: NamedFile) -> str | DataError | None:
    """The code of a file, or why it cannot be known."""
    try:
        return file.code
    except DataError as error:
        return error


def _languages_in(path: Path, match: re.Match[str], layout: Layout) -> Sequence[str]:
    """The languages of a file: that in its name, or those in its rows."""
    if isinstance(layout, ParallelLayout) and layout.languages_of:
        return layout.languages_of(path)
    return [match["language"]]


class TaskFolder:
    """A folder with the files of one task."""

    def __init__(self, path: Path, layouts: Sequence[Layout], aliases: Aliases = ()) -> None:
        self.path, self.layouts, self.aliases = path, layouts, aliases
        self._files: dict[str, list[NamedFile]] = {}

    def files(self, split: str) -> list[NamedFile]:
        """All files of one split: layout by layout, in the order of their names."""
        if split not in self._files:
            self._files[split] = [
                NamedFile(self.path / name, language, match.groupdict().get("variety") or "", layout)
                for layout in self.layouts
                for name in matching_files(layout.glob, self.path)
                if (match := re.fullmatch(layout.pattern, lower_suffix(name)))
                and match.groupdict().get("split", split) == split
                for language in _languages_in(self.path / name, match, layout)
            ]
        return self._files[split]

    def languages(self, split: str = "test") -> list[str]:
        """Sorted codes of the languages that have files of one split; `skipped` has the files that are left out."""
        codes = {_code_of(file) for file in self.files(split)} | self._aligned_with(split)
        return sorted(code for code in codes if isinstance(code, str))

    def skipped(self, split: str = "test") -> list[str]:
        """Why some files of a split belong to no language: their names are none, or they cannot be read."""
        codes = {file: _code_of(file) for file in self.files(split)}
        names = sorted({file.name for file, code in codes.items() if code is None})
        unknown = [f"{listed(names, 40)} in {self.path}: no language of ISO 639-3, not read"] if names else []
        return unknown + [str(code) for code in codes.values() if isinstance(code, DataError)]

    def find_all(self, languages: Sequence[str], split: str = "test") -> tuple[list[str], list[DataError]]:
        """The languages that the folder has, and an error for each of the others.

        Two languages that are the same files (`fas_Arab`, `pes_Arab`) count once: the one whose code the folder uses,
        or else the first.
        """
        files: dict[str, LanguageFiles] = {}
        errors: list[DataError] = []
        for language in dict.fromkeys(languages):
            try:
                files[language] = self.find(language, split)
            except DataError as error:
                errors.append(error)
        kept: dict[tuple[str, tuple[Path, ...]], str] = {}
        for language, found in files.items():
            key = (found.name, found.paths)
            if key not in kept or language == found.name:
                kept[key] = language
        for language, found in files.items():
            if (other := kept[found.name, found.paths]) != language:
                message = f"{language} is {found.name} in {self.path}, which is measured as {other} and counted once"
                errors.append(DataError(message))
        return [language for language in files if language in kept.values()], errors

    def find(self, language: str, split: str = "test") -> LanguageFiles:
        """The files of a language: one, or several if the layout allows that; of several layouts the first is read.

        Raises:
            ConfigError: there is no such split.
            DataError: the code is unknown, no file matches, or it is unclear which is meant.
        """
        check_language(language)
        if split not in SPLITS:
            raise ConfigError(f"there is no split {split!r}", f"there are {', '.join(SPLITS)}")
        for name in (*(name for code, name in self.aliases if code == language), language):
            if name != language and (files := [file for file in self.files(split) if file.name == name]):
                return self._of_first_layout(files, language, name, split)
            if files := self._of_code(name, language, split):
                shown = files[0].name if files[0].is_variant else files[0].code
                return self._of_first_layout(files, language, str(shown), split)
            if aligned := matching_codes(name, sorted(self._aligned_with(split))):
                return LanguageFiles(language, aligned[0], split, ())
        raise self._missing(language, split)

    def expected(self, language: str, split: str) -> str:
        """The paths at which the files of a language would be found, for messages."""
        iso3 = language.partition("_")[0]
        entry = pycountry.languages.get(alpha_3=iso3)
        names = {"language": language, "iso3": iso3, "iso": getattr(entry, "alpha_2", iso3), "split": split}
        shown = []
        for layout in self.layouts:
            own = next((name for name, code in layout.names.items() if code == language), names["iso"])
            shown.append(str(self.path / layout.shown.format(**names | {"iso": own})))
        return " or ".join(shown)

    def _of_code(self, code: str, language: str, split: str) -> list[NamedFile]:
        """The files that have a language under its code or a synonym; varieties only if there is nothing else."""
        candidates = [file for file in self.files(split) if file.may_be(code)]
        codes = matching_codes(code, sorted({file.code for file in candidates if file.code}))
        if len(codes) > 1:
            message = f"{language} may be {' or '.join(codes)} in {self.path}"
            raise LanguageError(language, message, f"name the one you mean: --as {language}={codes[0]}", codes, True)
        files = [file for file in candidates if file.code in codes]
        return [file for file in files if not file.is_variant] or files

    def _missing(self, language: str, split: str) -> LanguageError:
        """The error about a missing language, with what the folder has instead."""
        message = f"no {split} data for {language}: there is no {self.expected(language, split)}"
        present = self.languages(split)
        related = same_macrolanguage(language, present)
        hint = f"the folder has {listed(present, 40) or 'no file of that layout'}"
        if related:
            hint = (
                f"the folder has {listed(related)} (another script, or another language of the same macrolanguage); "
                f"to measure one of them under the name {language}: --as {language}={related[0]}"
            )
        return LanguageError(language, message, hint, related, False)

    def _of_first_layout(self, candidates: Sequence[NamedFile], language: str, name: str, split: str) -> LanguageFiles:
        files = [file for file in candidates if file.layout is candidates[0].layout]
        paths = tuple(file.path for file in files)
        uncompressed = {re.sub(rf"{COMPRESSED}$", "", str(path)) for path in paths}
        if len(paths) > 1 and (not files[0].layout.several or len(uncompressed) < len(paths)):
            hint = "leave one of them in the folder"
            if len({file.name for file in files}) > 1:
                hint += f", or name the one you mean: --as {language}={files[0].name}"
            raise DataError(f"several files for {language}, {split}: {', '.join(map(str, paths))}", hint)
        return LanguageFiles(language, name, split, paths)

    def _aligned_with(self, split: str) -> set[str]:
        """Languages that are the second side of all files here."""
        layouts = [file.layout for file in self.files(split) if isinstance(file.layout, ParallelLayout)]
        return {layout.aligned_with for layout in layouts if layout.aligned_with}
