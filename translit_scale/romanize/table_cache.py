"""Keeps uroman's tables in the user's cache folder: uroman parses them from text in seconds, this reads them faster.

The file contains plain values only (`marshal`), after a checksum. Its name depends on everything that determines the
tables, so a file of another version is never read. Neither is a file that another user could have written: data for
`marshal` can be made to crash Python.
"""

from __future__ import annotations

import gc
import hashlib
import marshal
import os
import stat
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

from uroman import uroman as uroman_code

from translit_scale.errors import DataError
from translit_scale.files import write_bytes

_DIGEST_BYTES = 32

Tables = dict[str, dict[Any, Any]]
"""The tables of a `Uroman`, by the names of its attributes, made of plain values."""


class _Uroman(uroman_code.Uroman):
    """uroman without its tables, but with the right default values of each."""

    def load_resource_files(self, *_: Any, **__: Any) -> None:
        pass


def load_tables() -> uroman_code.Uroman:
    """uroman with its tables, from the cache if that has them; otherwise they are parsed and written there.

    A cache that cannot be read or written only costs time.
    """
    path = cache_folder() / f"uroman-{_fingerprint()}.tables"
    tables = read_cache(path)
    if tables is not None:
        return _filled(tables)
    source = uroman_code.Uroman()
    with suppress(OSError, ValueError, DataError):  # ValueError: a value that is not plain; DataError: a full disk
        content = marshal.dumps(_plain(source))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, hashlib.sha256(content).digest() + content)
        path.chmod(0o600)  # with a umask that lets the group write, it would not be read again
    return source


def cache_folder() -> Path:
    """`translit-scale` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "translit-scale"


def read_cache(path: Path) -> Tables | None:
    """The tables in a file; None if it is missing, damaged, or writable for other users."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not (_is_ours(os.fstat(file.fileno()), stat.S_ISREG) and _is_ours(path.parent.stat(), stat.S_ISDIR)):
                return None
            digest, content = file.read(_DIGEST_BYTES), file.read()
    except OSError:
        return None
    if hashlib.sha256(content).digest() != digest:
        return None
    gc.disable()  # it would search the growing tables again and again
    try:
        tables: Tables = marshal.loads(content)
    finally:
        gc.enable()
    return tables


def _is_ours(status: os.stat_result, has_type: Any) -> bool:
    return has_type(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _fingerprint() -> str:
    """Digest of what determines the tables and, as this code does, their format."""
    data = sorted(uroman_code.Uroman.default_data_dir().iterdir())
    parts = (
        Path(__file__).read_bytes(), uroman_code.__version__, sys.version, marshal.version, unicodedata.unidata_version,
        [(path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in data],
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _plain(source: uroman_code.Uroman) -> Tables:
    tables = {name: dict(value) for name, value in vars(source).items() if isinstance(value, dict)}
    tables["rom_rules"] = {key: [vars(rule) for rule in rules] for key, rules in tables["rom_rules"].items()}
    tables["scripts"] = {key: vars(script) for key, script in tables["scripts"].items()}
    return tables


def _filled(tables: Tables) -> uroman_code.Uroman:
    source = _Uroman()
    for rules in tables["rom_rules"].values():
        rules[:] = [_object(uroman_code.RomRule, rule) for rule in rules]
    scripts = {key: _object(uroman_code.Script, script) for key, script in tables["scripts"].items()}
    for name, table in (tables | {"scripts": scripts}).items():
        getattr(source, name).update(table)
    return source


def _object(kind: type[Any], attributes: dict[str, Any]) -> Any:
    """An object with these attributes; its constructor would leave some out."""
    made = object.__new__(kind)
    made.__dict__ = attributes
    return made
