"""Manifests that cannot be right are refused with the place of what is wrong, before any number in them is used."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import confined
from tests.test_shards import SPAN, make_set
from translit_scale.cli import main
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import DataError

Value = dict[str, Any]


def refused(directory: Path, expected: str) -> None:
    """By the reader and by every command, in little memory and time."""
    with confined(mebibytes=256):
        with pytest.raises(DataError, match=expected) as error:
            ShardSet.open(directory)
        for command in (["verify"], ["verify", "--deep"], ["stats"], ["cat"]):
            assert main(["shards", *command, str(directory)]) == 3
    assert "manifest.json" in error.value.message and len(str(error.value)) < 1000


def block(number: int, column: int, value: object) -> Callable[[Value], None]:
    def change(manifest: Value) -> None:
        manifest["shards"][0]["blocks"][number][column] = value

    return change


def shard(**values: object) -> Callable[[Value], None]:
    return lambda manifest: manifest["shards"][0].update(values)


def top(**values: object) -> Callable[[Value], None]:
    return lambda manifest: manifest.update(values)


def counts(**values: object) -> Callable[[Value], None]:
    return lambda manifest: manifest["languages"]["pol_Latn"].update(values)


def rename(code: str) -> Callable[[Value], None]:
    """The same set, of another language."""

    def change(manifest: Value) -> None:
        manifest["languages"][code] = manifest["languages"].pop("pol_Latn")
        for entry in manifest["shards"][:2]:
            entry["name"] = entry["name"].replace("pol_Latn", code)
        manifest["shards"].sort(key=lambda entry: entry["name"])

    return change


def many_blocks(manifest: Value) -> None:
    entry = manifest["shards"][0]
    entry["blocks"] = [[1, SPAN * number, SPAN, 0, 0] for number in range(10_001)]
    entry["bytes"] = SPAN * 10_001 + 1024


LIST = "expected at least one block, each a list of the integers rows, offset, bytes, crc32, lengths_crc32"
CHANGES: list[tuple[Callable[[Value], None], str]] = [
    (top(format_version=2), "format version 2, expected 3"),
    (top(format_version=[[]] * 10**5), r"format version \[\[\], .*, expected 3"),
    (top(format_version=True), "format version True"),
    (top(format_version=3.0), "format_version: .*valid integer"),
    (top(name=None), "name: .*valid string"),
    (top(languages=[]), "languages: .*valid dictionary"),
    (top(provenance="x"), "provenance: .*valid dictionary"),
    (top(shards={}), "shards: .*valid list"),
    (top(shards=[7]), r"shards\.0: .*valid dictionary"),
    (top(shards=[]), "pol_Latn has 17 rows but its blocks 0"),
    (top(pickle="gASVAA=="), "pickle: Extra inputs"),
    (shard(name="../pol_Latn-00000.tar"), r"shards\.0\.name: .*match pattern"),
    (shard(name="/etc/passwd"), r"shards\.0\.name: .*match pattern"),
    (shard(name="pol_Latn-00000.tar/../../x"), r"shards\.0\.name: .*match pattern"),
    (shard(name="pol_Latn-00000.tar\n"), r"shards\.0\.name: .*match pattern"),
    (shard(name="pol_Latn-00000.tar\0"), r"shards\.0\.name: .*match pattern"),
    (shard(name="pol_Latn-٠٠٠٠٠.tar"), r"shards\.0\.name: .*match pattern"),
    (shard(name="pipe:touch mark"), r"shards\.0\.name: .*match pattern"),
    (shard(name="\ud800"), r"shards\.0\.name: .*valid string"),
    (shard(name="pol_Latn-00001.tar"), "not in ascending order"),
    (shard(name="hin_Deva-00000.tar"), "hin_Deva-00000.tar is of a language that is not listed"),
    (shard(bytes=0), r"shards\.0\.bytes"),
    (shard(bytes=-9216), r"shards\.0\.bytes"),
    (shard(bytes=10**400), "the last block ends at byte 8,192, which does not fit"),
    (shard(bytes=2 * SPAN), "the last block ends at byte 8,192, which does not fit 8,192 bytes"),
    (shard(bytes="9216"), r"shards\.0\.bytes: .*valid integer"),
    (shard(sha256="F" * 64), r"shards\.0\.sha256: .*match pattern"),
    (shard(sha256="0" * 63), r"shards\.0\.sha256: .*match pattern"),
    (shard(url="https://example.org"), r"shards\.0\.url: Extra inputs"),
    (shard(blocks=[]), rf"shards\.0\.blocks: .*{LIST}"),
    (shard(blocks=None), rf"shards\.0\.blocks: .*{LIST}"),
    (shard(blocks={"0": [5, 0, SPAN, 0, 0]}), rf"shards\.0\.blocks: .*{LIST}"),
    (shard(blocks=["12345"]), rf"shards\.0\.blocks: .*{LIST}"),
    (shard(blocks=[[5, 0, SPAN, 0]]), rf"shards\.0\.blocks: .*{LIST}"),
    (block(0, 0, True), rf"shards\.0\.blocks: .*{LIST}"),
    (block(0, 0, 5.0), rf"shards\.0\.blocks: .*{LIST}"),
    (block(0, 0, "5"), rf"shards\.0\.blocks: .*{LIST}"),
    (block(0, 0, None), rf"shards\.0\.blocks: .*{LIST}"),
    (block(0, 0, [5]), rf"shards\.0\.blocks: .*{LIST}"),
    (block(0, 0, 10**400), r"shards\.0\.blocks: .*64 bits"),
    (block(0, 0, 4), "pol_Latn has 17 rows but its blocks 16"),
    (block(1, 0, 0), r"shards\.0: .*block 1 has no rows, or more than fit .*: \[0, 4096, 4096, "),
    (block(1, 0, -5), "block 1 has no rows"),
    (block(1, 0, 10**15), "block 1 has no rows, or more than fit into its bytes"),
    (block(0, 1, 512), "block 0 does not begin where the one before it ends"),
    (block(1, 1, 0), "block 1 does not begin where"),
    (block(1, 1, SPAN - 512), "block 1 does not begin where"),
    (block(1, 1, SPAN + 512), "block 1 does not begin where"),
    (block(1, 1, -(2**63)), "block 1 does not begin where"),
    (block(0, 2, 0), "block 0 has a size that is not a multiple of 512"),
    (block(0, 2, -512), "block 0 has a size"),
    (block(0, 2, SPAN + 1), "block 0 has a size"),
    (block(0, 2, 2**62), "block 0 has a size that is not a multiple of 512 up to 1073741824"),
    (block(1, 2, SPAN + 512), "the last block ends at byte 8,704"),
    (block(1, 3, -1), "block 1 has a checksum of more than 32 bits"),
    (block(1, 4, 2**32), "block 1 has a checksum of more than 32 bits"),
    (many_blocks, "more than 10,000 blocks"),
    (counts(rows=0), r"languages\.pol_Latn\.rows"),
    (counts(rows=18), "pol_Latn has 18 rows but its blocks 17"),
    (counts(read=-1), r"languages\.pol_Latn\.read"),
    (counts(dropped={"empty": -1}), r"languages\.pol_Latn\.dropped\.empty"),
    (counts(identical=1e3), r"languages\.pol_Latn\.identical: .*valid integer"),
    (counts(orig_chars=None), r"languages\.pol_Latn\.orig_chars"),
    (rename("xxx_Latn"), "unknown language code 'xxx_Latn': 'xxx' is not a language of ISO 639-3"),
    (rename("pol_Xxxx"), "'Xxxx' is not a script of ISO 15924"),
    (rename("../../x"), r"languages|shards\.\d\.name: .*match pattern"),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=[str(number) for number in range(len(CHANGES))])
def test_values_that_cannot_be(tmp_path: Path, change: Callable[[Value], None], expected: str) -> None:
    make_set(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    refused(tmp_path, expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (' "name": "test"', ' "name": "test",\n "name": "other"', "the key 'name' stands 2 times in one object"),
        ('"sha256":', '"bytes": 1, "sha256":', "the key 'bytes' stands 2 times"),
        ('"seed": 0', '"seed": NaN', "NaN is not a number"),
        ('"seed": 0', '"seed": -Infinity', "-Infinity is not a number"),
        ('"seed": 0', '"seed": ' + "9" * 5000, "not valid JSON: .*4300 digits"),
        ('"seed": 0', '"seed": ' + "[" * 10**6, "not valid JSON: .*recursion"),
        ('"seed": 0', '"seed": ' + '{"a":' * 10**6, "not valid JSON: .*recursion"),
        ('"seed": 0', '"seed": \x00', "not valid JSON"),
        ("{", "\ufeff{", "not valid JSON: .*BOM"),
        ("test", "\x1b[2J", "not valid JSON: .*control character"),
    ],
    ids=["key", "key of a shard", "NaN", "infinity", "digits", "lists", "objects", "null byte", "mark", "escape"],
)
def test_json_that_is_more_than_json(tmp_path: Path, old: str, new: str, expected: str) -> None:
    make_set(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    refused(tmp_path, expected)


def test_a_manifest_of_terabytes_is_not_read(tmp_path: Path) -> None:
    make_set(tmp_path)
    os.truncate(tmp_path / "manifest.json", 2**42)
    refused(tmp_path, r"manifest\.json has 4,398,046,511,104 bytes, expected at most")


def test_a_shard_of_terabytes_is_not_read(tmp_path: Path) -> None:
    """It is as long as the manifest says, but no block may be so long."""
    make_set(tmp_path)
    os.truncate(tmp_path / "pol_Latn-00000.tar", 2**42)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    shard(bytes=2**42, blocks=[[10, 0, 2**42 - 1024, 0, 0]])(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    refused(tmp_path, "block 0 has a size")


def test_text_of_a_manifest_does_not_reach_the_terminal_as_it_is(tmp_path: Path) -> None:
    make_set(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    manifest["languages"]["\x1b[2J"] = 7
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(r"languages.\x1b[2J: ")):
        ShardSet.open(tmp_path)
