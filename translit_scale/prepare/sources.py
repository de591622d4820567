"""Finds the files of a recipe and reads their beginnings, so that all its mistakes are reported before any work."""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from translit_scale.corpus.find import find_files, is_pattern, lower_suffix
from translit_scale.corpus.text import Columns, check_columns, read_all_cells
from translit_scale.errors import ConfigError, DataError, UserError
from translit_scale.languages import check_language, language_set, listed
from translit_scale.prepare.recipe import Recipe, Source, Table

_ABOUT_TEST_SETS = (".md", ".py", ".sh", ".yml", ".yaml", ".png", ".jpg", "/stats.xml")
"""Ends of names in the published folders of test sets, of files without sentences of theirs; the last is that of UD."""
_NAMED = 20
"""Maximal number of problems that an error names."""

NamedFiles = list[tuple[str, Columns]]
"""Names of files below the data directory, with `/`, and their columns."""


class RecipeFiles(NamedTuple):
    """The files of a recipe, globs resolved in sorted order."""

    languages: dict[str, NamedFiles]
    held_out: NamedFiles


class Problems(list[UserError]):
    """Errors that are raised together.

    Args:
        where: what has the problems, for the message.
    """

    def __init__(self, where: str, errors: Iterable[UserError] = ()) -> None:
        super().__init__(errors)
        self._where = where

    @contextmanager
    def collected(self, where: str) -> Iterator[None]:
        """Keeps an error of the block instead of raising it."""
        try:
            yield
        except UserError as error:
            self.append(type(error)(f"{where}: {error.message}", error.hint))

    def raise_all(self) -> None:
        """Raises a ConfigError if one of the errors is one, otherwise a DataError; nothing if there are none."""
        if len(self) == 1:
            raise self[0]
        if self:
            kind = ConfigError if any(isinstance(error, ConfigError) for error in self) else DataError
            shown = [str(error) for error in self[:_NAMED]]
            more = [f"and {len(self) - _NAMED} more"] if len(self) > _NAMED else []
            raise kind("\n".join([f"{self._where} has {len(self)} problems", *shown, *more]))


def recipe_files(recipe: Recipe, data_dir: Path) -> RecipeFiles:
    """The files of all languages and of the held-out text.

    Raises:
        ConfigError: a code that is no language, a type of file that cannot be read, a column missing or superfluous,
            or settings for a language that the recipe does not have.
        DataError: a file is missing or unreadable, it does not have its column, a pattern matches nothing, or a file is
            named after no language. All problems are in one error.
    """
    problems = Problems("the recipe")
    for code in [*recipe.languages, *recipe.per_language]:
        try:
            check_language(code)
        except DataError as error:
            where = "languages" if code in recipe.languages else "per_language"
            problems.append(ConfigError(f"{where}: {error.message}", error.hint))
    sources: dict[str, list[Source]] = {}
    with problems.collected("language_set"):
        sources = _of_set(recipe, data_dir)
    files = {
        language: _files(of_language, language, data_dir, problems)
        for language, of_language in {**sources, **recipe.languages}.items()
    }
    held_out = _held_out(recipe, data_dir, problems)
    if unknown := sorted(recipe.per_language.keys() - files.keys()):
        message = f"per_language: the recipe has no text in {', '.join(unknown)}"
        problems.append(ConfigError(message, f"it has {listed(sorted(files), 8)}"))
    problems.raise_all()
    return RecipeFiles(files, held_out)


def _files(sources: list[Source], language: str, data_dir: Path, problems: Problems) -> NamedFiles:
    files: NamedFiles = []
    for source in sources:
        with problems.collected(f"languages.{language}"):
            files += [(name, source.columns) for name in _matches(data_dir, source.path)]
    files = list(dict.fromkeys(files))
    for name, columns in files:
        with problems.collected(f"languages.{language}"):
            check_columns(data_dir / name, columns)
    return files


def _held_out(recipe: Recipe, data_dir: Path, problems: Problems) -> NamedFiles:
    files: set[tuple[str, Columns]] = set()
    for source in recipe.exclude:
        with problems.collected("exclude"):
            try:
                names = _matches(data_dir, source.path)
            except DataError as error:
                if source.missing == "error":
                    raise
                print(f"exclude: {error.message}: nothing is held out by it", file=sys.stderr)
                continue
            if is_pattern(source.path):
                names = _test_sets(names, source.path)
            files |= {(name, source.columns) for name in names}
    for name, columns in sorted(files, key=lambda file: file[0]):
        with problems.collected("exclude"):
            if columns.text is None:
                next(read_all_cells(data_dir / name, columns), None)
            else:
                check_columns(data_dir / name, columns)
    return sorted(files, key=lambda file: (file[0], repr(file[1])))


def _test_sets(names: list[str], pattern: str) -> list[str]:
    """The files that are test sets, of those that a pattern matches; says on stderr which are left out."""
    others = [name for name in names if name.lower().endswith(_ABOUT_TEST_SETS)]
    if others:
        print(f"exclude: {pattern}: nothing is held out of {listed(others, 8)}", file=sys.stderr)
    return [name for name in names if name not in others]


def _of_set(recipe: Recipe, data_dir: Path) -> dict[str, list[Source]]:
    """The sources of the languages in `language_set`; names on stderr the languages that are skipped."""
    if recipe.language_set is None:
        return {}
    settings = recipe.language_set
    files = _files_by_language(settings.path, data_dir)
    chosen = sorted(files) if settings.of == "found" else language_set(settings.of)
    missing = [code for code in chosen if code not in files and code not in recipe.languages]
    if missing and settings.missing == "error":
        raise DataError(
            f"{len(missing)} of the {len(chosen)} languages have no file {data_dir / settings.path}: "
            f"{listed(missing, 8)}",
            "'missing: skip' in the recipe continues without them",
        )
    if missing:
        print(
            f"{recipe.name}: no text in {len(missing)} of {len(chosen)} languages: {listed(missing, 8)}",
            file=sys.stderr,
        )
    table = settings.model_dump(include=set(Table.model_fields))
    return {code: [Source(path=name, **table) for name in files[code]] for code in chosen if code in files}


def _files_by_language(path: str, data_dir: Path) -> dict[str, list[str]]:
    """The files of each language that a path with `{language}` matches."""
    code = re.escape("{language}")
    translated = fnmatch.translate(lower_suffix(path))
    pattern = re.compile(translated.replace(code, "(?P<code>[^/]+?)", 1).replace(code, "(?P=code)"))
    files: dict[str, list[str]] = {}
    wrong = []
    for name in _matches(data_dir, path.replace("{language}", "*")):
        match = pattern.fullmatch(lower_suffix(name))
        if match is None:  # {language}/{language}.txt does not mean a/b.txt
            continue
        try:
            files.setdefault(check_language(match["code"]), []).append(name)
        except DataError as error:
            wrong.append(f"{data_dir / name}: {error}")
    if wrong:
        number = f"{len(wrong)} of the files are" if len(wrong) > 1 else "a file is"
        named = "\n".join(wrong[:_NAMED]) + (f"\nand {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else "")
        raise DataError(
            f"{number} not named after a language\n{named}",
            "rename them, move them away, or write a path that they do not match",
        )
    return files


def _matches(data_dir: Path, pattern: str) -> list[str]:
    """Files that match a path or glob pattern of a recipe, relative to `data_dir`."""
    try:
        return [path.relative_to(data_dir).as_posix() for path in find_files(pattern, data_dir)]
    except DataError as error:
        hint = "paths in a recipe are relative to --data, or to the recipe's own folder without it"
        raise DataError(error.message, "; ".join(filter(None, [error.hint, hint])).replace("?;", "?")) from None
