"""Parallel text: pairs are joined, never guessed, and what is left out is counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.cli import main
from translit_scale.errors import ConfigError, DataError
from translit_scale.testsets.parallel import read_aligned, read_all, read_joined, read_table


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def aligned(folder: Path, source: str | bytes, target: str | bytes):
    write(folder / "a.txt", source)
    write(folder / "b.txt", target)
    return read_aligned(f"pol_Latn:{folder}/a.txt", f"ukr_Cyrl:{folder}/b.txt")


def joined(folder: Path, source: str, target: str, id_column: str = "id", text_column: str = "text"):
    write(folder / "a.tsv", source)
    write(folder / "b.tsv", target)
    return read_joined(f"pol_Latn:{folder}/a.tsv", f"ukr_Cyrl:{folder}/b.tsv", id_column, text_column)


def test_aligned_files(tmp_path: Path) -> None:
    text = aligned(tmp_path, "\ufeffone\r\ntwo\r\n\r\nfour\r\nfive\u2028still five", "1\n2\n3\n  \n5\n")
    assert text.source == ["one", "two", "five\u2028still five"]
    assert text.target == ["1", "2", "5"]
    assert text.ids == ["1", "2", "5"]
    assert text.dropped == {"empty": 2}
    assert (text.source_language, text.target_language, len(text)) == ("pol_Latn", "ukr_Cyrl", 3)


def test_unequal_files_are_not_paired(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.txt has 3 lines, .*b\.txt has 2"):
        aligned(tmp_path, "a\nb\nc\n", "a\nb\n")


def test_undecodable_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    text = aligned(tmp_path, b"good\nb\xffd\n", "1\n2\n")
    assert text.source == ["good"] and text.dropped == {"undecodable": 1}


def test_repeated_sentences_are_kept_and_counted(tmp_path: Path) -> None:
    text = aligned(tmp_path, "a\na\na\nb\n", "1\n2\n3\n4\n")
    assert len(text) == 4 and text.duplicates == {"pol_Latn": 2, "ukr_Cyrl": 0}


@pytest.mark.parametrize(("source", "target"), [("", ""), ("\n\n", "a\nb\n")])
def test_nothing_left(tmp_path: Path, source: str, target: str) -> None:
    with pytest.raises(DataError, match="empty"):
        aligned(tmp_path, source, target)


def test_fingerprint_follows_the_text_not_the_files(tmp_path: Path) -> None:
    one = aligned(tmp_path / "1", "a\nb\n", "1\n2\n")
    same = joined(tmp_path / "2", "id\ttext\nx\ta\ny\tb\n", "id\ttext\ny\t2\nx\t1\n")
    swapped = aligned(tmp_path / "3", "b\na\n", "1\n2\n")
    assert one.fingerprint == same.fingerprint != swapped.fingerprint
    assert (
        aligned(tmp_path / "4", "ab\nc\n", "1\n2\n").fingerprint
        != aligned(tmp_path / "5", "a\nbc\n", "1\n2\n").fingerprint
    )


def test_join_on_an_id(tmp_path: Path) -> None:
    text = joined(
        tmp_path, "id\tlabel\ttext\n3\tx\tc\n1\tx\ta\n7\tx\tg\n8\tx\t\n", "text\tid\n1\t1\n3\t3\n9\t9\n8\t8\n"
    )
    assert list(zip(text.ids, text.source, text.target, strict=True)) == [("3", "c", "3"), ("1", "a", "1")]
    assert text.dropped == {"empty": 1, "only_in_pol_Latn": 1, "only_in_ukr_Cyrl": 1}


def test_join_without_header_by_column_number(tmp_path: Path) -> None:
    text = joined(tmp_path, "MAT 2:4\ta\nMAT 3:4\tb\n", "MAT 3:4\t2\nMAT 2:4\t1\n", "1", "2")
    assert text.ids == ["MAT 2:4", "MAT 3:4"] and text.target == ["1", "2"]


def test_globs_and_compression(tmp_path: Path) -> None:
    write(tmp_path / "a" / "dev.tsv", "id\ttext\n1\ta\n")
    write(tmp_path / "a" / "test.tsv", "id\ttext\n2\tb\n")
    write(tmp_path / "b.tsv.gz", gzip.compress(b"id\ttext\n2\tB\n1\tA\n"))
    text = read_joined(f"pol_Latn:{tmp_path}/a/*.tsv", f"ukr_Cyrl:{tmp_path}/b.tsv.gz", "id", "text")
    assert text.source == ["a", "b"] and text.target == ["A", "B"]


def test_one_table(tmp_path: Path) -> None:
    tsv = write(tmp_path / "pairs.tsv", 'uk\tpl\n"1\tone "two"\n')
    text = read_table(str(tsv), "pol_Latn:pl", "ukr_Cyrl:uk")
    assert (text.source, text.target) == (['one "two"'], ['"1'])
    csv = write(tmp_path / "pairs.csv", 'uk,pl\n"1, 2","one ""two"""\n\n"3\n4",five\n')
    text = read_table(str(csv), "pol_Latn:pl", "ukr_Cyrl:uk")
    assert text.source == ['one "two"', "five"] and text.target == ["1, 2", "3\n4"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("id\ttext\n1\ta\n1\tb\n", "id\ttext\n1\ta\n", r"a\.tsv:3: id '1' occurs for the second time .*a\.tsv:2"),
        ("id\ttext\n\ta\n", "id\ttext\n1\ta\n", r"a\.tsv:2: the id is empty"),
        ("id\ttext\n1\n", "id\ttext\n1\ta\n", r"a\.tsv:2: expected at least 2 columns, found 1"),
        ("id\tsentence\n1\ta\n", "id\ttext\n1\ta\n", "has no column 'text'\n.*it has 'id', 'sentence'"),
        ("id\ttext\ttext\n1\ta\tb\n", "id\ttext\n1\ta\n", "has 2 columns 'text'"),
        ("", "id\ttext\n1\ta\n", r"a\.tsv is empty"),
        ("id\ttext\n1\ta\n", "id\ttext\n2\ta\n", "no id of .* occurs in .*: for example '1' and '2'"),
        ("id\ttext\n", "id\ttext\n2\ta\n", "no sentence pair is left"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, source: str, target: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        joined(tmp_path, source, target)


def test_damaged_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", 'pl,uk\na,"b\nc"\nd,"e\nf,g\n')
    with pytest.raises(DataError, match=r"pairs\.csv:4: .*\n.*never closed"):
        read_table(str(path), "pol_Latn:pl", "ukr_Cyrl:uk")


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a\n")
    file = f"{tmp_path}/a.txt"
    with pytest.raises(DataError, match="did you mean 'pol_Latn'"):
        read_aligned(f"pol_Lat:{file}", f"ukr_Cyrl:{file}")
    with pytest.raises(ConfigError, match="not LANGUAGE:FILE"):
        read_aligned("pol_Latn", f"ukr_Cyrl:{file}")
    with pytest.raises(DataError, match="file not found"):
        read_aligned(f"pol_Latn:{tmp_path}/nothing.txt", f"ukr_Cyrl:{file}")
    with pytest.raises(DataError, match="is a folder"):
        read_aligned(f"pol_Latn:{tmp_path}", f"ukr_Cyrl:{file}")
    with pytest.raises(ConfigError, match="both sides are pol_Latn"):
        read_aligned(f"pol_Latn:{file}", f"pol_Latn:{file}")
    with pytest.raises(ConfigError, match="belong together"):
        read_all([[f"pol_Latn:{file}", f"ukr_Cyrl:{file}"]], [], "id", None)
    with pytest.raises(ConfigError, match="column 0 does not exist"):
        read_table(file, "pol_Latn:0", "ukr_Cyrl:1")


def test_command_without_text_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "retrieval", "--model", "m"]) == 2
    assert "--parallel pol_Latn:FILE ukr_Cyrl:FILE" in capsys.readouterr().err


words = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)


@given(rows=st.dictionaries(words, st.tuples(words, words), min_size=1, max_size=10), seed=st.randoms())
def test_join_does_not_depend_on_the_order_of_the_target(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, tuple[str, str]], seed
) -> None:
    folder = tmp_path_factory.mktemp("join")
    shuffled = list(rows)
    seed.shuffle(shuffled)
    text = joined(
        folder,
        "id\ttext\n" + "".join(f"{key}\t{rows[key][0]}\n" for key in rows),
        "id\ttext\n" + "".join(f"{key}\t{rows[key][1]}\n" for key in shuffled),
    )
    assert dict(zip(text.ids, zip(text.source, text.target, strict=True), strict=True)) == rows
