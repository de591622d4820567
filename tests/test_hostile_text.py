"""Text files and recipes that are broken or made to break something: a message or a counted drop, in little memory."""

import gzip
import json
import lzma
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hostile import confined, headers, members, write_set
from translit_scale.cli import main
from translit_scale.config import load_config
from translit_scale.corpus.lines import MAX_LINE_BYTES, read_lines
from translit_scale.corpus.text import Columns, read_all_cells, read_sentences
from translit_scale.errors import ConfigError, DataError
from translit_scale.prepare.recipe import load_recipe


def gzipped(data: bytes) -> bytes:
    """Without a time in it, so that names of tests stay the same."""
    return gzip.compress(data, mtime=0)


LONG = 200 * 2**20
"""Bytes of a line that nobody should hold."""
Pieces = Iterator[bytes]


def read(path: Path, column: str | None = None) -> tuple[list[str], dict[str, int]]:
    counts: Counter[str] = Counter()
    with confined(mebibytes=192):
        sentences = read_sentences(path, Columns(column), counts, lambda done: None)
        return [sentence.text for sentence in sentences], dict(counts)


# -------------------------------------------------------------------------------------- what would not fit


def long_line(before: bytes = b"", after: bytes = b"") -> Pieces:
    """A good line, one of 200 MiB, and another good one."""
    yield b"first\n" + before
    yield from (b"x" * 2**20 for _ in range(LONG >> 20))
    yield after + b"\nlast\n"


def compressed(compressor: object, pieces: Pieces) -> bytes:
    return b"".join([*(compressor.compress(piece) for piece in pieces), compressor.flush()])  # type: ignore[attr-defined]


def zstd(pieces: Pieces) -> bytes:
    return compressed(pytest.importorskip("zstandard").ZstdCompressor().compressobj(), pieces)


WRITERS: dict[str, Callable[[Pieces], bytes]] = {
    "": b"".join,
    ".gz": lambda pieces: compressed(zlib.compressobj(1, wbits=31), pieces),
    ".xz": lambda pieces: compressed(lzma.LZMACompressor(preset=0), pieces),
    ".zst": zstd,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_line_of_200_mib_is_counted_not_held(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(WRITERS[suffix](long_line()))
    assert not suffix or path.stat().st_size < 2**20
    assert read(path) == (["first", "last"], {"read": 3, "too_long": 1})
    with confined(mebibytes=192), pytest.raises(DataError, match=r"a\.txt.*:2: a line of more than 16,777,216 bytes"):
        list(read_lines(path))


def test_a_long_line_of_a_table(tmp_path: Path) -> None:
    gz = WRITERS[".gz"]
    (tmp_path / "a.jsonl.gz").write_bytes(
        gz(iter([b'{"text": "a"}\n', *long_line(b'{"text": "', b'"}'), b'{"text": "b"}']))
    )
    assert read(tmp_path / "a.jsonl.gz", "text") == (["a", "b"], {"read": 5, "too_long": 1, "malformed": 2})
    (tmp_path / "a.tsv.gz").write_bytes(gz(iter([b"id\ttext\n1\ta\n", *long_line(b"2\t"), b"3\tb\n"])))
    assert read(tmp_path / "a.tsv.gz", "text") == (["a", "b"], {"read": 5, "too_long": 1, "malformed": 2})
    (tmp_path / "a.csv.gz").write_bytes(gz(iter([b"id,text\n1,a\n", *long_line(b'2,"')])))
    with pytest.raises(DataError, match=r"a\.csv\.gz:4: a line of more than"):
        read(tmp_path / "a.csv.gz", "text")


@pytest.mark.parametrize(("extra", "expected"), [(0, {"read": 2}), (1, {"read": 2, "too_long": 1})])
def test_the_limit_is_sharp(tmp_path: Path, extra: int, expected: dict[str, int]) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * (MAX_LINE_BYTES + extra) + b"\nlast")
    sentences, counts = read(tmp_path / "a.txt")
    assert counts == expected and sentences[-1] == "last"


def test_a_zstd_file_of_32_kb_that_holds_a_gib(tmp_path: Path) -> None:
    """One frame of blocks that each say: this byte, 131 072 times."""
    pytest.importorskip("zstandard")
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 7 << 3)
    frame += b"".join(
        struct.pack("<I", (2**17 << 3 | 1 << 1 | (number == 8191)) | ord("x") << 24) for number in range(8192)
    )
    (tmp_path / "a.txt.zst").write_bytes(frame)
    assert read(tmp_path / "a.txt.zst") == ([], {"read": 1, "too_long": 1})


def test_an_xz_file_that_asks_for_gigabytes(tmp_path: Path) -> None:
    data = lzma.compress(b"text\n", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}])
    # The byte of the block header that says how large a dictionary is; and the header's checksum.
    header = bytearray(data[12 : 12 + 4 * (data[12] + 1)])
    assert header[2] == lzma.FILTER_LZMA2 and len(header) == 12
    header[4] = 37  # (2 | 37 & 1) << 37 // 2 + 11 bytes: 1.5 GiB
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    (tmp_path / "a.txt.xz").write_bytes(data[:12] + header + data[24:])
    with pytest.raises(DataError, match=r"cannot read .*a\.txt\.xz: Memory usage limit"):
        read(tmp_path / "a.txt.xz")


# ------------------------------------------------------------------------------------- what is not what it says


def arrow(strings: list[bytes], kind: str) -> bytes:
    """A file whose strings need not be UTF-8."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    column = pyarrow.array(strings, pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"text": column})
    sink = pyarrow.BufferOutputStream()
    if kind == "parquet":
        parquet.write_table(table, sink)
    else:
        with pyarrow.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return sink.getvalue().to_pybytes()


def lying_arrow() -> bytes:
    """An Arrow stream whose second string ends a gigabyte behind its beginning."""
    data = arrow([b"abcd", b"efgh"], "arrow")
    offsets = struct.pack("<3i", 0, 4, 8)
    assert data.count(offsets) == 1
    return data.replace(offsets, struct.pack("<3i", 0, 4, 2**30))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_strings_that_are_not_utf8_are_counted(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(arrow([b"a", b"\xff\xfe", "ż".encode(), b"\xed\xa0\x80"], kind))
    assert read(tmp_path / f"a.{kind}", "text") == (["a", "ż"], {"read": 4, "undecodable": 2})


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", "a\nb\n".encode("utf-16"), "UTF-16 or no text"),
        ("a.txt", ("słowo po słowie\n" * 9).encode("utf-16-le"), "UTF-16 or no text"),
        ("a.txt", ("слово за словом\n" * 9).encode("utf-16-be"), "UTF-16 or no text"),
        ("a.txt", "words\n".encode("utf-32-le"), "UTF-16 or no text"),
        ("a.txt", bytes(2000), "UTF-16 or no text"),
        ("a.txt", b"\xef\xbb\xbf", "is empty"),
        ("a.txt.gz", gzipped("a\n".encode("utf-16")), "UTF-16 or no text"),
        ("a.txt.gz", b"text, not gzip\n", "cannot read"),
        ("a.txt.gz", gzipped(b"a\n") + b"rest", "cannot read"),
        ("a.txt.gz", gzipped(b"a\n" * 9)[:-1], "cannot read .* ends early"),
        ("a.txt.gz", gzipped(b"a\n")[:-8] + bytes(8), "cannot read .*incorrect data check"),
        ("a.txt.xz", lzma.compress(b"a\n" * 9)[:-1], "cannot read .* ends early"),
        ("a.txt.xz", lzma.compress(b"a\n") + b"rest", "cannot read"),
        ("a.csv", b'text\n"a\n' + b"b\n" * 100_000, r"a\.csv:2: field larger than field limit .*\n.*never closed"),
        ("a.csv", b'text\n"a', r"a\.csv:2: unexpected end of data"),
        ("a.tsv", b"\t".join([b"c"] * 10**5), r"no column 'text'\n.*'c', \.\.\.$"),
        ("a.parquet", b"PAR1, it says", "cannot read"),
        ("a.parquet", b"", "a.parquet is empty"),
        ("a.arrow", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "LFS pointer.*\n.*git lfs pull"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "LFS pointer.*\n.*git lfs pull"),
        ("a.txt.gz", b"a line, not gzip\n", r"cannot read .*\n.*gzip -t .*a\.txt\.gz"),
        ("a.jsonl.bz2", b"BZh9, it says", r"cannot read .*\n.*bzip2 -t .*a\.jsonl\.bz2"),
        ("a.arrow", b"\xff\xff\xff\xff" + b"\x7f" * 100, "cannot read"),
        ("a.arrow", lying_arrow(), "cannot read"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=expected) as error:
        read(path, None if name.startswith("a.txt") else "text")
    assert str(path) in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("name", "data", "sentences", "counts"),
    [
        ("a.txt", b"a\0b\n" + b"word " * 99, ["a\0b", "word " * 99], {"read": 2}),
        ("a.txt", b"\xed\xa0\x80\n\xed\xb0\x80\nok\n", ["ok"], {"read": 3, "undecodable": 2}),
        ("a.txt", b"\xc0\x80\n\xf8\x88\x80\x80\x80\nok\n", ["ok"], {"read": 3, "undecodable": 2}),
        ("a.txt.gz", gzipped(b"a\n") + bytes(512), ["a"], {"read": 1}),
        (
            "a.jsonl",
            b"[" * 10**6 + b'\n{"text": ' + b"[" * 10**6 + b'\n{"text": "a"}',
            ["a"],
            {"read": 3, "malformed": 2},
        ),
        (
            "a.jsonl",
            b'{"text": ' + b"9" * 5000 + b'}\n{"text": NaN}\n{"text": "a"}',
            ["a"],
            {"read": 3, "malformed": 2},
        ),
        ("a.jsonl", b'{"text": "\\ud800"}\n{"text": "\\ud83d\\ude00"}', ["😀"], {"read": 2, "lone_surrogate": 1}),
        ("a.tsv", b"text\tx\n\0\t1\n\xff\t2\n", ["\0"], {"read": 2, "undecodable": 1}),
        ("a.csv", b'text,x\n"a\0b",1\n', ["a\0b"], {"read": 1}),
    ],
)
def test_lines_that_are_something_else(
    tmp_path: Path, name: str, data: bytes, sentences: list[str], counts: dict[str, int]
) -> None:
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name, None if name.startswith("a.txt") else "text") == (sentences, counts)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.parquet", "a.txt.gz", "a.txt.zst"])
def test_a_directory_is_no_file(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow"), pytest.importorskip("zstandard")
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"cannot read .*Is a directory"):
        read(tmp_path / name, None if name.startswith("a.txt") else "text")


@pytest.mark.parametrize("data", [gzipped(b"a" * 9)[:-4], "a\n".encode("utf-16"), b""])
def test_evaluation_files_are_read_as_carefully(
    tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "set", headers(members()))
    (tmp_path / "a.txt.gz").write_bytes(data)
    with pytest.raises(DataError):
        list(read_all_cells(tmp_path / "a.txt.gz"))
    assert main(["shards", "contamination", str(tmp_path / "set"), "--files", str(tmp_path / "a.txt.gz")]) == 3
    assert "a.txt.gz" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ recipes


def laughs(leaf: str, link: Callable[[str], str]) -> str:
    """A tree of 9^11 leaves in eleven lines."""
    return "\n".join([f"a0: &a0 {leaf}", *(f"a{n}: &a{n} {link(f'*a{n - 1}')}" for n in range(1, 12))])


GOOD = "name: x\nlanguages: {pol_Latn: [a.txt]}\n"
LISTS = laughs("[x]", lambda alias: f"[{', '.join([alias] * 9)}]")
MAPS = laughs("{x: 1}", lambda alias: f"{{{', '.join(f'k{n}: {alias}' for n in range(9))}}}")
MERGES = laughs("{x: 1}", lambda alias: f"{{<<: [{', '.join([alias] * 9)}]}}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name: !!python/object/apply:os.system ['touch mark']\n",
            ":1:7: not valid YAML: could not determine a constructor",
        ),
        ("!!python/object/new:os.system ['touch mark']\n", ":1:1: not valid YAML: could not determine a constructor"),
        (f"{GOOD}seed: !!python/name:os.system ''\n", ":3:7: not valid YAML"),
        (f"{LISTS}\n{GOOD}", "more than 100,000 values when its aliases are written out"),
        (f"{LISTS}\n{GOOD}seed: *a9\n", "more than 100,000 values"),
        (f"{MAPS}\n{GOOD}sample: *a9\n", "more than 100,000 values"),
        (f"{MERGES}\n{GOOD}sample: *a9\n", "more than 100,000 values"),
        ("name: x\nlanguages: &a {pol_Latn: *a}\n", "is one inside itself"),
        (f"{GOOD}seed: {'[' * 10**5}", "nested too deeply"),
        (f"{GOOD}seed: {'{a: ' * 10**4}", "nested too deeply"),
        (f"{GOOD}name: y\n", ":3:1: not valid YAML: duplicate key 'name'"),
        (f"{GOOD}? [a, b]\n: c\n", ":3:3: not valid YAML: a list or mapping cannot be a key"),
        (f"{GOOD}seed: {'9' * 5000}\n", ":3:7: not valid YAML: invalid value: "),
        (f"{GOOD}seed: 2020-99-01\n", ":3:7: not valid YAML: invalid value: "),
        (f"{GOOD}seed: !!int x\n", ":3:7: not valid YAML: invalid value: "),
        (f"{GOOD}seed: !!bool x\n", ":3:7: not valid YAML: invalid value: "),
        (f"{GOOD}name: x\0\n", "not valid YAML: unacceptable character"),
        (f"{GOOD}seed: [{'x, ' * 10**4}x]\n", "seed: .*valid integer"),
        (f"{GOOD}seed: {'x' * 10**6}\n", "seed: .*valid integer"),
        (f"{GOOD}max_chars: .nan\n", "max_chars"),
        ("name: ../x\nlanguages: {pol_Latn: [a.txt]}\n", "name: .*match pattern"),
        ("name: x\nlanguages: {pol_Latn: [/etc/passwd]}\n", r"languages\.pol_Latn\.0\.path: paths are relative"),
        ("name: x\nlanguages: {pol_Latn: [b/../../a.txt]}\n", r"languages\.pol_Latn\.0\.path: paths are relative"),
        ("name: x\nlanguages: {pol_Latn: [{path: ../a.tsv, column: a}]}\n", r"pol_Latn\.0\.path: paths are relative"),
        (f"{GOOD}exclude: [/etc/passwd]\n", r"exclude\.0\.path: paths are relative"),
        ('name: x\nlanguage_set: {path: "../{language}.txt"}\n', r"language_set\.path: paths are relative"),
    ],
)
def test_recipes_that_would_do_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with confined(mebibytes=256), pytest.raises(ConfigError, match=expected) as error:
        load_recipe(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 4000
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]
    with confined(mebibytes=256), pytest.raises(ConfigError):  # an experiment is read by the same loader
        load_config([path])


def test_a_path_in_place_of_a_code_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\nlanguages: {../../etc: [recipe.yaml]}\n", encoding="utf-8")
    assert main(["prepare", str(path)]) == 2
    assert "languages: unknown language code '../../etc'" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]


def test_aliases_are_still_for_use(tmp_path: Path) -> None:
    text = GOOD.replace("a.txt]", "a.txt], ukr_Cyrl: [b.txt]") + (
        "per_language: {pol_Latn: &short {max_chars: 50}, ukr_Cyrl: *short}\n"
    )
    (tmp_path / "recipe.yaml").write_text(text)
    assert load_recipe(tmp_path / "recipe.yaml").of("ukr_Cyrl").max_chars == 50
    assert json.loads(load_recipe(tmp_path / "recipe.yaml").model_dump_json())["name"] == "x"
