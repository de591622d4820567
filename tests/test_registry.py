"""The registry is the one place that knows the tasks: commands, results and documents follow from its entries."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from tests.support.labelled_world import save_learner, write_sib200
from translit_scale.cli import main
from translit_scale.config import load_config
from translit_scale.errors import ConfigError
from translit_scale.evaluate.transfer.metrics import profiles
from translit_scale.report.published import published
from translit_scale.testsets.classification import SIB200_LABELS, LabelledTexts
from translit_scale.testsets.layouts import LANGUAGE, SPLIT, LanguageFiles, Layout
from translit_scale.testsets.registry import TASKS, default_tasks, retrieval_tasks, transfer_tasks
from translit_scale.testsets.task import MEASURES, Metrics, RetrievalTask, Task, TransferTask

DOCS = Path(__file__).parent.parent / "docs"


def table_rows(page: str) -> list[list[str]]:
    lines = (DOCS / page).read_text(encoding="utf-8").split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def documented_files(task: Task) -> str:
    groups = groupby(task.layouts, key=lambda layout: layout.content)
    return "; ".join(f"{code(tuple(layout.shown for layout in group))}: {content}" for content, group in groups)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_documentation_lists_every_task(task: Task) -> None:
    tables = ", ".join(task.tables) or "-"
    row = [f"`{task.name}`", task.title, tables, code(task.folders), documented_files(task)]
    assert row in table_rows("test-sets.md")
    assert (task.name in default_tasks()) == (task.name != "pos_words")


@pytest.mark.parametrize("task", transfer_tasks().values(), ids=lambda task: task.name)
def test_the_documentation_has_metrics_and_hyperparameters(task: TransferTask) -> None:
    (metrics,) = [row[1:] for row in table_rows("test-sets.md") if f"`{task.name}`" in row[0] and len(row) == 3]
    assert metrics == [code(task.metrics.paper), code(task.metrics.strict)]
    settings = task.hyperparameters
    (row,) = [row[1:] for row in table_rows("evaluation.md") if f"`{task.name}`" in row[0] and len(row) == 6]
    clip = "none" if settings.clip is None else str(settings.clip)
    assert [row[0], float(row[1]), row[3], row[4]] == [
        str(settings.epochs), settings.lr, str(settings.max_length), clip
    ]  # fmt: skip
    assert row[2].split()[0] == str(settings.batch_size)


@pytest.mark.parametrize("task", retrieval_tasks().values(), ids=lambda task: task.name)
def test_the_documentation_has_the_measures(task: RetrievalTask) -> None:
    rows = {row[0].strip("`"): row[2] for row in table_rows("evaluation.md") if row[0].strip("`") in MEASURES}
    assert [name for name, tasks in rows.items() if f"`{task.name}`" in tasks] == [task.measure]


def test_the_papers_tables_are_those_of_the_published_numbers() -> None:
    blocks = {name: {c.task for block in table.blocks for c in block.columns} for name, table in published().items()}
    for task in TASKS.values():
        assert task.tables == tuple(sorted(name for name, tasks in blocks.items() if task.name in tasks)), task.name


@pytest.mark.parametrize("task", transfer_tasks().values(), ids=lambda task: task.name)
def test_every_metric_of_a_task_is_computed(task: TransferTask) -> None:
    gold = [0, 1] if task.kind == "classification" else [[0, 1]]
    scores = profiles(task, gold, gold)
    assert (list(scores["paper"]), list(scores["strict"])) == (list(task.metrics.paper), list(task.metrics.strict))


def read_capitals(files: LanguageFiles) -> LabelledTexts:
    """A reader of one's own: `label: text` a line, labels in capitals."""
    lines = [line.split(": ", 1) for path in files.paths for line in path.read_text().splitlines()]
    labels = [[label.upper() for label in SIB200_LABELS].index(label) for label, _ in lines]
    texts, ids = [text for _, text in lines], [str(number) for number in range(len(lines))]
    return LabelledTexts(files.language, files.split, texts, labels, ids, {}, tuple(map(str, files.paths)))


CAPITALS = TransferTask(
    name="capitals",
    title="Capitals",
    kind="classification",
    folders=("capitals",),
    layouts=(Layout("{split}.{language}", "*.*", rf"{SPLIT}\.{LANGUAGE}", "LABEL: text", text_column=0),),
    reader=read_capitals,
    labels=SIB200_LABELS,
    metrics=Metrics(("macro_f1",), ("accuracy",)),
    hyperparameters=replace(transfer_tasks()["sib200"].hyperparameters, epochs=2, lr=1e-3),
)


def write_capitals(folder: Path, language: str) -> None:
    """The texts of the invented SIB-200 in files of another form."""
    write_sib200(folder, (language,))
    (folder / "capitals").mkdir(exist_ok=True)
    for path in (folder / "sib200" / language).iterdir():
        rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        lines = "".join(f"{label.upper()}: {text}\n" for _, label, text in rows)
        (folder / "capitals" / f"{path.stem}.{language}").write_text(lines)


def test_a_new_task_is_one_entry_and_one_reader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TASKS, "capitals", CAPITALS)
    for language in ("eng_Latn", "hin_Deva"):
        write_capitals(tmp_path, language)
    save_learner(tmp_path / "model")
    options = ["--model", f"tiny={tmp_path / 'model'}", "--data", str(tmp_path), "--source", "eng_Latn"]
    options += ["--num-seeds", "1", "--workers", "1", "--out", str(tmp_path / "out")]
    assert main(["evaluate", "transfer", "--task", "capitals", *options]) == 0  # a choice of the command
    result = json.loads((tmp_path / "out/capitals/tiny.eng_Latn.seed42.json").read_text())
    assert (result["task_name"], result["task_type"], result["settings"]["epochs"]) == ("capitals", "classification", 2)
    (english, hindi) = result["scores"]["test"]
    assert [score["language"] for score in (english, hindi)] == ["eng_Latn", "hin_Deva"]
    assert list(hindi["paper"]) == ["macro_f1"] and list(hindi["strict"]) == ["accuracy"] and hindi["n"] == 42
    assert "capitals: tiny, 1 seed" in capsys.readouterr().out
    assert main(["evaluate", "all", *options, "--epochs", "1", "--force"]) == 0  # part of the suite
    page = (tmp_path / "out/evaluation.txt").read_text()
    assert "capitals: tiny, 1 seed" in page and "sib200: tiny, 1 seed" in page
    assert main(["evaluate", "all", *options, "--task", "capital"]) == 2
    assert "did you mean capitals?" in capsys.readouterr().err
    assert main(["report", "tables", "--results", str(tmp_path / "out"), "--table", "b2"]) == 3  # has no Hindi
    assert "the results are" in capsys.readouterr().err


def test_help_and_configuration_know_a_new_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verses = replace(retrieval_tasks()["sr_b"], name="verses", title="Verses", measure="top5")
    monkeypatch.setitem(TASKS, "verses", verses)
    for command in (["evaluate", "retrieval"], ["evaluate", "all"], ["select"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert "verses" in capsys.readouterr().out.lower(), command
    settings = ["data.shards=d", "model.tokenizer=t", "run.name=r", "selection.data=d", "selection.languages=[a, b]"]
    assert load_config([], [*settings, "selection.task=verses"]).selection.task == "verses"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="expected one of sr_b, sr_f, tatoeba, verses"):
        load_config([], [*settings, "selection.task=ner"])
