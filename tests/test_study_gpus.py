"""Steps that run at the same time share the GPUs of a machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from translit_scale.study.runner import Runner
from translit_scale.study.steps import Place, Step

SHOW = "import os, time; print('has', os.environ.get('CUDA_VISIBLE_DEVICES')); time.sleep(0.3)"


@pytest.mark.parametrize(
    ("gpus", "given", "ranks", "expected"),
    [
        (4, None, 1, ["0", "1", "2"]),
        (4, None, 2, ["0,1", "2,3", "0,1"]),
        (3, None, 2, ["0,1", "2,0", "1,2"]),
        (1, None, 1, ["None"] * 3),
        (2, None, 2, ["None"] * 3),
        (0, None, 1, ["None"] * 3),
        (4, "5, 7", 1, ["5", "7", "5"]),
        (4, "", 1, [""] * 3),
    ],
)
def test_each_step_has_gpus_of_its_own(
    gpus: int, given: str | None, ranks: int, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there are more than one training needs; a fake `nvidia-smi` lists them."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("".join(["#!/bin/sh\n", *(f"echo 'GPU {i}: NVIDIA H100 (UUID: GPU-{i})'\n" for i in range(gpus))]))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(Runner, "_command", lambda self, step: [sys.executable, "-c", SHOW])
    place, steps = Place(tmp_path, None, None), [Step(f"a/{number}", (), ()) for number in range(5)]
    Runner(steps, {}, place, jobs=3, ranks=ranks).run({step.name for step in steps})
    found = [place.log(step).read_text().splitlines()[-1].removeprefix("has ").rstrip() for step in steps]
    assert found[:3] == expected and set(found[3:]) <= set(expected)
