"""Tables come back as they were written, or a note or an error names the file and the setting that decides."""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translit_scale.corpus.tables import Dialect, recognise
from translit_scale.corpus.text import Columns, check_columns, read_all_cells, read_sentences
from translit_scale.errors import ConfigError, DataError
from translit_scale.testsets.parallel import read_all, read_table

RECOGNISED = Dialect()
CELLS = st.text('a"\n\t; ,', max_size=8) | st.sampled_from(['"Tak."', '"Tak.', 'nie"', "a\nb", '5" rura', '"a" i "b"'])


def read(path: Path, *columns: str | int, dialect: Dialect = RECOGNISED) -> tuple[list[str], dict[str, int]]:
    counts: Counter[str] = Counter()
    sentences = read_sentences(path, Columns(*columns, dialect=dialect), counts, lambda done: None)
    return [sentence.text for sentence in sentences], dict(counts)


def save(path: Path, rows: list[tuple[str, ...]], encoding: str = "utf-8", **dialect: object) -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, **dialect).writerows(rows)  # type: ignore[arg-type]
    return path


@settings(max_examples=300)
@given(st.lists(CELLS, min_size=1, max_size=6), st.booleans(), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_tsv_of_a_spreadsheet_comes_back_or_a_note_says_why_not(cells: list[str], first: bool, quoting: int) -> None:
    rows = [(cell, str(number)) if first else (str(number), cell) for number, cell in enumerate(cells)]
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()) as notes:
        header = ("tekst", "nr") if first else ("nr", "tekst")
        path = save(Path(folder) / "a.tsv", [header, *rows], dialect="excel-tab", quoting=quoting)
        sentences, counts = read(path, "tekst")
    plain = [cell.replace("\r", " ") for cell in cells]
    assert (sentences == plain and counts == {"read": len(cells)}) or "`quoted: true`" in notes.getvalue()


@settings(max_examples=300)
@given(st.lists(CELLS.filter(lambda cell: not set(cell) & {"\n", "\t"} and '""' not in cell), min_size=1, max_size=12))
def test_text_with_quotation_marks_stays_as_it_is(cells: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tsv"
        path.write_text("nr\ttekst\n" + "".join(f"{number}\t{cell}\n" for number, cell in enumerate(cells)))
        sentences, _ = read(path, "tekst")
    all_enclosed = len(cells) >= 9 and all(cell[:1] == cell[-1:] == '"' for cell in cells)
    assert sentences == cells or all_enclosed


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("columns", [("zdanie",), (2,)])
def test_the_delimiter_of_a_csv_is_recognised(tmp_path: Path, delimiter: str, columns: tuple[str | int]) -> None:
    rows = [("1", 'On rzekł: "Idę", a potem'), ("2", "dwie; linie\nw komórce"), ("3", "zwykłe")]
    header = [] if columns == (2,) else [("nr", "zdanie")]
    path = save(tmp_path / "a.csv", header + rows, "utf-8-sig", delimiter=delimiter)
    assert read(path, *columns) == ([text for _, text in rows], {"read": 3})
    assert recognise(path, Dialect(), columns) == (delimiter, True)


def test_a_header_of_quoted_names_means_quoted_fields(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.tsv", [("nr", "zdanie"), ("1", "Tak."), ("2", "Nie.")], delimiter="\t", quoting=csv.QUOTE_ALL
    )
    assert read(path, "zdanie")[0] == ["Tak.", "Nie."]


def test_a_recipe_decides_what_is_not_certain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doubtful = tmp_path / "a.tsv"
    doubtful.write_text('zdanie\n"Tak.\nNie."\nInne\n')
    assert read(doubtful, "zdanie")[0] == ['"Tak.', 'Nie."', "Inne"]
    assert "a.tsv: 1 fields begin and end with a quotation mark, the first in line 2." in capsys.readouterr().err
    assert read(doubtful, "zdanie", dialect=Dialect(quoted=True))[0] == ["Tak.\nNie.", "Inne"]
    assert read(doubtful, "zdanie", dialect=Dialect(quoted=False))[0] == ['"Tak.', 'Nie."', "Inne"]
    assert capsys.readouterr().err == ""
    both = tmp_path / "b.tsv"
    both.write_text('nr\tzdanie\n1\t"on ""sam"""\n2\t5" rura\n')
    with pytest.raises(DataError, match=r"enclose fields in 1 lines, first in line 2, but .* 1 lines, .* line 3"):
        read(both, "zdanie")
    assert read(both, "zdanie", dialect=Dialect(quoted=False))[0] == ['"on ""sam"""', '5" rura']
    semicolons = tmp_path / "c.csv"
    semicolons.write_text("1;a,b\n2;c,d\n")
    with pytest.raises(DataError, match="may be separated by ',' or ';'"):
        read(semicolons, 2)
    assert read(semicolons, 2, dialect=Dialect(delimiter=";"))[0] == ["a,b", "c,d"]


def test_columns_by_number_are_those_of_a_table_without_header(tmp_path: Path) -> None:
    path = tmp_path / "pol_news_2020_10K-sentences.tsv"
    path.write_text('1\tPierwsze "zdanie" tu.\n2\tDrugie.\n3\n')
    assert read(path, 2) == (['Pierwsze "zdanie" tu.', "Drugie."], {"read": 3, "malformed": 1})
    with pytest.raises(ConfigError, match=r"columns of a \.jsonl file have names, but column 2 is asked for"):
        read(tmp_path / "a.jsonl", 2)
    with pytest.raises(ConfigError, match=r"only \.csv and \.tsv files have a delimiter"):
        read(tmp_path / "a.txt", dialect=Dialect(";"))


def test_records_that_do_not_fit_the_header_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("nr,zdanie\n1,a\n2,b, c\n3,d,\n4\n")
    assert read(path, "zdanie") == (["a", "d"], {"read": 4, "malformed": 2})


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("zdanie,nr,zdanie\na,1,b\n")
    for reader in (read, lambda path, column: check_columns(path, Columns(column))):
        with pytest.raises(DataError, match=r"a\.csv has 2 columns 'zdanie'"):
            reader(path, "zdanie")


def test_evaluation_and_held_out_text_read_tables_in_the_same_way(tmp_path: Path) -> None:
    rows = [("pl", "uk"), ('On: "Idę"', "Він: «Йду»"), ("dwie\nlinie", "два\nрядки")]
    path = save(tmp_path / "a.tsv", rows, dialect="excel-tab")
    text = read_table(str(path), "pol_Latn:pl", "ukr_Cyrl:uk")
    assert (text.source, text.target) == ([pl for pl, _ in rows[1:]], [uk for _, uk in rows[1:]])
    assert list(read_all_cells(path)) == [cell for row in rows for cell in row]
    german = save(tmp_path / "a.csv", rows, delimiter=";")
    assert read_table(str(german), "pol_Latn:pl", "ukr_Cyrl:uk") == text
    assert list(read_all_cells(german)) == [cell for row in rows for cell in row]


@pytest.mark.parametrize("ending", [".tsv", ".csv"])
def test_columns_that_are_named_by_languages_need_not_be_named_again(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"pairs{ending}"
    cells = ["id", "pol_Latn", "ukr_Cyrl", "hin_Deva", "note"], ["1", "tak", "так", "हाँ", "pol_Latn"]
    path.write_text(
        "".join(("\t" if ending == ".tsv" else ",").join(f'"{cell}"' for cell in row) + "\n" for row in cells)
    )
    named = ["pol_Latn:pol_Latn", "ukr_Cyrl:ukr_Cyrl", "hin_Deva:hin_Deva"]
    texts = read_all([], [[str(path)]], None, None)
    assert texts == read_all([], [[str(path), *named]], None, None) and len(texts) == 3
    path.write_text("pl\tuk\na\tb\n")
    with pytest.raises(ConfigError, match="two languages are needed, found none"):
        read_all([], [[str(path)]], None, None)
