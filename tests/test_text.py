"""Cleaning is idempotent, lines end at \\n only, and every line is either read or counted."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.corpus.clean import _CONTROLS, _INVISIBLE, clean, deduplication_key, fold
from translit_scale.corpus.text import Columns, Sentence, check_columns, read_all_cells, read_clean, read_sentences
from translit_scale.errors import ConfigError, DataError

ODD = "\u0085\u2028\u2029\x0b\x0c\r\x1c\u00a0\u3000\ufeff\u200b\u200c\u200d\u0301\u0335\u1100\u1161\ufb01½é"
text = st.text() | st.text(ODD + " ab")


def read(path: Path, column: str | None = None) -> tuple[list[str], dict[str, int]]:
    counts: Counter[str] = Counter()
    sentences = read_sentences(path, Columns(column), counts, lambda done: None)
    return [sentence.text for sentence in sentences], dict(counts)


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@given(text)
def test_clean_is_idempotent_and_gives_one_line(value: str) -> None:
    once = clean(value)
    assert clean(once) == once
    assert " ".join(once.split()) == once
    assert not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in once)


@given(text)
def test_cleaning_changes_nothing_that_canonical_equivalence_keeps_apart(value: str) -> None:
    """Besides white space and half-width katakana, the text stays the same to everyone who compares it in NFC."""
    once = clean(value)
    if once and not any("\uff65" <= char <= "\uff9f" for char in value):
        spaced = " ".join("".join(" " if _CONTROLS.match(char) else char for char in value).split())
        assert unicodedata.normalize("NFD", once) == unicodedata.normalize("NFD", spaced)


@given(text)
def test_the_key_of_duplicates_is_nfkc_without_invisible_characters(value: str) -> None:
    key = deduplication_key(clean(value))
    assert unicodedata.normalize("NFKC", key) == key and not _INVISIBLE.search(key)
    assert deduplication_key(key) == key


def test_printable_text_needs_no_search() -> None:
    for char in filter(str.isprintable, map(chr, range(sys.maxunicode + 1))):
        assert not _INVISIBLE.search(char) and not _CONTROLS.search(char)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\u2028b\u2029c\u0085d\x0be\x0cf\tg\x00h", "a b c d e f g h"),
        ("  a \u3000 b\u00a0 ", "a b"),
        ("\ufeffa\u200bb\u00adc\u2066d", "\ufeffa\u200bb\u00adc\u2066d"),
        ("می\u200cخ क्\u200dष", "می\u200cخ क्\u200dष"),
        ("ﬁ ① Ａ ㎏ ½ m² …", "ﬁ ① Ａ ㎏ ½ m² …"),
        ("ทำ น้ำ ຄຳ ໜ བོད༌", "ทำ น้ำ ຄຳ ໜ བོད༌"),
        ("好，世界。（ㅋㅋ）", "好，世界。（ㅋㅋ）"),
        ("\u0958 \u0915\u093c \u09dc \u09a1\u09bc \ufb2a ﻣﺤﻤﺪ", "\u0958 \u0915\u093c \u09dc \u09a1\u09bc \ufb2a ﻣﺤﻤﺪ"),
        ("e\u0301 и\u0306 e\u0302\u0301 か\u3099", "é й ế が"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af \uad6c\u11a8", "한글 국"),
        ("ｶﾞｷﾞ ﾊﾛｰ", "ガギ ハロー"),
        ("\uf9d1 \ufa0c", "六 兀"),
        ("<s> x </s> <mask><pad><unk>", "<s> x </s> <mask><pad><unk>"),
        ("\u06dd\u0600\u180e", "\u06dd\u0600\u180e"),
        (" \t\u200b\ufeff", ""),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(text)
def test_fold_ignores_punctuation_and_space_around(value: str) -> None:
    assert fold(f"«{clean(value)}» !") == fold(clean(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [("A b-C, 1!", "ab c1"), ("ŻÓŁW", "żółw"), ("Straße", "STRASSE"), ("ﬁx", "FIX"), ("a\u200b_b", "AB")],
)
def test_fold_equal(one: str, other: str) -> None:
    assert fold(one) == fold(other) != ""


def test_fold_different() -> None:
    assert fold("कि") != fold("का")  # vowel signs are marks
    assert fold("!? …") == ""


def test_lines_end_at_newline_only(tmp_path: Path) -> None:
    inside = "a\u2028b\u0085c\x0bd\x0ce"
    path = write(tmp_path / "a.txt", f"\ufeff{inside}\r\n\r\nlast")
    assert read(path) == ([inside, "", "last"], {"read": 3})


def test_undecodable_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "żółć\n".encode() + "żółć\n".encode("iso8859-2") + b"ok\n")
    assert read(path) == (["żółć", "ok"], {"read": 3, "undecodable": 1})
    counts: Counter[str] = Counter()
    path = write(tmp_path / "b.txt", "\u200b\n12345\n123456\n\n")
    assert list(read_clean(path, Columns(), 5, counts, lambda done: None)) == [Sentence("12345")]
    assert counts == {"read": 4, "empty": 2, "too_long": 1}


def compress_zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    half = len(data) // 2  # two frames, as parallel compressors write them
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:half], data[half:]))


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress), (".zst", compress_zstd)],
)
def test_compressed_files(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    lines = [f"{number:x} {number**9:x}" for number in range(3000)]
    data = compress("\n".join(lines).encode())
    path = write(tmp_path / f"a.txt{suffix}", data)
    assert read(path) == (lines, {"read": len(lines)})
    for damaged in (data[:-40], data[: len(data) // 3], b"no such stream"):
        with pytest.raises(DataError, match=rf"cannot read .*a\.txt{suffix}"):
            read(write(path, damaged))


def test_progress_adds_up_to_the_size_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", gzip.compress(b"".join(b"%d\n" % n for n in range(25_000))))
    amounts: list[int] = []
    assert sum(1 for _ in read_sentences(path, Columns(), Counter(), amounts.append)) == 25_000
    assert sum(amounts) == path.stat().st_size and min(amounts) >= 0


@given(st.lists(st.tuples(text, text), min_size=1))
def test_csv_fields_come_back_whatever_they_contain(rows: list[tuple[str, str]]) -> None:
    rows = [(a.replace("\r", ""), b.replace("\r", "")) for a, b in rows]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows([("id", "text"), *rows])
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory) / "a.csv", buffer.getvalue())
        assert read(path, "text")[0] == [value for _, value in rows]


def test_csv_and_tsv(tmp_path: Path) -> None:
    quoted = 'id,text\r\n1,"a ""b"", c"\r\n2,"two\nlines"\r\n\r\n3\r\n4,x\ry\r\n'
    assert read(write(tmp_path / "a.csv", quoted), "text") == (
        ['a "b", c', "two\nlines", "x y"],
        {"read": 4, "malformed": 1},
    )
    assert read(write(tmp_path / "a.tsv", 'id\ttext\r\n1\t"a\r\n2\tb"\r\n3\r\n'), "text") == (
        ['"a', 'b"'],
        {"read": 3, "malformed": 1},
    )
    latin1 = b'text\n"a\xe9,\nb"\nc\n'
    assert read(write(tmp_path / "b.csv", latin1), "text") == (["c"], {"read": 2, "undecodable": 1})


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        '{"text": "a\\u2028b", "n": 1}',
        '{"text": 3}',
        '{"other": "x"}',
        '["text"]',
        "{",
        "",
        "[" * 100_000,
        '{"text": "\\ud800"}',
    ]
    data = "\n".join(lines).encode() + b'\n{"text": "\xe9"}\n{"text": "z"}\n'
    assert read(write(tmp_path / "a.jsonl", data), "text") == (
        ["a\u2028b", "z"],
        {"read": 10, "malformed": 6, "undecodable": 1, "lone_surrogate": 1},
    )


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_parquet_and_arrow(tmp_path: Path, kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": [1, 2, 3], "text": ["a", None, "b\nc"]})
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    assert read(path, "text") == (["a", "b\nc"], {"read": 3, "malformed": 1})
    with pytest.raises(DataError, match="no column 'txt'") as error:
        read(path, "txt")
    assert "'id', 'text'" in error.value.hint
    with pytest.raises(DataError, match="cannot read"):
        read(write(path, path.read_bytes()[:50]), "text")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_wrong_column_names_those_that_are_there(tmp_path: Path, name: str) -> None:
    data = {"a.csv": "id,sentence\n1,x\n", "a.tsv": "id\tsentence\n1\tx\n"}.get(
        name, json.dumps({"id": 1, "sentence": "x"}) + "\n"
    )
    with pytest.raises(DataError, match=rf"{name} has no column 'text'") as error:
        read(write(tmp_path / name, data), "text")
    assert "'id', 'sentence'" in error.value.hint
    assert ("give the number of the column" in error.value.hint) == (name != "a.jsonl")


@pytest.mark.parametrize(
    ("name", "column", "data", "message"),
    [
        ("a.tsv", 4, "1\tx\ty\n", "has 3 columns in its first row, but column 4"),
        ("a.csv", 2, "x;y\nz;a\n", ""),
        ("a.jsonl", "text", '[{"text": "a"},\n {"text": "b"}]\n', "expected a JSON object on each line.*\n.*jq -c"),
    ],
)
def test_columns_that_cannot_be_there_are_noticed_before_any_work(
    tmp_path: Path, name: str, column: str | int, data: str, message: str
) -> None:
    path = write(tmp_path / name, data)
    with pytest.raises(DataError, match=message) if message else nullcontext():
        check_columns(path, Columns(column))


@pytest.mark.parametrize(
    ("name", "column", "data", "error", "message"),
    [
        ("a.txt", None, None, DataError, "file not found"),
        ("a.txt", None, b"", DataError, "is empty"),
        ("a.csv", "text", b"", DataError, "is empty"),
        ("a.txt.gz", None, gzip.compress(b"", mtime=0), DataError, "is empty"),
        ("a.txt", None, "żółw\n".encode("utf-16"), DataError, "UTF-16 or no text, expected UTF-8"),
        ("a.csv", "text", b'text\n"' + b"x" * 200_000, DataError, r"a\.csv:2: field larger"),
        ("a.txt", "text", b"x\n", ConfigError, "has no columns"),
        ("a.csv", "text", b'text\na\n"b\nc\n', DataError, r"a\.csv:3: unexpected end of data\n.*never closed"),
        ("a.csv", "text", b'text\n"a"b"\n', DataError, r"a\.csv:2: ',' expected after '\"'\n.*not doubled"),
        ("a.csv", None, b"x\n", ConfigError, "which column"),
        ("a.doc", None, b"x\n", ConfigError, "unknown type of file '.doc'"),
        ("a.parquet.gz", "text", b"x\n", ConfigError, "unknown type of file '.gz'"),
        ("README", None, b"x\n", ConfigError, "unknown type of file 'README'\n.*expected .txt"),
        ("a.zip", None, b"x\n", ConfigError, "unknown type of file '.zip'\n.*unpack it"),
        ("a.tgz", None, b"x\n", ConfigError, "unknown type of file '.tgz'\n.*name it .tar.gz"),
        ("a.json", "text", b"[]\n", ConfigError, "unknown type of file '.json'\n.*jq -c"),
    ],
)
def test_unusable_files(
    tmp_path: Path, name: str, column: str | None, data: bytes | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / name
    if data is not None:
        write(path, data)
    with pytest.raises(error, match=message):
        read(path, column)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(DataError, match="cannot read"):
        read(tmp_path / "a.txt")


def test_all_cells(tmp_path: Path) -> None:
    assert list(read_all_cells(write(tmp_path / "a.tsv", b'p\tq\n"a\tb\xff\n'))) == ["p", "q", '"a', "b"]
    assert list(read_all_cells(write(tmp_path / "a.csv", b'p,q\n"a,b",c\n'))) == ["p", "q", "a,b", "c"]
    assert list(read_all_cells(write(tmp_path / "a.txt", b"a\tb\nc\n"))) == ["a\tb", "c"]
    assert list(read_all_cells(write(tmp_path / "test.pl", b"a\tb\nc\n"))) == ["a\tb", "c"]


def test_carriage_returns_alone_are_refused_and_mixed_ones_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = b"nr,zdanie\r1,pierwsze\r2,drugie\r"
    for name, column in (("a.txt", None), ("a.csv", "zdanie"), ("a.tsv", "zdanie")):
        with pytest.raises(DataError, match=r"lines end with carriage returns \(\\r, .*\n.*tr '\\r' '\\n' <"):
            read(write(tmp_path / name, old), column)
    with pytest.raises(DataError, match="carriage returns"):
        read(write(tmp_path / "a.txt.gz", gzip.compress(old)))
    mixed = write(tmp_path / "b.txt", "raz\r\ndwa\rtrzy\ncztery\r\n")
    assert read(mixed)[0] == ["raz", "dwa\rtrzy", "cztery"]
    assert "b.txt: 1 lines contain carriage returns" in capsys.readouterr().err


def test_zstd_with_a_long_window(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    settings = zstandard.ZstdCompressionParameters.from_level(3, window_log=30, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    data = compressor.compress(b"zdanie\n" * 3) + compressor.flush()
    assert read(write(tmp_path / "a.txt.zst", data))[0] == ["zdanie"] * 3


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "arrow stream"])
def test_columns_inside_structures(tmp_path: Path, kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    pairs = [{"pl": "raz", "uk": "раз"}, {"pl": None, "uk": "два"}, None, {"pl": "cztery", "uk": ""}]
    table = pyarrow.table({"translation": pairs, "id": [1, 2, 3, 4]})
    path = tmp_path / f"a.{kind.partition(' ')[0]}"
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        new = pyarrow.ipc.new_file if kind == "arrow file" else pyarrow.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    assert read(path, "translation.pl") == (["raz", "cztery"], {"read": 4, "malformed": 2})
    with pytest.raises(DataError, match=r"no column 'translation\.cs'") as error:
        read(path, "translation.cs")
    assert "'translation.pl', 'translation.uk', 'id'" in error.value.hint
    assert sorted(read_all_cells(path)) == sorted(["раз", "два", "", "raz", "cztery"])


def test_fields_inside_json_objects(tmp_path: Path) -> None:
    lines = [
        {"translation": {"pl": "raz"}},
        {"translation": "x"},
        {"translation.pl": "dwa"},
        {"translation": {"pl": 3}},
    ]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert read(path, "translation.pl") == (["raz", "dwa"], {"read": 4, "malformed": 2})
    with pytest.raises(DataError, match=r"no column 'translation\.uk'") as error:
        read(path, "translation.uk")
    assert "'translation', 'translation.pl'" in error.value.hint
