"""The tasks of a job array: any split, order and repetition gives the same set, and finalize can be killed anywhere."""

import errno
import fcntl
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_corpus import (
    CYRILLIC,
    ROOT,
    contents,
    edit_recipe,
    environment,
    invent,
    run,
    write_corpus,
)
from translit_scale.cli import main
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import ConfigError, DataError
from translit_scale.prepare import inputs, locking, publish, tasks
from translit_scale.prepare.array import ArrayTaskResult, Partition, array_task, partition
from translit_scale.prepare.run import prepare, prepare_array_task


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """As for a single run, with two more languages: one that is more than half of the text, one that is tiny."""
    folder = write_corpus(tmp_path / "data")
    edit_recipe(folder, "languages:", "languages:\n  bul_Cyrl: [bul.txt]\n  srp_Cyrl: [srp.txt]")
    (folder / "bul.txt").write_text("".join(f"{line}\n" for line in invent(CYRILLIC, 250)))
    (folder / "srp.txt").write_text("ж\n")
    return folder


def share(data: Path, out: Path, task_id: int, num_tasks: int, force: bool = False) -> ArrayTaskResult | None:
    return prepare_array_task(data / "recipe.yaml", data, out, 1, task_id, num_tasks, force)


def publish_set(data: Path, out: Path, force: bool = False) -> dict[str, bytes]:
    prepare(data / "recipe.yaml", data, out, 1, force, finalize=True)
    assert {path.name for path in out.glob(".*")} == {".lock", ".inputs.json"}
    ShardSet.open(out)
    return contents(out)


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 10**9), min_size=1), st.integers(1, 40))
def test_every_shard_is_one_tasks(sizes: dict[str, int], num_tasks: int) -> None:
    assigned = partition(sizes, num_tasks)
    assert len(assigned) == num_tasks
    partitions = Counter(one for of_task in assigned for one in of_task)
    for language in sizes:
        parts = next(one.parts for one in partitions if one.language == language)
        assert all(partitions[Partition(language, part, parts)] == 1 for part in range(parts))
        partitions -= Counter(Partition(language, part, parts) for part in range(parts))
    assert not partitions
    mean = sum(sizes.values()) / num_tasks
    loads = [sum(sizes[language] / parts for language, _, parts in of_task) for of_task in assigned]
    assert max(loads) <= 2 * mean + 1  # no part is larger than the mean, and the least loaded gets the next


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 7])
def test_any_number_of_tasks_in_any_order_and_twice(data: Path, tmp_path: Path, num_tasks: int) -> None:
    run(data, tmp_path / "one")
    out = tmp_path / "out"
    order = [*range(num_tasks), *range(0, num_tasks, 2)]
    random.Random(num_tasks).shuffle(order)
    for task_id in order:
        share(data, out, task_id, num_tasks)
        assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    assert publish_set(data, out) == contents(tmp_path / "one")
    assert publish_set(data, out) == contents(tmp_path / "one")
    assert share(data, out, 0, num_tasks) is None


def test_tasks_do_what_is_theirs_and_only_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: Counter[str] = Counter()
    genuine = tasks.encode_shard

    def counting(language: str, number: int, blocks: Sequence[object]) -> object:
        made[f"{language} {number}"] += 1
        return genuine(language, number, blocks)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "encode_shard", counting)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    command = ["prepare", str(data / "recipe.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    printed = []
    for task_id in (0, 1, 2, 1):
        assert main([*command, "--task-id", str(task_id), "--num-tasks", "3"]) == 0
        printed.append(capsys.readouterr().out)
    assert set(made.values()) == {1}
    assert made.keys() == {f"{code} {n}" for code, number in (("bul_Cyrl", 8), ("pol_Latn", 2), ("ukr_Cyrl", 2),
                                                              ("srp_Cyrl", 1)) for n in range(number)}  # fmt: skip
    assert printed[0] == "task 0 of 3: 5 shards of 2 languages, 146 pairs\n"
    assert printed[3] == printed[1].replace("shards", "shards (5 of them existed before)")
    assert main([*command, "--finalize"]) == 0
    assert "written to" in capsys.readouterr().out
    assert main([*command, "--task-id", "2", "--num-tasks", "3"]) == 0
    assert capsys.readouterr().out == "task 2 of 3: nothing to do, the set is finished\n"
    assert main([*command, "--num-tasks", "3"]) == 2
    assert "--num-tasks needs --task-id" in capsys.readouterr().err


def test_more_tasks_than_work(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "one")
    found = [share(data, tmp_path / "out", task_id, 40) for task_id in range(40)]
    assert sum(task.pairs for task in found) == 50 + 39 + 250 + 1
    assert [task.shards for task in found].count(0) > 20
    assert publish_set(data, tmp_path / "out") == contents(tmp_path / "one")


def test_finalize_says_what_is_missing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["prepare", str(data / "recipe.yaml"), "--out", str(out), "--workers", "1"]
    share(data, out, 0, 3)
    assert main([*command, "--finalize"]) == 3
    message = capsys.readouterr().err
    assert "is not finished: nothing is done of srp_Cyrl, ukr_Cyrl; 5 shards are missing: bul_Cyrl 5\n" in message
    assert "the same command without --finalize" in message
    assert main(command) == 0
    run(data, tmp_path / "one")
    assert contents(out) == contents(tmp_path / "one")


def test_tasks_of_another_recipe_leave_a_finished_set_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(data, out)
    first = contents(out)
    edit_recipe(data, "block_rows: 16", "block_rows: 8")
    with pytest.raises(DataError, match=r"made from something else: recipe\.block_rows differ"):
        share(data, out, 0, 2)
    for task_id in (0, 1):
        share(data, out, task_id, 2, force=True)
    assert contents(out) == first
    with pytest.raises(DataError, match="made from something else"):
        publish_set(data, out)
    run(data, tmp_path / "fresh")
    assert publish_set(data, out, force=True) == contents(tmp_path / "fresh")


class Killed(BaseException):
    """Takes the place of a kill: nothing catches it."""


@pytest.mark.parametrize("moment", [0, 1, 3, 9, "manifest", "removal"])
def test_finalize_can_be_killed_anywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int | str
) -> None:
    """Between renames of shards, before the manifest and before the removal of the work; over an older set."""
    out = tmp_path / "out"
    run(data, out)
    with (data / "bul.txt").open("a") as file:
        file.write("жжж\n" * 5)
    share(data, out, 0, 1, force=True)
    renames = iter(range(100))
    genuine = Path.replace

    def rename(path: Path, target: Path) -> Path:
        if target.suffix == ".tar" and next(renames) == moment:
            raise Killed
        return genuine(path, target)

    def killed(*arguments: object) -> None:
        raise Killed

    def remove(path: Path, genuine: Callable[..., None] = shutil.rmtree, **options: bool) -> None:
        killed() if path.name == ".work" else genuine(path, **options)

    monkeypatch.setattr(Path, "replace", rename)
    if moment == "manifest":
        monkeypatch.setattr(publish, "write_manifest", killed)
    if moment == "removal":
        monkeypatch.setattr(shutil, "rmtree", remove)
    with pytest.raises(Killed):
        publish_set(data, out, force=True)
    monkeypatch.undo()
    if moment != "removal":
        with pytest.raises(DataError, match="not finished"):  # neither the old set nor the new one
            ShardSet.open(out)
    run(data, tmp_path / "fresh")
    finish: Callable[[], object] = (lambda: run(data, out)) if moment == 3 else (lambda: publish_set(data, out))
    finish()
    assert contents(out) == contents(tmp_path / "fresh")


def test_an_older_shard_of_the_same_name_and_size_is_not_taken_for_a_new_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(data, out)
    (data / "srp.txt").write_text("ш\n")
    share(data, out, 0, 1, force=True)
    monkeypatch.setattr(publish, "write_manifest", lambda *arguments: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        publish_set(data, out, force=True)
    monkeypatch.undo()
    shard = out / "srp_Cyrl-00000.tar"
    damaged = bytearray(shard.read_bytes())
    damaged[700] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(DataError, match="1 shards are missing: srp_Cyrl 1"):
        publish_set(data, out)
    run(data, out)
    run(data, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


# ------------------------------------------------------------------------------------------------- locks


@contextmanager
def running(out: Path, *labels: str) -> Iterator[None]:
    """What the folder looks like while tasks of other hosts are at work."""
    (out / ".work").mkdir(parents=True, exist_ok=True)
    locks = [(out / ".lock").open("a+b")]
    fcntl.flock(locks[0], fcntl.LOCK_SH)
    for number, label in enumerate(labels):
        folder = out / f".work/.run.elsewhere.{number}"
        folder.mkdir()
        (folder / "lock").write_text(label)
        locks.append((folder / "lock").open("a+b"))
        fcntl.flock(locks[-1], fcntl.LOCK_EX)
    yield
    for lock in locks:
        lock.close()


def test_tasks_share_the_folder_and_nobody_finishes_it_meanwhile(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(out, "task 1 of 3 on a", "task 2 of 3 on b"):
        share(data, out, 0, 3)
        for finish in (run, publish_set):
            with pytest.raises(DataError, match=r"2 tasks are still running in .*: task 1 of 3 on a, task 2 of 3 on b"):
                finish(data, out)
    for task_id in (1, 2):
        share(data, out, task_id, 3)
    publish_set(data, out)


def test_one_run_that_finishes_the_set_is_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locking.lock_shard_set(out, "prepare", exclusive=True):
        for start in (run, publish_set, lambda data, out: share(data, out, 0, 1)):
            with pytest.raises(DataError, match=rf"prepare on {os.uname().nodename} is running in "):
                start(data, out)
    run(data, out)


def test_what_killed_runs_left_behind_goes(data: Path, tmp_path: Path) -> None:
    work = tmp_path / "out/.work"
    here = os.uname().nodename
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, other_host = work / f".run.{here}.{ended.stdout.strip()}", work / ".run.elsewhere.1"
    alive, own_number = work / f".run.{here}.{os.getppid()}", work / f".run.{here}.{os.getpid()}"
    for folder in (dead, other_host, alive, own_number):
        folder.mkdir(parents=True)
        (folder / "text").touch()
    temporary = work / f".select-x.json.{here}.1.tmp"
    temporary.touch()
    with locking.lock_shard_set(tmp_path / "out", "task 0 of 1", exclusive=False) as run_dir:
        assert run_dir == own_number and not (run_dir / "text").exists()
        assert not dead.exists() and other_host.exists() and alive.exists() and temporary.exists()
    with locking.lock_shard_set(tmp_path / "out", "finalize", exclusive=True):
        assert not other_host.exists() and not alive.exists() and not temporary.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    run(data, tmp_path / "one")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    capsys.readouterr()
    share(data, tmp_path / "out", 0, 2)
    assert capsys.readouterr().err.count("without locks") == 1
    share(data, tmp_path / "out", 1, 2)
    assert publish_set(data, tmp_path / "out") == contents(tmp_path / "one")


def test_two_tasks_do_not_do_the_same_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"x")
    task = inputs.ChecksumTask(path, inputs.Stamp.of(path), tmp_path / ".work")
    with locking.one_at_a_time(task.target):
        other = threading.Thread(target=inputs.run_checksum, args=(task, lambda done: None))
        other.start()
        other.join(0.3)
        assert other.is_alive() and f"waiting for another task that makes {task.target.name}" in capsys.readouterr().err
        task.target.write_text('"what the first one found"')
    other.join()
    assert task.target.read_text() == '"what the first one found"'


def test_temporary_names_differ_between_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from translit_scale.files import atomic_open

    names = set()
    uname = os.uname()
    for host in ("a", "b"):
        monkeypatch.setattr(os, "uname", lambda host=host: type(uname)((uname[0], host, *uname[2:])))
        with atomic_open(tmp_path / "file"):
            names |= {path.name for path in tmp_path.glob(".*.tmp")}
    assert len(names) == 2


# ------------------------------------------------------------------------------------------------- SLURM


def array(task_id: int, first: int, last: int, count: int) -> dict[str, str]:
    values = {"ID": task_id, "MIN": first, "MAX": last, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_the_number_of_a_task() -> None:
    whole = array(5, 0, 63, 64)
    assert array_task("slurm", None, whole) == (5, 64)
    assert array_task("slurm", 64, array(7, 3, 7, 2)) == (7, 64)
    assert array_task("3", 7, whole) == (3, 7)


@pytest.mark.parametrize(
    ("task_id", "num_tasks", "variables", "message"),
    [
        ("slurm", None, array(7, 3, 7, 2), r"2 tasks between 3 and 7.*\n.*--num-tasks N"),
        ("slurm", None, array(1, 1, 64, 64), "a whole one is --array=0-N"),
        ("slurm", None, array(2, 0, 62, 32), "32 tasks between 0 and 62"),
        ("slurm", 4, array(7, 3, 7, 2), "--task-id 7: expected 0 to 3"),
        ("slurm", None, {}, "SLURM_ARRAY_TASK_ID is not set"),
        ("3", None, array(7, 0, 7, 8), "--task-id needs --num-tasks"),
        ("7", 7, {}, "--task-id 7: expected 0 to 6"),
        ("-1", 7, {}, "--task-id -1"),
        ("x", 7, {}, "--task-id x"),
    ],
)
def test_a_number_that_cannot_be_right(
    task_id: str, num_tasks: int | None, variables: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        array_task(task_id, num_tasks, variables)


@pytest.mark.slow
def test_the_batch_scripts_with_the_variables_of_slurm(data: Path, tmp_path: Path) -> None:
    """Not under a real SLURM: the bodies of the scripts, two tasks of three at the same time, one of them twice."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/activate").write_text("")
    out = tmp_path / "out"

    def start(script: str, **variables: str) -> subprocess.Popen[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        settings = environment(VENV=str(venv), PATH=path, SLURM_CPUS_PER_TASK="1", **variables)
        words = ["bash", str(ROOT / "scripts/slurm" / script), str(data / "recipe.yaml"), "--out", str(out)]
        return subprocess.Popen(words, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    started = [start("prepare_array.sbatch", **array(task_id, 0, 2, 3)) for task_id in (0, 1, 1)]
    results = [(*process.communicate(), process.returncode) for process in started]
    assert [code for *_, code in results] == [0, 0, 0], results
    process = start("prepare_finalize.sbatch")
    _, errors = process.communicate()
    assert process.returncode == 3 and "is not finished" in errors
    last = start("prepare_array.sbatch", **array(2, 0, 2, 3))
    assert last.wait() == 0, last.communicate()
    process = start("prepare_finalize.sbatch")
    table, _ = process.communicate()
    assert process.returncode == 0 and "bul_Cyrl" in table
    run(data, tmp_path / "one")
    assert contents(out) == contents(tmp_path / "one")


def test_the_batch_scripts_ask_for_a_whole_array() -> None:
    for script in (ROOT / "scripts/slurm").glob("prepare_*.sbatch"):
        lines = script.read_text().split("\n")
        body = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
        assert not [line for line in lines[body:] if line.startswith("#SBATCH")], (
            "SLURM stops reading at the first command"
        )
        assert lines[body] == "set -euo pipefail"
    text = (ROOT / "scripts/slurm/prepare_array.sbatch").read_text()
    assert "#SBATCH --array=0-" in text and "--task-id slurm" in text
