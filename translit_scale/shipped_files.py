"""Finds the files that the project ships, by name: experiments, DeepSpeed configurations, recipes, documentation and
batch scripts.

A checkout has their folders beside the package, an installed wheel inside it.
"""

from __future__ import annotations

import difflib
import textwrap
from pathlib import Path

from translit_scale.errors import ConfigError

FOLDERS = {
    "configs": ".yaml",
    "configs/study": ".yaml",
    "ds_configs": ".json",
    "shards": ".yaml",
    "docs": ".md",
    "scripts/slurm": ".sbatch",
}
"""Folder of each kind of file, and the suffix that names leave out."""

_PACKAGE = Path(__file__).resolve().parent


def shipped_folder(folder: str) -> Path:
    """The folder with the shipped files of one kind."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parent / folder


def names_of(folder: str, parent: Path) -> list[str]:
    """Sorted names of the files of one kind below a folder, for example `paper_a/model5`; [] if there is no folder.

    What is in a folder of another kind belongs to that kind.
    """
    others = [parent / Path(kind).name for kind in FOLDERS if Path(kind).parent == Path(folder)]
    paths = [path for path in parent.rglob(f"*{FOLDERS[folder]}") if path.parent not in others]
    return sorted(path.relative_to(parent).with_suffix("").as_posix() for path in paths)


def find_file(folder: str, word: str) -> Path:
    """The file that a word on the command line means.

    It is the path itself, else NAME in the working directory's folder of this kind, else the shipped file NAME.

    Raises:
        ConfigError: there is no such file; the message lists the names.
    """
    parents = (Path(folder), shipped_folder(folder))
    for path in (Path(word), *(parent / f"{word}{FOLDERS[folder]}" for parent in parents)):
        if path.is_file():
            return path
    names = sorted({name for parent in parents for name in names_of(folder, parent)})
    bare = word.removesuffix(FOLDERS[folder]).removeprefix(f"{folder}/")
    near = difflib.get_close_matches(bare, names, n=1) or [name for name in names if name.endswith(f"/{bare}")]
    raise ConfigError(
        textwrap.fill(f"{word}: there is no such file, and no file of this name is shipped. Names: {', '.join(names)}"),
        f"did you mean {near[0]}?" if near else "give a path or one of the names",
    )
