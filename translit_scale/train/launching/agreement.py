"""Checks that all ranks run the same experiment, on the same data and code, and see the same run directory.

Otherwise ranks with different settings train together without an error, each with the others' gradients, and the result
belongs to neither experiment. On a folder that is not shared, checkpoints would never become complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch.distributed as dist

from translit_scale.errors import ConfigError, DataError
from translit_scale.files import SHARED_SECONDS, is_listed

PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "sentencepiece", "numpy", "safetensors")
"""Packages whose versions may change the result: compared between ranks, and recorded in environment.json."""
NAMED = 4
"""Differences that a message names."""


def software() -> dict[str, str]:
    """Versions of Python and of the packages, and a digest of this program's files."""
    code, package = hashlib.sha256(), Path(__file__).parents[2]
    for path in sorted(package.rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "python": platform.python_version(),
        "translit-scale": f"{version('translit-scale')} (files {code.hexdigest()[:8]})",
        **{name: version(name) for name in PACKAGES},
    }


def check_agreement(facts: Mapping[str, Any]) -> None:
    """Compares what the ranks were started with. Every rank must call it.

    Args:
        facts: name → value; mappings may be nested, and all values must be what JSON can hold.

    Raises:
        ConfigError: values differ; the message has the hosts and ranks of each value.
    """
    own = _flat(facts)
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    if len(set(gathered(digest))) == 1:
        return
    found = gathered((socket.gethostname(), own))
    lines = []
    for name in sorted({name for _, values in found for name in values}):
        holders: dict[str, list[str]] = {}
        for rank, (host, values) in enumerate(found):
            holders.setdefault(values.get(name, "not set"), []).append(f"rank {rank} on {host}")
        if len(holders) > 1:
            lines.append(f"{name}: " + "; ".join(f"{value} ({_some(ranks)})" for value, ranks in holders.items()))
    more = [f"and {len(lines) - NAMED} more differences"] if len(lines) > NAMED else []
    raise ConfigError(
        "the ranks were not started with the same experiment:\n    " + "\n    ".join(lines[:NAMED] + more),
        "start all hosts with the same files, words, environment and code",
    )


def check_shared(folder: Path, is_first: bool) -> None:
    """Checks that every rank reads what the first one writes in a folder, and can write there. Every rank must call it.

    Raises:
        DataError: a host has another folder at this path, or must not write; the message names the hosts.
    """
    token = [secrets.token_hex(8)]
    dist.broadcast_object_list(token)
    probe = folder / f".shared-{token[0]}"
    if is_first:
        with suppress(OSError):  # which `_writable` finds, too
            probe.write_text(token[0])
    dist.barrier()
    problem = _writable(folder, token[0]) or _seen(probe, token[0])
    found = gathered((socket.gethostname(), problem))
    if is_first:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    if problems := {host: problem for host, problem in found if problem}:
        raise DataError(
            f"not all hosts share the run directory {folder.resolve()}:\n    "
            + "\n    ".join(f"{host} {problem}" for host, problem in list(problems.items())[:NAMED]),
            "set run.dir to a folder of a file system that all hosts share and may write to",
        )


def _seen(probe: Path, token: str) -> str:
    deadline = time.monotonic() + SHARED_SECONDS
    while time.monotonic() < deadline:
        try:
            if is_listed(probe) and probe.read_text() == token:
                return ""
        except OSError:
            pass
        time.sleep(0.1)
    return "does not see what the first rank has written there"


def _writable(folder: Path, token: str) -> str:
    own = folder / f".writable-{token}-{socket.gethostname()}-{os.getpid()}"
    try:
        own.write_text(token)
        own.unlink()
    except FileNotFoundError:  # the folder is missing, which `_seen` says
        return ""
    except OSError as error:
        return f"cannot write there: {error.strerror}"
    return ""


def gathered(value: Any) -> list[Any]:
    """The value of each rank."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"train": {"lr": 0.1}}` → `{"train.lr": "0.1"}`."""
    flat: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return flat


def _some(ranks: list[str]) -> str:
    return f"{ranks[0]} and {len(ranks) - 1} more" if len(ranks) > 2 else ", ".join(ranks)
