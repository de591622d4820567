"""The Python interface: what docs/api.md says is true, and importing the package is cheap."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pytest
from torch.utils.data import DataLoader

import translit_scale
from tests.support.encoders import save_encoder
from tests.support.ranks import ROOT
from tests.support.tiny import make_shards
from translit_scale import Pair, PairDataset, ShardSet, block_pairs, stream_pairs
from translit_scale.errors import DataError

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two languages in blocks of 5 pairs and several shards each, in a folder whose name could be a pattern."""
    return make_shards(tmp_path_factory.mktemp("api") / "set{1..3}", {"ukr_Cyrl": 38, "bul_Cyrl": 21}, block_rows=5)


def all_pairs(directory: Path) -> list[Pair]:
    shard_set = ShardSet.open(directory)
    return [Pair(language, *pair) for language in shard_set.languages for pair in shard_set.pairs(language)]


def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_shards(tmp_path / "shards/demo", {"ukr_Cyrl": 30, "bul_Cyrl": 12})
    save_encoder(tmp_path / "runs/demo/export")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    assert len(EXAMPLES) == 6
    for code in EXAMPLES:
        exec(compile(code, "docs/api.md", "exec"), namespace)


def test_import_is_cheap_and_every_name_is_found() -> None:
    code = "import sys, translit_scale; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "uroman", "transformers", "pydantic", "webdataset"} & set(loaded)
    assert set(translit_scale.__all__) == set(translit_scale._PLACES) <= set(dir(translit_scale))
    assert all(getattr(translit_scale, name) for name in translit_scale.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Romaniser'"):
        translit_scale.Romaniser  # noqa: B018


@pytest.mark.parametrize("cached_blocks", [1, 100])
def test_dataset_has_every_pair_by_number(shards: Path, cached_blocks: int) -> None:
    dataset, expected = PairDataset(str(shards), cached_blocks=cached_blocks), all_pairs(shards)
    assert [dataset[index] for index in range(len(dataset))] == expected
    assert dataset[-1] == expected[-1] and len(dataset) == 59
    with pytest.raises(IndexError):
        dataset[59]
    only = PairDataset(shards, ["bul_Cyrl"])
    assert {only[index].language for index in range(len(only))} == {"bul_Cyrl"}
    batches = DataLoader(dataset, batch_size=7, shuffle=True, num_workers=2)
    loaded = Counter(pair for batch in batches for pair in map(Pair, batch.language, batch.orig, batch.latn))
    assert loaded == Counter(expected)


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2)])
def test_stream_is_divided_among_processes_and_workers(
    shards: Path, world_size: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they read every pair once, in another order for another seed."""
    monkeypatch.setenv("WORLD_SIZE", str(world_size))
    orders = []
    for seed in (1, 2):
        seen = []
        for rank in range(world_size):
            monkeypatch.setenv("RANK", str(rank))
            stream = stream_pairs(str(shards), shuffle=20, seed=seed)
            part = [Pair(*pair) for pair in DataLoader(stream, batch_size=None, num_workers=workers)]
            assert part and (len(part) < 59 or world_size == 1)
            seen += part
        assert Counter(seen) == Counter(all_pairs(shards))
        orders.append(seen)
    assert orders[0] != orders[1] and orders[0] != all_pairs(shards)


def test_stream_in_stored_order_of_some_languages(shards: Path) -> None:
    assert list(stream_pairs(shards, ["ukr_Cyrl"])) == [pair for pair in all_pairs(shards) if pair[0] == "ukr_Cyrl"]
    for make in (stream_pairs, PairDataset):
        with pytest.raises(DataError, match="no language 'pol_Latn'"):
            make(shards, ["pol_Latn"])


def test_blocks_as_hugging_face_datasets_reads_them(tmp_path: Path) -> None:
    directory = make_shards(tmp_path / "set", {"ukr_Cyrl": 38, "bul_Cyrl": 21}, block_rows=5)
    files = sorted(map(str, directory.glob("*.tar")))
    blocks = datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True)
    assert Counter(pair for block in blocks for pair in block_pairs(block)) == Counter(all_pairs(directory))
