"""The report page: what it finds, what it says is missing, its numbers, and text that must not become code."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from tests.support.page_world import make_page_world, make_run, write_retrieval, write_similarity
from translit_scale.charts import Chart, comma_separated
from translit_scale.cli import main
from translit_scale.files import read_json, write_bytes, write_json
from translit_scale.report.page import build
from translit_scale.report.page.build import inline_json, visible
from translit_scale.report.page.runs import MOST_RECORDS, read_runs

LANGUAGES = ("eng_Latn", "pol_Latn", "ukr_Cyrl", "hin_Deva", "urd_Arab", "tha_Thai", "yue_Hani", "mri_Latn")
HOSTILE = "x</script><img src=x onerror=alert(1)>\u202e{{7*7}}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without Vega's code, and of the files of figures only the numbers; tests of the browser have both."""
    monkeypatch.setattr(build, "vega_code", lambda: "")
    monkeypatch.setattr(build, "write_chart", write_numbers)


def write_numbers(chart: Chart, folder: Path) -> None:
    write_bytes(folder / f"{chart.name}.csv", comma_separated(chart.rows).encode())


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return make_page_world(tmp_path, LANGUAGES)


def page(runs: list[Path], *more: str) -> str:
    assert main(["report", "page", *map(str, runs), *more]) == 0
    return (runs[0] / "report.html").read_text()


def text_of(html: str) -> str:
    """What a reader sees, without tags, scripts and styles."""
    without = re.sub(r"(?s)<(script|style).*?</\1>", "", html)
    return " ".join(re.sub(r"<[^>]*>", " ", without).split())


def test_a_page_finds_results_and_analyses_of_its_runs(
    runs: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    html = page(runs)
    printed = capsys.readouterr().out
    assert f"results and analyses: {runs[0].parent}/results, {runs[0].parent}/analysis" in printed
    assert "differences are to base" in printed  # the model that is of neither run comes first
    text = text_of(html)
    assert "Each of the 2 runs is an encoder of 4 layers with width 192, trained from scratch." in text
    assert "It was trained on 480 sentences in 8 languages (" in text
    assert "It ran with 2 ranks (cpu, fp32) on n1." in text
    assert "mlm was trained with masked language modelling (MLM). tcm was trained with" in text
    summary = text[text.index("Scores of all models test base mlm tcm") : text.index("What is missing")]
    assert re.search(r"SR-B from eng_Latn to 7 languages \(mean\), top-10 [\d.]+ \[", summary)
    assert "the difference to base in points" in summary and "▲ better" in summary
    assert "objectives.tcm.weight" in text  # in which the runs differ
    assert "There is no vocabulary." in text
    assert page(runs) == html  # the same bytes again
    assert {path.suffix for path in (runs[0] / "report").iterdir()} == {".csv"}


def test_pairs_of_a_run_with_a_batch_size_warmup(tmp_path: Path) -> None:
    run = make_run(tmp_path / "grown", LANGUAGES, records=40)
    assert "took 40 steps of 64 pairs (in all 2,560, 5.3 passes over the sentences)" in text_of(page([run]))
    settings = (run / "config.yaml").read_text()
    assert "first_batch_pairs: null" in settings and "batch_warmup_steps: null" in settings
    settings = settings.replace("first_batch_pairs: null", "first_batch_pairs: 16")
    (run / "config.yaml").write_text(settings.replace("batch_warmup_steps: null", "batch_warmup_steps: 30"))
    assert "took 40 steps of 16 to 64 pairs (in all 1,600, 3.3 passes over the sentences)" in text_of(page([run]))


def test_numbers_of_a_page_are_those_of_the_results(runs: list[Path]) -> None:
    page(runs)
    content = read_json(runs[0].parent / "results/sr_b/tcm.json", "result")
    mean = sum(test["top10"] for test in content["scores"]["test"]) / len(content["scores"]["test"])
    rows = list(csv.DictReader((runs[0] / "report/scores.csv").open()))
    (row,) = [row for row in rows if row["model"] == "tcm" and row["test"].startswith("SR-B")]
    assert float(row["percent"]) == pytest.approx(100 * mean)
    differences = list(csv.DictReader((runs[0] / "report/differences.csv").open()))
    base = next(float(row["percent"]) for row in rows if row["model"] == "base" and row["test"].startswith("SR-B"))
    (minus,) = [row for row in differences if row["model"] == "tcm" and row["test"].startswith("SR-B")]
    assert float(minus["percent"]) == pytest.approx(100 * mean - base)
    assert float(minus["low"]) <= float(minus["percent"]) <= float(minus["high"])


def test_the_page_says_how_each_task_was_measured(runs: list[Path]) -> None:
    """All values that the results of a task have, and how many sentences they are of."""
    text = text_of(page(runs))
    table = text[text.index("How it was measured") : text.index("sha256 of the weights")]
    result = read_json(runs[0].parent / "results/sr_b/tcm.json", "result")
    sizes = {test["n"] for test in result["scores"]["test"]}
    assert "sib200 sr_b" in table and "source eng_Latn" in table and len(sizes) == 1
    assert re.search(rf"sentences [\d,]+ {sizes.pop()} ", table)
    for name, value in result["settings"].items():
        assert isinstance(value, dict) or f"{name} {value}" in table
    path = runs[0].parent / "results/sr_b/base.json"
    other = read_json(path, "result")
    write_json(path, other | {"settings": {"pooling": "first"}})
    assert re.search(r"pooling \S+ first(, mean)?", text_of(page(runs)))


def test_of_one_language_the_intervals_are_over_test_items(tmp_path: Path) -> None:
    runs = make_page_world(tmp_path, ("eng_Latn", "pol_Latn"))
    two = text_of(page(runs, "--model", "base=base", "--model", "tcm=tcm"))
    result = read_json(tmp_path / "runs/results/sr_b/tcm.json", "result")
    ((low, high),) = [test["ci95"]["top10"] for test in result["scores"]["test"]]
    score = f"{100 * result['scores']['test'][0]['top10']:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]"
    difference = r"(\+[\d.]+) points (\[\+[\d.]+, \+[\d.]+\])"
    found = re.search(rf"tcm has {score[0]} % {re.escape(score[1])}, a difference to base of {difference}", two)
    assert found and "SR-B from eng_Latn to pol_Latn, top-10: base has" in two
    assert f"{' '.join(score)} ▲ better {found[1]} {found[2]}" in text_of(page(runs))  # three models are in a table


def test_the_summary_says_once_what_runs_have_in_common(runs: list[Path]) -> None:
    alone = text_of(page(runs[:1]))
    assert "mlm is an encoder of 4 layers with width 192, trained from scratch. It was trained on" in alone
    (runs[1] / "config.yaml").write_text((runs[0] / "config.yaml").read_text())
    text = text_of(page(runs))
    text = text[text.index("Each of the 2 runs is") : text.index("Main results")]
    assert "It was trained with masked language modelling (MLM)." in text and "tcm" not in text


def test_alignment_stands_beside_transfer_as_in_the_command(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, results, analysis = text_of(page(runs)), runs[0].parent / "results", runs[0].parent / "analysis"
    command = ["report", "association", "--results", results, "--analysis", analysis, "--out", tmp_path / "out"]
    capsys.readouterr()
    assert main([*map(str, command)]) == 0
    printed = capsys.readouterr().out
    (row,) = re.findall(r"sr_b top10 +\(all\) +7 +(\S+) (\[\S+) (\S+\])", printed)
    assert f"sib200 sr_b top10 over models 7 {' '.join(row)}" in text
    assert "models with a higher sr_b top10 have a higher F1 of sib200" in text
    assert (runs[0] / "report/association.sr_b_top10.csv").exists()


def test_words_and_histograms_are_shown(runs: list[Path]) -> None:
    text = text_of(page(runs))
    assert "pol_Latn tcm 70.0 [60.0, 80.0] 5.0 – 30" in text
    assert "mri_Latn tcm" not in text.partition("Word alignment of every language")[2].partition("Vocabulary")[0]
    rows = list(csv.DictReader((runs[0] / "report/histograms.1.csv").open()))
    assert sum(float(row["percent"]) for row in rows if row["percent"]) == 180 and len(rows) == 22
    (runs[0].parent / "analysis/flores/similarity.ukr_Cyrl-pol_Latn.csv").write_text("panel,low\n1,2\n")
    assert main(["report", "page", *map(str, runs)]) == 3
    text = text_of((runs[0] / "report.html").read_text())
    assert "similarity.ukr_Cyrl-pol_Latn.csv has no histograms: " in text


def test_a_run_without_results_says_how_to_make_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    html = page([make_run(tmp_path / "runs/alone", LANGUAGES)])
    assert "none were found; the page says how to make them" in capsys.readouterr().out
    text = text_of(html)
    assert "There are no results. Make them with translit-scale evaluate all" in text
    assert "There are no similarities. Make them with translit-scale analyze similarity" in text


def test_results_of_other_runs_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared folder counts only if a model in it belongs to the run; a folder that is named always counts."""
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs/mine", LANGUAGES)
    write_retrieval(tmp_path / "results", "other", 0.5, str(tmp_path / "runs/other/export"), LANGUAGES)
    assert "There are no results." in text_of(page([run]))
    assert "other has" in text_of(page([run], "--results", "results"))


def test_results_of_several_folders_are_taken_together(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Other directions of a model's results are added, and a direction that is there already is left out and named."""
    first, more, again = (runs[0].parent / name for name in ("results", "more", "again"))
    write_retrieval(more, "mlm", 0.5, "m", ("eng_Latn", "zul_Latn"))
    assert "8 languages" in text_of(page(runs, f"--results={first}", f"--results={more}"))
    write_retrieval(again, "mlm", 0.5, "m", ("eng_Latn", "zul_Latn"))
    folders = [f"--results={folder}" for folder in (first, more, again)]
    assert main(["report", "page", *map(str, runs), *folders]) == 3
    assert f"{again}/sr_b/mlm.json is left out: {more}/sr_b/mlm.json and" in capsys.readouterr().err


def test_text_of_others_never_becomes_code(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    write_retrieval(runs[0].parent / "results", "long", 0.5, str(runs[0] / HOSTILE), LANGUAGES)
    path = runs[0].parent / "results/sr_b/long.json"
    content = json.loads(path.read_text())
    content["model"]["label"] = HOSTILE + "n" * 300
    write_json(path, content)
    write_similarity(runs[0].parent / "analysis", "hostile", 0.1, HOSTILE)
    environment = read_json(runs[0] / "environment.json", "environment")
    write_json(runs[0] / "environment.json", environment | {"variables": {HOSTILE: HOSTILE}})
    html = page(runs)
    assert "<img" not in html and "\u202e" not in html and "49" not in re.findall(r"\{\{.*?\}\}", html)
    assert "‹U+202E›" in html and "{{7*7}}" in html
    scripts = re.findall(r"(?s)<script([^>]*)>(.*?)</script>", html)
    specs = [json.loads(body) for attributes, body in scripts if "application/json" in attributes]
    assert len(specs) == html.count('class="spec"') > 5


def test_control_characters_are_shown() -> None:
    assert visible("a\u202eb\u2066\x00") == "a‹U+202E›b‹U+2066›‹U+0000›"
    assert json.loads(inline_json({"<b>&\u2028": ["\u202e", 1.5, None]})) == {"<b>&‹U+2028›": ["‹U+202E›", 1.5, None]}
    assert not set("<>&") & set(inline_json(["</script>", "<!--", "&lt;"]))


def test_settings_that_are_newer_than_a_run_have_their_defaults(runs: list[Path]) -> None:
    settings = runs[0] / "config.yaml"
    older = settings.read_text().replace("  transliterations: draw\n", "")
    settings.write_text(older)
    assert "transliterations" not in older
    text = text_of(page(runs))
    differing = text[text.index("Settings in which the runs differ") : text.index("All settings")]
    assert "objectives.tcm.weight" in differing and "data.transliterations" not in differing
    settings.write_text(older.replace("pair_with: transliteration", "pair_with: nothing"))
    assert main(["report", "page", *map(str, runs)]) == 3
    assert "pair_with nothing" in text_of((runs[0] / "report.html").read_text())


def test_damaged_files_are_left_out_and_listed(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    (runs[0].parent / "results/sr_b/mlm.json").write_text("{")
    (runs[0].parent / "analysis/flores/mlm.similarity.json").write_text('{"task_type": "similarity", "model": {}}')
    with (runs[0] / "metrics.jsonl").open("a") as file:
        file.write('{"step": \n')
    assert main(["report", "page", *map(str, runs)]) == 3
    error = capsys.readouterr().err
    for part in ("sr_b/mlm.json", "mlm.similarity.json", "metrics.jsonl: 1 of the lines"):
        assert part in error
    text = text_of((runs[0] / "report.html").read_text())
    row = r"SR-B from eng_Latn to 7 languages \(mean\), top-10 [\d.]+ \[[^]]+\] – [\d.]+ "  # base, mlm, tcm
    assert re.search(row, text[text.index("Scores of all models") :])


def test_what_is_no_run_or_no_page_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "page", str(tmp_path)]) == 3
    assert "it has no config.yaml" in capsys.readouterr().err
    run = make_run(tmp_path / "run", LANGUAGES)
    assert main(["report", "page", str(run), "--out", str(tmp_path / "page")]) == 2
    assert main(["report", "page", str(run), "--results", str(tmp_path / "nowhere")]) == 3
    assert main(["report", "page", str(run), "--model", "a=b"]) == 3


def test_long_runs_are_thinned_but_keep_validation_and_the_last_step(tmp_path: Path) -> None:
    (run,) = read_runs([make_run(tmp_path / "run", LANGUAGES, records=1234)], damaged := [])
    steps = [record["step"] for record in run.records if "train/loss" in record]
    assert not damaged and len(steps) <= MOST_RECORDS + 1 and steps[0] == 1 and steps[-1] == 1234
    assert sum("validation/sr_b/mean" in record for record in run.records) == 1234 // 50
    assert run.record_count == 1234


def test_runs_of_the_same_name_can_be_told_apart(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / folder / "tcm", LANGUAGES, records=3) for folder in ("a", "b")]
    assert [run.name for run in read_runs([*paths, paths[0]], [])] == ["a/tcm", "b/tcm"]
