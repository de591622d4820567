"""The manifest of a shard set: what is in it, where each block lies, and what it was made from.

It is written last, so a directory with a manifest is a finished set. Everything a reader needs to find a
block and to notice damage is here; `docs/data-formats.md` describes the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from translit_scale.errors import DataError
from translit_scale.files import write_bytes

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
SHARD_NAME = re.compile(r"([a-z]{3}_[A-Z][a-z]{3})-([0-9]{5})\.tar")


class BlockEntry(NamedTuple):
    """One block inside its shard; an array of five numbers in the file."""

    rows: PositiveInt
    offset: NonNegativeInt
    """First byte of the block's first tar header."""
    bytes: PositiveInt
    """Length of the span: four headers and their padded contents."""
    crc32: NonNegativeInt
    """Of the two text members' contents, `orig` then `latn`."""
    lengths_crc32: NonNegativeInt
    """Of the contents of the member `lengths.npy`."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class ShardEntry(_Entry):
    """One tar file: blocks of one language, in order and without gaps."""

    name: str = Field(pattern=f"^{SHARD_NAME.pattern}$")
    bytes: PositiveInt
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    blocks: list[BlockEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _blocks_follow_each_other(self) -> ShardEntry:
        ends = [0, *(block.offset + block.bytes for block in self.blocks)]
        if [block.offset for block in self.blocks] != ends[:-1] or ends[-1] > self.bytes:
            raise ValueError("the blocks do not follow each other from byte 0 to the end of the shard")
        return self

    @property
    def language(self) -> str:
        """The language of all its blocks, which its name begins with."""
        return self.name.partition("-")[0]

    @property
    def key(self) -> str:
        """What the names of its members begin with: its own name without the suffix."""
        return self.name.removesuffix(".tar")


class LanguageCounts(_Entry):
    """What went in and what came out. `read` is the sum of `dropped` and `rows`."""

    read: NonNegativeInt
    """Lines or records of the input files."""
    dropped: dict[str, NonNegativeInt]
    """Sentences left out, by reason."""
    rows: PositiveInt
    """Pairs in the shards."""
    identical: NonNegativeInt
    """Pairs whose transliteration is the original itself."""
    fallbacks: NonNegativeInt
    """Pairs romanized piecewise because uroman failed on the whole sentence."""
    orig_chars: NonNegativeInt
    latn_chars: NonNegativeInt


class Manifest(_Entry):
    """The contents of `manifest.json`."""

    format_version: int
    name: str
    languages: dict[str, LanguageCounts]
    provenance: dict[str, Any]
    """Recipe, sha256 of every input by its name in the recipe, cleaning rules and romanizer."""
    shards: list[ShardEntry]

    @model_validator(mode="after")
    def _counts_agree(self) -> Manifest:
        names = [shard.name for shard in self.shards]
        if any(first >= second for first, second in pairwise(names)):
            raise ValueError("the shards are not in ascending order of their names")
        rows = dict.fromkeys(self.languages, 0)
        for shard in self.shards:
            if shard.language not in rows:
                raise ValueError(f"{shard.name} is of a language that is not listed")
            rows[shard.language] += sum(block.rows for block in shard.blocks)
        for language, counts in self.languages.items():
            if rows[language] != counts.rows:
                raise ValueError(f"{language} has {counts.rows} rows but its blocks {rows[language]}")
        return self


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically; one line per shard, so that it stays readable and small."""
    head = json.dumps(manifest.model_dump(mode="json", exclude={"shards"}), ensure_ascii=False, indent=1)
    shards = ",\n".join("  " + json.dumps(shard.model_dump(mode="json")) for shard in manifest.shards)
    text = head[: -len("\n}")] + f',\n "shards": [\n{shards}\n ]\n}}\n'
    write_bytes(directory / MANIFEST_NAME, text.encode())


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest of a shard set and the sha256 of its bytes.

    Raises:
        DataError: there is none (the set is not finished), it is of another format version, or it is damaged.
    """
    path = directory / MANIFEST_NAME
    again = "make the set again: translit-scale prepare RECIPE --force"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        unfinished = (directory / ".work").is_dir()
        what = "the shard set is not finished" if unfinished else "not a shard set"
        raise DataError(f"{what}: {path} does not exist", "make the set: translit-scale prepare RECIPE") from None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}", again) from None
    version = value.get("format_version") if isinstance(value, dict) else None
    del value  # as large as the manifest that follows: 700 MB for 1.5 million blocks
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {version!r}, expected {FORMAT_VERSION}",
            f"it was made by another version of translit-scale; {again}",
        )
    try:
        # JSON has no tuples: the lax mode of pydantic's JSON parser turns arrays into them.
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise DataError(f"{path} is damaged: {where or 'contents'}: {first['msg']}", again) from None
    return manifest, hashlib.sha256(data).hexdigest()
