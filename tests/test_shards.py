"""Shards are byte-reproducible, readable by common tools, and no damage gets past the reader."""

import errno
import hashlib
import json
import os
import pickle
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Sequence
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.corpus import shards
from translit_scale.corpus.blocks import Block, decode_block, decode_lengths, encode_block, lengths_bytes
from translit_scale.corpus.manifest import (
    FORMAT_VERSION,
    BlockTable,
    LanguageCounts,
    Manifest,
    ShardEntry,
    read_manifest,
    write_manifest,
)
from translit_scale.corpus.shards import ShardSet, encode_shard
from translit_scale.errors import EXIT_LOST, DataError, LostError
from translit_scale.files import write_bytes

ROWS = (5, 5, 5, 2)
KEY = "pol_Latn-00000-0000"
SPAN = 512 * 8
"""Bytes of a block so small that each member fits into one tar block."""
sentences = st.text(st.characters(blacklist_characters="\n", blacklist_categories=("Cs",)))


def block(language: str, number: int, rows: int = 5) -> Block:
    return Block(
        tuple(f"słowo {language} {number} {row}" for row in range(rows)),
        tuple(f"slowo {language} {number} {row}" for row in range(rows)),
    )


def blocks_of(language: str) -> list[Block]:
    return [block(language, number, rows) for number, rows in enumerate(ROWS)]


def make_set(
    directory: Path,
    blocks: Callable[[str], Sequence[Block]] = blocks_of,
    languages: tuple[str, ...] = ("pol_Latn", "ukr_Cyrl"),
    provenance: dict[str, Any] | None = None,
) -> ShardSet:
    """A set with two blocks to a shard."""
    shards: list[ShardEntry] = []
    counts = {}
    for language in languages:
        of_language = blocks(language)
        for number, start in enumerate(range(0, len(of_language), 2)):
            data, entry = encode_shard(language, number, of_language[start : start + 2])
            write_bytes(directory / entry.name, data)
            shards.append(entry)
        rows = sum(len(block.orig) for block in of_language)
        counts[language] = LanguageCounts(
            read=rows + 3, dropped={"empty": 3}, rows=rows, identical=0, fallbacks=0, orig_chars=1, latn_chars=1
        )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name="test",
        languages=counts,
        provenance=provenance or {"recipe": {"seed": 0}},
        shards=shards,
    )
    write_manifest(directory, manifest)
    return ShardSet.open(directory)


def damage(path: Path, position: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


# ------------------------------------------------------------------------------------------- what is written


@given(st.lists(st.tuples(sentences, sentences), min_size=1))
def test_a_block_survives_the_tar(pairs: list[tuple[str, str]]) -> None:
    original = Block(tuple(orig for orig, _ in pairs), tuple(latn for _, latn in pairs))
    span, entry = encode_block(KEY, original)
    assert entry.rows == len(pairs) and entry.bytes == len(span)
    assert decode_block(KEY, entry, span) == original
    lengths = decode_lengths(KEY, entry, span[: lengths_bytes(entry)])
    assert lengths.tolist() == [[len(orig.encode()), len(latn.encode())] for orig, latn in pairs]


def test_lengths_end_at_65535() -> None:
    original = Block(("x" * 65_534, "x" * 65_535, "x" * 65_536, "ü" * 99_999), ("a", "", "b", "c"))
    span, entry = encode_block(KEY, original)
    assert decode_block(KEY, entry, span) == original
    assert decode_lengths(KEY, entry, span).tolist() == [[65_534, 1], [65_535, 0], [65_535, 1], [65_535, 1]]


def test_the_bytes_of_a_block_are_fixed() -> None:
    span, entry = encode_block("ukr_Cyrl-00003-0007", Block(("їжак", "a b"), ("yizhak", "a b")))
    assert entry == (2, 0, SPAN, 0x65532337, 0x4E43565D)
    assert hashlib.sha256(span).hexdigest() == "e53cd667499dbe7b00544e1de06c1d7912d2ad5fc05b86e15aa3527f5bf13f44"


@pytest.mark.parametrize(
    "bad",
    [Block((), ()), Block(("a",), ()), Block(("a\nb",), ("c",)), Block(("a",), ("\n",)), Block(("\ud800",), ("c",))],
)
def test_a_block_that_would_not_survive_is_refused(bad: Block) -> None:
    with pytest.raises(ValueError):
        encode_block(KEY, bad)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    make_set(tmp_path / "a"), make_set(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_plain_webdataset_reads_the_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    make_set(tmp_path)
    samples = list(webdataset.WebDataset(str(tmp_path / "pol_Latn-00001.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["pol_Latn-00001-0000", "pol_Latn-00001-0001"]
    expected = block("pol_Latn", 3, 2)
    assert samples[1]["orig.txt"].decode() == "".join(f"{line}\n" for line in expected.orig)
    assert samples[1]["latn.txt"].decode() == "".join(f"{line}\n" for line in expected.latn)
    assert json.loads(samples[1]["json"]) == {"language": "pol_Latn", "shard": 1, "block": 1, "rows": 2}
    assert np.load(BytesIO(samples[1]["lengths.npy"]), allow_pickle=False).tolist() == [
        [len(orig.encode()), len(latn.encode())] for orig, latn in zip(expected.orig, expected.latn, strict=True)
    ]


def test_plain_tar_lists_the_shards(tmp_path: Path) -> None:
    make_set(tmp_path)
    listing = subprocess.run(["tar", "tf", tmp_path / "pol_Latn-00000.tar"], capture_output=True, text=True, check=True)
    assert listing.stderr == ""
    members = ("lengths.npy", "orig.txt", "latn.txt", "json")
    assert listing.stdout.split() == [f"pol_Latn-00000-000{block}.{name}" for block in (0, 1) for name in members]


# ----------------------------------------------------------------------------------------------- the reader


def test_reads_what_was_written(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    assert shard_set.languages == ("pol_Latn", "ukr_Cyrl")
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        f"{language}-0000{shard}.tar" for language in shard_set.languages for shard in (0, 1)
    ]
    for language in shard_set.languages:
        assert shard_set.rows(language) == sum(ROWS)
        assert shard_set.block_rows(language) == ROWS
        for number, expected in enumerate(blocks_of(language)):
            assert shard_set.read_block(language, number) == expected
            assert shard_set.read_lengths(language, number)[:, 0].tolist() == [len(s.encode()) for s in expected.orig]
        assert [orig for orig, _ in shard_set.pairs(language)] == [s for b in blocks_of(language) for s in b.orig]
    assert shard_set.fingerprint == hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest()
    copy = pickle.loads(pickle.dumps(shard_set))
    assert copy.read_block("ukr_Cyrl", 3) == block("ukr_Cyrl", 3, 2)


def test_unknown_language_and_block(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    with pytest.raises(DataError, match="no language 'hin_Deva'") as error:
        shard_set.rows("hin_Deva")
    assert "pol_Latn, ukr_Cyrl" in error.value.hint
    for number in (4, -1):
        with pytest.raises(DataError, match=f"blocks 0 to 3, not {number}"):
            shard_set.read_block("pol_Latn", number)


def test_the_reader_notices_every_flipped_bit() -> None:
    span, entry = encode_block(KEY, block("pol_Latn", 0))
    for position in range(SPAN):
        flipped = bytearray(span)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(ValueError):
            decode_block(KEY, entry, bytes(flipped))
        if position < lengths_bytes(entry):
            with pytest.raises(ValueError):
                decode_lengths(KEY, entry, bytes(flipped))


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (3, "expected the tar header of the plain file ukr_Cyrl-00000-0001.lengths.npy, found b'ukr.Cyrl"),  # name
        (150, "tar header"),  # checksum
        (514, "crc32 .* of lengths.npy"),
        (900, "expected zeros between the end of ukr_Cyrl-00000-0001.lengths.npy and the next"),
        (1024 + 345, "tar header"),  # prefix of the name
        (1536 + 2, "crc32 .* of the text"),  # orig
        (2560 + 2, "crc32 .* of the text"),  # latn
        (3584 + 8, "json member"),
    ],
)
def test_the_reader_names_shard_and_block(tmp_path: Path, position: int, expected: str) -> None:
    shard_set = make_set(tmp_path)
    damage(tmp_path / "ukr_Cyrl-00000.tar", SPAN + position)
    assert shard_set.read_block("ukr_Cyrl", 0) == block("ukr_Cyrl", 0)
    with pytest.raises(DataError, match=expected) as error:
        shard_set.read_block("ukr_Cyrl", 1)
    assert "ukr_Cyrl-00000.tar:ukr_Cyrl-00000-0001: " in error.value.message
    assert "shards verify" in error.value.hint
    if position < 1024:
        with pytest.raises(DataError, match=expected):
            shard_set.read_lengths("ukr_Cyrl", 1)


def test_truncated_and_missing_shards(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    path = tmp_path / "pol_Latn-00001.tar"
    path.write_bytes(path.read_bytes()[: SPAN + 1024])
    with pytest.raises(DataError, match=r"pol_Latn-00001\.tar: expected 9,216 bytes, found 5,120"):
        ShardSet.open(tmp_path)
    with pytest.raises(DataError, match="pol_Latn-00001-0001: expected 4096 bytes from byte 4096, found 1024"):
        shard_set.read_block("pol_Latn", 3)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        ShardSet.open(tmp_path)
    with pytest.raises(DataError, match="pol_Latn-00001-0001: No such file"):
        shard_set.read_lengths("pol_Latn", 3)


class Disk:
    """In place of `open_regular`: the first files that it opens give these errors when they are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
        self.numbers, self.pauses = list(numbers), list[float]()
        monkeypatch.setattr(shards, "open_regular", self.open)
        monkeypatch.setattr(time, "sleep", self.pauses.append)

    def open(self, path: Path) -> IO[bytes]:
        number = self.numbers.pop(0) if self.numbers else 0

        class File(FileIO):
            def readinto(self, buffer: Any) -> int:
                if number:
                    raise OSError(number, os.strerror(number))
                return super().readinto(buffer) or 0

        return BufferedReader(File(path))


def test_a_file_system_that_does_not_answer_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard_set = make_set(tmp_path)
    expected = shard_set.read_block("pol_Latn", 0)
    disk = Disk(monkeypatch, errno.EIO, errno.ESTALE)
    assert shard_set.read_block("pol_Latn", 0) == expected and not disk.numbers
    assert disk.pauses == [1, 4]
    assert f"{tmp_path / 'pol_Latn-00000.tar'}: Input/output error; it is read again in 1 s" in capsys.readouterr().err
    Disk(monkeypatch, *4 * [errno.ETIMEDOUT])
    with pytest.raises(LostError, match=r"pol_Latn-00000\.tar: .*: Connection timed out, also after 21 s") as caught:
        shard_set.read_lengths("pol_Latn", 0)
    assert caught.value.exit_code == EXIT_LOST
    disk = Disk(monkeypatch, errno.EACCES)
    with pytest.raises(DataError, match="Permission denied"):
        shard_set.read_block("pol_Latn", 0)
    assert not disk.pauses


# --------------------------------------------------------------------------------------------- the manifest


def test_manifest_survives_and_stays_readable(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    value = json.loads(text)
    assert value["provenance"] == {"recipe": {"seed": 0}}
    assert sum('"sha256"' in line for line in text.split("\n")) == 4  # one line per shard
    assert read_manifest(tmp_path) == (shard_set.manifest, shard_set.fingerprint)
    entry = shard_set.manifest.shards[0]
    assert ShardEntry.model_validate_json(entry.model_dump_json()) == entry
    assert value["shards"][0]["blocks"] == [list(block) for block in entry.blocks]
    assert [block.offset for block in entry.blocks] == [0, SPAN] and entry.blocks[1].rows == 5
    write_manifest(tmp_path, shard_set.manifest)
    assert (tmp_path / "manifest.json").read_text(encoding="utf-8") == text
    # However it is laid out, it is JSON.
    (tmp_path / "manifest.json").write_text(json.dumps(value, indent=2), encoding="utf-8")
    assert read_manifest(tmp_path)[0] == shard_set.manifest


def test_no_manifest_no_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no local directory with a shard set"):
        ShardSet.open(tmp_path / "nowhere")
    (tmp_path / ".work").mkdir()
    with pytest.raises(DataError, match="not finished"):
        ShardSet.open(tmp_path)
    for content in (b"", b"{", b"\xff\xfe", json.dumps({"format_version": FORMAT_VERSION}).encode("utf-16")):
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(DataError, match="not valid JSON"):
            ShardSet.open(tmp_path)


def test_blocks_are_kept_as_numbers_of_64_bits() -> None:
    table = BlockTable.of([[1, 0, 4096, 2**32 - 1, 0]])
    assert table.numbers.dtype == np.int64 and list(table) == [(1, 0, 4096, 2**32 - 1, 0)]
    for bad in (
        [],
        {},
        [[1, 0, 4096, 0]],
        [[1, 0, 4096, 0, True]],
        [[1, 0, 4096, 0, 1.0]],
        ["12345"],
        [[1, 0, 2**63, 0, 0]],
    ):
        with pytest.raises(ValueError, match=r"the integers rows|64 bits"):
            BlockTable.of(bad)


def test_a_manifest_of_many_blocks_is_small_in_memory(tmp_path: Path) -> None:
    """Glot500-c has 1.5 million blocks, and every rank reads its manifest."""
    shards, blocks = 1000, 100
    entries = [
        {
            "name": f"pol_Latn-{number:05d}.tar",
            "bytes": SPAN * blocks + 1024,
            "sha256": f"{number:064x}",
            "blocks": [[5, SPAN * block, SPAN, 2**31 + number, 2**31 + block] for block in range(blocks)],
        }
        for number in range(shards)
    ]
    rows = 5 * shards * blocks
    counts = LanguageCounts(read=rows, dropped={}, rows=rows, identical=0, fallbacks=0, orig_chars=1, latn_chars=1)
    head = {
        "format_version": FORMAT_VERSION,
        "name": "x",
        "languages": {"pol_Latn": counts.model_dump()},
        "provenance": {},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(head | {"shards": entries}), encoding="utf-8")
    del entries
    tracemalloc.start()
    try:
        shard_set = ShardSet(tmp_path, *read_manifest(tmp_path))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 80 * shards * blocks
    assert peak < held + 4 * (tmp_path / "manifest.json").stat().st_size
    assert shard_set.block_rows("pol_Latn") == (5,) * shards * blocks and shard_set.rows("pol_Latn") == rows
    with pytest.raises(DataError, match="pol_Latn-00999-0099: No such file"):
        shard_set.read_block("pol_Latn", shards * blocks - 1)
