"""Fixtures shared by tests of several rooms."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other make tiny models 3 to 10 times slower
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the first import of a kernel

from tests.support.ranks import Ranks
from tests.support.tiny import make_config, make_world
from tests.support.train_script import STEPS

settings.register_profile("no deadline", deadline=None)  # a busy machine is no defect
settings.load_profile("no deadline")


def pytest_configure() -> None:
    """Imports are not searched for garbage again and again, and tests that press Ctrl-C work in a background job."""
    gc.set_threshold(100_000, 20, 50)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # which the children would inherit
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of several hosts come first and one after another, so that other tests run while they wait; then the
    other slow ones, so that no worker is left alone with them at the end.
    """
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("hosts", "slow")])


def pytest_collection_finish() -> None:
    """Modules that all tests share are not searched for garbage any more."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two invented languages and a tokenizer (see tests/support/tiny.py)."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def run_ranks() -> Iterator[Ranks]:
    """Runs a script on N CPU ranks: `run_ranks(2, "tests/support/train_worker.py", *arguments, check=True)`."""
    runner = Ranks()
    yield runner
    runner.close()


@pytest.fixture
def experiment(tiny_world: Path, tmp_path: Path) -> Path:
    """The tiny experiment as a YAML file; its runs go to runs/ beside it."""
    path = tmp_path / "tiny.yaml"
    changes = {"run__dir": tmp_path / "runs", "run__log_every": 1, "run__checkpoint_every": 2}
    path.write_text(make_config(tiny_world, train__max_steps=STEPS, **changes).to_yaml())
    return path
