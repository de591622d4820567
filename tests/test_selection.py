"""Checkpoints are measured as an exported model is, the best is kept, and training ends when none is better."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from tests.support.labelled_world import write_sib200
from tests.support.ranks import Ranks
from tests.support.tiny import make_config, romanize, sentences
from translit_scale.cli import main
from translit_scale.config import Config, SelectionConfig
from translit_scale.errors import EXIT_LOST, DataError
from translit_scale.evaluate.retrieval import model_selection as module
from translit_scale.evaluate.retrieval.metrics import hits
from translit_scale.evaluate.retrieval.model_selection import HOLDOUT, MEASURES, SELECT, half, make_scorer
from translit_scale.train.checkpointing.checkpoint import complete_checkpoints
from translit_scale.train.early_stopping import EarlyStopping
from translit_scale.train.launching import failure
from translit_scale.train.launching.ranks import Rank, start_rank
from translit_scale.train.loop import train

ROOT = Path(__file__).resolve().parents[1]
ZERO2 = ROOT / "ds_configs" / "zero2.json"
WORKER = ROOT / "tests" / "support" / "train_worker.py"
VERSES = 30
STILL = {"train__lr": 1e-12}
"""Weights that hardly move: no checkpoint is better than the first."""


@pytest.fixture(scope="module")
def verses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invented verses in two languages, one the romanization of the other."""
    folder = tmp_path_factory.mktemp("verses")
    texts = sorted(set(sentences(4 * VERSES, seed=5)), key=len)[-VERSES:]
    for language, side in (("ukr_Cyrl", texts), ("hrv_Latn", [romanize(text) for text in texts])):
        lines = [f"v{number}\t{text}\n" for number, text in enumerate(side)]
        (folder / f"{language}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rank() -> Rank:
    return start_rank()


def settings(verses: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Changes of the tiny experiment: early stopping, a checkpoint at every step, `changes`."""
    return {
        "selection__task": "sr_b", "selection__data": verses, "selection__languages": "[ukr_Cyrl, hrv_Latn]",
        "selection__patience": 2, "run__dir": out, "run__checkpoint_every": 1, "run__log_every": 1,
        "run__keep_checkpoints": 1, "train__max_steps": 5,
    } | changes  # fmt: skip


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def measured(run: Path, name: str = "validation/sr_b/mean") -> dict[int, float]:
    return {record["step"]: record[name] for record in records(run) if name in record}


def losses(run: Path) -> dict[int, float]:
    return {record["step"]: record["train/loss"] for record in records(run) if "train/loss" in record}


@pytest.fixture(scope="module")
def finished(tiny_world: Path, verses: Path, rank: Rank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five steps that keeps all its checkpoints and was measured while training."""
    out = tmp_path_factory.mktemp("runs")
    changes = settings(verses, out, run__keep_checkpoints=9, selection__patience=9, train__lr=5e-3)
    train(make_config(tiny_world, **changes), ZERO2, "auto", rank, make_scorer)
    return out / "tiny"


def select(run: Path, verses: Path, *options: str) -> int:
    return main(
        ["select", "--run", str(run), "--task", "sr_b", "--data", str(verses),
         "--languages", "ukr_Cyrl,hrv_Latn", *options]
    )  # fmt: skip


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the checkpoints whose weights are read."""
    read, names = module.trained_encoder, list[str]()

    def counting(run: Path, checkpoint: Path) -> Any:
        names.append(checkpoint.name)
        return read(run, checkpoint)

    monkeypatch.setattr(module, "trained_encoder", counting)
    yield names


def test_training_measures_what_an_exported_checkpoint_shows(
    finished: Path, verses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, best = measured(finished), json.loads((finished / "best.json").read_bytes())
    assert set(values) == {1, 2, 3, 4, 5} and len(set(values.values())) > 1
    order = sorted(values, key=lambda step: (-values[step], step))
    assert [row["checkpoint"] for row in best["ranked"]] == [f"step_{step:06d}" for step in order]
    assert best["checkpoint"] == f"step_{order[0]:06d}" and best["value"] == values[order[0]]
    assert best["measure"] == "mean" and best["ci95"][0] <= best["value"] <= best["ci95"][1]
    assert main(["export", "--run", str(finished), "--step", "best", "--out", str(tmp_path / "best")]) == 0
    assert f"step {order[0]} of" in capsys.readouterr().out
    evaluate = ["evaluate", "retrieval", "--task", "sr_b", "--data", str(verses), "--languages", "ukr_Cyrl,hrv_Latn"]
    assert main([*evaluate, "--model", f"m={tmp_path / 'best'}", "--out", str(tmp_path / "out")]) == 0
    scores = json.loads((tmp_path / "out/sr_b/m.json").read_bytes())["scores"]["test"]
    assert best["value"] == pytest.approx(np.mean([[score[f"top{k}"] for k in MEASURES["mean"]] for score in scores]))


def test_checkpoints_are_measured_once(
    finished: Path, verses: Path, tmp_path: Path, counted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert select(finished, verses) == 0 and counted == []  # training has measured them
    printed = capsys.readouterr().out
    values = measured(finished)
    lines = [line for line in printed.splitlines() if line.startswith("step_")]
    assert [line.split()[1] for line in lines] == [f"{100 * value:.1f}" for value in sorted(values.values())[::-1]]
    assert "note:" not in printed  # about the papers' verses: these are own ones
    assert select(finished, verses, "--measure", "top1") == 0 and counted == []
    assert json.loads((finished / "best.json").read_bytes())["measure"] == "top1"
    assert select(finished, verses, "--layer", "1") == 0 and len(counted) == 5
    assert select(finished, verses, "--layer", "1", "--limit", "20") == 0 and len(counted) == 10
    assert select(finished, verses, "--source", "ukr_Cyrl", "--layer", "1") == 0 and len(counted) == 15
    assert json.loads((finished / "best.json").read_bytes())["source"] == "ukr_Cyrl"
    complete = finished / "checkpoints/step_000003/COMPLETE.json"
    complete.write_text(complete.read_text() + "\n")  # other weights would have another record
    assert select(finished, verses, "--layer", "1") == 0 and counted[15:] == ["step_000003"]


def test_checkpoints_that_training_has_removed_are_named(
    finished: Path, verses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    assert select(run, verses) == 0 and "were removed" not in capsys.readouterr().out
    for step in (2, 4):
        shutil.rmtree(run / f"checkpoints/step_{step:06d}")
    assert select(run, verses) == 0
    removed = "chosen among 3 checkpoints: 2 others (steps 2 to 4) were removed in training; run.keep_every=1"
    assert removed in capsys.readouterr().out


def test_holdout_chooses_on_one_half_and_reports_the_other(
    finished: Path, verses: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []
    estimates = module.estimates
    monkeypatch.setattr(module, "estimates", lambda directions: seen.append(directions) or estimates(directions))
    assert select(finished, verses, "--holdout", "--measure", "top5", "--layer", "2", "--exclude-special") == 0
    printed, best = capsys.readouterr().out, json.loads((finished / "best.json").read_bytes())

    def share(directions: Any, part: str) -> float:
        found = [
            np.mean([hits(d.rank, 5)[row] for row, key in enumerate(d.text.ids) if half(key) == part])
            for d in directions
        ]
        return float(np.mean(found))

    chosen = max(range(5), key=lambda index: (share(seen[index], SELECT), -index))
    assert best["checkpoint"] == f"step_{chosen + 1:06d}"
    assert best["value"] == pytest.approx(share(seen[chosen], SELECT))
    assert best["holdout"]["value"] == pytest.approx(share(seen[chosen], HOLDOUT))
    assert f"on the other half: {100 * best['holdout']['value']:.1f}" in printed


def test_halves_depend_on_the_id_alone() -> None:
    keys = [f"MAT {chapter}:{verse}" for chapter in range(28) for verse in range(20)]
    assert 0.4 < np.mean([half(key) == SELECT for key in keys]) < 0.6
    assert [half(key) for key in ("v0", "v1", "v2", "v3", "v4")] == [HOLDOUT, SELECT, SELECT, SELECT, HOLDOUT]


def test_training_is_the_same_with_and_without_early_stopping(
    tiny_world: Path, verses: Path, rank: Rank, tmp_path: Path
) -> None:
    for name in ("with", "without"):
        changes = settings(verses, tmp_path, run__name=name, model__dropout=0.1, train__max_steps=3)
        changes = changes if name == "with" else {k: v for k, v in changes.items() if not k.startswith("selection")}
        torch.manual_seed(0)
        train(make_config(tiny_world, **changes), ZERO2, "auto", rank, make_scorer)
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    assert len(measured(tmp_path / "with")) == 3 and not (tmp_path / "without/best.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "zero"), [(2, 2), (2, 3)])
def test_training_ends_early_and_stays_ended(
    tiny_world: Path, verses: Path, tmp_path: Path, run_ranks: Ranks, ranks: int, zero: int
) -> None:
    words = [f"{name}={value}" for name, value in settings(verses, tmp_path, **STILL).items()]
    command = (ranks, WORKER, tiny_world, ROOT / f"ds_configs/zero{zero}.json", "auto", "never", *words)
    first, again = run_ranks(*command), run_ranks(*command)
    for job in (first, again):
        assert job.stdout.count("early stop after step 3: validation/sr_b/mean was best at step 1") == 1
    assert set(losses(tmp_path / "tiny")) == {1, 2, 3} == set(measured(tmp_path / "tiny"))
    kept = [path.name for path in complete_checkpoints(tmp_path / "tiny/checkpoints")]
    assert kept == ["step_000001", "step_000003"]  # the best one, and the newest


@pytest.mark.slow
def test_killed_while_measuring(tiny_world: Path, verses: Path, tmp_path: Path, run_ranks: Ranks) -> None:
    """The checkpoint that was not measured is measured at the next start."""
    words = [f"{name}={value}" for name, value in settings(verses, tmp_path, **STILL).items()]
    start = (2, WORKER, tiny_world, ZERO2, "auto")
    assert run_ranks(*start, "measure:0:2", *words, check=False).returncode == -9
    assert set(measured(tmp_path / "tiny")) == {1}
    assert "early stop after step 3" in run_ranks(*start, "never", *words).stdout
    assert set(measured(tmp_path / "tiny")) == {1, 2, 3}


@pytest.mark.slow
def test_a_missing_test_set_ends_all_ranks_before_training(
    tiny_world: Path, verses: Path, tmp_path: Path, run_ranks: Ranks
) -> None:
    changes = settings(verses, tmp_path, selection__languages="[ukr_Cyrl, pol_Latn]")
    words = [f"{name}={value}" for name, value in changes.items()]
    job = run_ranks(2, WORKER, tiny_world, ZERO2, "auto", "never", *words, check=False)
    assert job.returncode == 3 and f"there is no {verses / 'pol_Latn.tsv'}" in job.stderr
    assert not (tmp_path / "tiny/metrics.jsonl").exists()


class InventedScorer:
    """Values by step, told one after the other."""

    metric = "validation/invented"

    def __init__(self, told: list[float]) -> None:
        self.told, self.known = told, dict[int, float]()

    def score(self, checkpoint: Path) -> float:
        step = int(checkpoint.name.removeprefix("step_"))
        self.known[step] = self.told[step - 1]
        return self.known[step]

    def values(self) -> dict[int, float]:
        return dict(self.known)


@pytest.fixture(scope="module")
def stop_step(tiny_world: Path, rank: Rank, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., int | None]:
    """After which step a training with given measures ends, if it ends early."""
    out = tmp_path_factory.mktemp("invented")
    for step in range(1, 9):
        (out / f"tiny/checkpoints/step_{step:06d}").mkdir(parents=True)
        (out / f"tiny/checkpoints/step_{step:06d}/COMPLETE.json").touch()

    def run(told: list[float], patience: int, restart_at: int) -> int | None:
        selection = SelectionConfig(task="sr_b", data=out, languages=["pol_Latn"], patience=patience)
        config = make_config(tiny_world, run__dir=out, run__checkpoint_every=1).model_copy(
            update={"selection": selection}
        )
        scorer = InventedScorer(told)

        def make(_: Config) -> InventedScorer:
            return scorer

        stopping = EarlyStopping(config, len(told), rank, make)
        for step in range(1, len(told) + 1):
            if step == restart_at:  # a new process begins by asking about the checkpoint it goes on from
                stopping = EarlyStopping(config, len(told), rank, make)
                if step > 1 and stopping.ends(step - 1, None):
                    return step - 1
            if stopping.ends(step, None):
                return step
        return None

    return run


WAITING = """
import sys, threading, time
from pathlib import Path
import torch.distributed as dist
from tests.support.tiny import make_config
from translit_scale.config import SelectionConfig
from translit_scale.train.early_stopping import EarlyStopping
from translit_scale.train.launching.failure import run_rank
from translit_scale.train.launching.ranks import leave_ranks, start_rank

out, beats = Path(sys.argv[1]), []

class Scorer:
    metric = "invented"
    def score(self, checkpoint):
        time.sleep(1)
        return self.values()[int(checkpoint.name.removeprefix("step_"))]
    def values(self):
        return {1: 0.5, 2: 0.1}

def beat():
    while True:
        beats.append(time.sleep(0.05))

def body():
    rank = start_rank()
    def refuse(*args, **words):
        raise RuntimeError("Connection refused, remote=[127.0.1.1]:33445")
    dist.new_group = dist.broadcast = dist.broadcast_object_list = refuse
    selection = SelectionConfig(task="sr_b", data=out, languages=["pol_Latn"], patience=1)
    config = make_config(out, run__dir=out, run__checkpoint_every=1).model_copy(update={"selection": selection})
    stopping = EarlyStopping(config, 9, rank, lambda config: Scorer())
    threading.Thread(target=beat, daemon=True).start()
    found = [stopping.ends(1, None), stopping.ends(2, None)]
    assert len(beats) > 10, "no other thread could work"
    print(found, flush=True)
    leave_ranks()

run_rank(body)
"""


@pytest.mark.slow
def test_the_decision_needs_no_connection_but_that_to_the_first_rank(run_ranks: Ranks, tmp_path: Path) -> None:
    """A group of gloo beside that of nccl would need the hosts' own names, which Debian resolves to 127.0.1.1."""
    script = tmp_path / "script.py"
    script.write_text(WAITING)
    for step in (1, 2):
        (tmp_path / f"tiny/checkpoints/step_{step:06d}").mkdir(parents=True)
        (tmp_path / f"tiny/checkpoints/step_{step:06d}/COMPLETE.json").touch()
    assert run_ranks(3, script, tmp_path).stdout.count("[False, True]") == 3


def test_a_first_rank_that_is_lost_while_it_scores_is_a_lost_connection(
    rank: Rank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a defect, with which a job would not be queued again."""
    stopping = EarlyStopping(make_config(tmp_path), 9, rank, None)
    server = dist.TCPStore("localhost", 0, None, True, wait_for_workers=False)
    stopping.patience, stopping.store = 1, dist.TCPStore("localhost", server.port, None, False)
    threading.Timer(0.5, lambda held=[server]: held.pop()).start()
    del server
    with pytest.raises(RuntimeError) as error:
        stopping.ends(9, None)
    monkeypatch.setattr(failure, "join_world", lambda: SimpleNamespace(size=2))
    assert failure.reason_of(error.value) == ("lost the connection to another rank", EXIT_LOST)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 8))
def test_when_training_ends(
    stop_step: Callable[..., int | None], told: list[float], patience: int, restart_at: int
) -> None:
    expected, best, since = None, 0.0, 0
    for step, value in enumerate(told, start=1):
        best, since = (value, 0) if value > best else (best, since + 1)
        if since == patience:
            expected = step
            break
    assert stop_step(told, patience, restart_at) == expected


def test_nothing_to_select_or_export(tmp_path: Path, verses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert select(tmp_path / "nothing", verses) == 3 and "run folder not found" in capsys.readouterr().err
    assert select(tmp_path, verses) == 3 and "no complete checkpoint" in capsys.readouterr().err
    assert main(["export", "--run", str(tmp_path), "--step", "best"]) == 3
    assert "translit-scale select" in capsys.readouterr().err
    assert main(["export", "--run", str(tmp_path), "--step", "newest"]) == 2


def test_too_few_items_to_halve() -> None:
    scored = [module.ScoredCheckpoint("step_000001", {module.ALL: {}})]
    with pytest.raises(DataError, match="too few items"):
        module.ranked(scored, "mean", SELECT)


def test_a_checkpoint_is_a_model_wherever_one_is_asked_for(
    finished: Path, verses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its weights are those of its export, for retrieval, transfer and analysis."""
    assert main(["export", "--run", str(finished), "--step", "2", "--out", str(tmp_path / "export")]) == 0
    test_set = ["--task", "sr_b", "--data", str(verses), "--languages", "ukr_Cyrl,hrv_Latn", "--out", str(tmp_path)]
    models = ["--model", f"export={tmp_path / 'export'}", "--model", f"two={finished}@2", "--model", f"{finished}@best"]
    models += ["--model", str(finished), "--model", f"t={finished}@all"]
    assert main(["evaluate", "retrieval", *models, *test_set]) == 0
    labels = {path.stem for path in (tmp_path / "sr_b").glob("*.json")} - {"comparison"}
    assert labels == {"export", "two", "tiny@best", "tiny", *(f"t@{step}" for step in range(1, 6))}
    results = {label: json.loads((tmp_path / f"sr_b/{label}.json").read_bytes()) for label in labels}
    assert results["export"]["scores"] == results["two"]["scores"] == results["t@2"]["scores"]
    weights = {label: result["model"]["weights_sha256"] for label, result in results.items()}
    assert weights["export"] == weights["two"] == weights["t@2"] and weights["tiny"] == weights["t@5"]
    assert len({weights[f"t@{step}"] for step in range(1, 6)}) == 5
    assert results["tiny@best"]["model"]["path"].endswith(
        json.loads((finished / "best.json").read_bytes())["checkpoint"]
    )
    write_sib200(tmp_path, ("eng_Latn",))
    transfer = ["evaluate", "transfer", "--task", "sib200", "--data", str(tmp_path), "--source", "eng_Latn"]
    transfer += ["--epochs", "1", "--num-seeds", "1", "--workers", "1", "--out", str(tmp_path)]
    assert main([*transfer, *models[:4]]) == 0
    jobs = [json.loads((tmp_path / f"sib200/{label}.eng_Latn.seed42.json").read_bytes()) for label in ("export", "two")]
    assert jobs[0]["epochs"] == jobs[1]["epochs"] and jobs[0]["scores"] == jobs[1]["scores"]
    assert main(["analyze", "similarity", "--no-figure", "--model", f"{finished}@2", *test_set]) == 0
    for wrong, message in (("9", "no complete checkpoint step_000009"), ("last", "write")):
        assert main(["evaluate", "retrieval", "--model", f"{finished}@{wrong}", *test_set]) in (2, 3)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"selection__data": "elsewhere"}, {"selection__languages": "[ukr_Cyrl, mlt_Latn]"}])
def test_missing_test_set_names_the_settings(
    change: dict[str, str], verses: Path, tiny_world: Path, tmp_path: Path, rank: Rank
) -> None:
    """Before anything is trained; `--data`, which the reader's message names, is no option of training."""
    config = make_config(tiny_world, **settings(verses, tmp_path, **change))
    with pytest.raises(DataError, match=r"^selection: (.|\n)* selection\.data=DIR (.|\n)* selection=null$"):
        train(config, ZERO2, "none", rank, make_scorer)
