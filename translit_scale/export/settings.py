"""The settings of an experiment that decided its result, without private paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from translit_scale.config import Config
from translit_scale.corpus.tokenizer import looks_like_path

FROM_SCRATCH = ("hidden_size", "num_layers", "num_heads", "intermediate_size")
SPEED_ONLY = {
    "data": ("workers", "prefetch", "max_damaged_fraction", "max_unknown_fraction"),
    "train": ("gradient_checkpointing", "compile", "max_skipped_steps"),
}


def is_local(name: str) -> bool:
    """Whether a model or tokenizer is a folder of this machine rather than an id of the hub."""
    return Path(name).is_dir() or looks_like_path(name) or name.startswith("~")


def public_name(name: str) -> str:
    """The id of the hub, or the last part of the path of a local folder."""
    return Path(name).name if is_local(name) else name


def used_settings(config: Config) -> dict[str, Any]:
    """Settings that had an effect on the weights, by section; local folders by their names only."""
    sections = config.model_dump(mode="json", exclude={"run", "selection", "monitor"}, exclude_none=True)
    for section, names in SPEED_ONLY.items():
        for name in names:
            sections[section].pop(name, None)
    data, model, objectives, train = (sections[name] for name in ("data", "model", "objectives", "train"))
    data["shards"] = Path(config.data.shards).name
    for mixture in (data["mixture"], *(change["mixture"] for change in data["mixture_schedule"])):
        if mixture["kind"] != "temperature":
            del mixture["alpha"]
    if not data["mixture_schedule"]:
        del data["mixture_schedule"]
    for name in ("pretrained", "tokenizer"):
        if name in model:
            model[name] = public_name(model[name])
    if config.model.pretrained:
        for name in FROM_SCRATCH:
            del model[name]
    for name in ("tcm", "tlm"):
        if not objectives[name]["weight"]:
            del objectives[name]
    if config.objectives.tcm.weight and config.objectives.tcm.loss != "sigmoid":
        del objectives["tcm"]["initial_bias"]
    if config.train.max_steps:
        del train["epochs"]
    return sections
