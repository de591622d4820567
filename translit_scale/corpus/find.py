"""Finds files by paths and glob patterns: one rule for recipes, held-out text and evaluation.

`*`, `?`, `[...]` and `**` mean what they mean in a shell with `globstar`, but symbolic links to folders are followed
everywhere, also below `**`. There every folder is read once, under its own name if it has one, so cycles of links end.
A suffix matches in upper and lower case. Files that desktops leave behind are passed over unless they are named.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from translit_scale.corpus.compression import COMPRESSIONS
from translit_scale.errors import DataError

_LEFT_BEHIND = ("Thumbs.db", "desktop.ini", "__MACOSX")
"""Besides names that begin with a dot, such as `.DS_Store` and `._a.txt`."""
_SUFFIX = re.compile(rf"\.[A-Za-z0-9]+(?:{'|'.join(map(re.escape, COMPRESSIONS))})?$", re.IGNORECASE)
_MOST_SHOWN = 4


def find_files(pattern: str, folder: Path = Path()) -> list[Path]:
    """The files that a path or glob pattern names, in the order of their paths.

    A file whose name is the pattern itself, such as `a[1].txt`, is the only match.

    Args:
        folder: `pattern` is relative to it, unless it is absolute.

    Raises:
        DataError: there is no such file, a folder has the name, a matching link leads nowhere, or a folder cannot be
            read. The hint tells what is there.
    """
    path = folder / pattern
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            raise DataError(f"{path} is a folder", f"name its files: {_patterns_below(path, pattern)}")
        anchor = Path(path.anchor) if Path(pattern).is_absolute() else folder
    except OSError as error:
        raise DataError(f"cannot look for {path}: {error.strerror}") from None
    found = [anchor / name for name in matching_files(path.relative_to(anchor).as_posix(), anchor)]
    if broken := [match for match in found if not match.exists()]:
        raise DataError(f"{broken[0]} is a link to {broken[0].readlink()}, which does not exist", "mend or remove it")
    if not found:
        raise DataError(f"no file matches {path}" if is_pattern(pattern) else f"file not found: {path}", _present(path))
    return found


def matching_files(pattern: str, folder: Path) -> list[str]:
    """Sorted paths, relative to `folder`, of all files that match a pattern, and of links that lead nowhere.

    Raises:
        DataError: a folder cannot be read.
    """
    try:
        paths = {path for path in _expand(folder, Path(pattern).parts) if not path.is_dir()}
    except OSError as error:
        raise DataError(f"cannot look for {folder / pattern}: {error.filename}: {error.strerror}") from None
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def is_pattern(path: str) -> bool:
    """Whether a path contains wildcards."""
    return any(char in path for char in "*?[")


def lower_suffix(name: str) -> str:
    """A name with its suffix, and that of its compression, in lower case: `b.TXT.GZ` becomes `b.txt.gz`."""
    return _SUFFIX.sub(lambda match: match[0].lower(), name)


def _expand(folder: Path, segments: Sequence[str]) -> Iterator[Path]:
    """What matches the segments of a pattern below a folder."""
    if not segments:
        yield folder
        return
    first, *rest = segments
    if first == "**":
        for below in _folders_below(folder) if folder.is_dir() else ():
            yield from _expand(below, rest or ["*"])
    elif not is_pattern(first):
        if os.path.lexists(folder / first):
            yield from _expand(folder / first, rest)
    elif folder.is_dir():
        for name in os.listdir(folder):  # noqa: PTH208 (names are what is compared)
            if _matches(name, first) and (not rest or (folder / name).is_dir()):
                yield from _expand(folder / name, rest)


def _matches(name: str, segment: str) -> bool:
    if _is_left_behind(name) and not segment.startswith("."):
        return False
    return fnmatchcase(name, segment) or fnmatchcase(lower_suffix(name), lower_suffix(segment))


def _is_left_behind(name: str) -> bool:
    return name.startswith(".") or name in _LEFT_BEHIND


def _folders_below(top: Path) -> Iterator[Path]:
    """A folder and all folders below it; links are followed last, and only to folders that have not been met."""
    met: set[str] = set()
    pending = [str(top)]
    for start in pending:
        for folder, children, _ in os.walk(start, onerror=_raise):
            real = os.path.realpath(folder)
            children[:] = [] if real in met else sorted(name for name in children if not _is_left_behind(name))
            if real not in met:
                met.add(real)
                yield Path(folder)
            pending += [str(path) for name in children if (path := Path(folder, name)).is_symlink()]


def _raise(error: OSError) -> None:
    raise error


def _present(path: Path) -> str:
    """What the deepest existing folder of a path that was not found has."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    names = sorted(path.name for path in folder.iterdir())
    wanted = path.relative_to(folder).parts[0]
    near = [name for name in names if name.casefold() == wanted.casefold()]
    if near := near or ([] if is_pattern(wanted) else difflib.get_close_matches(wanted, names, n=1)):
        return f"did you mean {folder / near[0]}?"
    shown = ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")
    return f"{folder} has {shown}" if names else f"{folder} is empty"


def _patterns_below(folder: Path, pattern: str) -> str:
    """Patterns for the files of a folder, by their suffixes."""
    below = [path for path in sorted(folder.iterdir()) if not _is_left_behind(path.name) and path.is_file()]
    suffixes = Counter(match[0].lower() if (match := _SUFFIX.search(path.name)) else "" for path in below)
    names = [f"*{suffix}" for suffix, _ in suffixes.most_common(_MOST_SHOWN)] or ["**/*"]
    return " or ".join(f"{pattern.rstrip('/')}/{name}" for name in names)
