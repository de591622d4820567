"""The import contract in pyproject.toml covers every room, is kept, and fails when an import breaks it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Checks the package below `folder` against the contract of the `pyproject.toml` there."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, env={"COLUMNS": "400"}, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package and its contract, to be changed."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "translit_scale", tmp_path / "translit_scale", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_contract_is_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("batch", "train"),
        ("corpus", "config"),
        ("evaluate", "report"),
        ("objectives", "model"),
        ("train", "prepare"),  # two rooms of one row
    ],
)
def test_a_forbidden_import_is_noticed_even_inside_a_function(copy: Path, room: str, forbidden: str) -> None:
    with (copy / "translit_scale" / room / "__init__.py").open("a") as file:
        file.write(f"\ndef late():\n    import translit_scale.{forbidden}\n")
    result = lint_imports(copy)
    assert result.returncode == 1
    assert f"translit_scale.{room} -> translit_scale.{forbidden} (l.4)" in result.stdout


def test_a_room_that_the_contract_does_not_name_is_noticed(copy: Path) -> None:
    (copy / "translit_scale" / "attic.py").write_text('"""A room without a place."""\n')
    result = lint_imports(copy)
    assert result.returncode == 1
    assert "translit_scale.attic" in result.stdout


def test_contributing_lists_the_rooms_of_the_contract_in_its_order() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    listed = re.findall(r"^\| (`.+?`) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [row.replace("`", "").split(", ") for row in listed] == [row.split(" | ") for row in contract["layers"]]
