"""One transfer job: fine-tunes on source languages, chooses the epoch on their dev sets, and tests on targets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from translit_scale.batch.random_bits import key
from translit_scale.evaluate.bootstrap import RESAMPLES
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.loading import model_tokenizer
from translit_scale.evaluate.models import ModelName, describe_model
from translit_scale.evaluate.results import header, write_arrays
from translit_scale.evaluate.transfer.finetune import Classifier, TransferPrecision, best_epoch, finetune, predict
from translit_scale.evaluate.transfer.metrics import Labels, main_counts, main_estimates, profiles
from translit_scale.evaluate.transfer.tokenize import TokenizedSplit, concatenate, tokenize_split
from translit_scale.files import write_json
from translit_scale.progress import Advance
from translit_scale.testsets.classification import LabelledTexts
from translit_scale.testsets.hyperparameters import Hyperparameters
from translit_scale.testsets.layouts import Aliases
from translit_scale.testsets.registry import transfer_tasks
from translit_scale.testsets.tagging import TaggedSentences
from translit_scale.testsets.task import Examples, TransferTask


@dataclass(frozen=True)
class GridSettings:
    """What all jobs of a grid have in common."""

    preset: str = "paper_b"
    seeds: int | None = None
    """How many, counted from the preset's first; None: the preset's."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that differ from the preset's."""
    precision: TransferPrecision = "fp32"
    device: str = "auto"
    threads: int = 1
    """Of each job. It does not follow from the number of processes, because it changes the rounding of sums."""


@dataclass(frozen=True)
class TransferJob:
    """One fine-tuning and its tests: all that its result depends on, and where the result is written."""

    model: ModelName
    task_name: str
    folder: Path
    """With the task's files."""
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    seed: int
    settings: GridSettings
    out: Path
    aliases: Aliases = ()
    """The set's own names for languages."""

    @property
    def task(self) -> TransferTask:
        """The entry of the registry."""
        return transfer_tasks()[self.task_name]

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The preset's with the changes of the settings."""
        return replace(self.task.hyperparameters, **self.settings.changes)

    @property
    def name(self) -> str:
        """`sib200/tcm.eng_Latn+hin_Deva.seed42`: its name in messages, and the path of its results without ending."""
        return f"{self.task_name}/{self.model.label}.{'+'.join(self.sources)}.seed{self.seed}"

    @property
    def result(self) -> Path:
        """This file exists if the job is finished."""
        return self.out / f"{self.name}.json"

    @property
    def items(self) -> Path:
        """The file with the predictions, written before the result."""
        return self.out / f"{self.name}.items.npz"

    def __str__(self) -> str:
        return self.name

    def read(self, language: str, split: str) -> Examples:
        """The examples of one language, read once by each process; raises as the task's reader."""
        return read_split(self.task_name, self.folder, language, split, self.aliases)


@lru_cache(maxsize=1024)
def read_split(task_name: str, folder: Path, language: str, split: str, aliases: Aliases = ()) -> Examples:
    """The examples of one language, read once by each process.

    Raises:
        DataError: as the task's reader.
    """
    return transfer_tasks()[task_name].read(folder, language, split, aliases)


@lru_cache(maxsize=512)
def _tokenized_split(
    path: str, task_name: str, folder: Path, language: str, split: str, aliases: Aliases, max_length: int
) -> TokenizedSplit:
    """The examples, tokenized for the model at `path`."""
    return tokenize_split(_tokenizer(path), read_split(task_name, folder, language, split, aliases), max_length)


_tokenizer = lru_cache(maxsize=4)(model_tokenizer)


def describe_job(job: TransferJob, encoder: Encoder) -> dict[str, Any]:
    """First part of the result: all that it depends on, except the test sets.

    Raises:
        DataError: a split of a source is missing or wrong.
    """
    return {
        **header(job.task_name, job.task.kind),
        "model": describe_model(job.model, encoder),
        "settings": {
            "source": list(job.sources),
            "seed": job.seed,
            "preset": job.settings.preset,
            **asdict(job.hyperparameters),
            "max_length": _max_length(job, encoder),
            "precision": job.settings.precision,
            "epoch_chosen_by": "paper",
            "bootstrap": {"interval": 0.95, "resamples": RESAMPLES, "seed": 0},
        },
        "data": {
            split: [_describe(job.folder, job.read(source, split)) for source in job.sources]
            for split in ("train", "dev")
        },
    }


def _describe(folder: Path, data: Examples) -> dict[str, Any]:
    """The examples that produced a number; n counts texts or sentences."""
    noted = {"noted": data.noted} if isinstance(data, TaggedSentences) else {}
    named = {"named": data.name} if data.name not in ("", data.language) else {}
    return {
        "language": data.language,
        **named,
        "files": [Path(path).relative_to(folder).as_posix() for path in data.files],
        "n": len(data),
        "text_sha256": data.fingerprint,
        "dropped": data.dropped,
        **noted,
    }


def run_job(job: TransferJob, advance: Advance) -> None:
    """Fine-tunes, tests, and writes first the predictions and then the result.

    The result is a function of the job, the model and the texts: on a CPU with the same number of threads, to the byte.
    The targets' texts are read after the epoch is chosen.

    Args:
        advance: called with 1 at the end.

    Raises:
        NumericError: the loss is not finite.
        DataError: as the readers.
    """
    torch.set_num_threads(job.settings.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # jobs run in parallel instead
    encoder = Encoder.load(job.model.path, device=job.settings.device, layer=1.0)
    model, training = _finetune(job, encoder)
    scores: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for target in job.targets:
        data, tokenized = _read_tokenized(job, encoder, target, "test")
        predicted = predict(model, tokenized)
        scores.append(_score(job.task, job.folder, data, tokenized, predicted))
        arrays |= _items(data, tokenized, predicted)
    write_arrays(job.items, arrays)
    write_json(job.result, describe_job(job, encoder) | training | {"scores": {"test": scores}})
    advance(1)


def _finetune(job: TransferJob, encoder: Encoder) -> tuple[Classifier, dict[str, Any]]:
    """The model of the best epoch, and the record of the training."""
    # Does not depend on the model, so all models see the sentences in the same order.
    seed = int(key("transfer", job.seed, job.task_name, *job.sources) >> np.uint64(1))
    torch.manual_seed(seed)  # for the initial weights of the head, and dropout
    hyperparameters, bf16 = job.hyperparameters, job.settings.precision == "bf16"
    model = Classifier(encoder.model, job.task.kind, len(job.task.labels), hyperparameters.dropout, bf16)
    splits = {split: [_read_tokenized(job, encoder, code, split) for code in job.sources] for split in ("train", "dev")}
    sequences = {split: concatenate([tokenized for _, tokenized in parts]) for split, parts in splits.items()}

    def dev_score(model: Classifier) -> float:
        """Unweighted mean over the sources of the paper profile's main score."""
        scores = [
            main_counts(job.task, _labels(data), _labels(data, predict(model, tokenized)))["paper"].score
            for data, tokenized in splits["dev"]
        ]
        return float(np.mean(scores))

    epochs = finetune(model, sequences["train"], dev_score, hyperparameters, seed, job.name)
    best = best_epoch(epochs)
    return model, {
        "chosen": {"epoch": best.number, "dev": best.dev},
        "epochs": [{"epoch": epoch.number, "loss": epoch.loss, "dev": epoch.dev} for epoch in epochs],
        "sequences": {split: tokenized.counts for split, tokenized in sequences.items()},
    }


def _max_length(job: TransferJob, encoder: Encoder) -> int:
    return min(job.hyperparameters.max_length, encoder.max_length)


def _read_tokenized(job: TransferJob, encoder: Encoder, language: str, split: str) -> tuple[Examples, TokenizedSplit]:
    source = job.task_name, job.folder, language, split, job.aliases
    return read_split(*source), _tokenized_split(job.model.path, *source, _max_length(job, encoder))


def _labels(data: Examples, flat: NDArray[np.int64] | None = None) -> Labels:
    """The labels of a split, or predictions in its shape: one for each text, or a list for each sentence."""
    if isinstance(data, LabelledTexts):
        return data.labels if flat is None else flat.tolist()
    if flat is None:
        return data.tags
    ends = np.cumsum([len(tags) for tags in data.tags])
    return [part.tolist() for part in np.split(flat, ends[:-1])]


def _score(
    task: TransferTask, folder: Path, data: Examples, tokenized: TokenizedSplit, predicted: NDArray[np.int64]
) -> dict[str, Any]:
    """Scores of one target language as fractions; the main score is the strict profile's."""
    labels = _labels(data), _labels(data, predicted)
    estimates = main_estimates(task, *labels)
    return {
        "hf_subset": data.language,
        "languages": [data.language.replace("_", "-")],
        **_describe(folder, data),
        "main_score": estimates["strict"].value,
        **profiles(task, *labels),
        "ci95": {profile: [estimate.low, estimate.high] for profile, estimate in estimates.items()},
        **tokenized.counts,
    }


def _items(data: Examples, tokenized: TokenizedSplit, predicted: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Gold and predicted label of every text or word of a language (indices into the task's labels)."""
    arrays: dict[str, NDArray[Any]] = {
        "gold": tokenized.flat_labels.astype(np.int16),
        "predicted": predicted.astype(np.int16),
    }
    if isinstance(data, LabelledTexts):
        arrays["ids"] = np.array(data.ids)
    else:
        arrays["words"] = np.array([len(words) for words in data.words], np.int32)
    return {f"{name}:{data.language}": values for name, values in arrays.items()}
