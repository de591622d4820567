"""Studies at the scale of the papers: what they measure, and their results in the papers' tables."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from translit_scale.cli import build_parser, main
from translit_scale.report.published import AVERAGE, published
from translit_scale.study.manifest import steps_of
from translit_scale.study.paper_tables import paper_tables
from translit_scale.study.settings import read_study
from translit_scale.study.steps import Place

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("name", "verses"), [("paper_a", 450), ("paper_b", 500)])
def test_the_scale_of_the_paper_measures_every_number_of_its_tables(name: str, verses: int, tmp_path: Path) -> None:
    study = read_study(name)
    scale, measured = study.scales["paper"], set()
    for step in steps_of(study, scale, Place(tmp_path, tmp_path, tmp_path)):
        if step.words[:2] == ("evaluate", "all"):
            args = build_parser().parse_args(list(step.words))
            assert "sr_b" not in args.task or ("sr_b", verses) in args.limit
            measured |= {key for task in args.task for key in product([task], args.source, args.languages)}
    for block in (block for key, table in published().items() if key[0] == name[-1] for block in table.blocks):
        assert {study.paper_rows[model] for model in block.models} <= scale.seeds.keys()
        for line, numbers in block.printed.items():
            for column, number in zip(block.columns, numbers, strict=True):
                target = column.target or line.target
                if number is not None and target not in (None, AVERAGE):
                    assert (column.task, column.source, target) in measured


def test_the_papers_tables_are_filled_with_the_first_seeds_of_the_variants() -> None:
    study, folder = read_study("paper_a"), ROOT / "docs/study/paper_a-cpu"
    text = paper_tables(study, study.scales["cpu"], folder)
    assert "Model-2 = model2-seed0, " in text and "## a2" in text and "## a3" not in text
    result = json.loads((folder / "results/hin-urd/sr_b/model5-seed0.json").read_text())
    (test,) = (test for test in result["scores"]["test"] if test["query"] == "urd_Arab")
    row = next(line for line in text[text.index(r"hin\_Deva → urd") :].splitlines() if line.startswith("| Model-5 "))
    assert re.search(rf" \**{100 * test['top10']:.1f}\** \[[\d., ]+\] \(90\.4, ", row)
    assert paper_tables(read_study("wide"), read_study("wide").scales["cpu"], ROOT / "docs/study/wide-cpu") == ""


def test_what_a_study_has_not_measured_is_left_out_of_the_papers_tables(tmp_path: Path) -> None:
    """Models, tasks and columns of which only the paper has numbers; paper B's tables would be pages of them."""
    study, measured = read_study("paper_a"), "results/hin-urd/sr_b/model1-seed0.json"
    (tmp_path / measured).parent.mkdir(parents=True)
    shutil.copy(ROOT / "docs/study/paper_a-cpu" / measured, tmp_path / measured)
    text = paper_tables(study, study.scales["cpu"], tmp_path)
    assert "| Model-1 | " in text and "(78.2, " in text
    assert "Model-2" not in text and "SR-F" not in text


def trainings(name: str) -> Counter[str]:
    """Files of settings of the trainings of a scale `paper`, and how many seeds they have."""
    study = read_study(name)
    scale = study.scales["paper"]
    return Counter({
        " ".join([*study.corpora[corpus].experiment, *study.variants[variant]]): len(seeds)
        for corpus in scale.corpora or study.corpora
        for variant, seeds in scale.seeds.items()
        if variant not in scale.pretrained
    })  # fmt: skip


def test_hours_and_disk_in_the_document_are_those_of_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of the table, and the sums over the trainings of both studies."""
    monkeypatch.chdir(tmp_path)

    @cache
    def planned(config: str, gpus: int) -> tuple[float, float]:
        """GPU-hours, and bytes of all checkpoints."""
        assert main(["plan", "--config", *config.split(), f"--gpus-per-node={gpus}", "--json=plan.json"]) == 0
        plan = json.loads(Path("plan.json").read_text())
        return gpus * plan["hours"], plan["checkpoints"]["bytes"] * plan["checkpoints"]["kept"]

    document = (ROOT / "docs/study.md").read_text()
    rows = re.findall(r"^\| `(paper_[ab]/\S+ paper_[ab]/\S+)` \| (.*) \|$", document, re.MULTILINE)
    assert len(rows) == 10
    for config, cells in rows:
        (one, size), (eight, _) = (planned(config, gpus) for gpus in (1, 8))
        assert cells == f"{one:.1f} | {eight / 8:.1f} | {eight:.1f} | {size / 1e9:.0f}", config
    for name, unit, digits in (("paper_a", 1e9, 3), ("paper_b", 1e12, 2)):
        counts = trainings(name)
        one, eight = (sum(n * planned(config, gpus)[0] for config, n in counts.items()) for gpus in (1, 8))
        size = sum(n * planned(config, 1)[1] for config, n in counts.items()) / unit
        found = re.search(rf"{counts.total()}\s\((\d+)\sGPU-hours, or (\d+)[^;]*; ([\d.]+)\s[GT]B", document)
        assert found and list(found.groups()) == [f"{one:.0f}", f"{eight:.0f}", f"{size:.{digits}g}"]
