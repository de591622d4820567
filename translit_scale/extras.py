"""Names the packages that an optional feature needs, so that messages can say how to install them."""

from __future__ import annotations

import shlex
from importlib.metadata import requires


def install_command(extra: str) -> str:
    """The `pip` command that installs the packages of one of the extras in pyproject.toml.

    It names these packages and not `translit-scale[EXTRA]`, because the project is on no package index: anyone could
    register its name there.
    """
    parts = [requirement.replace("'", '"').partition(";") for requirement in requires("translit-scale") or []]
    names = sorted(name.strip() for name, _, marker in parts if marker.strip() == f'extra == "{extra}"')
    return f"pip install {shlex.join(names)}"
