"""A checkpoint is complete or not there, whatever happens while it is written."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file

from tests.support.old_settings import OLD_SCIENCE
from translit_scale.config import RunConfig, load_config
from translit_scale.errors import ConfigError, DataError, NumericError
from translit_scale.files import sha256_file, sync, write_json
from translit_scale.train.checkpointing import saving
from translit_scale.train.checkpointing.checkpoint import (
    COMPLETE,
    CheckpointInfo,
    check_same_experiment,
    check_same_order,
    checkpoint_name,
    complete_checkpoints,
    read_info,
    remove_unfinished,
)
from translit_scale.train.checkpointing.restoring import CheckpointState, choose_checkpoint, load_checkpoint
from translit_scale.train.checkpointing.saving import CheckpointWriter
from translit_scale.train.checkpointing.state import MOMENTS, WEIGHTS, load_weights
from translit_scale.train.launching.ranks import Rank, start_rank

STATE = "state-00000.safetensors"
KINDS = (WEIGHTS, *MOMENTS)
FULL_DISK = SafetensorError("I/O error: No space left on device (os error 28)")
"""What safetensors raises on a full disk."""
SETTINGS = ("data.shards=s", "model.tokenizer=t", "train.lr=1.0", "train.max_steps=9", "run.name=x")


def science(*changes: str) -> dict[str, Any]:
    return load_config([], [*SETTINGS, *changes]).science()


class Engine:
    """What checkpoint.py needs of a DeepSpeed engine, at ZeRO stage 0: a module, AdamW and some numbers."""

    def __init__(self, steps: int = 1) -> None:
        torch.manual_seed(0)
        self.module, self.device = torch.nn.Linear(3, 2), torch.device("cpu")
        self.optimizer = torch.optim.AdamW(self.module.parameters())
        self.global_steps, self.skipped_steps = steps, 0
        for _ in range(steps):
            self.module(torch.rand(4, 3)).sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def zero_optimization_stage(self) -> int:
        return 0

    def fp16_enabled(self) -> bool:
        return False


def info(step: int, **changes: Any) -> CheckpointInfo:
    same = {"world_size": 1, "zero_stage": 2, "science": science(), "shards": "a"}
    return CheckpointInfo(step=step, **(same | {"tokenizer": "b", "pairs": {"ukr_Cyrl": 7}} | changes))


@pytest.fixture(scope="module")
def rank() -> Rank:
    return start_rank()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the checkpoints of a run."""
    path = tmp_path / "run" / "checkpoints"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def writer(folder: Path, rank: Rank) -> Callable[..., CheckpointWriter]:
    def make(keep: int = 2, every: int | None = None) -> CheckpointWriter:
        run = RunConfig(name="run", dir=folder.parents[1], keep_checkpoints=keep, keep_every=every)
        return CheckpointWriter(run, rank)

    return make


@pytest.fixture
def save(writer: Callable[..., CheckpointWriter]) -> Callable[..., None]:
    """Writes a checkpoint and waits for it."""

    def run(step: int, engine: Engine | None = None, **keep: Any) -> None:
        with writer(**keep) as checkpoints:
            checkpoints.save(engine or Engine(), info(step))
            checkpoints.finish()

    return run


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Every write of tensors leaves half a file and fails."""

    def half(tensors: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr(saving, "save_file", half)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_newest_are_kept_and_latest_names_the_newest(save: Callable[..., None], folder: Path) -> None:
    for step, kept in [(2, ["step_000002"]), (4, ["step_000002", "step_000004"]), (6, ["step_000004", "step_000006"])]:
        save(step)
        assert names(folder) == ["latest", *kept]
        assert [path.name for path in complete_checkpoints(folder)] == kept
        assert (folder / "latest").read_text() == f"{checkpoint_name(step)}\n"
        assert read_info(folder / checkpoint_name(step)) == info(step)
    save(8, keep=1)
    assert names(folder) == ["latest", "step_000008"]


def test_others_may_read_what_they_may_see(save: Callable[..., None], folder: Path) -> None:
    save(2)
    checkpoint = folder / "step_000002"
    assert {path.stat().st_mode & 0o666 for path in checkpoint.iterdir()} == {checkpoint.stat().st_mode & 0o666}


def test_multiples_and_the_best_are_kept(save: Callable[..., None], folder: Path) -> None:
    """Of 2, 4, … 14 with two newest kept: multiples of 6, and 4 as long as it is the best."""
    for step in range(2, 16, 2):
        save(step, every=6)
        if step == 4:
            (folder.parent / "best.json").write_text('{"checkpoint": "step_000004", "metric": 0.5}')
    assert names(folder) == ["latest", *map(checkpoint_name, (4, 6, 12, 14))]
    (folder.parent / "best.json").write_text('{"checkpoint": "step_000099"}')
    save(16, every=6)
    assert names(folder) == ["latest", *map(checkpoint_name, (6, 12, 14, 16))]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"checkpoint": 4}', '{"checkpoint": "../step_000004"}'])
def test_damaged_choice_of_the_best_is_refused_before_training(
    content: str, writer: Callable[..., CheckpointWriter], folder: Path
) -> None:
    (folder.parent / "best.json").write_text(content)
    with pytest.raises(DataError, match=r"best\.json.*\n  → remove it, and choose again"):
        writer()


def test_training_goes_on_while_a_checkpoint_is_written(
    writer: Callable[..., CheckpointWriter], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file holds the state at the call, not that of later steps; the next save waits for it."""
    engine, go_on = Engine(), threading.Event()

    def slowly(tensors: Any, path: Path) -> None:
        assert go_on.wait(60)
        save_file(tensors, path)

    monkeypatch.setattr(saving, "save_file", slowly)
    before = engine.module.weight.detach().clone()
    with writer() as checkpoints:
        checkpoints.save(engine, info(2))
        checkpoints.check()
        assert names(folder) == ["step_000002.tmp"]
        with torch.no_grad():
            engine.module.weight.add_(1)
        threading.Timer(0.2, go_on.set).start()
        checkpoints.save(engine, info(4))
        assert (folder / "latest").read_text() == "step_000002\n"
        checkpoints.finish()
    read = [CheckpointState(folder / checkpoint_name(step)).read("weights", "weight") for step in (2, 4)]
    assert torch.equal(read[0], before) and torch.equal(read[1], engine.module.weight)


def glot500_sizes() -> dict[str, int]:
    """Elements of the tensors of Glot500-base, of which the word embeddings are nearly four fifths."""
    width, inner = 768, 3072
    layer = {"q": width**2, "k": width**2, "v": width**2, "o": width**2, "up": width * inner, "down": width * inner}
    small = dict.fromkeys(("q.bias", "k.bias", "v.bias", "o.bias", "down.bias", "norm1", "norm2"), width)
    parameters = {"words": 401_145 * width, "positions": 514 * width, "bias": 401_145, "dense": width**2}
    parameters |= {f"{n}.{name}": size for n in range(12) for name, size in (layer | small).items()}
    return {
        f"{kind}/{name}": size for name, size in parameters.items() for kind in ("weights", "exp_avg", "exp_avg_sq")
    }


@pytest.mark.parametrize("writers", [1, 2, 3, 16])
def test_no_rank_writes_much_more_than_the_others(writers: int) -> None:
    """But for a tensor that is larger than an equal part: those of the word embeddings each have a writer to itself."""
    sizes = glot500_sizes()
    writer = saving.assign_writers(sizes, writers)
    assert writer == saving.assign_writers(dict(reversed(sizes.items())), writers) and writer.keys() == sizes.keys()
    loads = [sum(size for key, size in sizes.items() if writer[key] == number) for number in range(writers)]
    assert max(loads) <= max(1.3 * sum(loads) / writers, max(sizes.values()))
    assert min(loads) > 0


def test_tensors_are_found_in_whichever_file_they_are(save: Callable[..., None], folder: Path) -> None:
    """Who wrote which has been decided in other ways."""
    save(2)
    checkpoint = folder / "step_000002"
    before = CheckpointState(checkpoint)
    tensors = {f"{kind}/{name}": before.read(kind, name) for kind in KINDS for name in before.names(kind)}
    record = json.loads((checkpoint / COMPLETE).read_text())
    (checkpoint / STATE).unlink()
    record["files"] = {}
    for number, name in enumerate(("weight", "bias")):
        path = checkpoint / f"state-{number:05d}.safetensors"
        save_file({key: tensor for key, tensor in tensors.items() if key.endswith(f"/{name}")}, path)
        record["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(checkpoint / COMPLETE, record)
    after = CheckpointState(checkpoint)
    after.verify()
    assert len(tensors) == 6 and all(torch.equal(after.read(*key.split("/")), tensors[key]) for key in tensors)


def test_a_loss_that_is_not_finite_does_not_cost_the_checkpoint_being_written(
    writer: Callable[..., CheckpointWriter], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(tensors: Any, path: Path) -> None:
        time.sleep(0.2)
        save_file(tensors, path)

    monkeypatch.setattr(saving, "save_file", slowly)
    with pytest.raises(NumericError), writer() as checkpoints:
        checkpoints.save(Engine(), info(2))
        raise NumericError("step 3: not finite")
    assert names(folder) == ["latest", "step_000002"]


@pytest.mark.parametrize("published", [True, False])
def test_folder_that_goes_while_a_part_is_recorded(
    published: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rank may publish between the rename of the last record and the sync of its folder: no failure."""
    temporary = tmp_path / "step_000002.tmp"
    temporary.mkdir()

    def write_and_lose(path: Path, value: object) -> None:
        write_json(path, value)
        if published:
            write_json(temporary / COMPLETE, {})
            temporary.rename(tmp_path / "step_000002")
        else:
            shutil.rmtree(temporary)
        sync(path.parent)

    monkeypatch.setattr(saving, "write_json", write_and_lose)
    assert saving._write({"weights/a": torch.zeros(2)}, temporary, rank=1) == published


def test_order_is_by_number(save: Callable[..., None], folder: Path) -> None:
    """As names, step_1000000 stands before step_999999."""
    save(999_999)
    save(1_000_000)
    assert [path.name for path in complete_checkpoints(folder)] == ["step_999999", "step_1000000"]
    save(1_000_001)
    assert names(folder) == ["latest", "step_1000000", "step_1000001"]


@pytest.mark.parametrize("resume", ["auto", "none"])
def test_only_the_first_rank_looks_for_checkpoints(
    resume: str, save: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node would remember what was not there yet, and it might see others than the first rank."""
    save(2)
    second = Rank(1, 2, torch.device("cpu"))
    said: list[Path | None] = [None]

    def broadcast(found: list[Path | None]) -> None:
        found[:] = said

    monkeypatch.setattr(dist, "broadcast_object_list", broadcast)
    assert choose_checkpoint(folder.parent, resume, second) is None
    said[:] = [folder / "step_000004"]
    if resume == "auto":
        assert choose_checkpoint(folder.parent, resume, second) == folder / "step_000004"
    else:
        with pytest.raises(ConfigError, match="already has the checkpoint step_000004"):
            choose_checkpoint(folder.parent, resume, second)


def test_same_step_again_replaces(save: Callable[..., None], folder: Path) -> None:
    save(2)
    (folder / "step_000002" / "stale").write_text("")
    save(2)
    assert names(folder / "step_000002") == ["COMPLETE.json", "state-00000.safetensors"]


def test_torn_checkpoints_are_no_checkpoints(save: Callable[..., None], folder: Path) -> None:
    save(2)
    (folder / "step_000004.tmp").mkdir()  # killed while writing
    (folder / "step_000006.tmp").mkdir()  # killed before the rename
    (folder / "step_000006.tmp" / "COMPLETE.json").write_text((folder / "step_000002/COMPLETE.json").read_text())
    (folder / "step_000008").mkdir()  # copied by hand, in part
    (folder / "step_best").mkdir()
    (folder / "step_best" / "COMPLETE.json").write_text("{}")
    assert [path.name for path in complete_checkpoints(folder)] == ["step_000002"]
    remove_unfinished(folder)
    assert names(folder) == ["latest", "step_000002", "step_000008", "step_best"]
    save(8)
    assert [path.name for path in complete_checkpoints(folder)] == ["step_000002", "step_000008"]


def test_leftovers_of_the_same_step_are_not_mixed_in(save: Callable[..., None], folder: Path) -> None:
    (folder / "step_000002.tmp").mkdir()
    (folder / "step_000002.tmp" / "rank_7.pt").write_text("of a run that was killed")
    save(2)
    assert names(folder / "step_000002") == ["COMPLETE.json", "state-00000.safetensors"]


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Beginnings of the names of folders of which another program reads a file, on a network file system."""
    beginnings: set[str] = set()
    rmtree = shutil.rmtree

    def remove(folder: Path, *arguments: Any, **options: Any) -> None:
        if not any(folder.name.startswith(beginning) for beginning in beginnings):
            return rmtree(folder, *arguments, **options)
        (folder / ".nfs0001").touch()
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(folder))

    monkeypatch.setattr(shutil, "rmtree", remove)
    return beginnings


def test_an_old_checkpoint_that_cannot_be_removed_does_not_end_the_training(
    save: Callable[..., None], folder: Path, busy: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is tried again with the next one."""
    busy.add("step_000002")
    for times in (1, 2):
        save(2, keep=2)  # the second time as in a run that was reset by hand
        save(2 + 2 * times, keep=1)
        assert [path.name for path in complete_checkpoints(folder)] == [checkpoint_name(2 + 2 * times)]
        assert len(list(folder.glob("step_000002.*.removed.tmp"))) == times
    remove_unfinished(folder)  # at the next start
    printed = capsys.readouterr().err
    assert printed.count("cannot be removed yet: ") >= 3 and "Directory not empty" in printed
    busy.clear()
    save(8, keep=1)
    assert names(folder) == ["latest", "step_000008"] and not capsys.readouterr().err


def test_leftovers_that_cannot_be_removed_are_set_aside(
    save: Callable[..., None], folder: Path, busy: set[str]
) -> None:
    (folder / "step_000002.tmp").mkdir()
    busy.add("step_000002.tmp")
    save(2)
    assert names(folder / "step_000002") == ["COMPLETE.json", "state-00000.safetensors"]


def test_failed_write_ends_the_training_at_its_next_step(
    writer: Callable[..., CheckpointWriter], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, FULL_DISK)
    with pytest.raises(DataError, match="No space left"), writer() as checkpoints:
        checkpoints.save(Engine(), info(2))
        while True:
            checkpoints.check()
            time.sleep(0.01)
    assert names(folder) == []


@pytest.mark.parametrize("error", [FULL_DISK, OSError(errno.ENOSPC, "No space left on device")])
def test_failed_write_keeps_the_previous_one_and_gives_the_space_back(
    error: Exception, save: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(2)
    fail(monkeypatch, error)
    with pytest.raises(DataError, match=r"could not write the checkpoint .*step_000004: .*\n  → is the disk full\?"):
        save(4)
    assert names(folder) == ["latest", "step_000002"]
    assert (folder / "latest").read_text() == "step_000002\n"


def test_a_disk_that_is_too_small_is_noticed_before_writing(
    save: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(2)
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: SimpleNamespace(free=95))
    with pytest.raises(DataError, match=r"a checkpoint needs 0\.00 GB, and the disk of .* has 0\.00 GB free"):
        save(4)
    assert names(folder) == ["latest", "step_000002"]


def test_state_comes_back_bit_for_bit(save: Callable[..., None], folder: Path) -> None:
    engine, fresh = Engine(steps=3), Engine(steps=0)
    engine.skipped_steps = 1
    save(4, engine)
    saved = CheckpointState(folder / "step_000004")
    load_weights(fresh.module, saved.read)
    load_checkpoint(fresh, saved)
    assert (fresh.global_steps, fresh.skipped_steps) == (4, 1)
    for one in (engine, fresh):
        one.module(torch.ones(4, 3)).sum().backward()
        one.optimizer.step()
    for a, b in zip(engine.module.parameters(), fresh.module.parameters(), strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(engine.optimizer.state[a][k], fresh.optimizer.state[b][k]) for k in ("step", "exp_avg"))


def test_a_flipped_bit_is_noticed(save: Callable[..., None], folder: Path) -> None:
    save(2)
    path = folder / "step_000002/state-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"state-00000.safetensors is damaged\n  → remove .*step_000002"):
        CheckpointState(folder / "step_000002").verify()


def test_a_checkpoint_of_another_model(save: Callable[..., None], folder: Path) -> None:
    save(2)
    with pytest.raises(DataError, match=r"has no weights/0\.weight: it is of another model"):
        load_weights(torch.nn.Sequential(torch.nn.Linear(3, 2)), CheckpointState(folder / "step_000002").read)


def test_failed_publishing(save: Callable[..., None], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        if path.name == "COMPLETE.json":
            raise OSError(errno.EDQUOT, "Disk quota exceeded", str(path))
        write_json(path, value)

    monkeypatch.setattr(saving, "write_json", full)
    with pytest.raises(DataError, match="Disk quota exceeded"):
        save(2)
    assert names(folder) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: (c / "COMPLETE.json").unlink(), "checkpoint record not found"),
        (lambda c: (c / "COMPLETE.json").write_text("{"), "is not valid JSON"),
        (lambda c: (c / "COMPLETE.json").write_text("[]"), "not a checkpoint record of format 2"),
        (lambda c: edit(c, format=1), "not a checkpoint record of format 2"),
        (lambda c: edit(c, step=None), "COMPLETE.json is damaged: .*'step'"),
        (lambda c: edit(c, files=None), "COMPLETE.json is damaged: 'files'"),
        (lambda c: edit(c, surplus=1), "COMPLETE.json is damaged: .*'surplus'"),
        (lambda c: edit(c, counts=None), "COMPLETE.json is damaged: 'counts'"),
        (lambda c: (c / STATE).unlink(), "safetensors: expected [0-9]+ bytes, found no file\n  → remove .*step_000002"),
        (lambda c: (c / STATE).write_bytes(b"mom"), "safetensors: expected [0-9]+ bytes, found 3\n  → remove"),
    ],
)
def test_damage_is_named(
    change: Callable[[Path], object], message: str, save: Callable[..., None], folder: Path
) -> None:
    save(2)
    change(folder / "step_000002")
    with pytest.raises(DataError, match=message):
        read_info(folder / "step_000002")


def edit(checkpoint: Path, **changes: Any) -> None:
    """Changes fields of COMPLETE.json; None removes one."""
    path = checkpoint / "COMPLETE.json"
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))


def test_another_experiment_is_refused_with_all_differences(save: Callable[..., None], folder: Path) -> None:
    save(2)
    checkpoint = folder / "step_000002"
    assert check_same_experiment(checkpoint, info(0)) == 2
    other = info(
        0,
        world_size=4,
        shards="c",
        science=science("train.lr=2.0", "data.mixture.kind=temperature"),
    )
    with pytest.raises(DataError) as found:
        check_same_experiment(checkpoint, other)
    assert found.value.message.split("\n    ")[1:] == [
        "shards: 'a' in the checkpoint, 'c' now",
        "data.mixture.kind: 'concatenate' in the checkpoint, 'temperature' now",
        "train.lr: 1.0 in the checkpoint, 2.0 now",
    ]


def test_a_checkpoint_of_another_order_of_pairs_is_refused(save: Callable[..., None], folder: Path) -> None:
    save(2)
    edit(checkpoint := folder / "step_000002", visits={"pol_Latn": 5, "ukr_Cyrl": 3})
    check_same_order(checkpoint, info(2, visits={"pol_Latn": 5, "ukr_Cyrl": 3}))
    with pytest.raises(DataError, match=r"step_000002 has visited 3 pairs of ukr_Cyrl where .* has 4: .*") as found:
        check_same_order(checkpoint, info(2, visits={"pol_Latn": 5, "ukr_Cyrl": 4}))
    assert "environment.json names the commit" in found.value.hint and "model.pretrained=" in found.value.hint
    edit(checkpoint, visits=None)  # records of older versions do not have them
    check_same_order(checkpoint, info(2, visits={"pol_Latn": 5}))


def test_changes_of_the_mixture_ahead_of_the_checkpoint_may_be_made(save: Callable[..., None], folder: Path) -> None:
    def planned(*steps: int) -> CheckpointInfo:
        changes = [{"from_step": step, "mixture": {"kind": "temperature"}} for step in steps]
        return info(4, science=science(f"data.mixture_schedule={changes}"))

    save(4)
    checkpoint = folder / "step_000004"
    assert check_same_experiment(checkpoint, planned(4, 9)) == 4  # step 4 has not been taken yet
    with pytest.raises(DataError, match=r"data\.mixture_schedule: \[\] in the checkpoint, \[\{'from_step': 3"):
        check_same_experiment(checkpoint, planned(3))


def test_settings_that_are_newer_than_a_checkpoint_have_their_defaults(save: Callable[..., None], folder: Path) -> None:
    save(4)
    edit(checkpoint := folder / "step_000004", science=OLD_SCIENCE)
    same = (
        "data.mixture={kind: temperature, alpha: 0.5}", "train.precision=fp32",
        "data.mixture_schedule=[{from_step: 3, mixture: {kind: temperature, alpha: 0.9}}]",
    )  # fmt: skip
    assert check_same_experiment(checkpoint, info(0, science=science(*same))) == 4
    with pytest.raises(DataError) as found:
        check_same_experiment(checkpoint, info(0, science=science(*same, "data.transliterations=first")))
    assert found.value.message.split("\n    ")[1:] == ["data.transliterations: 'draw' in the checkpoint, 'first' now"]


def test_a_stored_setting_that_is_gone_is_named(save: Callable[..., None], folder: Path) -> None:
    save(4)
    edit(checkpoint := folder / "step_000004", science=OLD_SCIENCE | {"mood": "good"})
    with pytest.raises(DataError, match=r"have or allow any more:\n.*COMPLETE\.json: mood: unknown") as found:
        check_same_experiment(checkpoint, info(0))
    assert "environment.json names the commit" in found.value.hint
