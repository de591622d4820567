"""The manifest of a shard set: its contents, the position of each block, and its provenance.

It is written last, so a directory with a manifest is a finished set. It has everything that a reader needs to find a
block and to notice damage; `docs/data-formats.md` describes the file. The reader does not trust it: every number is
checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PlainSerializer,
    PositiveInt,
    ValidationError,
    model_validator,
)

from translit_scale.errors import DataError
from translit_scale.files import open_regular, write_bytes
from translit_scale.languages import check_language

FORMAT_VERSION, SEVERAL_TRANSLITERATIONS = 3, 4
"""Sets have the lowest version whose readers understand them: the second one if any language has several
transliterations of a sentence."""
MANIFEST_NAME = "manifest.json"
SHARD_NAME = re.compile(r"([a-z]{3}_[A-Z][a-z]{3})-([0-9]{5})\.tar")
TAR_BLOCK = 512
END_OF_TAR = bytes(2 * TAR_BLOCK)
MAX_BLOCK_BYTES = 2**30
"""A reader keeps a block in memory; 1000 pairs have about 350 KB."""
MAX_SHARD_BLOCKS = 10_000
"""Blocks are numbered with four digits."""
MAX_TRANSLITERATIONS = 9
"""Of a sentence. A recipe can ask for three."""
_MAX_MANIFEST_BYTES = 2**30
"""15 times what 1.5 billion pairs need."""
_ROW_BYTES = 6
"""Minimum for a pair: two lengths of two bytes and two line ends."""


class BlockEntry(NamedTuple):
    """One block inside its shard; an array of five numbers in the file."""

    rows: int
    offset: int
    """First byte of the block's first tar header."""
    bytes: int
    """Length of the span: headers and their padded contents."""
    crc32: int
    """Of the text members' contents: `orig`, `latn`, and further transliterations."""
    lengths_crc32: int
    """Of the contents of the member `lengths.npy`."""


class BlockTable:
    """The blocks of a shard as a sequence of `BlockEntry`, stored in one array: 40 bytes a block instead of 400."""

    def __init__(self, numbers: npt.NDArray[np.int64]) -> None:
        self.numbers = numbers
        """[blocks, 5], with the columns of `BlockEntry`."""

    @classmethod
    def of(cls, entries: object) -> BlockTable:
        """From a list of `BlockEntry`, or of lists of five integers as JSON has them.

        Raises:
            ValueError: it is anything else.
        """
        if isinstance(entries, BlockTable):
            return entries
        fields = BlockEntry._fields
        numbers: list[Any] = []
        if isinstance(entries, list) and all(isinstance(e, list | tuple) and len(e) == len(fields) for e in entries):
            numbers = list(chain.from_iterable(entries))
        if set(map(type, numbers)) != {int}:  # bool is not int here
            raise ValueError(f"expected at least one block, each a list of the integers {', '.join(fields)}")
        try:
            return cls(np.array(numbers, np.int64).reshape(-1, len(fields)))
        except OverflowError:
            raise ValueError("a number of a block has more than 64 bits") from None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> BlockEntry:
        return BlockEntry(*self.numbers[index].tolist())

    def __iter__(self) -> Iterator[BlockEntry]:
        return (BlockEntry(*entry) for entry in self.numbers.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockTable) and np.array_equal(self.numbers, other.numbers)

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """[blocks] pairs of each."""
        return self.numbers[:, 0]


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True
    )


class ShardEntry(_Entry):
    """One tar file: blocks of one language, in order and without gaps, and the end of the archive."""

    name: str = Field(pattern=f"^{SHARD_NAME.pattern}$")
    bytes: PositiveInt
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    blocks: Annotated[BlockTable, BeforeValidator(BlockTable.of), PlainSerializer(lambda table: table.numbers.tolist())]
    transliterations: Annotated[int, Field(ge=1, le=MAX_TRANSLITERATIONS)] = 1
    """Columns of transliterations in each block: as many as a sentence of the language can have."""

    @model_validator(mode="after")
    def _blocks_are_possible(self) -> ShardEntry:
        rows, offsets, sizes, *checksums = self.blocks.numbers.T
        sizes_wrong = (sizes < 1) | (sizes > MAX_BLOCK_BYTES) | (sizes % TAR_BLOCK != 0)
        ends = np.cumsum(np.where(sizes_wrong, 0, sizes))
        for what, wrong in {
            f"has a size that is not a multiple of {TAR_BLOCK} up to {MAX_BLOCK_BYTES}": sizes_wrong,
            "has no rows, or more than fit into its bytes": (rows < 1) | (rows > sizes // _ROW_BYTES),
            "does not begin where the one before it ends": offsets != ends - sizes,
            "has a checksum of more than 32 bits": np.any([(c < 0) | (c >= 2**32) for c in checksums], axis=0),
        }.items():
            if wrong.any():
                index = int(wrong.argmax())
                raise ValueError(f"block {index} {what}: {list(self.blocks[index])}")
        if len(self.blocks) > MAX_SHARD_BLOCKS:
            raise ValueError(f"more than {MAX_SHARD_BLOCKS:,} blocks")
        if int(ends[-1]) + len(END_OF_TAR) != self.bytes:
            raise ValueError(f"the last block ends at byte {ends[-1]:,}, which does not fit {self.bytes:,} bytes")
        return self

    @property
    def language(self) -> str:
        """The language of all its blocks, from its name."""
        return self.name.partition("-")[0]

    def block_key(self, block: int) -> str:
        """Beginning of the names of the members of a block."""
        return f"{self.name.removesuffix('.tar')}-{block:04d}"


class LanguageCounts(_Entry):
    """Counts of the input and output of a language; `read` is the sum of `dropped` and `rows`."""

    read: NonNegativeInt
    """Lines or records of the input files."""
    dropped: dict[str, NonNegativeInt]
    """Sentences left out, by reason."""
    rows: PositiveInt
    """Pairs in the shards."""
    identical: NonNegativeInt
    """Pairs whose transliteration equals the original."""
    fallbacks: NonNegativeInt
    """Pairs romanized in parts because the whole sentence could not be."""
    orig_chars: NonNegativeInt
    latn_chars: NonNegativeInt
    from_column: NonNegativeInt = 0
    """Pairs whose transliteration is the one that the input had in a column; the romanizer made the others."""
    further: NonNegativeInt = 0
    """Transliterations beside the first one of each pair; all other counts are of the first ones."""
    unreadable: dict[str, dict[str, NonNegativeInt]] = {}
    """How many of those under a reason of `text.UNREADABLE` are of which file, without files that have none."""
    contains: dict[str, NonNegativeInt] = {}
    """Pairs whose original contains HTML, URLs or e-mail addresses: `web.KINDS`, without those that none contains."""
    cleaned: dict[str, NonNegativeInt] = {}
    """Sentences of the input from which `clean` in the recipe removed the same kinds."""


class Manifest(_Entry):
    """The contents of `manifest.json`."""

    format_version: int
    name: str
    languages: dict[str, LanguageCounts]
    provenance: dict[str, Any]
    """Recipe, sha256 of every input by its name in the recipe, cleaning rules, romanizer, and for each language that
    has them `transliterations` from columns of its files."""
    shards: list[ShardEntry]

    @model_validator(mode="after")
    def _counts_agree(self) -> Manifest:
        names = [shard.name for shard in self.shards]
        if any(first >= second for first, second in pairwise(names)):
            raise ValueError("the shards are not in ascending order of their names")
        for language in self.languages:
            try:
                check_language(language)
            except DataError as error:
                raise ValueError(error.message) from None
        rows, columns = dict.fromkeys(self.languages, 0), dict[str, int]()
        for shard in self.shards:
            if shard.language not in rows:
                raise ValueError(f"{shard.name} is of a language that is not listed")
            rows[shard.language] += int(shard.blocks.rows.sum())
            if columns.setdefault(shard.language, shard.transliterations) != shard.transliterations:
                raise ValueError(f"{shard.name} has another number of transliterations than those before it")
        for language, counts in self.languages.items():
            if rows[language] != counts.rows:
                raise ValueError(f"{language} has {counts.rows} rows but its blocks {rows[language]}")
        return self


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically, with one line per shard, so that it is readable and small."""
    head = json.dumps(
        manifest.model_dump(mode="json", exclude={"shards"}, exclude_defaults=True), ensure_ascii=False, indent=1
    )
    entries = (shard.model_dump(mode="json", exclude_defaults=True) for shard in manifest.shards)
    shards = ",\n".join("  " + json.dumps(entry) for entry in entries)
    text = head[: -len("\n}")] + f',\n "shards": [\n{shards}\n ]\n}}\n'
    write_bytes(directory / MANIFEST_NAME, text.encode())


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest of a shard set and the sha256 of its bytes.

    Raises:
        DataError: it does not exist (the set is not finished), has another format version, or is damaged.
    """
    path = directory / MANIFEST_NAME
    again = "make the set again: translit-scale prepare RECIPE --force"
    data = _read(path)
    fingerprint = hashlib.sha256(data).hexdigest()
    try:
        contents = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}", again) from None
    version = contents.get("format_version") if isinstance(contents, dict) else None
    if version not in (FORMAT_VERSION, SEVERAL_TRANSLITERATIONS):
        raise DataError(
            f"{path} has format version {reprlib.repr(version)}, expected {FORMAT_VERSION} or "
            f"{SEVERAL_TRANSLITERATIONS}",
            f"it was made by another version of translit-scale; {again}",
        )
    try:
        return Manifest.model_validate(contents), fingerprint
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])[:200].encode("unicode_escape").decode()
        raise DataError(f"{path} is damaged: {where or 'contents'}: {first['msg']}", again) from None


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _MAX_MANIFEST_BYTES:
                return file.read()
    except (FileNotFoundError, NotADirectoryError):
        unfinished = (path.parent / ".work").is_dir()
        what = "the shard set is not finished" if unfinished else "no local directory with a shard set"
        raise DataError(f"{what}: {path} does not exist", "make the set: translit-scale prepare RECIPE") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read {str(path)!r}: {reason}", "expected the manifest of a shard set") from None
    raise DataError(f"{path} has {size:,} bytes, expected at most {_MAX_MANIFEST_BYTES:,}", "is it a manifest?")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. The blocks of a shard become an array immediately, before the next shard is read."""
    value = dict(pairs)
    if len(value) != len(pairs):
        [(key, count)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {reprlib.repr(key)} stands {count} times in one object")
    if {"name", "blocks"} <= value.keys() <= ShardEntry.model_fields.keys():
        with suppress(ValueError):  # the validation of the manifest reports what is wrong and where
            value["blocks"] = BlockTable.of(value["blocks"])
    return value


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")
