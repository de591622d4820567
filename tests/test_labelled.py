"""SIB-200 and Taxi1500: every layout gives the same examples, and what does not fit is refused or counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.errors import ConfigError, DataError
from translit_scale.testsets.classification import SIB200_LABELS, TAXI1500_LABELS, unquote
from translit_scale.testsets.registry import transfer_tasks

read_sib200, read_taxi1500 = transfer_tasks()["sib200"].read, transfer_tasks()["taxi1500"].read
SIB = "index_id\tcategory\ttext\n7\tsports\tThe ball rolled.\n9\thealth\tEat \u2028 apples.\n"
TAXI = "MAT_1_1\tFaith\tBlue hills sing.\nMRK_2_3\tSin\tThe door was shut.\n"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def sib(folder: Path, text: str | bytes):
    write(folder / "pol_Latn" / "test.tsv", text)
    return read_sib200(folder, "pol_Latn", "test")


def taxi(folder: Path, text: str | bytes):
    write(folder / "pol_test.tsv", text)
    return read_taxi1500(folder, "pol_Latn", "test")


def test_sib200(tmp_path: Path) -> None:
    data = sib(tmp_path, SIB)
    assert data.texts == ["The ball rolled.", "Eat \u2028 apples."]
    assert [SIB200_LABELS[label] for label in data.labels] == ["sports", "health"]
    assert (data.ids, data.dropped, len(data)) == (["7", "9"], {}, 2)
    assert data.files == (str(tmp_path / "pol_Latn" / "test.tsv"),)


def test_the_order_of_labels_is_that_of_the_papers_code() -> None:
    order = "science/technology travel politics sports health entertainment geography"
    assert order.split() == list(SIB200_LABELS)
    assert TAXI1500_LABELS == ("Recommendation", "Faith", "Violence", "Grace", "Sin", "Description")


def test_columns_are_found_by_name_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    rows = [line.split("\t") for line in SIB.removesuffix("\n").split("\n")]
    other = "\ufeff" + "\r\n".join("\t".join([text, key, label]) for key, label, text in rows)
    assert sib(tmp_path / "a", SIB).fingerprint == sib(tmp_path / "b", other).fingerprint
    write(tmp_path / "c" / "pol_Latn" / "test.tsv.gz", gzip.compress(SIB.encode()))
    assert read_sib200(tmp_path / "c", "pol_Latn", "test").texts == sib(tmp_path / "a", SIB).texts


def test_the_fingerprint_knows_texts_and_labels(tmp_path: Path) -> None:
    changed = [SIB, SIB.replace("ball", "bowl"), SIB.replace("sports", "travel")]
    assert len({sib(tmp_path, text).fingerprint for text in changed}) == 3


def test_quotes_of_sib200_are_those_of_a_table_and_of_taxi1500_are_text(tmp_path: Path) -> None:
    quoted = '"He said ""no"" twice."'
    assert sib(tmp_path, SIB.replace("The ball rolled.", quoted)).texts[0] == 'He said "no" twice.'
    assert taxi(tmp_path, TAXI.replace("Blue hills sing.", quoted)).texts[0] == quoted


@given(st.text(alphabet='"ab '))
def test_unquoting_undoes_the_quoting_of_tables(text: str) -> None:
    assert unquote('"' + text.replace('"', '""') + '"') == text


@pytest.mark.parametrize("text", ['"open', 'closed"', '"a" and "b"', '"', "plain", ""])
def test_what_is_not_quoted_stays(text: str) -> None:
    assert unquote(text) == text


def test_empty_and_undecodable_texts_are_dropped_and_counted(tmp_path: Path) -> None:
    data = sib(tmp_path, SIB.encode() + b"\n11\ttravel\t  \n12\ttravel\tb\xffd\n")
    assert len(data) == 2 and data.dropped == {"empty": 2, "undecodable": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SIB.replace("health", "heath"), r"test\.tsv:3: unknown label 'heath'\n.*one of science/technology, travel"),
        (SIB.replace("health\t", "health "), r"test\.tsv:3: expected 3 fields .* found 2"),
        (SIB + "1\ttravel\ta\tb\n", r"test\.tsv:4: expected 3 fields .* found 4"),
        (
            SIB.replace("category", "label"),
            r"test\.tsv:1: expected the columns index_id, category, text, found .*'label'",
        ),
        (SIB.partition("\n")[2], r"test\.tsv:1: expected the columns"),
        ("index_id\tcategory\ttext\n\n", r"no text is left \(dropped: {'empty': 1}\)"),
        ("", r"test\.tsv is empty"),
        ("\n\n", r"test\.tsv:1: expected the columns"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sib(tmp_path, text)


@pytest.mark.parametrize(
    "name",
    [
        "860_hin_test.tsv", "hin_test.tsv", "hin_Deva_test.tsv", "860_hin_Deva_test.tsv",
        "hin_data/hin_test.tsv", "hin_data/860_hin_test.tsv", "hin_test.tsv.gz",
    ],
)  # fmt: skip
def test_taxi1500_in_every_layout(tmp_path: Path, name: str) -> None:
    text = "MAT_1_1\tFaith\tनीले पहाड़ गाते हैं\nMRK_2_3\tSin\tदरवाज़ा बंद था\n"
    write(tmp_path / name, gzip.compress(text.encode()) if name.endswith(".gz") else text)
    data = read_taxi1500(tmp_path, "hin_Deva", "test")
    assert data.texts == ["नीले पहाड़ गाते हैं", "दरवाज़ा बंद था"]
    assert (data.labels, data.ids, data.language) == ([1, 4], ["MAT_1_1", "MRK_2_3"], "hin_Deva")
    assert data.files == (str(tmp_path / name),)


def test_of_several_layouts_the_first_is_read(tmp_path: Path) -> None:
    for name in ("pol_data/pol_train.tsv", "pol_train.tsv", "860_pol_train.tsv"):
        write(tmp_path / name, TAXI)
        assert read_taxi1500(tmp_path, "pol_Latn", "train").files == (str(tmp_path / name),)


def test_errors_of_taxi1500_name_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pol_test\.tsv:2: unknown label 'sin'"):
        taxi(tmp_path, TAXI.replace("Sin", "sin"))
    with pytest.raises(DataError, match=r"pol_test\.tsv:2: expected 3 fields \(id, label, text\), found 2"):
        taxi(tmp_path, TAXI.replace("Sin\t", "Sin"))


def test_a_missing_file_is_named_with_what_there_is(tmp_path: Path) -> None:
    taxi(tmp_path, TAXI)
    with pytest.raises(DataError) as error:
        read_taxi1500(tmp_path, "ukr_Cyrl", "test")
    assert "no test data for ukr_Cyrl" in str(error.value) and "the folder has pol_Latn" in str(error.value)
    for name in ("860_ukr_test.tsv", "ukr_test.tsv", "ukr_data/ukr_test.tsv"):
        assert str(tmp_path / name) in str(error.value)
    with pytest.raises(DataError, match="the folder has no file of that layout"):
        read_taxi1500(tmp_path, "pol_Latn", "train")
    with pytest.raises(ConfigError, match="there is no split 'validation'"):
        read_taxi1500(tmp_path, "pol_Latn", "validation")
    with pytest.raises(DataError, match="unknown language code 'pl'"):
        read_taxi1500(tmp_path, "pl", "test")
