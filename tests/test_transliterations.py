"""Transliterations that the input has in a column stay with their sentences; other sources are one class."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_corpus import contents, run
from tests.support.tiny import romanize, sentences
from translit_scale.cli import main
from translit_scale.corpus.manifest import LanguageCounts
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.verify import verify
from translit_scale.errors import ConfigError, DataError
from translit_scale.prepare import run as room
from translit_scale.prepare import tasks
from translit_scale.prepare.recipe import load_recipe
from translit_scale.prepare.run import prepare, prepare_array_task
from translit_scale.prepare.sources import recipe_files
from translit_scale.progress import Advance
from translit_scale.romanize.romanizer import Romanizer
from translit_scale.romanize.transliterator import SOURCES, source

Rows = Sequence[tuple[Any, ...]]
ROWS: Rows = [
    (text, f"{romanize(text).upper()} {number}") for number, text in enumerate(dict.fromkeys(sentences(60, 3)))
]
"""Another transliteration than any program's: capitals, and the number of the row."""
FORMATS = ("csv", "csv.gz", "tsv", "jsonl", "parquet", "arrow")


@pytest.fixture(autouse=True)
def _no_uroman(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs uroman's tables, which take long to load: text to romanize is ASCII."""

    def refuse() -> None:
        raise AssertionError("uroman was asked")

    monkeypatch.setattr("translit_scale.romanize.romanizer.memory", refuse)


def write_table(path: Path, rows: Rows, header: Sequence[str] = ("text", "latin")) -> Path:
    """A table of any format; None is a field that is missing, or null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".parquet", ".arrow"):
        pyarrow = pytest.importorskip("pyarrow")
        table = pyarrow.table(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True)))
        if path.suffix == ".parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=7)
        else:
            with pyarrow.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table, max_chunksize=7)
        return path
    text = io.StringIO()
    cells = [[cell for cell in row if cell is not None] for row in [header, *rows]]
    if path.suffix == ".jsonl":
        text.writelines(json.dumps(dict(zip(header, row, strict=False))) + "\n" for row in cells[1:])
    elif path.suffix == ".tsv":
        text.writelines("\t".join(row) + "\n" for row in cells)
    else:
        csv.writer(text).writerows(cells)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_recipe(folder: Path, *sources: str, more: str = "") -> Path:
    """A recipe for Ukrainian in blocks of eight rows."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(
        f"name: own\nlanguages: {{ukr_Cyrl: [{', '.join(sources)}]}}\nblock_rows: 8\nshard_blocks: 2\n{more}\n"
    )
    return folder


def with_latin(name: str, column: str = "latin") -> str:
    return f"{{path: {name}, column: text, transliteration: {column}}}"


def pairs(shard_set: ShardSet) -> dict[str, str]:
    return dict(shard_set.pairs("ukr_Cyrl"))


def counts_of(shard_set: ShardSet) -> LanguageCounts:
    return shard_set.manifest.languages["ukr_Cyrl"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_its_own_transliterations(tmp_path: Path, suffix: str) -> None:
    data = write_recipe(tmp_path / "data", with_latin(f"a.{suffix}"))
    write_table(data / f"a.{suffix}", ROWS)
    shard_set = run(data, tmp_path / "out")
    assert pairs(shard_set) == dict(ROWS)
    assert (counts_of(shard_set).rows, counts_of(shard_set).from_column) == (len(ROWS), len(ROWS))
    provenance = shard_set.manifest.provenance
    assert provenance["transliterations"] == {
        "ukr_Cyrl": {"implementation": "columns of the input", "columns": ["latin"]}
    }
    assert "romanizer" not in provenance


def test_the_csv_of_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_recipe(tmp_path / "data", with_latin("a.csv", "transliteration"))
    write_table(data / "a.csv", ROWS, ("text", "transliteration"))
    assert pairs(run(data, tmp_path / "out")) == dict(ROWS)
    assert "ignored" not in capsys.readouterr().err


@pytest.mark.parametrize("suffix", FORMATS)
def test_transliterations_that_nobody_asked_for_are_said_to_be_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    data = write_recipe(tmp_path / "data", f"{{path: a.{suffix}, column: text}}")
    write_table(data / f"a.{suffix}", [("one two", "uno"), ("three", "tres")], ("text", "transliteration"))
    assert pairs(run(data, tmp_path / "out")) == {"one two": "one two", "three": "three"}
    errors = capsys.readouterr().err
    assert errors.count("the column 'transliteration' is ignored") == 1 and f"a.{suffix}" in errors


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_without_a_usable_transliteration_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    rows = [
        ("жук", "zhuk"),
        ("кіт", ""),
        ("пес", " \u200b"),
        ("лис", "лис"),
        ("вовк", "123"),
        ("12.5", "12.5"),  # without letters there is nothing to write in Latin letters
        ("\u200bїжак  їжак", "yi\u0000zhak \u00a0\u200byizhak"),
        ("сова", "s" * 1001),
        ("", "empty"),
        ("рак", None),
    ]
    if not suffix.startswith("tsv"):  # which cannot have line ends in its fields
        rows += [("кінь", "kin'\n"), ("кит", "kyt\nkyt")]
    data = write_recipe(tmp_path / "data", with_latin(f"a.{suffix}"), more="max_chars: 100")
    write_table(data / f"a.{suffix}", rows)
    assert main(["prepare", str(data / "recipe.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    shard_set = ShardSet.open(tmp_path / "out")
    expected = {"жук": "zhuk", "12.5": "12.5", "\u200bїжак їжак": "yi zhak \u200byizhak"}
    assert pairs(shard_set) == expected | ({} if suffix == "tsv" else {"кінь": "kin'"})
    assert {reason: number for reason, number in counts_of(shard_set).dropped.items() if number} == {
        "missing_transliteration": 3, "non_latin_transliteration": 2, "too_long": 1, "empty": 1,
    } | ({} if suffix == "tsv" else {"multiline_transliteration": 1})  # fmt: skip
    printed = capsys.readouterr().out
    assert "missing transliteration" in printed and "non latin transliteration" in printed
    rows_left = counts_of(shard_set).rows
    assert f"ukr_Cyrl: {rows_left} of {rows_left} transliterations are the input's own" in printed


def test_a_transliteration_that_is_not_utf8_is_counted(tmp_path: Path) -> None:
    data = write_recipe(tmp_path / "data", with_latin("a.tsv"))
    (data / "a.tsv").write_bytes("text\tlatin\nжук\tzhuk\n".encode() + "кіт\t".encode() + b"k\xeft\n")
    assert counts_of(run(data, tmp_path / "out")).dropped["undecodable"] == 1


def test_of_equal_sentences_the_first_one_read_keeps_its_transliteration(tmp_path: Path) -> None:
    data = write_recipe(tmp_path / "data", with_latin("a.csv"), with_latin("b.tsv", "other"))
    write_table(data / "a.csv", [("жук", ""), ("жук", "second"), ("\u200bжук ", "third"), ("кіт", "kit")])
    write_table(data / "b.tsv", [("жук", "fourth"), ("кіт", "kot"), ("рак", "rak")], ("text", "other"))
    shard_set = run(data, tmp_path / "out")
    assert pairs(shard_set) == {"жук": "second", "кіт": "kit", "рак": "rak"}
    assert counts_of(shard_set).dropped["duplicate"] == 3
    assert shard_set.manifest.provenance["transliterations"]["ukr_Cyrl"]["columns"] == ["latin", "other"]


def test_files_with_and_without_transliterations_mix(tmp_path: Path) -> None:
    """Equal sentences, again: the first one read decides, also if it has no transliteration of its own."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/b.txt").write_text("two\nthree\nfour\n")
    table = write_table(tmp_path / "data/a.csv", [("one", "uno"), ("two", "dos"), ("жук", "zhuk")])
    first = run(write_recipe(table.parent, with_latin("a.csv"), "b.txt"), tmp_path / "first")
    assert pairs(first) == {"one": "uno", "two": "dos", "жук": "zhuk", "three": "three", "four": "four"}
    assert (counts_of(first).rows, counts_of(first).from_column) == (5, 3)
    assert first.manifest.provenance["romanizer"] == Romanizer().provenance()
    last = run(write_recipe(table.parent, "b.txt", with_latin("a.csv")), tmp_path / "last")
    assert pairs(last) == pairs(first) | {"two": "two"}
    assert counts_of(last).from_column == 2


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Two files with many equal sentences under different transliterations, sampled; another language without any."""
    rows = [(text, f"{romanize(text)} {number}") for number, text in enumerate(sentences(400, 7))]
    generator = random.Random(5)
    more = "sample: {fraction: 0.7}\nexclude: [held.txt]"
    data = write_recipe(tmp_path / "data", with_latin("a.csv"), with_latin("b.jsonl"), more=more)
    write_table(data / "a.csv", [*rows[:300], *generator.sample(rows, 200)])
    write_table(data / "b.jsonl", generator.sample(rows, 400))
    (data / "held.txt").write_text("".join(f"{text}\n" for text, _ in rows[:40]))
    (data / "english.txt").write_text("".join(f"sentence {number}\n" for number in range(60)))
    recipe = data / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("{ukr_Cyrl", "{eng_Latn: [english.txt], ukr_Cyrl"))
    return data


def test_one_process_many_array_tasks_and_a_kill_give_the_same_bytes(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(large, tmp_path / "whole")
    assert counts_of(whole).dropped["held_out"] > 40 and counts_of(whole).dropped["not_sampled"] > 50
    first = {}
    for path in ("a.csv", "b.jsonl"):
        lines = (large / path).read_text().splitlines()
        rows = csv.reader(lines) if path == "a.csv" else (json.loads(line).values() for line in lines)
        for text, latin in rows:
            first.setdefault(text, latin)
    assert all(first[text] == latin for text, latin in pairs(whole).items())

    assert contents(run(large, tmp_path / "workers", workers=2).directory) == contents(tmp_path / "whole")
    for task_id in (2, 0, 1):
        prepare_array_task(large / "recipe.yaml", large, tmp_path / "array", 1, task_id, 3)
    prepare(large / "recipe.yaml", large, tmp_path / "array", 1, finalize=True)
    assert contents(tmp_path / "array") == contents(tmp_path / "whole")
    assert prepare_array_task(large / "recipe.yaml", large, tmp_path / "array", 1, 0, 3) is None  # up to date

    moments = iter([None, None, KeyboardInterrupt])

    def killed(task: tasks.ShardTask, advance: Advance) -> None:
        if (error := next(moments, None)) is not None:
            raise error
        tasks.run_shard(task, advance)

    monkeypatch.setattr(room, "run_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        run(large, tmp_path / "killed")
    run(large, tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_buckets_on_disk_keep_the_first_transliteration(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(large, tmp_path / "whole")
    monkeypatch.setattr("translit_scale.prepare.select._BUCKET_BYTES", 2000)
    monkeypatch.setattr("translit_scale.prepare.select._PENDING_BYTES", 5000)
    assert contents(run(large, tmp_path / "files").directory) == contents(tmp_path / "whole")


def test_verify_does_not_compare_them_with_uroman(
    large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(large, tmp_path / "out")
    capsys.readouterr()
    assert main(["shards", "verify", "--deep", str(tmp_path / "out")]) == 0
    errors = capsys.readouterr().err
    rows = counts_of(ShardSet.open(tmp_path / "out")).from_column
    assert f"transliterations of their own: {rows} transliterations of ukr_Cyrl\n" in errors
    assert errors.count("alignment is not checked") == 1 and "eng_Latn" not in errors


def test_a_change_of_where_they_come_from_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_recipe(tmp_path / "data", with_latin("a.csv"))
    write_table(data / "a.csv", [("жук", "zhuk", "beetle")], ("text", "latin", "other"))
    run(data, tmp_path / "out")
    monkeypatch.setattr("translit_scale.romanize.romanizer.VERSION", "9")
    assert pairs(run(data, tmp_path / "out")) == {"жук": "zhuk"}  # which uroman has not made
    assert "up to date" in capsys.readouterr().err
    write_recipe(data, with_latin("a.csv", "other"))
    with pytest.raises(DataError, match=r"made from something else: .*transliterations\.ukr_Cyrl\.columns differ"):
        run(data, tmp_path / "out")
    assert pairs(run(data, tmp_path / "out", force=True)) == {"жук": "beetle"}


def test_a_recipe_without_such_columns_has_the_manifest_it_always_had(tmp_path: Path) -> None:
    data = write_recipe(tmp_path / "data", "a.txt")
    (data / "a.txt").write_text("one\n")
    run(data, tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["provenance"].keys() == {"recipe", "inputs", "held_out", "cleaning", "romanizer"}
    assert manifest["provenance"]["recipe"]["languages"] == {"ukr_Cyrl": [{"path": "a.txt", "column": None}]}
    assert manifest["provenance"]["recipe"]["romanize"] == {"lcode": "none"}
    assert "from_column" not in manifest["languages"]["ukr_Cyrl"]
    assert not [
        reason for reason in manifest["languages"]["ukr_Cyrl"]["dropped"] if reason.endswith("n_transliteration")
    ]


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("{path: a.csv, transliteration: latin}", "languages.ukr_Cyrl.0: transliteration: 'column' must name another"),
        ("{path: a.txt, transliteration: latin}", "'column' must name another column"),
        ("{path: a.csv, column: text, transliteration: text}", "'column' must name another column"),
        ("{path: a.txt, column: text, transliteration: latin}", r"a\.txt: a \.txt file has no columns"),
        ("{path: a.csv, column: text, transliterations: latin}", "did you mean 'transliteration'"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path: Path, of: str, message: str) -> None:
    data = write_recipe(tmp_path, of)
    for name in ("a.csv", "a.txt"):
        (data / name).touch()
    with pytest.raises(ConfigError, match=message):
        recipe_files(load_recipe(data / "recipe.yaml"), data)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_that_is_not_there_is_named(tmp_path: Path, suffix: str) -> None:
    data = write_recipe(tmp_path / "data", with_latin(f"a.{suffix}", "latn"))
    write_table(data / f"a.{suffix}", ROWS)
    with pytest.raises(DataError, match=rf"a\.{suffix} has no column 'latn'\n.*'text', 'latin'"):
        run(data, tmp_path / "out")


def test_a_set_of_languages_may_have_them(tmp_path: Path) -> None:
    for code in ("ukr_Cyrl", "bul_Cyrl"):
        write_table(tmp_path / f"data/{code}.csv", ROWS[:9])
    (tmp_path / "data/recipe.yaml").write_text(
        'name: own\nlanguage_set: {path: "{language}.csv", column: text, transliteration: latin}\n'
    )
    shard_set = run(tmp_path / "data", tmp_path / "out")
    assert dict(shard_set.pairs("bul_Cyrl")) == pairs(shard_set) == dict(ROWS[:9])
    assert set(shard_set.manifest.provenance["transliterations"]) == {"bul_Cyrl", "ukr_Cyrl"}


class Table:
    """A third source of transliterations, as a reader of `transliterator.py` would write it."""

    def __init__(self, lcode: str) -> None:
        self.lcode = lcode

    def transliterate(self, texts: Sequence[str], language: str, counts: Counter[str]) -> list[str]:
        counts["fallbacks"] += sum("ї" in text for text in texts)
        return ["" if "щ" in text else f"{language} {romanize(text)}" for text in texts]

    def provenance(self) -> dict[str, Any]:
        return {"implementation": "invented table", "lcode": self.lcode}


def test_another_source_is_one_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_recipe(tmp_path / "data", "a.txt")
    (data / "a.txt").write_text("абв\nїї\nщ\n")
    write_recipe(data, "a.txt", more="romanize: {by: invented}")
    known = ", ".join(map(repr, SOURCES))
    with pytest.raises(ConfigError, match=rf"romanize\.by: expected one of {known} \(found 'invented'\)"):
        load_recipe(data / "recipe.yaml")
    monkeypatch.setitem(SOURCES, "invented", Table)
    source.cache_clear()
    shard_set = run(data, tmp_path / "out")
    assert pairs(shard_set) == {"абв": "ukr_Cyrl abc", "її": "ukr_Cyrl її"}
    assert counts_of(shard_set).fallbacks == 1 and counts_of(shard_set).dropped["empty_transliteration"] == 1
    assert shard_set.manifest.provenance["romanizer"] == {"implementation": "invented table", "lcode": "none"}
    capsys.readouterr()
    assert verify(tmp_path / "out", True, lambda done: None) == []
    assert capsys.readouterr().err == ""
    write_recipe(data, "a.txt")
    with pytest.raises(DataError, match=r"something else: .*romanizer\.implementation"):
        run(data, tmp_path / "out")
    monkeypatch.delitem(SOURCES, "invented")
    assert verify(tmp_path / "out", True, lambda done: None) == []
    assert "another romanizer (implementation 'invented table', here 'uroman" in capsys.readouterr().err


class Newer(Table):
    """A later version of `Table` with another output."""

    def transliterate(self, texts: Sequence[str], language: str, counts: Counter[str]) -> list[str]:
        return [text.upper() for text in super().transliterate(texts, language, counts)]

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {"version": 2}


def test_finished_shards_of_an_older_source_are_made_again_where_some_texts_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_recipe(tmp_path / "data", "a.txt", with_latin("a.csv"), more="romanize: {by: invented}")
    (data / "a.txt").write_text("абв\n")
    write_table(data / "a.csv", [("жук", "zhuk")])
    monkeypatch.setitem(SOURCES, "invented", Table)
    source.cache_clear()
    prepare_array_task(data / "recipe.yaml", data, tmp_path / "out", 1, 0, 1)
    monkeypatch.setitem(SOURCES, "invented", Newer)
    source.cache_clear()
    shard_set = run(data, tmp_path / "out")
    assert shard_set.manifest.provenance["romanizer"]["version"] == 2
    assert pairs(shard_set) == {"жук": "zhuk", "абв": "UKR_CYRL ABC"}


def test_verify_asks_only_the_source_that_the_recipe_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_its_file(lcode: str) -> Table:
        raise ConfigError("the file of another source is not there")

    data = write_recipe(tmp_path / "data", "a.txt", more="romanize: {by: invented}")
    (data / "a.txt").write_text("абв\n")
    monkeypatch.setitem(SOURCES, "invented", Table)
    monkeypatch.setitem(SOURCES, "uroman", without_its_file)
    source.cache_clear()
    run(data, tmp_path / "out")
    capsys.readouterr()
    assert verify(tmp_path / "out", True, lambda done: None) == []
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(SOURCES, "invented", Newer)
    source.cache_clear()
    assert verify(tmp_path / "out", True, lambda done: None) == []
    assert "another romanizer (version None, here 2)" in capsys.readouterr().err
