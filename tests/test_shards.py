"""Shards are byte-reproducible, readable by common tools, and no damage goes unnoticed."""

import hashlib
import json
import pickle
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.corpus.manifest import (
    FORMAT_VERSION,
    BlockEntry,
    LanguageCounts,
    Manifest,
    read_manifest,
    write_manifest,
)
from translit_scale.corpus.shards import Block, ShardSet, decode_block, encode_block, write_shards
from translit_scale.corpus.verify import verify
from translit_scale.errors import DataError

ROWS = (5, 5, 5, 2)
sentences = st.text(st.characters(blacklist_characters="\n", blacklist_categories=("Cs",)))


def block(language: str, number: int, rows: int) -> Block:
    return Block(
        tuple(f"słowo {language} {number} {row}" for row in range(rows)),
        tuple(f"slowo {language} {number} {row}" for row in range(rows)),
    )


def make_set(directory: Path, languages: tuple[str, ...] = ("pol_Latn", "ukr_Cyrl")) -> ShardSet:
    """Four blocks per language, two to a shard."""
    shards, counts = [], {}
    for language in languages:
        blocks = [block(language, number, rows) for number, rows in enumerate(ROWS)]
        shards += write_shards(directory, language, blocks, shard_bytes=3 * 1024 * 2 + 1024)
        counts[language] = LanguageCounts(
            read=20,
            dropped={"empty": 3},
            rows=sum(ROWS),
            identical=0,
            fallbacks=0,
            orig_chars=1,
            latn_chars=1,
        )
    write_manifest(
        directory,
        Manifest(
            format_version=FORMAT_VERSION,
            name="test",
            languages=counts,
            provenance={"recipe": {"seed": 0}},
            shards=shards,
        ),
    )
    return ShardSet.open(directory)


def damage(path: Path, position: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(data)


def problems(directory: Path, deep: bool = False) -> list[str]:
    return verify(directory, deep, lambda done: None)


@given(st.lists(st.tuples(sentences, sentences), min_size=1), st.integers(0, 10**6 - 1))
def test_a_block_survives_the_tar(pairs: list[tuple[str, str]], number: int) -> None:
    original = Block(tuple(orig for orig, _ in pairs), tuple(latn for _, latn in pairs))
    span, crc32 = encode_block("pol_Latn", number, original)
    assert decode_block("pol_Latn", number, BlockEntry(len(pairs), 0, len(span), crc32), span) == original


def test_the_bytes_of_a_block_are_fixed() -> None:
    span, crc32 = encode_block("ukr_Cyrl", 7, Block(("їжак", "a b"), ("yizhak", "a b")))
    assert (len(span), crc32) == (3072, 0x65532337)
    assert hashlib.sha256(span).hexdigest() == ("98bac1ac39d281bcca811e64c404df70e619418e855a9ebbe6f5e9c156c1033b")


@given(st.integers(0, 3071), st.binary(min_size=1, max_size=12), st.booleans())
def test_a_forged_block_is_an_error_or_the_same_block(position: int, forged: bytes, mend: bool) -> None:
    original = block("pol_Latn", 0, 5)
    span, crc32 = encode_block("pol_Latn", 0, original)
    data = bytearray(span)
    data[position : position + len(forged)] = forged[: len(data) - position]
    if mend:  # with right checksums in the headers, so that what they say is looked at
        for start in (0, 1024, 2048):
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    try:
        assert decode_block("pol_Latn", 0, BlockEntry(5, 0, len(span), crc32), bytes(data)) == original
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    "bad", [Block((), ()), Block(("a",), ()), Block(("a\nb",), ("c",)), Block(("\ud800",), ("c",))]
)
def test_a_block_that_would_not_survive_is_refused(bad: Block) -> None:
    with pytest.raises(ValueError):
        encode_block("pol_Latn", 0, bad)


def test_reads_what_was_written(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    assert shard_set.languages == ("pol_Latn", "ukr_Cyrl")
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == [
        f"{language}-0000{shard}.tar" for language in shard_set.languages for shard in (0, 1)
    ]
    for language in shard_set.languages:
        assert shard_set.rows(language) == sum(ROWS)
        assert shard_set.block_rows(language) == ROWS
        for number, rows in enumerate(ROWS):
            assert shard_set.read_block(language, number) == block(language, number, rows)
    assert shard_set.fingerprint == hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest()
    assert problems(tmp_path, deep=True) == []
    copy = pickle.loads(pickle.dumps(shard_set))
    assert copy.read_block("ukr_Cyrl", 3) == block("ukr_Cyrl", 3, 2)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    make_set(tmp_path / "a"), make_set(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_plain_webdataset_reads_the_shards(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    make_set(tmp_path)
    samples = list(webdataset.WebDataset(str(tmp_path / "pol_Latn-00001.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["pol_Latn-000002", "pol_Latn-000003"]
    expected = block("pol_Latn", 3, 2)
    assert samples[1]["orig.txt"].decode() == "".join(f"{line}\n" for line in expected.orig)
    assert samples[1]["latn.txt"].decode() == "".join(f"{line}\n" for line in expected.latn)
    assert json.loads(samples[1]["json"]) == {"language": "pol_Latn", "block": 3, "rows": 2}


def test_plain_tar_lists_the_shards(tmp_path: Path) -> None:
    make_set(tmp_path)
    listing = subprocess.run(["tar", "tf", tmp_path / "pol_Latn-00000.tar"], capture_output=True, text=True, check=True)
    assert listing.stderr == ""
    assert listing.stdout.split()[:3] == [f"pol_Latn-000000.{e}" for e in ("orig.txt", "latn.txt", "json")]


def test_every_flipped_bit_of_a_block_is_noticed(tmp_path: Path) -> None:
    make_set(tmp_path)
    path = tmp_path / "pol_Latn-00000.tar"
    intact = path.read_bytes()
    for position in range(0, 3072, 7):
        damage(path, position, mask=4)
        assert any("sha256" in problem for problem in problems(tmp_path))
        path.write_bytes(intact)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (3, "tar header"),  # name
        (150, "tar header"),  # checksum
        (514, "crc32"),  # text of orig
        (1024 + 514, "crc32"),  # text of latn
        (2048 + 520, "json member"),
    ],
)
def test_the_reader_names_shard_and_block(tmp_path: Path, position: int, expected: str) -> None:
    shard_set = make_set(tmp_path)
    damage(tmp_path / "ukr_Cyrl-00000.tar", 3072 + position)
    assert shard_set.read_block("ukr_Cyrl", 0) == block("ukr_Cyrl", 0, 5)
    with pytest.raises(DataError, match=expected) as error:
        shard_set.read_block("ukr_Cyrl", 1)
    assert "ukr_Cyrl-00000.tar:ukr_Cyrl-000001" in error.value.message
    assert "shards verify" in error.value.hint
    found = problems(tmp_path, deep=True)
    assert len(found) == 2 and "sha256" in found[0] and "ukr_Cyrl-000001" in found[1]


def test_truncated_and_missing_shards(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    path = tmp_path / "pol_Latn-00001.tar"
    path.write_bytes(path.read_bytes()[:3072])  # at a member boundary: plain webdataset sees no error
    with pytest.raises(DataError, match=r"has 3,072 bytes, expected 7,168"):
        ShardSet.open(tmp_path)
    with pytest.raises(DataError, match="pol_Latn-000003: expected 3072 bytes"):
        shard_set.read_block("pol_Latn", 3)
    (tmp_path / "ukr_Cyrl-00000.tar").unlink()
    (tmp_path / "pol_Latn-00000.tar").rename(tmp_path / "pol_Latn-00007.tar")
    with pytest.raises(DataError, match="is missing"):
        ShardSet.open(tmp_path)
    found = problems(tmp_path, deep=True)
    assert [next(word for word in ("not in", "No such", "bytes") if word in line) for line in found] == [
        "not in", "No such", "bytes", "bytes", "No such",
    ]  # fmt: skip


def test_a_shard_of_another_language_is_noticed(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    foreign = (tmp_path / "ukr_Cyrl-00000.tar").read_bytes()
    (tmp_path / "pol_Latn-00000.tar").write_bytes(foreign)
    with pytest.raises(DataError, match=r"expected the plain file pol_Latn-000000\.orig\.txt"):
        shard_set.read_block("pol_Latn", 0)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.XHDTYPE])
def test_links_devices_and_extended_headers_are_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("pol_Latn-000000.orig.txt")
    info.type, info.linkname = kind, "/etc/passwd"
    span = info.tobuf(tarfile.USTAR_FORMAT) + bytes(2560)
    with pytest.raises(ValueError, match="expected the plain file"):
        decode_block("pol_Latn", 0, BlockEntry(1, 0, len(span), 0), span)


def test_members_with_other_names_are_refused() -> None:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("../../pol_Latn-000000.pyd"))
    with pytest.raises(ValueError, match=r"found '\.\./\.\./pol_Latn-000000\.pyd'"):
        decode_block("pol_Latn", 0, BlockEntry(1, 0, 3072, 0), buffer.getvalue()[:3072])


@pytest.mark.parametrize("rows", [4, 6])
def test_row_counts_must_match(rows: int) -> None:
    span, crc32 = encode_block("pol_Latn", 0, block("pol_Latn", 0, 5))
    with pytest.raises(ValueError, match="json member"):
        decode_block("pol_Latn", 0, BlockEntry(rows, 0, len(span), crc32), span)


def test_manifest_survives_and_stays_readable(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text)["provenance"] == {"recipe": {"seed": 0}}
    assert sum('"sha256"' in line for line in text.split("\n")) == 4  # one line per shard
    assert read_manifest(tmp_path) == (shard_set.manifest, shard_set.fingerprint)


def edit_manifest(directory: Path, change: str) -> None:
    path = directory / "manifest.json"
    value = json.loads(path.read_bytes())
    shard = value["shards"][0]
    match change:
        case "version":
            value["format_version"] = FORMAT_VERSION + 1
        case "name":
            shard["name"] = "../pol_Latn-00000.tar"
        case "offset":
            shard["blocks"][1][1] += 512
        case "size":
            shard["blocks"][-1][2] += 10**6
        case "rows":
            shard["blocks"][0][0] -= 1
        case "twice":
            value["shards"].insert(1, shard)
        case "language":
            value["languages"]["pol_Arab"] = value["languages"].pop("pol_Latn")
        case "unknown":
            value["pickle"] = "gASVAA=="
        case "list":
            value = [value]
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("version", f"format version {FORMAT_VERSION + 1}, expected {FORMAT_VERSION}"),
        ("name", "shards.0.name"),
        ("offset", "do not follow each other"),
        ("size", "do not follow each other"),
        ("rows", "17 rows but its blocks 16"),
        ("twice", "ascending order"),
        ("language", "not listed"),
        ("unknown", "pickle"),
        ("list", "format version None"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(tmp_path: Path, change: str, expected: str) -> None:
    make_set(tmp_path)
    edit_manifest(tmp_path, change)
    with pytest.raises(DataError, match=expected):
        ShardSet.open(tmp_path)


def test_no_manifest_no_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a shard set"):
        ShardSet.open(tmp_path / "nowhere")
    (tmp_path / ".work").mkdir()
    with pytest.raises(DataError, match="not finished"):
        ShardSet.open(tmp_path)
    for content in (b"", b"{", b"[" * 100_000, b"\xff\xfe"):
        (tmp_path / "manifest.json").write_bytes(content)
        with pytest.raises(DataError, match="not valid JSON"):
            ShardSet.open(tmp_path)


def test_unknown_language_and_block(tmp_path: Path) -> None:
    shard_set = make_set(tmp_path)
    with pytest.raises(DataError, match="no language 'hin_Deva'") as error:
        shard_set.rows("hin_Deva")
    assert "pol_Latn, ukr_Cyrl" in error.value.hint
    with pytest.raises(DataError, match="blocks 0 to 3, not 4"):
        shard_set.read_block("pol_Latn", 4)
