"""Languages with fewer pairs than the recipe's minimum, or without text, are summed up and listed in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from translit_scale.cli import main
from translit_scale.corpus.manifest import read_manifest
from translit_scale.corpus.thin import THIN_LANGUAGES
from translit_scale.errors import ConfigError
from translit_scale.languages import language_set
from translit_scale.prepare.recipe import load_recipe

LETTERS = "abcdefghijklmnopqrst"


def write_text(folder: Path, sentences: dict[str, int]) -> None:
    folder.mkdir()
    for language, number in sentences.items():
        lines = (f"{language} kala {LETTERS[i % 20]}{LETTERS[i // 20]} maja" for i in range(number))
        (folder / f"{language}.txt").write_text("".join(f"{line}\n" for line in lines))


def test_thin_languages_are_summed_up_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(tmp_path / "text", {"est_Latn": 350, "vro_Latn": 9, "fin_Latn": 120, "krl_Latn": 119, "liv_Latn": 3})
    recipe, out = tmp_path / "finnic.yaml", tmp_path / "set"
    recipe.write_text(
        'name: finnic\nlanguage_set: {path: "text/{language}.txt"}\n'
        "sample: {fraction: 0.01, minimum: 120, maximum: 200}\n"
        "per_language: {liv_Latn: {sample: {minimum: 2}}}\n"
    )
    assert main(["prepare", str(recipe), "--data", str(tmp_path), "--workers", "1", "--out", str(out)]) == 0
    block = f"""2 of 5 languages have fewer pairs than sample.minimum in the recipe, or no text:
  1 with 1 to 9 pairs; 1 with 100 to 119 pairs
  the fewest: vro_Latn 9, krl_Latn 119
  all of them: {out / THIN_LANGUAGES}
"""
    assert block in capsys.readouterr().out
    lines = (out / THIN_LANGUAGES).read_text().splitlines()
    assert lines == ["language\tpairs\tminimum", "vro_Latn\t9\t120", "krl_Latn\t119\t120"]
    assert main(["shards", "stats", str(out)]) == 0
    assert block in capsys.readouterr().out
    manifest, _ = read_manifest(out)
    assert {language: counts.rows for language, counts in manifest.languages.items()} == {
        "est_Latn": 120, "fin_Latn": 120, "krl_Latn": 119, "liv_Latn": 3, "vro_Latn": 9,
    }  # fmt: skip
    recipe.write_text(recipe.read_text().replace("minimum: 120", "minimum: 5"))
    assert main(["prepare", str(recipe), "--data", str(tmp_path), "--workers", "1", "--out", str(out), "--force"]) == 0
    assert not (out / THIN_LANGUAGES).exists() and "fewer pairs" not in capsys.readouterr().out


def test_languages_of_a_set_without_text_are_listed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(tmp_path / "text", {"pol_Latn": 12, "ces_Latn": 12})
    recipe, out = tmp_path / "many.yaml", tmp_path / "set"
    recipe.write_text('name: many\nlanguage_set: {of: glot500, path: "text/{language}.txt", missing: skip}\n')
    assert main(["prepare", str(recipe), "--data", str(tmp_path), "--workers", "1", "--out", str(out)]) == 0
    printed, notes = capsys.readouterr()
    assert "many: no text in 560 of 562 languages: " in notes and " and 552 more" in notes
    assert "560 of 562 languages have fewer pairs" in printed and "560 with none" in printed
    assert max(map(len, [*printed.splitlines(), *notes.splitlines()])) < 200
    listed = {line.split("\t")[0] for line in (out / THIN_LANGUAGES).read_text().splitlines()[1:]}
    assert listed == set(language_set("glot500")) - {"pol_Latn", "ces_Latn"}


def test_the_largest_sample_must_not_be_smaller_than_the_smallest(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: a\nlanguages: {pol_Latn: [a.txt]}\nsample: {minimum: 20, maximum: 10}\n")
    with pytest.raises(ConfigError, match="maximum 10 is less than minimum 20"):
        load_recipe(recipe)


def test_the_recipe_of_many_languages_takes_files_of_several_folders(tmp_path: Path) -> None:
    for name in ("bible/aaz_Latn.txt", "wiki/aaz_Latn.aaz-x.txt", "wiki/abk_Cyrl.ab.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Kala maja.\n" if "Latn" in name else "Амаҭ дууп.\n")
    assert (
        main(["prepare", "many-languages", "--data", str(tmp_path), "--workers", "1", "--out", str(tmp_path / "set")])
        == 0
    )
    manifest, _ = read_manifest(tmp_path / "set")
    assert {language: counts.read for language, counts in manifest.languages.items()} == {"aaz_Latn": 2, "abk_Cyrl": 1}


def test_of_many_languages_those_with_most_and_fewest_pairs_have_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    languages = sorted(language_set("glot500"))[:43]
    write_text(tmp_path / "text", {language: 5 + index for index, language in enumerate(languages)})
    recipe, out = tmp_path / "many.yaml", tmp_path / "set"
    recipe.write_text('name: many\nlanguage_set: {path: "text/{language}.txt"}\n')
    assert main(["prepare", str(recipe), "--data", str(tmp_path), "--workers", "1", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in languages]
    assert shown == [*languages[:22:-1], *languages[19::-1]]
    (total,) = [line.split() for line in lines if line.startswith("all ")]
    assert (
        total[1] == f"{sum(range(5, 48)):,}"
        and f"3 languages between these: translit-scale shards stats {out}" in lines
    )
