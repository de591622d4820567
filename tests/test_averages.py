"""Means over languages: groups add up, differences are paired, and the scores are those that `evaluate all` wrote."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.encoders import WORDS
from tests.support.labelled_world import save_learner, write_sib200
from tests.support.tiny import make_shards
from translit_scale.cli import main
from translit_scale.errors import DataError
from translit_scale.evaluate.bootstrap import mean_over_languages
from translit_scale.evaluate.results import header
from translit_scale.files import write_json
from translit_scale.languages import XLM_R, is_head
from translit_scale.report.averages import Average, average_blocks, groupings
from translit_scale.report.families import family_of, read_families
from translit_scale.report.language_scores import Measures, directions_of_languages
from translit_scale.train.checkpointing.checkpoint import FORMAT, CheckpointInfo, EngineCounts

GLOTTOLOG = """\
ID,Name,Level,ISO639P3code,Family_ID
turk1311,Turkic,family,,
kaza1248,Kazakh,language,kaz,turk1311
atla1278,"Atlantic, Congo",family,,
igbo1259,Igbo,language,ibo,atla1278
ainu1240,Hokkaido Ainu,language,ain,
sino1245,Sino-Tibetan,family,,
mand1415,Mandarin,language,cmn,sino1245
yuec1235,Yue,language,yue,sino1245
west2369,Najdi,language,ars,afro1255
afro1255,Afro-Asiatic,family,,
"""
CODES = ("kaz_Cyrl", "kaz_Latn", "ibo_Latn", "ain_Kana", "zho_Hani", "yue_Hani", "ara_Arab", "gsw_Latn", "mri_Latn")

of_languages = st.dictionaries(st.sampled_from(CODES), st.floats(0, 1), min_size=1)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("families") / "languages.csv"
    path.write_text(GLOTTOLOG)
    return path


def write_scores(folder: Path, label: str, task: str, scores: dict[tuple[str, str], float], **model: str) -> Path:
    """A result of retrieval with both directions of every pair; the reverse ones have half the score."""
    tests = []
    for (query, target), value in scores.items():
        for a, b, share in ((query, target, value), (target, query, value / 2)):
            tests.append({"query": a, "candidates": b, **{f"top{k}": share for k in (1, 5, 10)}})
    path = folder / task / f"{label}.json"
    model = {"label": label, **model}
    content = {**header(task, "retrieval"), "model": model, "settings": {}, "scores": {"test": tests}}
    write_json(path, content)
    return path


def report(folder: Path, *more: str) -> int:
    return main(["report", "tables", "--results", str(folder), "--table", "averages", *more])


def records(text: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows of the CSV by task, source, measure, group, model and what was subtracted."""
    names = ("task", "source", "measure", "group", "model", "minus")
    return {tuple(row[name] for name in names): row for row in csv.DictReader(io.StringIO(text))}


@settings(max_examples=30, deadline=None)
@given(of_languages, of_languages)
def test_groups_add_up_to_all_and_differences_are_paired(a: dict[str, float], b: dict[str, float]) -> None:
    def measures(scores: dict[str, float]) -> dict[str, Measures]:
        return {code: {"top1": score, "top5": 1 - score} for code, score in scores.items()}

    families = {"kaz": "Turkic", "ibo": "Atlantic-Congo", "cmn": "Sino-Tibetan", "yue": "Sino-Tibetan"}
    groups = groupings(families, {"kaz_Cyrl": 120, "cmn_Hani": 99})
    (block,) = average_blocks({("t", "deu_Latn"): {"a": measures(a), "b": measures(b)}}, groups, "a")
    rows: dict[tuple[str, str, bool], list[Average]] = {}
    for average in block.averages:
        rows.setdefault((average.by, average.model, average.minus is not None), []).append(average)
    assert {by for by, _, _ in rows} == {"all", "script", "family", "head or tail", "training", "pairs"}
    common = a.keys() & b.keys()
    for (_, model, is_difference), averages in rows.items():
        scores = a if model == "a" else b
        expected = {code: b[code] - a[code] for code in common} if is_difference else scores
        assert sorted(code for average in averages for code in average.languages) == sorted(expected)
        total = sum(len(average.languages) * average.estimates["top1"].value for average in averages)
        assert total / len(expected) == pytest.approx(mean(expected.values()), abs=1e-9)
        for average in averages:
            assert average.estimates["top1"].value == pytest.approx(mean(expected[c] for c in average.languages))
            assert average.estimates["top1"].low <= average.estimates["top1"].high


def test_of_two_languages_each_is_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pair has two directions, as in paper A's tables; neither may be lost."""
    both = directions_of_languages([("hin_Deva", "urd_Arab"), ("urd_Arab", "hin_Deva")])
    assert both == {
        "hin_Deva": {"urd_Arab": [("hin_Deva", "urd_Arab")]},
        "urd_Arab": {"hin_Deva": [("urd_Arab", "hin_Deva")]},
    }
    other = [("pol_Latn", "ukr_Cyrl"), ("ukr_Cyrl", "pol_Latn")]  # results of two pairs with one label
    first = [("hin_Deva", "urd_Arab"), ("urd_Arab", "hin_Deva")]
    assert directions_of_languages([*first, *other]) == {**both, **directions_of_languages(other)}
    write_scores(tmp_path, "m", "sr_f", {("hin_Deva", "urd_Arab"): 0.5})  # and 0.25 in the other direction
    assert report(tmp_path, "--format", "csv") == 0
    found = records(capsys.readouterr().out)
    values = [found["sr_f", source, "top10", "all", "m", ""]["value"] for source in ("hin_Deva", "urd_Arab")]
    assert values == ["50.00", "25.00"]


def test_amounts_of_text_are_powers_of_ten_in_their_order() -> None:
    pairs = {"a_Latn": 0, "b_Latn": 9, "c_Latn": 10, "d_Latn": 99_999, "e_Latn": 100_000, "f_Latn": 1_000}
    scores = {code: {"top1": 0.5} for code in reversed(pairs)}
    (block,) = average_blocks({("t", "x"): {"m": scores}}, {"pairs": groupings(None, pairs)["pairs"]}, "m")
    assert [average.title for average in block.averages] == [
        "pairs 0", "pairs 1 to 9", "pairs 10 to 99", "pairs 1,000 to 9,999", "pairs 10,000 to 99,999",
        "pairs 100,000 to 999,999",
    ]  # fmt: skip


def test_intervals_are_those_of_languages_drawn_by_hand() -> None:
    generator = np.random.default_rng(3)
    values = generator.beta(2, 5, (40, 2))
    first, second = mean_over_languages(values)
    drawn = [mean(generator.choice(values[:, 0], 40)) for _ in range(3000)]
    np.testing.assert_allclose([first.low, first.high], np.percentile(drawn, [2.5, 97.5]), atol=0.006)
    assert first.value == pytest.approx(mean(values[:, 0])) and second.value == pytest.approx(mean(values[:, 1]))
    flat = mean_over_languages(np.full((7, 1), 0.25))[0]
    assert flat.low == flat.high == flat.value == 0.25


def test_families_are_those_of_the_file(families: Path, tmp_path: Path) -> None:
    found = read_families(families)
    expected = {
        "kaz_Cyrl": "Turkic", "kaz_Latn": "Turkic", "ibo_Latn": "Atlantic, Congo", "ain_Kana": "isolate",
        "zho_Hani": "Sino-Tibetan", "yue_Hani": "Sino-Tibetan", "ara_Arab": "Afro-Asiatic", "gsw_Latn": "unknown",
    }  # fmt: skip
    assert {code: family_of(code, found) for code in expected} == expected
    lines = GLOTTOLOG.split("\n")  # glottolog.org's languoid.csv writes the same columns in lower case
    (tmp_path / "languoid.csv").write_text("\n".join([lines[0].lower(), *lines[1:]]))
    assert read_families(tmp_path / "languoid.csv") == found
    own = tmp_path / "own.tsv"
    own.write_text("family\tlanguage\nConstructed\tepo\nSlavic\tsrp_Cyrl\n")
    named = read_families(own)
    assert [family_of(code, named) for code in ("epo_Latn", "srp_Cyrl", "srp_Latn")] == [
        "Constructed", "Slavic", "unknown",
    ]  # fmt: skip
    for text, message in (("code,group\nx,y\n", "found the columns code, group"), ("language,family\n", "no family")):
        own.write_text(text)
        with pytest.raises(DataError, match=message):
            read_families(own)
    with pytest.raises(DataError, match="cannot read the families"):
        read_families(tmp_path / "nothing.csv")


def test_head_languages_are_those_of_xlm_r() -> None:
    # Conneau et al. count 100 with traditional Chinese, Burmese in Zawgyi and five romanized languages of India.
    assert len(XLM_R - {"fil_Latn", "kmr_Latn", "srp_Latn"}) + 7 == 100
    head = ("eng_Latn", "arb_Arab", "cmn_Hani", "zho_Hant", "pes_Arab", "nob_Latn", "orm_Latn", "uzb_Latn")
    tail = ("hin_Latn", "uzb_Cyrl", "prs_Arab", "yue_Hani", "quy_Latn", "nno_Latn", "tat_Cyrl")
    assert all(map(is_head, head)) and not any(map(is_head, tail))


def test_seen_languages_are_those_of_the_shards_or_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, run = tmp_path / "results", tmp_path / "runs/x"
    checkpoint = run / "checkpoints/step_000007"
    checkpoint.mkdir(parents=True)
    visits = {"zho_Hani": 12, "nor_Latn": 1, "gsw_Latn": 0}  # which joins later
    info = CheckpointInfo(7, 1, 0, {}, "", "", {"zho_Hani": 5, "nor_Latn": 3, "gsw_Latn": 9}, visits)
    counts = asdict(EngineCounts(7, 0, {}))
    write_json(checkpoint / "COMPLETE.json", {"format": FORMAT, "files": {}, "counts": counts, **asdict(info)})
    (run / "export").mkdir()
    shares = {"zho_Hans": 0.5, "nob_Latn": 0.7, "gsw_Latn": 0.2, "prs_Arab": 0.4}
    of_pairs = {("deu_Latn", code): share for code, share in shares.items()}
    write_scores(results, "old", "sr_f", of_pairs, path="example/of-the-hub")
    write_scores(results, "new", "sr_f", of_pairs, path=str(run / "export"))
    assert report(results, "--format", "csv") == 0
    captured = capsys.readouterr()
    assert f"seen: one of the 2 languages of {run}; unseen" in captured.err and "no family file given" in captured.err
    found = records(captured.out)
    seen, unseen = (found["sr_f", "deu_Latn", "top5", group, "old", ""] for group in ("seen", "unseen"))
    assert (seen["languages"], seen["value"], unseen["languages"], unseen["value"]) == ("2", "60.00", "2", "30.00")
    few, none = (found["sr_f", "deu_Latn", "top5", group, "old", ""] for group in ("1 to 9", "0"))
    assert (few["by"], few["value"], none["value"]) == ("pairs", "60.00", "30.00")
    make_shards(tmp_path / "shards", {"pes_Arab": 3, "gsw_Latn": 2})
    assert report(results, "--format", "csv", "--seen", str(tmp_path / "shards")) == 0
    one = records(capsys.readouterr().out)["sr_f", "deu_Latn", "top1", "seen", "new", ""]
    assert (one["languages"], one["value"], one["low"], one["high"]) == ("1", "20.00", "", "")
    other = tmp_path / "runs/y/checkpoints/step_000001"
    other.mkdir(parents=True)
    record = json.loads((checkpoint / "COMPLETE.json").read_text()) | {
        "pairs": {"hin_Deva": 1},
        "visits": {"hin_Deva": 7},
    }
    write_json(other / "COMPLETE.json", record)
    write_scores(results, "third", "sr_f", of_pairs, path=str(other))
    assert report(results) == 0
    printed = capsys.readouterr().out
    assert "the models were trained on different languages" in printed and "| seen" not in printed
    assert report(results, "--seen", str(tmp_path)) == 3
    assert "neither a shard set" in capsys.readouterr().err


def test_one_bad_result_does_not_end_the_others(
    families: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = ("kaz_Cyrl", "ibo_Latn", "ain_Kana", "zho_Hani", "yue_Hani", "gsw_Latn", "mri_Latn")
    for label, plus in (("base", 0.0), ("ours & theirs", 0.1)):
        scores = {("deu_Latn", code): 0.1 * index + plus for index, code in enumerate(codes)}
        write_scores(tmp_path, label, "sr_b", scores)
        write_scores(tmp_path, label, "sr_f", scores)
    (tmp_path / "sr_f/base.json").write_text("{")
    for name, content in (("a", {"schema": 7}), ("b", {}), ("c", {"scores": {"test": [{"query": "eng_Latn"}]}})):
        start = {**header("tatoeba", "retrieval"), "model": {"label": name}, "settings": {}}
        write_json(tmp_path / f"tatoeba/{name}.json", start | content)
    (tmp_path / "tatoeba/d.json").write_text('{"schema": 1, "task_type": "retrieval", "model": 5}')
    path = tmp_path / "sr_b/ours & theirs.json"
    path.write_text(path.read_text().replace('"top5": 0.6', '"top5": NaN'))
    command = ["--families", str(families), "--model", "base=base", "--model", "ours & theirs=ours & theirs"]
    assert report(tmp_path, *command, "--model", "c=c") == 3
    captured = capsys.readouterr()
    for part in (
        "sr_f/base.json: Expecting",
        "a.json: schema 7",
        "c.json is not a complete",
        "d.json is not a complete",
    ):
        assert part in captured.err, captured.err
    assert "deu_Latn -> mri_Latn has no top5 that is a number" not in captured.err
    assert "deu_Latn -> gsw_Latn has no top5 that is a number" in captured.err
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in captured.out.split("\n") if "|" in line]
    (of_base,) = (row for row in rows if row[:3] == ["all", "7", "base"])
    assert of_base[3].startswith("30.0 [")
    assert ["", "6", "minus base"] in [row[:3] for row in rows]
    assert "unknown: gsw\\_Latn, mri\\_Latn" in captured.out
    assert "SR-F from deu\\_Latn" in captured.out and "+10.0 [+10.0, +10.0] *" in captured.out
    assert [row[0] for row in rows if row[0].startswith("family Atlantic")] == ["family Atlantic, Congo"] * 2


def test_a_run_of_all_pairs_has_no_source_and_missing_seeds_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = {("pol_Latn", "ces_Latn"): 0.8, ("pol_Latn", "ukr_Cyrl"): 0.6, ("ces_Latn", "ukr_Cyrl"): 0.4}
    write_scores(tmp_path, "m", "sr_b", pairs)
    write_scores(tmp_path, "m", "pair", {("pol_Latn", "bel_Cyrl"): 0.3})
    for seed, languages in ((1, ("lit_Latn", "lav_Latn")), (2, ("lit_Latn", "eng_Latn"))):
        tests = [
            {"language": code, "strict": {"accuracy": seed / 4}, "paper": {"macro_f1": seed / 5}} for code in languages
        ]
        settings = {"source": ["eng_Latn"], "seed": seed}
        start = {**header("sib200", "classification"), "model": {"label": "m"}, "settings": settings}
        write_json(tmp_path / f"sib200/m.{seed}.json", start | {"scores": {"test": tests}})
    assert report(tmp_path, "--format", "csv", "--profile", "strict") == 0
    captured = capsys.readouterr()
    found = records(captured.out)
    cyrillic = found["sr_b", "every other language", "top1", "Cyrl", "m", ""]
    assert float(cyrillic["value"]) == pytest.approx(50)
    both = found["sr_b", "every other language", "top1", "Latn", "m", ""]  # pol: 0.4, 0.3; ces: 0.8, 0.2
    assert float(both["value"]) == pytest.approx(100 * mean((mean((0.4, 0.3)), mean((0.8, 0.2))))), both
    assert found["pair", "pol_Latn", "top1", "all", "m", ""]["value"] == "30.00"
    transfer = found["sib200", "eng_Latn", "accuracy", "all", "m", ""]
    assert (transfer["value"], transfer["languages"]) == ("37.50", "1")  # lit: mean of 0.25 and 0.5; eng is the source
    assert "m, sib200 from eng_Latn: left out without results of all seeds: lav_Latn" in captured.err


def test_averages_are_those_of_what_evaluate_all_writes(
    families: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    languages = ("deu_Latn", "kaz_Cyrl", "ibo_Latn", "yue_Hani", "gsw_Latn")
    write_sib200(tmp_path, languages)
    (tmp_path / "srb").mkdir()
    for shift, language in enumerate(languages):
        verses = (f"{number}\t{WORDS[number]} {WORDS[number + shift]}\n" for number in range(20))
        (tmp_path / f"srb/{language}.tsv").write_text("".join(verses))
    arguments = ["evaluate", "all", "--data", str(tmp_path), "--source", "deu_Latn", "--source", "kaz_Cyrl"]
    for label, seed in (("first", 0), ("second", 5)):
        save_learner(tmp_path / label, seed)
        arguments += ["--model", f"{label}={tmp_path / label}"]
    out = tmp_path / "results"
    options = ["--task", "sr_b", "--task", "sib200", "--epochs", "1", "--num-seeds", "2", "--workers", "1"]
    assert main([*arguments, *options, "--out", str(out)]) == 0
    (out / "other.json").write_text("[]")
    capsys.readouterr()
    assert report(out, "--families", str(families), "--format", "csv", "--out", str(tmp_path / "tables")) == 0
    found = records((tmp_path / "tables/averages.csv").read_text())

    def tests(name: str) -> list[dict[str, Any]]:
        return list(json.loads((out / name).read_text())["scores"]["test"])

    for source in ("deu_Latn", "kaz_Cyrl"):
        of_model = {}
        for label in ("first", "second"):
            of_source = [test for test in tests(f"sr_b/{label}.json") if test["query"] == source]
            shares = [test["top5"] for test in of_source]
            assert len(shares) == len(languages) - 1
            of_model[label] = mean(shares)
            row = found["sr_b", source, "top5", "all", label, ""]
            assert float(row["value"]) == pytest.approx(100 * of_model[label], abs=0.006)
        difference = found["sr_b", source, "top5", "all", "second", "first"]
        assert float(difference["value"]) == pytest.approx(100 * (of_model["second"] - of_model["first"]), abs=0.02)
        of_seeds = [test for seed in (42, 43) for test in tests(f"sib200/second.{source}.seed{seed}.json")]
        latin = [test for test in of_seeds if test["language"] != source and test["language"].endswith("_Latn")]
        f1 = [test["paper"]["macro_f1"] for test in latin]
        row = found["sib200", source, "macro_f1", "Latn", "second", ""]
        assert float(row["value"]) == pytest.approx(100 * mean(f1), abs=0.006)
    assert found["sib200", "deu_Latn", "macro_f1", "Turkic", "first", ""]["languages"] == "1"


def test_formats_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes = ("kaz_Cyrl", "ibo_Latn", "mri_Latn")
    write_scores(tmp_path, "m", "a_set", {("deu_Latn", code): 0.25 for code in codes})
    assert report(tmp_path, "--format", "tex", "--out", str(tmp_path / "tables")) == 0
    text = (tmp_path / "tables/averages.tex").read_text()
    assert "a\\_set from deu\\_Latn" in text and "\\label{tab:averages-1}" in text
    assert "script Latn & 2 & m & 25.0 [25.0, 25.0] &" in text and text.count("{") == text.count("}")
    assert report(tmp_path, "--out", str(tmp_path / "tables")) == 0
    lines = [line for line in (tmp_path / "tables/averages.md").read_text().split("\n") if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["all", "head", "tail", "script Latn", "script Cyrl"]
    assert len({len(line) for line in lines}) == 1 and "written to" in capsys.readouterr().out
    command = ["report", "tables", "--results", str(tmp_path), "--table", "a2", "--seen", "x"]
    assert main(command) == 2
    assert "--seen is an option of --table averages only" in capsys.readouterr().err
    write_json(tmp_path / "a_set/m.json", {**header("a_set", "retrieval"), "model": {"label": "m"}, "settings": {}})
    assert report(tmp_path) == 3
    assert "no score of m can be averaged" in capsys.readouterr().err
