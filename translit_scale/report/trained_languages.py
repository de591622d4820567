"""Which languages a model was trained on, from its run or shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from translit_scale.corpus.manifest import MANIFEST_NAME, read_manifest
from translit_scale.errors import ConfigError, DataError
from translit_scale.train.checkpointing.checkpoint import (
    COMPLETE,
    CheckpointInfo,
    complete_checkpoints,
    read_info,
    visits_of,
)

Languages = Mapping[str, int]
"""Language → its pairs of text."""


def read_languages(folder: Path) -> Languages:
    """The languages of a shard set, or those that a run was trained on.

    Args:
        folder: with `manifest.json`, a run, or one of its checkpoints.

    Raises:
        DataError: it is none of these, or is damaged.
    """
    if (folder / MANIFEST_NAME).is_file():
        return {code: language.rows for code, language in read_manifest(folder)[0].languages.items()}
    languages = _of_run(folder)
    if languages is None:
        raise DataError(
            f"{folder} is neither a shard set (no {MANIFEST_NAME}) nor a run with a complete checkpoint",
            "name the folder that prepare wrote, or a run folder",
        )
    return languages


def languages_of_models(paths: Iterable[str]) -> dict[Path, Languages]:
    """Run or checkpoint → its languages, of those models that are a checkpoint or lie in the folder of a run.

    Args:
        paths: of models, as results state them; paths that are no longer there are left out.
    """
    found = {}
    for path in (path for path in map(Path, dict.fromkeys(paths)) if path.is_dir()):
        for folder in (path, path.parent):
            try:
                languages = _of_run(folder)
            except DataError:  # a damaged checkpoint says nothing about its languages
                continue
            if languages is not None:
                found[folder] = languages
                break
    return found


def _of_run(folder: Path) -> Languages | None:
    """The languages of a run or of one of its checkpoints; None if the folder is another one."""
    checkpoints = [folder] if (folder / COMPLETE).is_file() else complete_checkpoints(folder / "checkpoints")
    if not checkpoints:
        return None
    return visited_languages(read_info(checkpoints[-1]))


def visited_languages(info: CheckpointInfo) -> Languages:
    """Those of the experiment that the training has visited before a checkpoint.

    Raises:
        DataError: the record is too old to be understood.
    """
    try:
        visits = visits_of(info)
    except ConfigError as error:
        raise DataError(error.message) from None
    return {code: pairs for code, pairs in info.pairs.items() if visits.get(code)}
