"""Recipes: the languages of a shard set, the files with their text, and how it is sampled."""

from __future__ import annotations

import fnmatch
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_serializer, model_validator

from translit_scale.corpus.find import find_files, lower_suffix
from translit_scale.corpus.lines import inner_suffix
from translit_scale.corpus.tables import Dialect
from translit_scale.corpus.text import Columns, file_kind
from translit_scale.errors import ConfigError, DataError, UserError
from translit_scale.languages import check_language, language_set, listed
from translit_scale.romanize.romanizer import LcodePolicy
from translit_scale.romanize.transliterator import SOURCES
from translit_scale.schema import Strict, read_yaml, validate

MAX_CHARS = 2000
_NAMED = 12
"""Maximal number of files that an error names."""


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
        raise ValueError("paths are relative to the data directory (--data) and stay inside it")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]
"""A path or glob pattern below the data directory."""
ColumnSetting = str | Annotated[int, Field(ge=1, strict=True)]
"""The name of a column, or its number."""


class _LaterSettings(Strict):
    """With settings that recipes have had since later. Unused, they are not written: manifests stay as they were."""

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: Any) -> dict[str, Any]:
        unused = (("transliteration", None), ("delimiter", None), ("quoted", None), ("by", "uroman"))
        return {name: value for name, value in serialize(self).items() if (name, value) not in unused}


class _Table(_LaterSettings):
    """How the tables of a source are read."""

    column: ColumnSetting | None = None
    """Column of a .csv, .tsv, .jsonl, .parquet or .arrow file: its name, or its number in a table without header row.

    The first column is 1. `translation.pl` is the field `pl` of the object or structure in the field `translation`.
    """
    transliteration: ColumnSetting | None = None
    """Column with the transliterations of the text, if the file has them. Without it `romanize.by` makes them."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """Between the fields of a .csv or .tsv (default: tab in a .tsv; comma, semicolon or tab in a .csv, recognised)."""
    quoted: bool | None = None
    """Whether quotation marks enclose fields of a .csv or .tsv (default: yes in a .csv, recognised in a .tsv)."""

    @property
    def columns(self) -> Columns:
        """As the readers of `corpus.text` expect them."""
        return Columns(self.column, self.transliteration, Dialect(self.delimiter, self.quoted))

    @model_validator(mode="after")
    def _columns_fit(self) -> _Table:
        if self.transliteration is not None and self.column in (None, self.transliteration):
            raise ValueError("transliteration: 'column' must name another column, that of the original text")
        if self.transliteration is not None and type(self.transliteration) is not type(self.column):
            raise ValueError("transliteration: give both columns by their names, or both by their numbers")
        return self


class Source(_Table):
    """Text of one language. In a recipe, a path alone is short for `{path: ...}`."""

    path: RelativePath
    """File or glob pattern."""

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class LanguageSet(_Table):
    """Text of many languages whose files have names of one pattern."""

    of: str = "found"
    """A set of `translit_scale.languages`, or `found`: every language that has a file."""
    path: RelativePath
    """File or glob pattern that contains `{language}` for the code."""
    missing: Literal["error", "skip"] = "error"
    """What to do if a language of the set has no file."""

    @model_validator(mode="after")
    def _fits(self) -> LanguageSet:
        if "{language}" not in self.path:
            raise ValueError("path: '{language}' must stand where the code of the language is")
        if "**" in self.path:
            raise ValueError("path: '**' could match several codes; write out the folders")
        if self.of != "found":
            try:
                language_set(self.of)
            except UserError as error:
                raise ValueError(f"of: {error.message}; {error.hint}, and 'found'") from None
        elif self.missing == "skip":
            raise ValueError("missing: without a set in 'of' there is nothing that could be missing")
        return self


class Sample(Strict):
    """Size of the sample of each language: max(⌈fraction · n⌉, min(n, minimum)) of its n sentences."""

    fraction: float = Field(1.0, gt=0, le=1)
    """Fraction of the sentences that are left after cleaning, exclusion and deduplication."""
    minimum: int = Field(0, ge=0)
    """At least this number of sentences of a language, if it has them (paper B: 10 000)."""


class LanguageSettings(Strict):
    """Settings of one language that differ from those of all."""

    sample: Sample | None = None
    max_chars: int | None = Field(None, ge=1)
    min_script_fraction: float | None = Field(None, ge=0, le=1)


class Romanize(_LaterSettings):
    """How text becomes Latin where the files have no transliterations."""

    by: str = "uroman"
    """The source of transliterations, one of `romanize.transliterator.SOURCES`."""
    lcode: LcodePolicy = "none"
    """Whether uroman is given the language (`by_language`) or not (`none`, as in the papers)."""

    @field_validator("by")
    @classmethod
    def _known_source(cls, by: str) -> str:
        if by not in SOURCES:
            raise ValueError(f"expected one of {', '.join(map(repr, SOURCES))}")
        return by


class Recipe(Strict):
    """The contents of a recipe file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the shard set."""
    languages: dict[str, Annotated[list[Source], Field(min_length=1)]] = Field({})
    """Text files of each language, by `iso3_Script`."""
    language_set: LanguageSet | None = None
    """Text of further languages; for a language that is also in `languages`, only its files there are read."""
    sample: Sample = Sample()
    exclude: tuple[RelativePath, ...] = ()
    """Held-out .txt, .csv or .tsv files: sentences that equal one of their lines or cells are left out."""
    romanize: Romanize = Romanize()
    seed: int = Field(0, ge=0, lt=2**63)
    """Key of the sentence hash that determines the sample and the order of rows."""
    max_chars: int = Field(MAX_CHARS, ge=1)
    """Longer sentences are dropped."""
    min_script_fraction: float = Field(0.0, ge=0, le=1)
    """Sentences with a smaller fraction of letters in the script of their language are dropped."""
    per_language: dict[str, LanguageSettings] = Field({})
    """Settings that differ for single languages: `sample`, `max_chars`, `min_script_fraction`."""
    block_rows: int = Field(1000, ge=1, le=100_000)
    """Pairs in a block; the last block of a language is smaller."""
    shard_blocks: int = Field(100, ge=1, le=10_000)
    """Blocks in a shard; one shard is one task of the preparation. 100 blocks are about 30 MB."""

    @field_validator("languages", "per_language")
    @classmethod
    def _known_languages(cls, languages: dict[str, Any]) -> dict[str, Any]:
        for code in languages:
            try:
                check_language(code)
            except UserError as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
        return languages

    @model_validator(mode="after")
    def _has_languages(self) -> Recipe:
        if not self.languages and self.language_set is None:
            raise ValueError("a recipe needs 'languages' or 'language_set'")
        return self

    @property
    def has_text_to_romanize(self) -> bool:
        """Whether the text of any source comes without transliterations."""
        columns = [source.transliteration for of_language in self.languages.values() for source in of_language]
        return None in columns or (self.language_set is not None and self.language_set.transliteration is None)

    @property
    def shard_rows(self) -> int:
        """Pairs in a shard; the last one of a language may be smaller."""
        return self.block_rows * self.shard_blocks

    def of(self, language: str) -> Recipe:
        """The recipe with the settings of one language."""
        special = self.per_language.get(language, LanguageSettings())
        return self.model_copy(update={name: value for name, value in special if value is not None})


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe.

    Raises:
        ConfigError: not a recipe; one line per wrong setting, with a suggestion for unknown names.
    """
    return validate(Recipe, read_yaml(path), str(path))


def input_files(recipe: Recipe, data_dir: Path) -> dict[str, list[tuple[str, Columns]]]:
    """The files of each language as (name below `data_dir`, columns), globs resolved in sorted order.

    Raises:
        ConfigError: a type of file that cannot be read, a column missing or superfluous, or settings for a language
            that the recipe does not have.
        DataError: a file is missing, a pattern matches nothing, or a file is named after no language.
    """
    files: dict[str, list[tuple[str, Columns]]] = {}
    for language, sources in {**_of_set(recipe, data_dir), **recipe.languages}.items():
        of_language = [
            (name, source.columns)
            for source in sources
            for name in _matches(data_dir, source.path, f"languages.{language}")
        ]
        for name, columns in of_language:
            file_kind(data_dir / name, columns)
        files[language] = list(dict.fromkeys(of_language))
    if unknown := sorted(recipe.per_language.keys() - files.keys()):
        raise ConfigError(
            f"per_language: the recipe has no text in {', '.join(unknown)}",
            f"it has {listed(sorted(files), 8)}",
        )
    return files


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
            f"language_set: {len(missing)} of the {len(chosen)} languages have no file {data_dir / settings.path}: "
            f"{listed(missing, 8)}",
            "'missing: skip' in the recipe continues without them",
        )
    if missing:
        none = f"no text in {len(missing)} of {len(chosen)} languages"
        print(f"{recipe.name}: {none}: {', '.join(missing)}", file=sys.stderr)
    table = settings.model_dump(include=set(_Table.model_fields))
    return {code: [Source(path=name, **table) for name in files[code]] for code in chosen if code in files}


def _files_by_language(path: str, data_dir: Path) -> dict[str, list[str]]:
    """The files of each language that a path with `{language}` matches."""
    code = re.escape("{language}")
    translated = fnmatch.translate(lower_suffix(path))
    pattern = re.compile(translated.replace(code, "(?P<code>[^/]+?)", 1).replace(code, "(?P=code)"))
    files: dict[str, list[str]] = {}
    wrong = []
    for name in _matches(data_dir, path.replace("{language}", "*"), "language_set"):
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
            f"language_set: {number} not named after a language\n{named}",
            "rename them, move them away, or write a path that they do not match",
        )
    return files


def excluded_files(recipe: Recipe, data_dir: Path) -> list[str]:
    """Names below `data_dir` of all held-out files.

    Raises:
        ConfigError: another type of file than .txt, .csv and .tsv.
        DataError: a pattern matches no file, so that its held-out text would not be excluded.
    """
    names = sorted({name for pattern in recipe.exclude for name in _matches(data_dir, pattern, "exclude")})
    for path in (data_dir / name for name in names):
        if inner_suffix(path) not in (".txt", ".csv", ".tsv"):
            raise ConfigError(f"{path}: held-out sentences are read from .txt, .csv and .tsv files only")
    return names


def _matches(data_dir: Path, pattern: str, where: str) -> list[str]:
    """Files that match a path or glob pattern of a recipe, relative to `data_dir`."""
    try:
        return [path.relative_to(data_dir).as_posix() for path in find_files(pattern, data_dir)]
    except DataError as error:
        hint = "paths in a recipe are relative to --data, or to the recipe's own folder without it"
        raise DataError(f"{where}: {error.message}", "; ".join(filter(None, [error.hint, hint]))) from None
