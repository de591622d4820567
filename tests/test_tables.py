"""Tables: the printed numbers are the papers', cells are what the result files say, and marks follow the captions."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.cli import main
from translit_scale.commands.report import TABLES
from translit_scale.errors import ConfigError, DataError
from translit_scale.escaping import escape_csv, escape_latex
from translit_scale.evaluate.bootstrap import two_level
from translit_scale.evaluate.results import header, write_arrays
from translit_scale.evaluate.transfer.metrics import main_counts, profiles
from translit_scale.files import write_json
from translit_scale.languages import GROUPS, PAIRS
from translit_scale.report.paper_latex import Details
from translit_scale.report.published import AVERAGE, Column, Line, TableBlock, averaged, published
from translit_scale.report.render import comma_separated, markdown, tex
from translit_scale.report.results import Results, Value
from translit_scale.report.tables import Cell, fill, mark_columns, mark_models_and_sources, name_rows
from translit_scale.testsets.registry import TASKS, transfer_tasks

EVERYTHING = Details(True, True, True)
CELLS = {"a2": 120, "a3": 119, "b2": 330, "b3": 288, "b4": 100, "b5": 95,
         "b7": 165, "b8": 165, "b9": 165, "b10": 144, "b11": 144, "b12": 144}  # fmt: skip
SUMS = {"a2": 10114.6, "a3": 9451.8, "b2": 20448.8, "b3": 15345.3, "b4": 6265.4, "b5": 5117.8,
        "b7": 10060.8, "b8": 10742.9, "b9": 10219.4, "b10": 7467.7, "b11": 7743.8, "b12": 7675.6}  # fmt: skip
"""Of all numbers of a table, added up apart from this data file."""

WRONG_AVERAGES = {
    ("b2", "Glot500", "pos", "eng_Latn"): (72.8, 75.5),
    ("b3", "Glot500", "taxi1500", "kor_Hang"): (60.7, 59.3),
    ("b3", "Glot500", "taxi1500", "zho_Hani"): (62.1, 60.7),
    ("b3", "Glot500", "taxi1500", "tha_Thai"): (59.9, 58.2),
    ("b3", "Glot500", "sib200", "eng_Latn"): (79.3, 80.0),
}
"""Averages that the papers print, and what their own cells give, where that is more than rounding."""


def numbers(block: TableBlock) -> list[float]:
    return [value for values in block.printed.values() for value in values if value is not None]


def test_all_printed_cells_are_there() -> None:
    assert set(published()) == set(TABLES)
    assert {name: sum(len(numbers(b)) for b in table.blocks) for name, table in published().items()} == CELLS
    sums = {name: sum(sum(numbers(b)) for b in table.blocks) for name, table in published().items()}
    assert sums == pytest.approx(SUMS, abs=0.01)
    for table in published().values():
        for block in table.blocks:
            assert {column.task for column in block.columns} <= set(TASKS)
            assert all(len(values) == len(block.columns) for values in block.printed.values())
            assert all(0 <= number <= 100 for number in numbers(block))


def test_languages_are_those_of_the_papers() -> None:
    groups = dict.fromkeys(("b2", "b7", "b8", "b9"), "mediterranean")
    for name, group in {**groups, **dict.fromkeys(("b3", "b10", "b11", "b12"), "south_east_asia")}.items():
        (block,) = published()[name].blocks
        assert set(block.targets) == {*GROUPS[group], AVERAGE}
        assert {column.source for column in block.columns} <= {"eng_Latn", *GROUPS[group]}
        for line, values in block.printed.items():
            for column, value in zip(block.columns, values, strict=True):
                assert value is None or column.source != line.target
    for name in ("a2", "a3"):
        for block, pair in zip(published()[name].blocks, PAIRS.values(), strict=True):
            assert {column.source for column in block.columns} == {column.target for column in block.columns} == {*pair}


def test_the_document_says_which_rows_tables_have_and_what_to_evaluate() -> None:
    """A row for each table, in the document's words; tables that need the same refer to the first of them."""
    document = (Path(__file__).resolve().parents[1] / "docs/tables.md").read_text()
    first_with: dict[str, str] = {}
    for name, table in published().items():
        rows = dict.fromkeys(f"`{model}`" for block in table.blocks for model in block.models)
        sources: dict[str, dict[str, None]] = {}
        for column in (column for block in table.blocks for column in block.columns):
            sources.setdefault(column.task, {})[f"`{column.source}`"] = None
        tasks: dict[str, list[str]] = {}
        for task, codes in sources.items():
            tasks.setdefault(", ".join(codes), []).append(f"`{task}`")
        needs = "; ".join(f"{', '.join(names)} from {codes}" for codes, names in tasks.items())
        stated = needs if first_with.setdefault(needs, name) == name else f"as `{first_with[needs]}`"
        assert f"| `{name}` | {', '.join(rows)} | {stated} |" in document


def test_printed_averages_are_those_of_the_printed_cells() -> None:
    ablations = dict.fromkeys(("b2", "b7", "b8", "b9"), "b4") | dict.fromkeys(("b3", "b10", "b11", "b12"), "b5")
    for name, ablation in ablations.items():
        table, (block,), (averages,) = published()[name], published()[name].blocks, published()[ablation].blocks
        for model, row in ((model, {"Ours": "MLM+SEQ+TLM"}.get(model, model)) for model in block.models):
            for index, column in enumerate(block.columns):
                languages = averaged(table, column.task, column.source)
                mean = np.mean([block.printed[Line(model, language)][index] for language in languages])
                printed = block.printed[Line(model, AVERAGE)][index]
                where = (name, model, column.task, column.source)
                if where in WRONG_AVERAGES:
                    assert (printed, round(float(mean), 1)) == WRONG_AVERAGES[where]
                else:
                    assert printed == pytest.approx(mean, abs=0.1), where
                again = averages.printed[Line(row)][index]
                assert again == printed or again == pytest.approx(mean, abs=0.1), where


def write_retrieval(
    folder: Path, label: str, task: str, ranks: dict[tuple[str, str], Sequence[int]], items: bool = True
) -> None:
    """A result of retrieval as `evaluate` writes it, from invented ranks."""
    tests, arrays = [], {}
    for (query, candidates), rank in ranks.items():
        shares = {f"top{k}": float((np.array(rank) <= k).mean()) for k in (1, 5, 10)}
        tests.append(
            {"query": query, "candidates": candidates, **shares,
             "ci95": {name: [share / 2, share] for name, share in shares.items()}}
        )  # fmt: skip
        arrays[f"rank:{query}->{candidates}"] = np.array(rank)
        arrays[f"ids:{query}->{candidates}"] = np.array([str(i) for i in range(len(rank))])
    write_json(
        folder / task / f"{label}.json",
        {**header(task, "retrieval"), "model": {"label": label}, "settings": {}, "scores": {"test": tests}},
    )
    if items:
        write_arrays(folder / task / f"{label}.items.npz", arrays)


def write_transfer(
    folder: Path, label: str, task: str, source: str, seed: int, tests: dict[str, tuple[list[Any], list[Any]]]
) -> None:
    """A result of transfer as `evaluate` writes it, from invented gold and predicted labels."""
    scores, arrays = [], {}
    for language, (gold, predicted) in tests.items():
        found = profiles(transfer_tasks()[task], gold, predicted)
        scores.append({"language": language, "main_score": next(iter(found["strict"].values())), **found})
        for name, side in (("gold", gold), ("predicted", predicted)):
            arrays[f"{name}:{language}"] = np.hstack(side).astype(np.int16)
        if transfer_tasks()[task].kind == "classification":
            arrays[f"ids:{language}"] = np.array([f"v{i}" for i in range(len(gold))])
        else:
            arrays[f"words:{language}"] = np.array([len(tags) for tags in gold])
    stem = folder / task / f"{label}.{source}.seed{seed}"
    settings = {"source": source.split("+"), "seed": seed}
    record = {**header(task, transfer_tasks()[task].kind), "model": {"label": label}, "settings": settings}
    write_json(stem.with_name(f"{stem.name}.json"), record | {"scores": {"test": scores}})
    write_arrays(stem.with_name(f"{stem.name}.items.npz"), arrays)


def write_example(folder: Path) -> None:
    """Two models on one pair: `mlm` hits 6 and 7 of 8, `a_ll` 7 and 7."""
    for label, first in (("mlm", [1] * 6 + [2, 20]), ("a_ll", [1] * 7 + [2])):
        ranks = {("pol_Latn", "ukr_Cyrl"): first, ("ukr_Cyrl", "pol_Latn"): [1] * 7 + [6]}
        write_retrieval(folder, label, "sr_b", ranks)


MARKDOWN = """\
| model | top-1 pol\\_Latn → ukr\\_Cyrl | top-5 pol\\_Latn → ukr\\_Cyrl |
| --- | ---: | ---: |
| Model-1 | <u>75.0</u> [37.5, 75.0] (74.7, +0.3) | <u>87.5</u> [43.8, 87.5] (88.2, -0.7) |
| Model-2 | - (70.2) | - (85.3) |
| Model-3 | - (76.4) | - (89.8) |
| Model-4 | - (74.7) | - (90.0) |
| Model-5 | **87.5** [43.8, 87.5] (82.0, +5.5) | **100.0** [50.0, 100.0] (91.8, +8.2) |
"""

TEX = r"""\begin{tabular}{@{}lrrrrrrrrrrrr@{}}
\toprule
 & \multicolumn{3}{c}{SR-B (pol $\to$ ukr)} & \multicolumn{3}{c}{SR-B (ukr $\to$ pol)} &"""
TEX_ROW = r"Model-1 & \underline{75.0} & \underline{87.5} & \underline{87.5} & "
TEX_ALL = r"""Model-2 & -- & -- & -- & -- & -- & -- \\
 & (70.2) & (85.3) & (88.7) & (74.7) & (90.0) & (92.7) \\"""


def test_rendered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_example(tmp_path / "results")
    (tmp_path / "results/notes.json").write_text("[1]")
    command = ["report", "tables", "--results", str(tmp_path / "results"), "--table", "a2"]
    rows = ["--model", "model1=mlm", "--model", "Model-5=a_ll"]
    assert main([*command, *rows]) == 0
    printed = capsys.readouterr().out
    assert "Table 2)" in printed and "value \\[95 % interval\\]" in printed

    def narrow(line: str) -> str:
        return " | ".join(line.split(" | ")[:3]) + " |"

    lines = [narrow(line) for line in printed.split("**SR-B**")[1].split("\n") if line.startswith("|")]
    assert "\n".join(lines[:7]) + "\n" == MARKDOWN
    assert main([*command, *rows, "--format", "tex", "--out", str(tmp_path / "tables")]) == 0
    text = (tmp_path / "tables/a2.tex").read_text()
    assert TEX not in text and TEX.replace("r" * 12, "r" * 6) in text.replace(r" \\" + "\n\\cmidrule", " &")
    assert TEX_ROW in text.replace(r" \\", " & ") and "Model-2" not in text and "[" not in text.split("\\midrule")[1]
    shown = ["--intervals", "--published", "--differences"]
    assert main([*command, *rows, "--format", "tex", "--out", str(tmp_path / "tables"), *shown]) == 0
    text = (tmp_path / "tables/a2.tex").read_text()
    assert TEX_ALL in text and " & 37.5--75.0 & " in text and "(74.7, +0.3)" in text and "(88.2, $-$0.7)" in text
    assert main([*command, *rows, "--format", "csv", "--out", str(tmp_path / "tables")]) == 0
    records = list(csv.DictReader(io.StringIO((tmp_path / "tables/a2.csv").read_text())))
    assert len(records) == 120 and sum(float(record["paper"]) for record in records) == pytest.approx(SUMS["a2"])
    (record,) = (r for r in records if r["model"] == "Model-1" and r["target"] == "ukr_Cyrl" and r["metric"] == "top5"
                 and r["task"] == "sr_b")  # fmt: skip
    assert record["value"] == "87.50" and record["difference"] == "-0.70" and record["underlined"] == "1"
    assert next(r for r in records if r["model"] == "Model-2")["value"] == ""
    capsys.readouterr()
    assert main([*command, "--model", "random & new=a_ll"]) == 0
    assert "| random \\& new | 87.5 " in capsys.readouterr().out  # alone, it is the best of nothing


def test_averages_leave_out_the_source_and_say_what_is_missing(tmp_path: Path) -> None:
    table = published()["b4"]
    languages = averaged(table, "sr_b", "fas_Arab")
    assert len(languages) == 8 and "fas_Arab" not in languages
    ranks = {("fas_Arab", language): [1, 1, 11, 11 if i % 2 else 1] for i, language in enumerate(languages)}
    write_retrieval(tmp_path, "full", "sr_b", ranks)
    write_retrieval(tmp_path, "part", "sr_b", dict(list(ranks.items())[:3]), items=False)
    results = Results(tmp_path)
    value = results.value("full", "sr_b", "top10", "fas_Arab", [*languages, "fas_Arab"])
    assert value and value.value == pytest.approx(0.625) and value.languages == languages
    assert value.low is not None and value.high is not None and value.low < 0.625 < value.high
    part = results.value("part", "sr_b", "top10", "fas_Arab", languages)
    assert part == Value((0.75 + 0.5 + 0.75) / 3, None, None, languages=languages[:3])
    (block,) = fill(table, results, {"MLM": "full", "MLM+TLM": "part"})
    full, cut = (next(row[1] for row in block.rows if row[0].line.model == model) for model in ("MLM", "MLM+TLM"))
    assert full.difference == pytest.approx(62.5 - 53.2) and cut.difference is None and cut.value == part
    assert "3/8 (54.7)" in markdown([block], EVERYTHING) and "| - (44.5)" in markdown([block], EVERYTHING)
    (b2,) = fill(published()["b2"], results, {"Ours": "full"})
    row = next(row for row in b2.rows if row[0].line == Line("Ours", "fas_Arab"))
    assert [cell.is_source for cell in row[:4]] == [False, True, False, False] and "| src |" in markdown(
        [b2], EVERYTHING
    )
    assert comma_separated([b2], EVERYTHING).count("fas_Arab,fas_Arab") == 0


def test_a_folder_with_several_groups_fills_a_table_with_several_blocks(tmp_path: Path) -> None:
    """Results of one label are joined where their directions or languages differ, and refused where they do not."""
    poles, urdu = [1] * 6 + [2, 20], [1, 1, 1, 2]
    write_retrieval(tmp_path / "pol-ukr", "m", "sr_b", {("pol_Latn", "ukr_Cyrl"): poles})
    write_retrieval(tmp_path / "hin-urd", "m", "sr_b", {("hin_Deva", "urd_Arab"): urdu}, items=False)
    for group, language in (("pol-ukr", "ukr_Cyrl"), ("hin-urd", "urd_Arab")):
        write_transfer(tmp_path / group, "m", "sib200", "eng_Latn", 42, {language: ([0, 1], [0, 1])})
    write_transfer(tmp_path / "pol-ukr", "m", "sib200", "eng_Latn", 43, {"ukr_Cyrl": ([0, 1], [0, 1])})
    results = Results(tmp_path)
    first = [block.rows[0][0].value for block in fill(published()["a2"], results, {"Model-1": "m"})]
    assert [value and value.value for value in first] == [0.75, 0.75]
    assert results.retrieval["sr_b", "m"].arrays and len(results.files) == 5
    for language, seeds in (("ukr_Cyrl", 2), ("urd_Arab", 1)):
        value = results.value("m", "sib200", "macro_f1", "eng_Latn", [language])
        assert value and (value.value, value.languages, value.seeds) == (1.0, (language,), seeds)
    write_transfer(tmp_path / "again", "m", "sib200", "eng_Latn", 42, {"ukr_Cyrl": ([0, 1], [0, 1])})
    with pytest.raises(
        DataError, match=r"again/sib200/m.eng_Latn.seed42.json and .*pol-ukr.* the same thing, ukr_Cyrl"
    ):
        Results(tmp_path)


def test_means_over_seeds_and_what_the_test_set_calls_a_language(tmp_path: Path) -> None:
    gold = [0, 1, 2, 3, 4, 5, 6] * 6
    generator = np.random.default_rng(0)
    values = []
    for seed in (42, 43, 44):
        predicted = [label if generator.random() < 0.5 + seed / 500 else 0 for label in gold]
        write_transfer(tmp_path, "m", "sib200", "yue_Hant", seed, {"kor_Hang": (gold, predicted)})
        values.append(profiles(transfer_tasks()["sib200"], gold, predicted)["paper"]["macro_f1"])
    value = Results(tmp_path).value("m", "sib200", "macro_f1", "yue_Hani", ["kor_Hang"])
    assert value and value.value == pytest.approx(np.mean(values)) and value.seeds == 3
    assert value.low is not None and value.high is not None and value.low < value.value < value.high
    assert Results(tmp_path).value("m", "sib200", "macro_f1", "kor_Hang", ["yue_Hani"]) is None
    with pytest.raises(DataError, match="no entity_f1 among macro_f1"):
        Results(tmp_path).value("m", "sib200", "entity_f1", "yue_Hani", ["kor_Hang"])


def test_interval_of_an_average_equals_drawing_seeds_and_texts_by_hand(tmp_path: Path) -> None:
    generator, task, n = np.random.default_rng(1), transfer_tasks()["taxi1500"], 40
    gold = {"tur_Latn": [i % 6 for i in range(n)], "mlt_Latn": [i % 6 for i in range(n - 8)]}
    answers = []
    for seed in range(3):
        share = (0.5, 0.7, 0.75)[seed]
        answers.append({
            language: [label if generator.random() < share else int(generator.integers(6)) for label in labels]
            for language, labels in gold.items()
        })  # fmt: skip
        write_transfer(tmp_path, "m", "taxi1500", "eng_Latn", seed, {k: (v, answers[-1][k]) for k, v in gold.items()})
    value = Results(tmp_path).value("m", "taxi1500", "macro_f1", "eng_Latn", list(gold))
    means = []
    for _ in range(500):
        rows, scores = generator.integers(0, n, n), []
        for seed in generator.integers(0, 3, 3):
            for language, labels in gold.items():
                own = [row for row in rows if row < len(labels)]
                counts = main_counts(task, [labels[row] for row in own], [answers[seed][language][row] for row in own])
                scores.append(counts["paper"].score)
        means.append(np.mean(scores))
    assert value and value.seeds == 3 and value.languages == tuple(gold)
    np.testing.assert_allclose([value.low, value.high], np.percentile(means, [2.5, 97.5]), atol=0.025)


def test_tags_are_cut_into_their_sentences(tmp_path: Path) -> None:
    gold = [[0, 3, 6], [6], [2, 6, 1]]
    predicted = [[0, 3, 6], [1], [2, 6, 6]]
    write_transfer(tmp_path, "m", "ner", "eng_Latn", 1, {"amh_Ethi": (gold, predicted), "tur_Latn": (gold, gold)})
    result = Results(tmp_path)
    value = result.value("m", "ner", "entity_f1", "eng_Latn", ["amh_Ethi"])
    assert value and value.value == profiles(transfer_tasks()["ner"], gold, predicted)["paper"]["entity_f1"]
    assert value.low is not None and value.low <= value.value
    strict = result.value("m", "ner", "entity_f1", "eng_Latn", ["tur_Latn"], profile="strict")
    assert strict and (strict.value, strict.high, strict.languages) == (1.0, 1.0, ("tur_Latn",))


def test_two_levels() -> None:
    draws = np.random.default_rng(0).normal(0.6, 0.05, (4000, 1, 1))
    one = two_level(draws)
    np.testing.assert_allclose([one.low, one.high], np.percentile(draws, [2.5, 97.5]))
    apart = two_level(np.concatenate([draws - 0.3, draws + 0.3], axis=1))
    assert apart.value == pytest.approx(one.value) and apart.low < 0.3 and apart.high > 0.9


shown = st.lists(st.one_of(st.none(), st.sampled_from([0.5, 0.5001, 0.6, 0.7])), min_size=1, max_size=5)


def cells_of(column: Sequence[float | None]) -> list[list[Cell]]:
    where = Column("sr_b", "top1", "pol_Latn", "ukr_Cyrl")
    return [
        [Cell(where, Line(f"m{i}"), None if share is None else Value(share, None, None))]
        for i, share in enumerate(column)
    ]


@given(shown)
def test_best_and_second_best_as_rounded(column: list[float | None]) -> None:
    marked = [row[0] for row in mark_columns(cells_of(column))]
    there = sorted({round(100 * share, 1) for share in column if share is not None}, reverse=True)
    if sum(share is not None for share in column) < 2:  # alone, it is the best of nothing
        there = []
    for cell in marked:
        assert cell.bold == (bool(there) and cell.shown == there[0])
        assert cell.underlined == (len(there) > 1 and cell.shown == there[1])


def test_best_model_and_best_source() -> None:
    columns = [Column("sr_b", "top10", source, None) for source in ("eng_Latn", "ell_Grek")]
    shares = {"Glot500": (0.6, 0.5), "Ours": (0.55, 0.7)}
    rows = [
        [
            Cell(column, Line(model, "tur_Latn"), Value(share, None, None))
            for column, share in zip(columns, of, strict=True)
        ]
        for model, of in shares.items()
    ]
    marked = mark_models_and_sources(rows)
    assert [[cell.bold for cell in row] for row in marked] == [[True, False], [False, True]]
    assert [[cell.underlined for cell in row] for row in marked] == [[True, False], [False, True]]


def test_rows_and_labels() -> None:
    assert name_rows(["model1=x", "MLM+seq=y", "own=x"], ["x", "y"]) == {"Model-1": "x", "MLM+SEQ": "y", "own": "x"}
    assert name_rows([], ["Model-2", "z"]) == {"Model-2": "Model-2", "z": "z"}
    assert name_rows([], ["mlm"]) == {"mlm": "mlm"}  # not paper B's MLM, which other tables would leave out
    with pytest.raises(ConfigError, match="Model-1 occurs twice"):
        name_rows(["model1=x", "Model-1=y"], ["x", "y"])
    with pytest.raises(ConfigError, match="no results of 'w'"):
        name_rows(["model1=w"], ["x", "y"])


def test_results_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder not found"):
        Results(tmp_path / "nothing")
    with pytest.raises(DataError, match="no results"):
        Results(tmp_path)
    write_example(tmp_path / "a")
    write_example(tmp_path / "b")
    with pytest.raises(DataError, match="results of the same thing"):
        Results(tmp_path)
    path = tmp_path / "a/sr_b/mlm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    with pytest.raises(DataError, match="schema 99"):
        Results(tmp_path / "a")


@given(st.text())
def test_labels_stay_text(text: str) -> None:
    assert not escape_csv(text)[:1] or escape_csv(text)[0] not in "=+-@"
    unescaped = escape_latex(text).replace("{[}", "")
    for letter in "&%$#_{}":
        unescaped = unescaped.replace(f"\\{letter}", "")
    for name in ("backslash", "asciitilde", "asciicircum"):
        unescaped = unescaped.replace(f"\\text{name}{{}}", "")
    assert not set(unescaped) & set("\\&%$#_{}[~^\n")


def test_tables_of_nothing_but_printed_numbers(tmp_path: Path) -> None:
    write_retrieval(tmp_path, "other", "my_set", {("pol_Latn", "ukr_Cyrl"): [1]})
    for name in TABLES:
        for render in (markdown, tex, comma_separated):
            assert render(fill(published()[name], Results(tmp_path), {}), EVERYTHING)


def test_no_model_is_left_out_and_no_table_is_empty_unsaid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("mine", "base"):
        write_retrieval(tmp_path, label, "sr_b", {("ell_Grek", "mlt_Latn"): [1, 30]})
    command = ["report", "tables", "--results", str(tmp_path), "--table"]
    assert main([*command, "b2", "--model", "MLM+TLM=mine", "--model", "Glot500=base"]) == 0
    assert capsys.readouterr().out.count("| MLM+TLM | mlt\\_Latn |") == 5
    assert main([*command, "b9", "--model", "MLM+TLM=mine"]) == 0
    assert "| MLM+TLM | mlt\\_Latn | - (76.8) | - (82.0) | <u>50.0" not in capsys.readouterr().out  # alone in its row
    assert main([*command, "b3", "--model", "ours=mine"]) == 3
    message = capsys.readouterr().err
    assert "no cell of b3 has a result of Ours (mine); the results are sr_b" in message
    assert main([*command, "all", "--model", "own=mine"]) == 0
    assert "no result fills a2, a3, b3" in capsys.readouterr().err
    write_retrieval(tmp_path, "stray", "my_set", {("ell_Grek", "mlt_Latn"): [1]})
    assert main([*command, "all"]) == 3
    assert "has a result of stray" in capsys.readouterr().err


def write_everything(folder: Path, tables: Sequence[str]) -> None:
    """Invented results of retrieval for every cell of tables."""
    generator = np.random.default_rng(0)
    for label in ("first", "second"):
        ranks: dict[str, dict[tuple[str, str], Sequence[int]]] = {}
        for block in (block for name in tables for block in published()[name].blocks):
            for column in (column for column in block.columns if column.metric.startswith("top")):
                for target in [column.target] if column.target else block.targets:
                    if target not in (None, AVERAGE, column.source):
                        direction = (column.source, str(target))
                        ranks.setdefault(column.task, {})[direction] = generator.integers(1, 30, 20).tolist()
        for task, of_task in ranks.items():
            write_retrieval(folder, label, task, of_task)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (Debian: texlive-latex-base)")
def test_the_latex_fits_the_page_of_the_acl_style(tmp_path: Path) -> None:
    """Two columns, A4, margins of 2.5 cm, 11 pt, and no smaller font than \\scriptsize."""
    write_everything(tmp_path / "results", ("a2", "b2"))
    command = ["report", "tables", "--results", str(tmp_path / "results"), "--format", "tex", "--table"]
    models = ["--model", "Glot500=first", "--model", "Ours=second"]
    for name, options in {
        "b2": [],
        "a2": ["--intervals", "--published", "--differences"],
        "b4": ["--published"],
    }.items():
        rows = ["--model", "Model-1=first", "--model", "Model-5=second"] if name == "a2" else models
        assert main([*command, name, *rows, *options, "--out", str(tmp_path)]) == 0
    for name in ("averages", "languages"):
        assert main([*command, name, *models, "--out", str(tmp_path)]) == 0
    names = ("a2", "b2", "b4", "averages", "languages")
    inputs = "".join(f"\\input{{{name}.tex}}\\clearpage\n" for name in names)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[11pt,a4paper,twocolumn]{article}\n"
        "\\usepackage[a4paper,margin=2.5cm,columnsep=0.6cm]{geometry}\n\\usepackage{booktabs}\n"
        f"\\begin{{document}}\nText.\n{inputs}\\end{{document}}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    text = "".join((tmp_path / f"{name}.tex").read_text() for name in names)
    assert "resizebox" not in text and "tiny" not in text
    assert all(f"\\label{{tab:{name}}}" in text for name in ("a2", "b2", "b4", "averages-1", "languages-1"))
    assert "\\multicolumn{4}{c}{SR-B}" in text and "Latn & Arab & Grek & Hebr" in re.sub(
        r"\\multicolumn\{1\}\{c\}\{(\w+)\}", r"\1", text
    )
