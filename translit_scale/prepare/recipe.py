"""Recipes: the languages of a shard set, the files with their text, and how it is sampled."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_serializer, model_validator

from translit_scale.corpus.tables import Dialect
from translit_scale.corpus.text import Columns
from translit_scale.corpus.web import KINDS, Kind
from translit_scale.errors import UserError
from translit_scale.languages import language_set
from translit_scale.romanize.romanizer import LcodePolicy
from translit_scale.romanize.transliterator import SOURCES
from translit_scale.schema import Strict, read_yaml, validate

MAX_CHARS = 2000
POLICIES: tuple[LcodePolicy, ...] = get_args(LcodePolicy)


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
        raise ValueError("paths are relative to the data directory (--data) and stay inside it")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]
"""A path or glob pattern below the data directory."""
CleanSetting = Annotated[list[Kind], AfterValidator(lambda kinds: [kind for kind in KINDS if kind in kinds])]
"""What is removed from sentences: in the order in which that is done."""
ColumnSetting = str | Annotated[int, Field(ge=1, strict=True)]
"""The name of a column, or its number."""


class _LaterSettings(Strict):
    """With settings that recipes have had since later. Unused, they are not written: manifests stay as they were."""

    @model_serializer(mode="wrap")
    def _without_unused(self, serialize: Any) -> dict[str, Any]:
        later = ("transliteration", "delimiter", "quoted", "by", "beside_column", "clean", "maximum")
        defaults = {name: type(self).model_fields[name].get_default() for name in later if hasattr(self, name)}
        unused = {name for name, default in defaults.items() if getattr(self, name) == default}
        return {name: value for name, value in serialize(self).items() if name not in unused}


class Table(_LaterSettings):
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
    def _columns_fit(self) -> Table:
        if self.transliteration is not None and self.column in (None, self.transliteration):
            raise ValueError("transliteration: 'column' must name another column, that of the original text")
        if self.transliteration is not None and type(self.transliteration) is not type(self.column):
            raise ValueError("transliteration: give both columns by their names, or both by their numbers")
        return self


class Source(Table):
    """Text of one language. In a recipe, a path alone is short for `{path: ...}`."""

    path: RelativePath
    """File or glob pattern."""

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class HeldOut(Source):
    """Text that is never trained on. Without a column all cells of a table are held out."""

    missing: Literal["error", "skip"] = "error"
    """What to do if there is no such file."""

    @model_serializer(mode="wrap")
    def _bare_path_again(self, serialize: Any) -> Any:
        """A path alone is written as in the recipe, so that manifests stay as they were."""
        return self.path if self.model_fields_set == {"path"} else serialize(self)


class LanguageSet(Table):
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


class Sample(_LaterSettings):
    """Size of the sample of each language: max(⌈fraction · n⌉, min(n, minimum)) of its n sentences, up to maximum."""

    fraction: float = Field(1.0, gt=0, le=1)
    """Fraction of the sentences that are left after cleaning, exclusion and deduplication."""
    minimum: int = Field(0, ge=0)
    """At least this number of sentences of a language, if it has them (paper B: 10 000)."""
    maximum: int | None = Field(None, ge=1)
    """At most this number of sentences of a language."""

    @model_validator(mode="after")
    def _bounds_fit(self) -> Sample:
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is less than minimum {self.minimum}")
        return self


class LanguageSettings(_LaterSettings):
    """Settings of one language that differ from those of all."""

    sample: Sample | None = None
    max_chars: int | None = Field(None, ge=1)
    min_script_fraction: float | None = Field(None, ge=0, le=1)
    clean: CleanSetting | None = None


def _known_policies(value: Any) -> Any:
    if value in POLICIES or (isinstance(value, list) and sorted(map(str, value)) == sorted(POLICIES)):
        return value
    raise ValueError(f"expected 'none' or 'by_language', or a list of both, found {value!r}")


class Romanize(_LaterSettings):
    """How text becomes Latin where the files have no transliterations."""

    by: str = "uroman"
    """The source of transliterations, one of `romanize.transliterator.SOURCES`."""
    lcode: Annotated[LcodePolicy | list[LcodePolicy], BeforeValidator(_known_policies)] = "none"
    """Whether uroman is given the language (`by_language`) or not (`none`, as in the papers).

    A list makes several transliterations of each sentence; training draws one of them at each visit.
    """
    beside_column: bool = False
    """Whether sentences with a transliteration in a column of their own get those of `by` as well."""

    @property
    def lcodes(self) -> tuple[LcodePolicy, ...]:
        """The policies; the first one makes the transliteration where only one is used."""
        return (self.lcode,) if isinstance(self.lcode, str) else tuple(self.lcode)

    @field_validator("by")
    @classmethod
    def _known_source(cls, by: str) -> str:
        if by not in SOURCES:
            raise ValueError(f"expected one of {', '.join(map(repr, SOURCES))}")
        return by


class Recipe(_LaterSettings):
    """The contents of a recipe file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the shard set."""
    languages: dict[str, Annotated[list[Source], Field(min_length=1)]] = Field({})
    """Text files of each language, by `iso3_Script`."""
    language_set: LanguageSet | None = None
    """Text of further languages; for a language that is also in `languages`, only its files there are read."""
    sample: Sample = Sample()
    exclude: list[HeldOut] = Field([])
    """Held-out files: sentences that equal one of their lines or cells are left out."""
    romanize: Romanize = Romanize()
    seed: int = Field(0, ge=0, lt=2**63)
    """Key of the sentence hash that determines the sample and the order of rows."""
    max_chars: int = Field(MAX_CHARS, ge=1)
    """Longer sentences are dropped."""
    min_script_fraction: float = Field(0.0, ge=0, le=1)
    """Sentences with a smaller fraction of letters in the script of their language are dropped."""
    clean: CleanSetting = Field([])
    """What is removed from sentences: `html` (tags go, entities are decoded), `url`, `email`."""
    per_language: dict[str, LanguageSettings] = Field({})
    """Settings that differ for single languages: `sample`, `max_chars`, `min_script_fraction`, `clean`."""
    block_rows: int = Field(1000, ge=1, le=100_000)
    """Pairs in a block; the last block of a language is smaller."""
    shard_blocks: int = Field(100, ge=1, le=10_000)
    """Blocks in a shard; one shard is one task of the preparation. 100 blocks are about 30 MB."""

    @model_validator(mode="after")
    def _has_languages(self) -> Recipe:
        if not self.languages and self.language_set is None:
            raise ValueError("a recipe needs 'languages' or 'language_set'")
        return self

    @property
    def has_text_to_romanize(self) -> bool:
        """Whether the text of any source needs transliterations beside those that it may come with."""
        if self.romanize.beside_column:
            return True
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
