"""Layouts as the authors of the test sets distribute them: FLORES+, Bibles with ids, WikiAnn's words, limits by set."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.labelled_world import save_learner, write_sib200
from translit_scale.cli import main
from translit_scale.errors import DataError
from translit_scale.files import read_json
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.registry import retrieval_tasks, transfer_tasks

sr_b, sr_f, ner = retrieval_tasks()["sr_b"], retrieval_tasks()["sr_f"], transfer_tasks()["ner"]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def pairs_of(text: ParallelText) -> list[tuple[str, str]]:
    return list(zip(text.source, text.target, strict=True))


def write_rows(path: Path, rows: list[tuple[str, str, str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("id", "iso_639_3", "iso_15924", "text")
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), path)


def test_words_without_the_prefix_do_not_keep_it_for_the_others(tmp_path: Path) -> None:
    write(tmp_path / "lt/test", "lt:Kaunas\tB-LOC\nlt:12:30\tO\n\nyra\tO\nlt:en:x\tO\n")
    data = ner.read(tmp_path, "lit_Latn", "test")
    assert data.words == [["Kaunas", "12:30"], ["yra", "en:x"]] and data.noted == {"without_prefix": 1}
    write(tmp_path / "lv/test", "re:zultāts\tO\nnav\tO\nir\tO\n")
    assert ner.read(tmp_path, "lav_Latn", "test").words == [["re:zultāts", "nav", "ir"]]


def test_bibles_with_ids_are_paired_by_id_in_text_files_too(tmp_path: Path) -> None:
    write(tmp_path / "fin_Latn.txt", "# language_name: Finnish\n40001001\ta\n40001002\t\n40001003\tc\n")
    write(tmp_path / "est_Latn.txt", "#a comment\n40001003\tz\n40001001\tx\n40001002\ty\n")
    write(tmp_path / "lit_Latn.txt", "one verse\nand\tanother\n")
    (text,), _ = sr_b.read(tmp_path, ["fin_Latn", "est_Latn"])
    assert pairs_of(text) == [("a", "x"), ("c", "z")] and text.ids == ["40001001", "40001003"]
    assert text.dropped == {"empty": 1}
    with pytest.raises(DataError, match=r"fin_Latn\.txt has a verse id before each verse, .*lit_Latn\.txt has none"):
        sr_b.read(tmp_path, ["lit_Latn", "fin_Latn"])


def test_names_of_the_parallel_bible_corpus(tmp_path: Path) -> None:
    write(tmp_path / "bible/fin-x-bible-1938.txt", "# year: 1938\n40001001\ta\n")
    write(tmp_path / "bible/rus-x-bible-synodal.txt", "40001001\tб\n")
    (text,), notes = sr_b.read(tmp_path, ["fin_Latn", "rus_Cyrl"])
    assert pairs_of(text) == [("a", "б")] and notes[0] == "fin_Latn is fin_1938 there"
    write(tmp_path / "bible/fin-x-bible-1992.txt", "40001001\tc\n")
    with pytest.raises(DataError, match=r"several files for fin_Latn(?s:.)*--as fin_Latn=fin_1938"):
        sr_b.read(tmp_path, ["fin_Latn", "rus_Cyrl"])
    (text,), _ = sr_b.read(tmp_path, ["fin_Latn", "rus_Cyrl"], aliases=(("fin_Latn", "fin_1992"),))
    assert text.source == ["c"]


def test_the_release_of_flores_plus_and_its_varieties(tmp_path: Path) -> None:
    folder = tmp_path / "flores_plus"
    for name, text in (("oci_Latn", "o"), ("oci_Latn_aran1260", "a"), ("lmo_Latn_bere1234", "l"), ("cmn_Hans", "中")):
        write(folder / f"devtest/devtest.{name}", f"{text}\n")
        write(folder / f"dev/dev.{name}", "other\n")
    (text,), notes = sr_f.read(tmp_path, ["oci_Latn", "zho_Hani"])
    assert pairs_of(text) == [("o", "中")] and notes == ["zho_Hani is cmn_Hans there"]
    (text,), notes = sr_f.read(tmp_path, ["oci_Latn", "lmo_Latn"], aliases=(("oci_Latn", "oci_Latn_aran1260"),))
    assert pairs_of(text) == [("a", "l")]
    assert notes == ["oci_Latn is oci_Latn_aran1260 there", "lmo_Latn is lmo_Latn_bere1234 there"]
    assert sr_f.find(tmp_path).languages() == ["cmn_Hans", "lmo_Latn", "oci_Latn"]


@pytest.mark.parametrize("together", [True, False])
def test_the_parquet_files_of_flores_plus(tmp_path: Path, together: bool) -> None:
    rows = {"isl_Latn": [("0", "a"), ("1", "b")], "kat_Geor": [("1", "y"), ("0", "x"), ("2", "z")]}
    cells = [(key, *name.split("_"), text) for name, texts in rows.items() for key, text in texts]
    if together:
        write_rows(tmp_path / "flores/devtest.parquet", cells)
    else:
        for name in rows:
            write_rows(tmp_path / f"flores/devtest/{name}.parquet", [row for row in cells if name[:3] == row[1]])
        write_rows(tmp_path / "flores/devtest/isl_Latn_vari1234.parquet", [("0", "isl", "Latn", "v")])
    (text,), notes = sr_f.read(tmp_path, ["isl_Latn", "kat_Geor"])
    assert pairs_of(text) == [("a", "x"), ("b", "y")] and text.dropped == {"only_in_kat_Geor": 1} and not notes


@pytest.mark.parametrize("folder", ["sib200/data", "SIB-200/data/annotated"])
def test_sib200_of_hub_and_repository(tmp_path: Path, folder: str) -> None:
    write_sib200(tmp_path, ("eng_Latn", "isl_Latn"))
    (tmp_path / "sib200").rename(tmp_path / "aside")
    (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "aside").rename(tmp_path / folder)
    task = transfer_tasks()["sib200"]
    assert task.find(tmp_path).languages() == sr_f.find(tmp_path).languages() == ["eng_Latn", "isl_Latn"]
    assert task.find(tmp_path / "sib200" if folder.startswith("sib200") else tmp_path).languages()


def test_archives_that_are_not_unpacked_are_told(tmp_path: Path) -> None:
    write(tmp_path / "panx_dataset/lt.tar.gz", "")
    with pytest.raises(DataError, match=r"unpack each archive into a folder of its name"):
        ner.find(tmp_path)


def test_limits_of_one_set_and_weight_decay(tmp_path: Path) -> None:
    write_sib200(tmp_path, ("eng_Latn", "isl_Latn"))
    for language in ("eng_Latn", "isl_Latn"):
        write(tmp_path / f"srb/{language}.tsv", "".join(f"{n}\tw{n}\n" for n in range(30)))
    command = ["evaluate", "all", "--model", f"m={save_learner(tmp_path / 'model')}", "--data", str(tmp_path)]
    command += ["--source", "eng_Latn", "--out", str(tmp_path / "out"), "--num-seeds", "1", "--epochs", "1"]
    assert main([*command, "--limit", "sr_b=7", "--limit", "11", "--weight-decay", "0.01"]) == 0
    sizes = {name: read_json(tmp_path / f"out/{name}/m.json", "result") for name in ("sr_b", "sr_f")}
    assert [result["scores"]["test"][0]["n"] for result in sizes.values()] == [7, 11]
    job = read_json(tmp_path / "out/sib200/m.eng_Latn.seed42.json", "result")
    assert job["settings"]["weight_decay"] == 0.01
    assert main([*command, "--limit", "sib=7"]) == 2
