"""prepare under kills, Ctrl-C and full disks, in processes of its own: at most the running tasks are lost."""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from glob import glob
from pathlib import Path

import pytest

from tests.support.small_corpus import CYRILLIC, command, contents, edit_recipe, environment, invent, run, write_corpus
from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import DataError
from translit_scale.progress import Advance

pytestmark = pytest.mark.slow


def write_thai(folder: Path, lines: int) -> Path:
    """Thai letters at random, the slowest text to romanize."""
    write_corpus(folder)
    thai = "".join(map(chr, range(0x0E01, 0x0E30)))
    (folder / "pol.txt").write_text("".join(f"{line}\n" for line in invent(thai, lines, words=12)))
    (folder / "ukr.tsv").write_text("text\n" + "".join(f"{line}\n" for line in invent(thai[::-1], lines, words=12)))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A second of work, some thirty shards."""
    return write_thai(tmp_path / "data", 400)


def start(words: list[str], **options: object) -> subprocess.Popen[str]:
    """Starts `prepare` in a process group of its own."""
    return subprocess.Popen(
        words,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], pause: float = 0.005) -> None:
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(pause)


def shards(out: Path) -> int:
    """Shards that are made, before the set is finished."""
    return len(list(out.glob(".work/shard-*.json")))


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    data = write_thai(tmp_path / "data", 20_000)
    edit_recipe(data, "shard_blocks: 2", "shard_blocks: 10000")  # one task a language, of twenty seconds
    process = start(command(data, tmp_path / "out"))
    wait_for(lambda: len(list(tmp_path.glob("out/.work/select-*.json"))) == 2, process)
    time.sleep(0.5)
    process.kill()
    before = time.monotonic()
    process.communicate()  # until nobody has its end of the pipe any more
    assert time.monotonic() - before < 8 and process.returncode == -signal.SIGKILL
    assert not shards(tmp_path / "out")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Three languages that are quickly romanized (ASCII), and a short one that is not: some 110 shards."""
    folder = tmp_path / "data"
    folder.mkdir()
    codes = ("pol_Latn", "ces_Latn", "slk_Latn", "ukr_Cyrl")
    for number, code in enumerate(codes):
        alphabet, lines = (CYRILLIC, 600) if code == "ukr_Cyrl" else ("abcdefghijklmnopqrstuvwxyz"[number:], 18_000)
        (folder / f"{code}.txt").write_text("".join(f"{line}\n" for line in invent(alphabet, lines)))
    listed = "".join(f"  {code}: [{code}.txt]\n" for code in codes)
    (folder / "recipe.yaml").write_text(f"name: many\nlanguages:\n{listed}block_rows: 100\nshard_blocks: 5\n")
    return folder


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*")}


def phase(new: set[str]) -> str:
    """What a run was doing when it was killed, from the files that it left."""
    for pattern, name in (
        (r"manifest\.json", "removing the work"),
        (r"[^/]+\.tar", "renaming"),
        (r"\.work/\.run\..*/\.shard-.*\.tmp", "packing"),
        (r"\.work/\.run\..*/\.select-.*\.tmp", "selecting"),
        (r"\.work/s.*\.json", "romanizing"),
    ):
        if any(re.fullmatch(pattern, file) for file in new):
            return name
    return "starting"


def kill_at_a_random_moment(process: subprocess.Popen[str], out: Path, number: int, generator: random.Random) -> None:
    """Kills of the whole process group and of the parent alone take turns."""
    if number < 12:
        name = ".select-*" if number < 8 else ".shard-*"
        pattern = f"{out}/.work/.run.*/{name}"  # Path.glob fails where a folder goes meanwhile
        left = set(glob(pattern))  # noqa: PTH207
        wait_for(lambda: set(glob(pattern)) - left, process, pause=0)  # noqa: PTH207
        time.sleep(generator.uniform(0, 0.2) if number < 8 else 0)
    elif number < 18:
        enough = shards(out) + generator.randint(1, 8)
        wait_for(lambda: shards(out) >= enough, process)
        time.sleep(generator.uniform(0, 0.05))
    else:
        tars = len(list(out.glob("*.tar")))
        wait_for(lambda: len(list(out.glob("*.tar"))) > tars, process, pause=0)
        time.sleep(generator.choice([0, 0.0005, 0.002]))
    if process.poll() is None:
        process.kill() if number % 2 else os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


PHASES = {"selecting", "romanizing", "packing", "renaming"}


def test_25_kills_leave_no_trace(many: Path, tmp_path: Path) -> None:
    """Of the whole process group or of the parent alone, at random moments of every phase; restarted each time.

    On a busy machine a phase may not be hit among the first 25, so there are more until each one is.
    """
    run(many, tmp_path / "undisturbed", workers=2)
    expected = contents(tmp_path / "undisturbed")
    out, generator, hit = tmp_path / "killed", random.Random(25), Counter[str]()
    while hit.total() < 25 or (not hit.keys() >= PHASES and hit.total() < 75):
        number = hit.total() if hit.total() < 25 else generator.randrange(25)
        if number < 8 and len(list(out.glob(".work/select-*.json"))) == 4:
            shutil.rmtree(out)  # so that there is something to select
        before = files(out)
        process = start(command(many, out))
        kill_at_a_random_moment(process, out, number, generator)
        if process.returncode == 0:  # too late: once more from the beginning
            assert contents(out) == expected
            shutil.rmtree(out)
        else:
            hit[phase(files(out) - before)] += 1
    print(dict(hit))
    run(many, out, workers=2)
    assert contents(out) == expected
    assert hit.keys() >= PHASES


def test_ctrl_c_ends_quietly(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A shell's background job inherits an ignored Ctrl-C, and tests may run in one.
    process = start(command(data, out), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    wait_for(lambda: shards(out), process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "finished parts are kept" in errors and "Traceback" not in errors
    assert shards(out) and not (out / "manifest.json").exists()
    assert not list(out.glob(".work/.run.*"))


@pytest.mark.parametrize("full_while", ["selecting", "packing"])
def test_a_full_disk_is_said_and_survived(data: Path, tmp_path: Path, full_while: str) -> None:
    out = tmp_path / "out"
    edit_recipe(data, "shard_blocks: 2", "shard_blocks: 100")
    limit = {"selecting": 10_000, "packing": 150_000}[full_while]
    process = start(command(data, out), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    assert "no space left on the disk" in errors and "Traceback" not in errors
    assert {"selecting": "/.work/select-", "packing": "/.work/shard-"}[full_while] in errors
    assert not list(out.rglob("*.tar")) and not list(out.rglob("*.tmp"))
    run(data, out)
    run(data, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


def children(pid: int) -> list[int]:
    """The processes that this process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_that_is_killed_is_said(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(command(data, out))
    wait_for(lambda: shards(out), process)
    workers = [worker for child in children(process.pid) for worker in children(child)]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 3 and "a worker process was killed during shard" in errors
    assert "fewer --workers" in errors
    run(data, out, workers=2)
    run(data, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


def _die(task: int, advance: Advance) -> int:
    advance(1)
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def _fail(task: type[Exception], advance: Advance) -> None:
    raise task("because", "next")


def _square(task: int, advance: Advance) -> int:
    advance(task)
    return task * task


def test_workers_results_and_errors() -> None:
    amounts: list[int] = []
    assert run_tasks(_square, range(5), 2, amounts.append) == [0, 1, 4, 9, 16]
    assert sum(amounts) == 10
    with pytest.raises(DataError, match="a worker process was killed during 2"):
        run_tasks(_die, range(4), 2, amounts.append)
    with pytest.raises(DataError, match="because") as error:
        run_tasks(_fail, [DataError] * 3, 2, amounts.append)
    assert error.value.hint == "next"
    with pytest.raises(RuntimeError, match=r"failed\n(.|\n)*ZeroDivisionError: .*because"):
        run_tasks(_fail, [ZeroDivisionError] * 3, 2, amounts.append)
