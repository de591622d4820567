"""The numbers of the papers' vocabulary tables (published_vocabulary.yaml)."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml


@lru_cache(maxsize=1)
def _published() -> dict[str, Any]:
    text = files("translit_scale.analyze").joinpath("published_vocabulary.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def published_pair(first: str, second: str) -> dict[str, Any] | None:
    """Paper A's numbers of two languages, in either order; overlap as a fraction. None if it has none."""
    rows = _published()["pairs"]["rows"]
    row = rows.get(f"{first}-{second}") or rows.get(f"{second}-{first}")
    if row is None:
        return None
    sides = {side: {**values, "overlap": values["overlap"] / 100} for side, values in row.items()}
    return {"source": _published()["pairs"]["source"], **sides}


def published_group(group: str) -> dict[str, Any] | None:
    """Paper B's numbers of unique tokens in a group; None if it has none."""
    row = _published()["groups"]["rows"].get(group)
    return None if row is None else {"source": _published()["groups"]["source"], **row}
