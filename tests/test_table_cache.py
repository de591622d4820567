"""uroman's tables from the cache are those that uroman parses, and no damaged or foreign file is ever read."""

from __future__ import annotations

import hashlib
import marshal
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uroman

from tests.support.ranks import ROOT
from translit_scale.romanize import table_cache
from translit_scale.romanize.exact import ExactUroman, Memory
from translit_scale.romanize.table_cache import cache_folder, load_tables, read_cache


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache file of a user with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_tables()
    (path,) = cache_folder().iterdir()
    return path


def comparable(source: uroman.Uroman) -> dict[str, Any]:
    """All attributes in their order; objects as their attributes."""
    values = dict(vars(source))
    values["rom_rules"] = {key: list(map(vars, rules)) for key, rules in source.rom_rules.items()}
    values["scripts"] = {key: vars(script) for key, script in source.scripts.items()}
    return {name: list(value.items()) if isinstance(value, dict) else value for name, value in values.items()}


def test_tables_from_the_cache_are_the_same(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order, default values and types included."""
    assert oct(cached.stat().st_mode)[-3:] == "600" and oct(cached.parent.stat().st_mode)[-3:] == "700"
    parsed = uroman.Uroman()
    monkeypatch.setattr("translit_scale.romanize.table_cache.uroman_code.Uroman", None)  # nothing may be parsed
    monkeypatch.setattr(table_cache, "_fingerprint", lambda: cached.stem.removeprefix("uroman-"))
    read = load_tables()
    assert comparable(read) == comparable(parsed)
    for name, value in vars(parsed).items():
        assert type(getattr(read, name)) is type(value)
        if isinstance(value, dict) and hasattr(value, "default_factory"):
            assert getattr(read, name)["no", "such key"] == value["no", "such key"] or name == "scripts"
    for text in ("ስንት ቋንቋ", "მთა ბარი", "ຂ້ອຍ ໄປ", "三千五百"):
        assert ExactUroman(Memory(read)).romanize(text) == parsed.romanize_string(text)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100_000] ^= 4
    path.write_bytes(content)


def let_the_group_write(path: Path) -> None:
    path.chmod(0o660)


def let_all_write_into_the_folder(path: Path) -> None:
    path.parent.chmod(0o777)


def make_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change",
    [truncate, flip_a_bit, let_the_group_write, let_all_write_into_the_folder, make_a_link, make_a_pipe, Path.unlink],
)
def test_a_file_that_is_not_trusted_is_not_read(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "uroman.tables"
    path.parent.mkdir(mode=0o700)
    content = marshal.dumps({"dict_str": {"a" * 200_000: "b"}})
    path.write_bytes(hashlib.sha256(content).digest() + content)
    path.chmod(0o600)
    assert read_cache(path) == {"dict_str": {"a" * 200_000: "b"}}
    monkeypatch.setattr("translit_scale.romanize.table_cache.marshal.loads", None)
    change(path)
    assert read_cache(path) is None


def test_a_file_of_another_user_is_not_read(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("translit_scale.romanize.table_cache.os.getuid", lambda: os.geteuid() + 1)
    assert read_cache(cached) is None


def test_other_versions_have_other_files(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {table_cache._fingerprint()}
    changes = {"uroman_code.__version__": "9", "sys.version": "3.99", "unicodedata.unidata_version": "99.0"}
    for name, value in changes.items():
        with monkeypatch.context() as changed:
            changed.setattr(f"translit_scale.romanize.table_cache.{name}", value)
            names.add(table_cache._fingerprint())
    assert len(names) == 4


def test_without_a_place_to_write_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_tables().romanize_string("Одеса") == "Odesa"


@pytest.mark.slow
def test_one_line_is_romanized_within_a_second_of_processor_time(cached: Path) -> None:
    """Elapsed time would depend on what else runs on the machine."""
    code = (
        "import resource, sys; from translit_scale.cli import main; main(['romanize', '--language', 'ka']); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, file=sys.stderr)"
    )
    environment = os.environ | {"XDG_CACHE_HOME": str(cached.parent.parent), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input="თბილისი\n", env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "tbilisi\n"
    assert float(done.stderr.splitlines()[-1]) < 1.0
