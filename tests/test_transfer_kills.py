"""A grid of transfer jobs under kills, in processes of its own: the same files as without, with 1 and 2 workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.labelled_world import save_learner, write_ner, write_sib200
from tests.support.small_corpus import environment
from translit_scale.cli import main

pytestmark = pytest.mark.slow

LANGUAGES = ("eng_Latn", "hin_Deva")
JOBS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    save_learner(folder / "model")
    return write_ner(write_sib200(folder, LANGUAGES), LANGUAGES)


def words(world: Path, out: Path, workers: int) -> list[str]:
    """Two tasks, three seeds."""
    text = f"evaluate transfer --model tiny={world / 'model'} --data {world} --task sib200 --task ner --source eng_Latn"
    return f"{text} --out {out} --epochs 20 --lr 5e-3 --batch-size 8 --num-seeds 3 --workers {workers}".split()


def results(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for ending in ("*/*.json", "*/*.npz")
        for path in out.glob(ending)
    }


def test_killed_twice_and_with_other_workers_the_files_are_the_same(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "killed"
    for workers, finished in ((2, 1), (1, 3)):
        run = subprocess.Popen(
            [sys.executable, "-m", "translit_scale.cli", *words(world, out, workers)],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        deadline = time.monotonic() + 200
        while len(list(out.glob("*/*.json"))) < finished and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert run.poll() is None, run.communicate()
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        assert finished <= len(list(out.glob("*/*.json"))) < JOBS
    before = {name: (out / name).stat().st_mtime_ns for name in results(out) if name.endswith("json")}
    assert main(words(world, out, workers=2)) == 0
    assert f"finished before: {len(before)} of {JOBS} jobs" in capsys.readouterr().err
    assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in before.items())

    assert main(words(world, tmp_path / "at_once", workers=1)) == 0
    expected = results(tmp_path / "at_once")
    assert len(expected) == 2 * JOBS and results(out) == expected
