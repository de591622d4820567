"""WebDataset tars as text: written by webdataset and by tar, read like any other table."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import webdataset as wds

from translit_scale.cli import main
from translit_scale.corpus.lines import MAX_LINE_BYTES, ignore
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.text import Columns, check_columns, read_sentences
from translit_scale.errors import ConfigError, DataError

SAMPLES = [
    {"__key__": "a/0001", "txt": "pierwsze zdanie\r\ndrugie zdanie\n", "json": {"text": "Zażółć gęślą", "n": 1}},
    {"__key__": "a/0002", "txt": "trzecie", "meta.json": {"of": {"text": "głębiej"}}, "cls": 4},
    {"__key__": "b/0003", "json": {"text": None}},
]


def read(path: Path, *columns: str) -> tuple[list[tuple[str | None, ...]], dict[str, int]]:
    """The sentences of a file and its counts."""
    counts: Counter[str] = Counter()
    return [tuple(cells)[: len(columns)] for cells in read_sentences(path, Columns(*columns), counts, ignore)], counts


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "part-000000.tar"
    with wds.TarWriter(str(path)) as tar:
        for sample in SAMPLES:
            tar.write(sample)
    return path


def test_columns_are_the_endings_of_the_files(written: Path) -> None:
    assert read(written, "txt") == (
        [("pierwsze zdanie",), ("drugie zdanie",), ("trzecie",)], {"read": 4, "malformed": 1}
    )  # fmt: skip
    assert read(written, "json.text") == ([("Zażółć gęślą",)], {"read": 3, "malformed": 2})
    assert read(written, "meta.json.of.text")[0] == [("głębiej",)]
    check_columns(written, Columns("txt"))
    with pytest.raises(DataError, match=r"no column 'text'.*\n.*'json', 'json.text', 'json.n', 'txt'"):
        check_columns(written, Columns("text"))
    with pytest.raises(ConfigError, match="which column"):
        check_columns(written, Columns())


@pytest.mark.parametrize(("suffix", "program"), [(".gz", "gzip"), (".xz", "xz"), (".zst", "zstd")])
def test_a_compressed_tar_of_the_program_tar(suffix: str, program: str, tmp_path: Path) -> None:
    folder = tmp_path / "in/x.y"
    folder.mkdir(parents=True)
    for number in range(300):
        (folder / f"{number:03}.orig.txt").write_text(f"zdanie {number}\n")
        (folder / f"{number:03}.latn.txt").write_text(f"latin {number}\n" if number else "")
        (folder / f"._{number:03}.orig.txt").write_bytes(b"\0\5\x16\7")
    path = tmp_path / f"text.tar{suffix}"
    names = sorted(file.relative_to(tmp_path / "in") for file in folder.iterdir())
    subprocess.run(
        ["tar", "-cf", path, f"--use-compress-program={program}", "-C", tmp_path / "in", *names], check=True
    )  # fmt: skip
    found, counts = read(path, "orig.txt", "latn.txt")
    assert found[-1] == ("zdanie 299", "latin 299") and counts["read"] == 300
    assert len(found) == 300  # an empty transliteration is noticed after cleaning
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=str(path)):
        read(path, "orig.txt", "latn.txt")


def test_what_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("1.txt", "Größe".encode("latin-1")), ("1.json", b"{not json"), ("2.txt", b"a" * (MAX_LINE_BYTES + 1)),
            ("3.json", json.dumps({"text": "\ud83d"}).encode()), ("4.txt", b"gut"),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("5.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert read(path, "txt") == ([("gut",)], {"read": 4, "undecodable": 1, "too_long": 1, "malformed": 1})
    assert read(path, "json.text")[1]["lone_surrogate"] == 1
    (tmp_path / "empty.tar").touch()
    (tmp_path / "text.tar").write_text("no tar at all " * 100)
    for name, message in (("empty.tar", "is empty"), ("text.tar", "cannot read"), ("pipe:id.tar", "not found")):
        with pytest.raises(DataError, match=message):
            read(tmp_path / name, "txt")


def test_two_files_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("1.txt"))
    with pytest.raises(DataError, match="duplicate file name"):
        read(path, "txt")


def test_a_shard_set_of_ours_and_a_foreign_tar_as_sources(tmp_path: Path) -> None:
    with wds.TarWriter(str(tmp_path / "ukr.tar")) as tar:
        for number in range(50):
            tar.write({"__key__": f"{number}", "txt": f"Це речення числа {number}\nІ ще одне, {number}"})
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("name: first\nlanguages: {ukr_Cyrl: [{path: ukr.tar, column: txt}]}\n")
    ours = "path: first/*.tar, column: orig.txt, transliteration: latn.txt"
    second.write_text(f"name: second\nlanguages: {{ukr_Cyrl: [{{{ours}}}]}}\n")
    for recipe in (first, second):
        words = ["--data", str(tmp_path), "--out", str(recipe.with_suffix("")), "--workers", "1"]
        assert main(["prepare", str(recipe), *words]) == 0
        assert main(["shards", "verify", "--data", str(tmp_path), str(recipe.with_suffix(""))]) == 0
    sets = [ShardSet.open(path.with_suffix("")) for path in (first, second)]
    blocks = [shards.read_block("ukr_Cyrl", 0) for shards in sets]
    pairs = [sorted(zip(block.orig, block.latn, strict=True)) for block in blocks]
    assert pairs[0] == pairs[1] and len(pairs[0]) == 100 and pairs[0][0] == ("І ще одне, 0", "I shche odne, 0")
    assert sets[1].manifest.languages["ukr_Cyrl"].from_column == 100
