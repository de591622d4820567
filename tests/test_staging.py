"""Copies of shard sets on a host: complete or refused, made once, and read instead of the set."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.support.tiny import make_shards
from translit_scale.cli import main
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.staging import open_staged, stage
from translit_scale.errors import DataError


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return ShardSet.open(make_shards(tmp_path / "set", {"kat_Geor": 70, "hye_Armn": 9}))


def test_a_copy_is_the_set(shards: ShardSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = tmp_path / "scratch"
    command = ["shards", "stage", str(shards.directory), "--out", str(scratch)]
    assert main(command) == 0
    copy = open_staged(shards, scratch)
    assert copy.directory.parent == scratch and copy.fingerprint == shards.fingerprint
    assert list(copy.pairs("kat_Geor")) == list(shards.pairs("kat_Geor"))
    assert "is complete (" in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in copy.directory.glob("*.*")}
    assert main(command) == 0
    assert "(0 GB copied)" in capsys.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in copy.directory.glob("*.*")}


def test_of_several_processes_one_copies(shards: ShardSet, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        results = pool.starmap(stage, [(shards.directory, tmp_path / "scratch")] * 4)
    size = sum(shard.bytes for shard in shards.manifest.shards)
    assert sorted(copied for _, copied in results) == [0, 0, 0, size]
    assert len({folder for folder, _ in results}) == 1


def test_an_interrupted_copy_is_refused_and_then_completed(shards: ShardSet, tmp_path: Path) -> None:
    folder, size = stage(shards.directory, tmp_path)
    first, second, *_ = shards.manifest.shards
    (folder / "manifest.json").unlink()  # a copy that was killed has none
    (folder / first.name).unlink()
    (folder / second.name).write_bytes(b"part")
    with pytest.raises(DataError, match="no complete copy") as caught:
        open_staged(shards, tmp_path)
    assert f"translit-scale shards stage {shards.directory} --out {tmp_path}" in caught.value.hint
    assert stage(shards.directory, tmp_path) == (folder, first.bytes + second.bytes) < (folder, size)
    assert list(open_staged(shards, tmp_path).pairs("hye_Armn")) == list(shards.pairs("hye_Armn"))


def test_a_damaged_shard_is_not_copied(shards: ShardSet, tmp_path: Path) -> None:
    path = shards.directory / shards.manifest.shards[1].name
    data = bytearray(path.read_bytes())
    data[700] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path.name} has the sha256 .*, expected {shards.manifest.shards[1].sha256}"):
        stage(shards.directory, tmp_path)
    with pytest.raises(DataError, match="no complete copy"):
        open_staged(shards, tmp_path)


def test_another_set_has_another_copy(shards: ShardSet, tmp_path: Path) -> None:
    stage(shards.directory, tmp_path)
    other = ShardSet.open(make_shards(tmp_path / "other", {"kat_Geor": 71}))
    with pytest.raises(DataError, match="no complete copy"):
        open_staged(other, tmp_path)
    stage(other.directory, tmp_path)
    assert open_staged(shards, tmp_path).rows("kat_Geor") == 70
    assert open_staged(other, tmp_path).rows("kat_Geor") == 71


def test_a_copy_with_another_manifest_is_refused(shards: ShardSet, tmp_path: Path) -> None:
    folder, _ = stage(shards.directory, tmp_path)
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(DataError, match=f"expected {shards.fingerprint}"):
        open_staged(shards, tmp_path)
    with pytest.raises(DataError, match=f"expected {shards.fingerprint}"):
        stage(shards.directory, tmp_path)
