"""Models of the command line: their labels, how they are loaded and embed text, and what results state about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.bootstrap import number_ids
from translit_scale.evaluate.embedding import BATCH_TOKENS, Embeddings, Encoder
from translit_scale.evaluate.results import refuse_change, result_inputs
from translit_scale.files import read_json
from translit_scale.progress import Advance, Progress
from translit_scale.schema import changed_settings
from translit_scale.train.checkpointing.checkpoint import checkpoint_step, complete_checkpoints
from translit_scale.train.checkpointing.trained import find_checkpoint


@dataclass(frozen=True)
class ModelName:
    """A model of the command line and its label in tables and file names."""

    label: str
    path: str


@dataclass(frozen=True)
class EmbeddingSettings:
    """How sentences are embedded; the same for all models of a run."""

    layer: int | float | None = None
    include_special: bool = True
    batch_tokens: int = BATCH_TOKENS
    device: str = "auto"

    def load(self, model: ModelName) -> Encoder:
        """Loads a model for the chosen layer."""
        return Encoder.load(model.path, device=self.device, layer=self.layer)

    def embed(self, encoder: Encoder, sentences: Sequence[str], advance: Advance) -> Embeddings:
        """Embeds sentences; `advance` is called with numbers of finished sentences."""
        return encoder.embed(sentences, self.include_special, self.batch_tokens, advance)

    def embed_once(
        self, encoder: Encoder, lists: Iterable[Sequence[str]], label: str
    ) -> Callable[[Sequence[str]], Embeddings]:
        """Embeds all sentences of some lists, equal ones once; the function that is returned looks embeddings up."""
        index_of = number_ids(lists)
        with Progress(f"embedding with {label}", len(index_of), "sentences") as progress:
            embeddings = self.embed(encoder, list(index_of), progress.advance)
        return lambda sentences: embeddings.take([index_of[sentence] for sentence in sentences])

    def record(self, encoder: Encoder) -> dict[str, Any]:
        """The settings that change the numbers."""
        return {
            "layer": encoder.layer,
            "pooling": "mean",
            "include_special": self.include_special,
            "max_length": encoder.max_length,
            "similarity": "cosine",
        }


def name_models(arguments: Sequence[str]) -> list[ModelName]:
    """Models of the command line: `DIR_OR_ID` or `LABEL=DIR_OR_ID`; the default label is the last part of the path.

    A run folder stands for its newest checkpoint, `RUN@2000` for that of a step, `RUN@best` for the one that `select`
    chose, and `RUN@all` for all of them, with the labels `LABEL@STEP`.

    Raises:
        ConfigError: two models have the same label, or a label is not a valid file name.
        DataError: a run has no such checkpoint.
    """
    models: list[ModelName] = []
    for argument in arguments:
        named = split_label(argument, "--model")
        models += _checkpoints(named.label, named.path) or [named]
    check_labels(models, "give labels: --model mlm=runs/a/export --model tcm=…")
    return models


def split_label(argument: str, option: str) -> ModelName:
    """`LABEL=PATH` or `PATH`, whose label is the last part of the path.

    Raises:
        ConfigError: the label is not a valid file name.
    """
    label, equals, path = argument.partition("=")
    if not equals or "/" in label or Path(argument).exists():
        label, path = Path(argument).resolve().name, argument
    if not re.fullmatch(r"[\w.=@-]+", label) or not path:
        raise ConfigError(f"{option} {argument!r}: {label!r} is not a label", "write LABEL=DIR_OR_ID")
    return ModelName(label, path)


def check_labels(models: Sequence[ModelName], hint: str) -> None:
    """Raises a ConfigError if two models have the same label."""
    labels = [model.label for model in models]
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise ConfigError(f"two models have the label {repeated[0]!r}", hint)


def _checkpoints(label: str, path: str) -> list[ModelName]:
    """The checkpoints that are meant by the folder of a run, with or without `@STEP`; none if it is another model."""
    run, at, which = (path, "", "") if Path(path).exists() else path.rpartition("@")
    if not at and (not (Path(path) / "checkpoints").is_dir() or (Path(path) / "config.json").exists()):
        return []
    if at and not re.fullmatch("[0-9]+|best|all", which):
        raise ConfigError(
            f"--model {path}: {which!r} is not a checkpoint", f"write {run}@2000, {run}@best or {run}@all"
        )
    if which == "all":
        find_checkpoint(Path(run), None)  # raises if there is none
        found = complete_checkpoints(Path(run) / "checkpoints")
        name = label.removesuffix("@all")
        return [ModelName(f"{name}@{checkpoint_step(checkpoint)}", str(checkpoint)) for checkpoint in found]
    step: int | Literal["best"] | None = "best" if which == "best" else int(which) if which else None
    return [ModelName(label, str(find_checkpoint(Path(run), step)))]


def describe_model(model: ModelName, encoder: Encoder) -> dict[str, Any]:
    """The weights and the tokenizer that produced a number."""
    return {
        "label": model.label,
        "path": model.path,
        "weights_sha256": encoder.weights_sha256,
        "tokenizer_sha256": encoder.tokenizer_sha256,
        "layers": encoder.n_layers,
        "hidden_size": encoder.model.config.hidden_size,
    }


def check_earlier(
    models: Sequence[ModelName],
    embedding: EmbeddingSettings,
    result_of: Callable[[ModelName], Path],
    record_of: Callable[[ModelName, Encoder], Mapping[str, Any]],
) -> None:
    """Refuses to replace what the new results do not contain, before anything is computed.

    Args:
        result_of: the file of a model's result.
        record_of: of the new result: `model`, `settings`, and `scores.test` with `hf_subset` and `text_sha256`.

    Raises:
        DataError: something would be lost; --force replaces it.
    """
    for model in models:
        path = result_of(model)
        if path.exists():
            _check_replaceable(path, record_of(model, embedding.load(model)))


def _check_replaceable(path: Path, record: Mapping[str, Any]) -> None:
    """Raises a DataError unless the new result has the same model, settings and texts as the old one, or more."""
    try:
        changes = changed_settings(result_inputs(read_json(path, "result")), result_inputs(record))
    except (DataError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is not a result of this command", "--force replaces it") from None
    refuse_change(path, [(name, old, new) for name, old, new in changes if old is not None])
