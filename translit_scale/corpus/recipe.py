"""Recipes: which languages a shard set has, where their text comes from and how it is sampled."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from translit_scale.corpus.text import file_kind
from translit_scale.errors import DataError, UserError
from translit_scale.languages import check_language
from translit_scale.schema import Strict, read_yaml, validate

MAX_CHARS = 2000


def _relative(path: str) -> str:
    if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("paths are relative to the data directory (--data) and stay inside it")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]
"""A path or glob pattern below the data directory."""


class Source(Strict):
    """Text of one language. A bare path in a recipe is short for `{path: ...}`."""

    path: RelativePath
    """File or glob pattern."""
    column: str | None = None
    """Column of a .csv, .tsv, .jsonl, .parquet or .arrow file."""

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class Sample(Strict):
    """How much of each language is taken: max(⌈fraction · n⌉, min(n, minimum)) of its n sentences."""

    fraction: float = Field(1.0, gt=0, le=1)
    """Share of the sentences that are left after cleaning, exclusion and deduplication."""
    minimum: int = Field(0, ge=0)
    """At least so many sentences of a language, if it has them (paper B: 10 000)."""


class Romanize(Strict):
    """How text becomes Latin."""

    lcode: Literal["none", "by_language"] = "none"
    """Tell uroman the language (`by_language`) or not (`none`, as in the papers)."""


class Recipe(Strict):
    """The contents of a recipe file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the shard set."""
    languages: dict[str, Annotated[list[Source], Field(min_length=1)]] = Field(min_length=1)
    """Text files of each language, by `iso3_Script`."""
    sample: Sample = Sample()
    exclude: tuple[RelativePath, ...] = ()
    """Held-out .txt, .csv or .tsv files: no sentence that occurs in one of their cells is taken."""
    romanize: Romanize = Romanize()
    seed: int = Field(0, ge=0, lt=2**63)
    """Key of the sentence hash that decides what is sampled and in which order rows are stored."""
    max_chars: int = Field(MAX_CHARS, ge=1)
    """Longer sentences are dropped."""
    block_rows: int = Field(1000, ge=1, le=100_000)
    """Pairs in a block; the last block of a language is smaller."""
    shard_bytes: int = Field(64 * 2**20, ge=2**16, le=2**30)
    """A shard is closed before it would grow larger."""

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, languages: dict[str, list[Source]]) -> dict[str, list[Source]]:
        for code in languages:
            try:
                check_language(code)
            except UserError as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
        return languages


def load_recipe(path: Path) -> Recipe:
    """Reads and checks a recipe.

    Raises:
        ConfigError: not a recipe; one line per wrong setting, with a suggestion for unknown names.
    """
    return validate(Recipe, read_yaml(path), str(path))


def input_files(recipe: Recipe, data_dir: Path) -> dict[str, list[tuple[str, str | None]]]:
    """The files of each language as (name below `data_dir`, column), globs resolved in sorted order.

    Raises:
        ConfigError: a type of file that cannot be read, or a column missing or superfluous.
        DataError: a file is missing or a pattern matches nothing.
    """
    files: dict[str, list[tuple[str, str | None]]] = {}
    for language, sources in recipe.languages.items():
        found = [(name, s.column) for s in sources for name in _matches(data_dir, s.path, f"languages.{language}")]
        for name, column in found:
            file_kind(data_dir / name, column)
        files[language] = list(dict.fromkeys(found))
    return files


def excluded_files(recipe: Recipe, data_dir: Path) -> list[str]:
    """Names below `data_dir` of all held-out files.

    Raises:
        DataError: a pattern matches nothing: a held-out set that is not found is not held out.
    """
    return sorted({name for pattern in recipe.exclude for name in _matches(data_dir, pattern, "exclude")})


def _matches(data_dir: Path, pattern: str, where: str) -> list[str]:
    """Files that a path or glob pattern of a recipe names, relative to `data_dir`."""
    exact = data_dir / pattern  # a file may be called a[1].txt
    paths = [exact] if exact.is_file() else data_dir.glob(pattern)
    names = sorted(path.relative_to(data_dir).as_posix() for path in paths if path.is_file())
    if not names:
        what = "no file matches" if any(c in pattern for c in "*?[") else "file not found:"
        raise DataError(
            f"{where}: {what} {data_dir / pattern}",
            "paths in a recipe are relative to --data, or to the recipe's own folder without it",
        )
    return names
