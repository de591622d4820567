"""Whole preparations from real layouts: the hub's Arrow files, held-out text in the layouts of test sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from translit_scale.cli import main
from translit_scale.corpus.shards import ShardSet

RECIPE = """
name: x
language_set: {of: found, path: "{language}/train/*.arrow", column: text}
exclude: [heldout/**]
"""


def write_hub(folder: Path, texts: dict[str, list[str]]) -> None:
    """Two Arrow streams for each language, as `datasets.save_to_disk` writes them."""
    pyarrow = pytest.importorskip("pyarrow")
    for language, sentences in texts.items():
        (folder / language / "train").mkdir(parents=True)
        for number in (0, 1):
            table = pyarrow.table({"text": sentences[number::2], "dataset": ["web"] * len(sentences[number::2])})
            with pyarrow.ipc.new_stream(
                folder / language / "train" / f"data-0000{number}-of-00002.arrow", table.schema
            ) as stream:
                stream.write_table(table, max_chunksize=2)


def test_glot500_as_the_hub_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hub(tmp_path, {"ada_Latn": [f"Nɔ ko {n}" for n in range(7)], "mul_Latn": ["jeden dwa", "trzy cztery"]})
    held_out = tmp_path / "heldout"
    (held_out / "flores").mkdir(parents=True)
    (held_out / "flores/ada_Latn.devtest").write_text("NƆ KO 3\n")
    (held_out / "x.jsonl").write_text(json.dumps({"id": 5, "pair": {"a": "jeden, dwa!", "b": ["Nɔ ko 4"]}}) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    assert main(["prepare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "set"), "--workers", "1"]) == 0
    shards = ShardSet.open(tmp_path / "set")
    counts = {language: (of.dropped["held_out"], of.rows) for language, of in shards.manifest.languages.items()}
    assert counts == {"ada_Latn": (2, 5), "mul_Latn": (1, 1)}
    printed = capsys.readouterr().out
    assert "of Glot500-c count (translit-scale docs languages) were there: ada_Latn 7 of 219," in printed
    assert f"translit-scale shards contamination {tmp_path / 'set'} --near 0.8 --files" in printed


def test_a_set_without_held_out_text_has_no_such_remarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ada_Latn.txt").write_text("Nɔ ko\n")
    (tmp_path / "recipe.yaml").write_text("name: x\nlanguages: {ada_Latn: [ada_Latn.txt]}\n")
    assert main(["prepare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "set"), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "contamination" not in printed and "Glot500-c" not in printed
