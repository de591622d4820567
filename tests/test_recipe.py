"""Recipes: ten lines do, mistakes are named, files are found or missed loudly."""

import gzip
import re
from pathlib import Path

import pytest

from translit_scale.corpus.text import Columns, read_all_cells
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import GROUPS, PAIRS
from translit_scale.prepare.recipe import Recipe, Sample, Source, load_recipe
from translit_scale.prepare.sources import recipe_files

SHIPPED = Path(__file__).parents[1] / "shards"

TEN_LINES = """
name: my-languages
languages:
  amh_Ethi: [amh.txt]
  tir_Ethi: [{path: tir-*.csv.gz, column: text}, more/*.txt]
sample: {fraction: 0.1, minimum: 10000}
exclude: [heldout/*.tsv]
"""


def load(directory: Path, text: str) -> Recipe:
    path = directory / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def touch(directory: Path, *names: str) -> None:
    """Writes files with one text, as their suffixes say."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".arrow":
            pyarrow = pytest.importorskip("pyarrow")
            table = pyarrow.table({"text": ["słowo"]})
            with pyarrow.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table)
        else:
            data = '{"text": "słowo"}\n' if path.suffix == ".jsonl" else "text\nsłowo\n"
            path.write_bytes(gzip.compress(data.encode()) if path.suffix == ".gz" else data.encode())


def held_out(recipe: Recipe, directory: Path) -> list[str]:
    return [name for name, _ in recipe_files(recipe, directory).held_out]


def test_ten_lines_do(tmp_path: Path) -> None:
    recipe = load(tmp_path, TEN_LINES)
    assert recipe.languages["tir_Ethi"] == [
        Source(path="tir-*.csv.gz", column="text"),
        Source(path="more/*.txt", column=None),
    ]
    assert (recipe.sample.fraction, recipe.sample.minimum) == (0.1, 10_000)
    assert (recipe.seed, recipe.block_rows, recipe.romanize.lcode) == (0, 1000, "none")


def test_globs_are_sorted_and_no_file_is_taken_twice(tmp_path: Path) -> None:
    recipe = load(tmp_path, TEN_LINES.replace("[amh.txt]", "[b.txt, '*.txt', b.txt]"))
    touch(tmp_path, "b.txt", "a.txt", "tir-2.csv.gz", "tir-10.csv.gz", "more/ü x.txt", "heldout/q.tsv")
    assert recipe_files(recipe, tmp_path).languages == {
        "amh_Ethi": [("b.txt", Columns()), ("a.txt", Columns())],
        "tir_Ethi": [
            ("tir-10.csv.gz", Columns("text")),
            ("tir-2.csv.gz", Columns("text")),
            ("more/ü x.txt", Columns()),
        ],
    }
    assert held_out(recipe, tmp_path) == ["heldout/q.tsv"]


def test_held_out_files_have_every_layout_of_evaluation(tmp_path: Path) -> None:
    recipe = load(tmp_path, TEN_LINES.replace("heldout/*.tsv", "'heldout/**'"))
    touch(tmp_path, "amh.txt", "tir-1.csv.gz", "more/a.txt")
    names = [
        "heldout/a.txt", "heldout/b.csv.gz", "heldout/c.tsv", "heldout/d.jsonl", "heldout/e.arrow",
        "heldout/flores/pol_Latn.devtest", "heldout/flores/ukr_Cyrl", "heldout/tatoeba.pol-eng.pol",
        "heldout/ukr_Cyrl.dev.gz",
    ]  # fmt: skip
    touch(tmp_path, *names)
    assert held_out(recipe, tmp_path) == names
    for name in names:
        assert "słowo" in list(read_all_cells(tmp_path / name)), name
    touch(tmp_path, "heldout/f.json")
    with pytest.raises(ConfigError, match=r"exclude: .*f\.json: held-out sentences cannot be read from \.json files"):
        held_out(recipe, tmp_path)


def test_held_out_text_may_be_one_column_and_may_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "amh.txt", "h.csv")
    exclude = "[{path: h.csv, column: text}, {path: 'eval/**', missing: skip}]"
    recipe = load(tmp_path, f"name: x\nlanguages: {{amh_Ethi: [amh.txt]}}\nexclude: {exclude}")
    assert recipe_files(recipe, tmp_path).held_out == [("h.csv", Columns("text"))]
    assert capsys.readouterr().err == f"exclude: no file matches {tmp_path}/eval/**: nothing is held out by it\n"
    assert load(tmp_path, TEN_LINES).model_dump()["exclude"] == ["heldout/*.tsv"]


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "b.tsv", "c.jsonl", "d.arrow", "e.txt")
    (tmp_path / "f.txt").write_bytes("żółw\n".encode("utf-16"))
    recipe = load(
        tmp_path,
        """
name: x
languages:
  pol_Latin: [e.txt]
  ukr_Cyrl: [{path: a.csv, column: tekst}, missing.txt]
  hin_Deva: [{path: b.tsv, column: tekst}, {path: c.jsonl, column: tekst}]
  urd_Arab: [{path: d.arrow, column: tekst}, f.txt, e.txt]
per_language: {pol_Latn: {max_chars: 5}}
exclude: [held/*.txt]
""",
    )
    with pytest.raises(ConfigError) as error:
        recipe_files(recipe, tmp_path)
    first, *problems = [line for line in error.value.message.split("\n") if "→" not in line]
    assert first == "the recipe has 9 problems"
    for problem, expected in zip(
        problems,
        [
            "languages: unknown language code 'pol_Latin'",
            r"languages\.ukr_Cyrl: file not found: .*/missing\.txt",
            r"languages\.ukr_Cyrl: .*/a\.csv has no column 'tekst'",
            r"languages\.hin_Deva: .*/b\.tsv has no column 'tekst'",
            r"languages\.hin_Deva: .*/c\.jsonl has no column 'tekst'",
            r"languages\.urd_Arab: .*/d\.arrow has no column 'tekst'",
            r"languages\.urd_Arab: .*/f\.txt is UTF-16",
            r"exclude: no file matches .*held/\*\.txt",
            "per_language: the recipe has no text in pol_Latn",
        ],
        strict=True,
    ):
        assert re.match(expected, problem), problem


def test_a_file_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    recipe = load(tmp_path, "name: x\nlanguages: {amh_Ethi: ['a[1].txt']}")
    touch(tmp_path, "a[1].txt", "a1.txt")
    assert recipe_files(recipe, tmp_path).languages == {"amh_Ethi": [("a[1].txt", Columns())]}


def test_what_is_not_found_is_named(tmp_path: Path) -> None:
    recipe = load(tmp_path, TEN_LINES)
    with pytest.raises(DataError, match=r"languages\.amh_Ethi: file not found: .*amh\.txt"):
        recipe_files(recipe, tmp_path)
    touch(tmp_path, "amh.txt", "more/a.txt")
    with pytest.raises(DataError, match=r"languages\.tir_Ethi: no file matches .*tir-\*\.csv\.gz"):
        recipe_files(recipe, tmp_path)
    touch(tmp_path, "tir-1.csv.gz")
    with pytest.raises(DataError, match=r"exclude: no file matches .*heldout/\*\.tsv"):
        held_out(recipe, tmp_path)
    too_long = load(tmp_path, TEN_LINES.replace("amh.txt", "a" * 300))
    with pytest.raises(DataError, match=r"languages\.amh_Ethi: cannot look for .*: File name too long"):
        recipe_files(too_long, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sample:", "samples:", "samples: unknown setting; did you mean 'sample'"),
        ("column: text", "colum: text", r"languages\.tir_Ethi\.0\.colum: .*did you mean 'column'"),
        ("fraction: 0.1", "fraction: 10", "sample.fraction: .*less than or equal to 1"),
        ("name: my-languages", "", "name: this setting is required"),
        ("name: my-languages", "name: ../up", "name: .*pattern"),
        ("[amh.txt]", "[]", "languages.amh_Ethi: .*at least 1 item"),
        ("[amh.txt]", "amh.txt", "languages.amh_Ethi: .*list"),
        ("amh.txt", "/data/amh.txt", "relative to the data directory"),
        ("amh.txt", "../amh.txt", "relative to the data directory"),
        ("amh.txt", ".", "relative to the data directory"),
        ("sample:", "romanize: {lcode: auto}\nsample:", "romanize.lcode: .*'none' or 'by_language'"),
    ],
)
def test_mistakes_are_named_with_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path, TEN_LINES.replace(old, new, 1))
    assert "recipe.yaml" in error.value.message


def test_files_that_cannot_be_read_are_refused_before_any_work(tmp_path: Path) -> None:
    touch(tmp_path, "amh.txt", "tir-1.csv.gz", "more/a.txt", "a.pdf")
    for new, message in (("tir-*.csv.gz", "which column"), ("a.pdf", "unknown type")):
        recipe = load(tmp_path, TEN_LINES.replace("{path: tir-*.csv.gz, column: text}", new))
        with pytest.raises(ConfigError, match=message):
            recipe_files(recipe, tmp_path)


def language_set_recipe(directory: Path, settings: str, languages: str = "{}") -> Recipe:
    return load(directory, f"name: many\nlanguages: {languages}\nlanguage_set: {{{settings}}}")


def test_a_set_of_languages_has_a_path_for_all(tmp_path: Path) -> None:
    touch(
        tmp_path, "ukr_Cyrl/train/b.arrow", "pol_Latn/train/a.arrow", "pol_Latn/train/b.arrow", "deu_Latn/dev/a.arrow"
    )
    recipe = language_set_recipe(tmp_path, 'of: pol-ukr, path: "{language}/train/*.arrow", column: text')
    assert recipe_files(recipe, tmp_path).languages == {
        "pol_Latn": [("pol_Latn/train/a.arrow", Columns("text")), ("pol_Latn/train/b.arrow", Columns("text"))],
        "ukr_Cyrl": [("ukr_Cyrl/train/b.arrow", Columns("text"))],
    }


def test_languages_are_found_by_their_files(tmp_path: Path) -> None:
    touch(tmp_path, "pol_Latn.a.txt", "pol_Latn.b.c.txt", "ukr_Cyrl.a.txt", "deu_Latn.a.csv", "README.md")
    recipe = language_set_recipe(tmp_path, 'path: "{language}.*.txt"')
    assert recipe_files(recipe, tmp_path).languages == {
        "pol_Latn": [("pol_Latn.a.txt", Columns()), ("pol_Latn.b.c.txt", Columns())],
        "ukr_Cyrl": [("ukr_Cyrl.a.txt", Columns())],
    }
    touch(tmp_path, "pol.a.txt", "xx_Latn.b.txt")
    with pytest.raises(DataError, match=r"language_set: 2 of the files are not named after a language") as error:
        recipe_files(recipe, tmp_path)
    assert re.search(r"/pol\.a\.txt: unknown language code 'pol'.*\n.*'pol_Latn'", error.value.message)
    assert re.search(r"/xx_Latn\.b\.txt: unknown language code 'xx_Latn': 'xx' is not a language", error.value.message)


def test_explicit_sources_come_before_those_of_the_set(tmp_path: Path) -> None:
    touch(tmp_path, "text/pol_Latn.txt", "text/ukr_Cyrl.txt", "u.txt")
    recipe = language_set_recipe(tmp_path, 'path: "text/{language}.txt"', "{ukr_Cyrl: [u.txt]}")
    assert recipe_files(recipe, tmp_path).languages == {
        "pol_Latn": [("text/pol_Latn.txt", Columns())],
        "ukr_Cyrl": [("u.txt", Columns())],
    }


def test_the_code_may_stand_twice(tmp_path: Path) -> None:
    touch(tmp_path, "pol_Latn/pol_Latn.txt", "pol_Latn/ukr_Cyrl.txt")
    recipe = language_set_recipe(tmp_path, 'path: "{language}/{language}.txt"')
    assert recipe_files(recipe, tmp_path).languages == {"pol_Latn": [("pol_Latn/pol_Latn.txt", Columns())]}


def test_languages_of_a_set_without_files_are_an_error_or_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "pol_Latn.txt")
    recipe = language_set_recipe(tmp_path, 'of: pol-ukr, path: "{language}.txt"')
    with pytest.raises(DataError, match=r"1 of the 2 languages have no file .*: ukr_Cyrl\n.*missing: skip"):
        recipe_files(recipe, tmp_path)
    recipe = language_set_recipe(tmp_path, 'of: pol-ukr, path: "{language}.txt", missing: skip')
    assert list(recipe_files(recipe, tmp_path).languages) == ["pol_Latn"]
    assert capsys.readouterr().err == "many: no text in 1 of 2 languages: ukr_Cyrl\n"
    (tmp_path / "pol_Latn.txt").unlink()
    with pytest.raises(DataError, match=r"language_set: no file matches .*\*\.txt"):
        recipe_files(recipe, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("path: all.txt", r"language_set: path: '\{language\}' must stand"),
        ('path: "**/{language}.txt"', r"'\*\*' could match several codes"),
        ('of: glot, path: "{language}.txt"', "unknown set of languages 'glot'; there are pol-ukr.*and 'found'"),
        ('path: "{language}.txt", missing: skip', "nothing that could be missing"),
        ('path: "../{language}.txt"', "relative to the data directory"),
        ('paths: "{language}.txt"', "language_set.paths: unknown setting; did you mean 'path'"),
    ],
)
def test_mistakes_in_a_set_are_named(tmp_path: Path, settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        language_set_recipe(tmp_path, settings)


def test_a_recipe_without_languages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a recipe needs 'languages' or 'language_set'"):
        load(tmp_path, "name: none")


def test_shipped_recipes_have_the_languages_of_the_papers() -> None:
    recipes = {path.stem: load_recipe(path) for path in SHIPPED.glob("*.yaml")}
    for name, languages in {**PAIRS, **GROUPS}.items():
        assert recipes[name].name == name
        assert tuple(recipes[name].languages) == languages
        whole = name in PAIRS
        assert recipes[name].sample.fraction == (1.0 if whole else 0.1)
        assert recipes[name].sample.minimum == (0 if whole else 10_000)
    assert set(recipes["demo"].languages) == {code for pair in PAIRS.values() for code in pair}
    assert recipes["demo"].model_dump()["exclude"] == ["heldout/*.tsv"]
    for name in (*PAIRS, *GROUPS, "glot500"):
        assert [(held_out.path, held_out.missing) for held_out in recipes[name].exclude] == [("heldout/**", "skip")]
    for name in (*PAIRS, *GROUPS):
        assert all(
            source == Source(path=f"{language}/train/*.arrow", column="text")
            for language, (source,) in recipes[name].languages.items()
        )
    assert recipes["glot500"].language_set.of == "glot500"
    assert recipes["glot500"].sample == Sample(fraction=0.1, minimum=10_000, maximum=1_000_000)
    assert recipes["many-languages"].language_set.of == "found"
    assert (recipes["wide"].language_set.of, recipes["wide"].sample.maximum) == ("found", 5000)


def test_the_wide_recipe_takes_every_language_of_all_subfolders(tmp_path: Path) -> None:
    for name in ("bible/aaz_Latn.txt", "udhr/aaz_Latn.aaz.txt", "mono/pol_Latn.txt", "heldout/srb/pol_Latn.tsv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\ta verse\n" if "srb" in name else "a sentence\n")
    files = recipe_files(load_recipe(SHIPPED / "wide.yaml"), tmp_path)
    names = {language: [name for name, _ in found] for language, found in files.languages.items()}
    assert names == {"aaz_Latn": ["bible/aaz_Latn.txt", "udhr/aaz_Latn.aaz.txt"], "pol_Latn": ["mono/pol_Latn.txt"]}
    assert [name for name, _ in files.held_out] == ["heldout/srb/pol_Latn.tsv"]
