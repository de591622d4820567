"""Held-out text in tagging files: their lines are words, but their sentences are what must not be trained on."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from translit_scale.corpus.text import read_all_cells
from translit_scale.errors import ConfigError
from translit_scale.prepare.recipe import load_recipe
from translit_scale.prepare.run import prepare
from translit_scale.prepare.sources import recipe_files

NER = 'hi:Stary\tB-PER\nhi:"\tO\nhi:Kot\tI-PER\n\nhi:śpi\tO\n\n'
POS = "zum\tADP\nHaus\tNOUN\n\nJa\tINTJ\n"
CONLLU = """# sent_id = 1
# text = Ide do szkoły.
1-2\tIde\t_\t_\t_\t_\t_\t_\t_\t_
1\tId\tiść\tVERB\t_\t_\t0\troot\t_\t_
2\te\tbyć\tAUX\t_\t_\t1\taux\t_\t_
3\tdo\tdo\tADP\t_\t_\t4\tcase\t_\t_
3.1\tbrak\t_\t_\t_\t_\t_\t_\t_\t_
4\tszkoły\tszkoła\tNOUN\t_\t_\t1\tobl\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_

"""


@pytest.mark.parametrize(
    ("name", "data", "sentences"),
    [
        ("test-hin_Deva.tsv", NER, ['Stary " Kot', "śpi"]),
        ("test", NER, ['Stary " Kot', "śpi"]),
        ("pos.txt", POS.replace("\t", " "), ["zum Haus", "Ja"]),
        ("a-ud-test.conllu", CONLLU, ["Ide do szkoły ."]),
        ("a.conllu.gz", CONLLU, ["Ide do szkoły ."]),
        # these are not tagged
        ("a.tsv", "text\tlabel\nraz\tX\n\ndwa\tO\n", ["text", "label", "raz", "X", "", "dwa", "O"]),
        ("a.tsv", "raz\tO\ndwa\tO\n", ["raz", "O", "dwa", "O"]),
        ("a.txt", "Plan X\n\nGrupa O\nkoniec\n", ["Plan X", "", "Grupa O", "koniec"]),
    ],
)
def test_sentences_of_tagging_files(tmp_path: Path, name: str, data: str, sentences: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(data.encode()) if name.endswith(".gz") else data.encode())
    assert list(read_all_cells(path)) == sentences


def test_a_folder_of_test_sets_is_held_out_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Quotation marks in tagging files are words, and other files lie beside the sets."""
    unusual = "".join(f"{word}\tPUNCT\n\n" for word in ('"', '""', '"a"b', '"x\ty"', '"')) + "Sam\tNOUN\n\n"
    files = {"pos/dev-pol_Latn.tsv": unusual, "panx/pl/test": NER, "UD_X/a-ud-test.conllu": CONLLU,
             "UD_X/stats.xml": "<x/>", "UD_X/README.md": "x"}  # fmt: skip
    for name, data in files.items():
        (tmp_path / "heldout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "heldout" / name).write_text(data)
    (tmp_path / "a.txt").write_text("Stary kot\nIde do szkoły!\nsam\ndo\nzostaje\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\nlanguages: {pol_Latn: [a.txt]}\nexclude: ['heldout/**']\n")
    assert len(recipe_files(load_recipe(recipe), tmp_path).held_out) == 3
    noted = capsys.readouterr().err
    assert noted == ("exclude: heldout/**: nothing is held out of heldout/UD_X/README.md, heldout/UD_X/stats.xml\n")
    counts = prepare(recipe, tmp_path, tmp_path / "set", 1).languages["pol_Latn"]
    assert (counts.dropped["held_out"], counts.rows) == (3, 2)
    (tmp_path / "heldout/x.zip").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"cannot be read from \.zip files\n.*unpack"):
        recipe_files(load_recipe(recipe), tmp_path)
