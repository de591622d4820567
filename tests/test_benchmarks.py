"""Benchmarks run on tiny models, those for a GPU too, so that the commands of their pages work when they are needed.

Only that of the traffic, whose many cases take half a minute, is left to the type checker.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.profiled import covered
from tests.support.encoders import word_tokenizer
from tests.support.labelled_world import write_sib200
from tests.support.ranks import ROOT
from translit_scale.corpus.tokenizer import save_tokenizer

SMALL = "--hidden 64 --layers 2 --vocabulary 300"
OF_SHARDS = "--shards {world}/shards --tokenizer {world}/tokenizer"


def run_benchmark(script: str, arguments: str, **paths: Path) -> str:
    """What the benchmark prints."""
    command = [sys.executable, f"benchmarks/{script}.py", *arguments.format(**paths).split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("checkpoint", f"--dir {{out}} {SMALL} --repeats 2", ["training waits", "loading the state"]),
        (
            "loader",
            f"{OF_SHARDS} --pairs 2048",
            ["this loader, again", "WebDataset, two files per pair", "packed, 1 rank"],
        ),
        ("many_ranks", f"{OF_SHARDS} --ranks 2 --batch 16", ["pairs visited: never, once, more often"]),
        ("memory", f"{OF_SHARDS} --pairs 4 --micro 2 --hidden 64 --layers 2", ["4"]),
        ("step", f"{OF_SHARDS} {SMALL} --pairs 2 --batches 2 --repeats 1", ["naive, eager", "packed, against sdpa"]),
        ("step", f"{OF_SHARDS} {SMALL} --pairs 2 --batches 2 --repeats 1 --embedding-pass", ["layer 1 of 2"]),
    ],
)
def test_benchmark_of_training(tiny_world: Path, tmp_path: Path, script: str, arguments: str, rows: list[str]) -> None:
    printed = run_benchmark(script, arguments, world=tiny_world, out=tmp_path / "out")
    for row in rows:
        assert re.search(rf"^\| {re.escape(row)} \|.*\d", printed, re.M), printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "row"),
    [("prepare", "", r"ukr_Cyrl, pairs/s/core"), ("romanize", "--each --sample 1", r"ukr_Cyrl")],
)
def test_benchmark_of_text(tmp_path: Path, script: str, arguments: str, row: str) -> None:
    for language, words in {"ukr_Cyrl": "дім кіт ліс", "hin_Deva": "घर बिल्ली वन"}.items():
        (tmp_path / f"{language}.txt").write_text("".join(f"{words} {number}.\n" for number in range(40)))
    printed = run_benchmark(script, f"{arguments} {{of}}/ukr_Cyrl.txt {{of}}/hin_Deva.txt", of=tmp_path)
    assert re.search(rf"^\| {row} \|.*\d", printed, re.M), printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("retrieval --languages eng_Latn,heb_Hebr", r"\| in the encoder \| [\d.]+ \|"),
        ("transfer --num-seeds 1 --workers 1", r"exit code 0, 8 jobs, 320 epochs"),
    ],
)
def test_benchmark_of_evaluation(tmp_path: Path, arguments: str, found: str) -> None:
    scripts = {"heb_Hebr": "ספר", "hin_Deva": "किताब", "kor_Hang": "책", "rus_Cyrl": "книга"}
    latin = dict.fromkeys(["eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "tur_Latn", "vie_Latn"], "book")
    data = write_sib200(tmp_path / "data", (*scripts, *latin))
    (data / "taxi1500").mkdir()
    for language, text in (scripts | latin).items():
        for split in ("train", "dev", "test"):
            (data / f"taxi1500/{language[:3]}_{split}.tsv").write_text(f"1\tFaith\t{text}\n2\tSin\t{text} {text}\n")
    save_tokenizer(word_tokenizer(), tmp_path / "tokenizer")
    printed = run_benchmark(
        "evaluation", f"{arguments} --data {{data}} --tokenizer {{of}}/tokenizer", data=data, of=tmp_path
    )
    assert re.search(found, printed), printed


@pytest.mark.slow
def test_benchmark_prints_a_line_for_each_case(tiny_world: Path) -> None:
    printed = run_benchmark(
        "gpu", f"{SMALL} --micro 2 4 --batches 8 --dropout 0 0.1 --steps 1 {OF_SHARDS}", world=tiny_world
    )
    lines = [cells for line in printed.splitlines() if len(cells := line.split(" | ")) == 12 and "pairs/s" not in cells]
    assert [(line[0], line[1]) for line in lines] == [("| 2", "1"), ("| 4", "1"), ("| 8", "2")] * 2
    assert all(float(line[3].replace(",", "")) > 0 for line in lines)
    assert printed.count("4 pairs in one micro-batch, profiled:\n\n| operation") == 2
    assert re.search(r"^\| aten::addmm +\| +[\d.]+ \| +\d+ \|$", printed, re.M)


def test_covered_time_counts_overlapping_kernels_once() -> None:
    assert covered([(5, 7), (0, 2), (1, 3), (6, 6.5)]) == 5
    assert covered([]) == 0


@pytest.mark.slow
def test_a_step_is_predicted_from_its_operations() -> None:
    """Each column removes kernels and time and changes no matrix product; the page shows what the code does today."""
    printed = run_benchmark("trace", "--pairs 256")
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in printed.splitlines() if "(" in line]
    cells = {row[0]: row[1:] for row in rows}
    products, totals = cells["matrix products"], [re.findall(r"[\d.]+", cell) for cell in cells["together"]]
    assert len(set(products)) == 1 and float(products[0].split()[0]) > 10
    milliseconds, kernels = ([float(x) for x in column] for column in zip(*totals, strict=True))
    assert milliseconds == sorted(set(milliseconds), reverse=True) and kernels == sorted(set(kernels), reverse=True)
    assert milliseconds[-1] <= 120 and kernels[-1] <= 1400
    (together,) = (line for line in printed.splitlines() if line.startswith("| together"))
    assert together in (ROOT / "benchmarks/gpu.md").read_text()
