"""One job of zero-shot transfer: fine-tune on source languages, choose the epoch on their dev sets, test on targets."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from translit_scale.batch.random_bits import key
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.evaluate.bootstrap import RESAMPLES
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.results import ModelName, describe_model, header, write_arrays
from translit_scale.evaluate.transfer.finetune import Classifier, Precision, chosen, finetune, predict
from translit_scale.evaluate.transfer.metrics import Labels, main_counts, main_estimates, profiles
from translit_scale.evaluate.transfer.tokenize import Sequences, joined, make_sequences
from translit_scale.files import write_json
from translit_scale.progress import Advance
from translit_scale.testsets.classification import LabelledTexts
from translit_scale.testsets.hyperparameters import Hyperparameters
from translit_scale.testsets.registry import transfer_tasks
from translit_scale.testsets.tagging import TaggedSentences
from translit_scale.testsets.task import Examples, TransferTask


@dataclass(frozen=True)
class Job:
    """One fine-tuning and its tests; everything its result depends on, and where it goes."""

    model: ModelName
    task_name: str
    folder: Path
    """Of the task's files."""
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    seed: int
    preset: str
    hyperparameters: Hyperparameters
    out: Path
    precision: Precision = "fp32"
    device: str = "auto"
    threads: int = 1

    @property
    def task(self) -> TransferTask:
        """The task itself."""
        return transfer_tasks()[self.task_name]

    @property
    def name(self) -> str:
        """`sib200/tcm.eng_Latn+hin_Deva.seed42`: in messages, and the results' path without its ending."""
        return f"{self.task_name}/{self.model.label}.{'+'.join(self.sources)}.seed{self.seed}"

    @property
    def result(self) -> Path:
        """The file that is there when the job is done."""
        return self.out / f"{self.name}.json"

    @property
    def items(self) -> Path:
        """The predictions, written before the result."""
        return self.out / f"{self.name}.items.npz"

    def __str__(self) -> str:
        return self.name


@lru_cache(maxsize=1024)
def read_split(task_name: str, folder: Path, language: str, split: str) -> Examples:
    """The examples of one language; read once by each process.

    Raises:
        DataError: as the task's reader.
    """
    return transfer_tasks()[task_name].read(folder, language, split)


@lru_cache(maxsize=512)
def _sequences(path: str, task_name: str, folder: Path, language: str, split: str, max_length: int) -> Sequences:
    """The same as the tokens of the model at `path`."""
    return make_sequences(_tokenizer(path), read_split(task_name, folder, language, split), max_length)


_tokenizer = lru_cache(maxsize=4)(load_tokenizer)


def describe_job(job: Job, encoder: Encoder) -> dict[str, Any]:
    """First part of the result: all that it depends on but the test sets.

    Raises:
        DataError: a split of a source is missing or wrong.
    """
    return {
        **header(job.task_name, job.task.kind),
        "model": describe_model(job.model, encoder),
        "settings": {
            "source": list(job.sources),
            "seed": job.seed,
            "preset": job.preset,
            **asdict(job.hyperparameters),
            "max_length": _max_length(job, encoder),
            "precision": job.precision,
            "epoch_chosen_by": "paper",
            "bootstrap": {"interval": 0.95, "resamples": RESAMPLES, "seed": 0},
        },
        "data": {
            split: [
                _described(job.folder, read_split(job.task_name, job.folder, source, split)) for source in job.sources
            ]
            for split in ("train", "dev")
        },
    }


def _described(folder: Path, data: Examples) -> dict[str, Any]:
    """Which examples a number is about; n counts texts or sentences."""
    noted = {"noted": data.noted} if isinstance(data, TaggedSentences) else {}
    return {
        "language": data.language,
        "files": [Path(path).relative_to(folder).as_posix() for path in data.files],
        "n": len(data),
        "text_sha256": data.fingerprint,
        "dropped": data.dropped,
        **noted,
    }


def run_job(job: Job, advance: Advance) -> None:
    """Fine-tunes, tests and writes the predictions, then the result.

    The result is a function of the job, the model and the texts: on a CPU, with the same number of threads, to the
    byte. The targets' texts are read after the epoch is chosen.

    Args:
        advance: called with 1 at the end.

    Raises:
        NumericError: the loss is not finite.
        DataError: as the readers.
    """
    torch.set_num_threads(job.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # jobs are what runs in parallel
    encoder = Encoder.load(job.model.path, device=job.device, layer=1.0)
    model, training = _fine_tuned(job, encoder)
    scores: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for target in job.targets:
        data, own = _tokenized(job, encoder, target, "test")
        answers = predict(model, own)
        scores.append(_score(job.task, job.folder, data, own, answers))
        arrays |= _items(data, own, answers)
    write_arrays(job.items, arrays)
    write_json(job.result, describe_job(job, encoder) | training | {"scores": {"test": scores}})
    advance(1)


def _fine_tuned(job: Job, encoder: Encoder) -> tuple[Classifier, dict[str, Any]]:
    """The model of the best epoch, and the record of the training."""
    # The same for all models: they see the same order of sentences.
    seed = int(key("transfer", job.seed, job.task_name, *job.sources) >> np.uint64(1))
    torch.manual_seed(seed)  # of the head's first weights and dropout
    settings, kind = job.hyperparameters, job.task.kind
    model = Classifier(encoder.model, kind, len(job.task.labels), settings.dropout, job.precision == "bf16")
    splits = {split: [_tokenized(job, encoder, code, split) for code in job.sources] for split in ("train", "dev")}
    sequences = {split: joined([own for _, own in parts]) for split, parts in splits.items()}

    def dev_score(model: Classifier) -> float:
        """Unweighted mean over the sources of the paper's main score."""
        found = [
            main_counts(job.task, _labels(data), _labels(data, predict(model, own))) for data, own in splits["dev"]
        ]
        return float(np.mean([counts["paper"].score for counts in found]))

    epochs = finetune(model, sequences["train"], dev_score, settings, seed, job.name)
    best = chosen(epochs)
    return model, {
        "chosen": {"epoch": best.number, "dev": best.dev},
        "epochs": [{"epoch": epoch.number, "loss": epoch.loss, "dev": epoch.dev} for epoch in epochs],
        "sequences": {split: own.counts for split, own in sequences.items()},
    }


def _max_length(job: Job, encoder: Encoder) -> int:
    return min(job.hyperparameters.max_length, encoder.max_length)


def _tokenized(job: Job, encoder: Encoder, language: str, split: str) -> tuple[Examples, Sequences]:
    where = job.task_name, job.folder, language, split
    return read_split(*where), _sequences(job.model.path, *where, _max_length(job, encoder))


def _labels(data: Examples, flat: NDArray[np.int64] | None = None) -> Labels:
    """The labels of a split, or predictions in its shape: one for each text, or a list for each sentence."""
    if isinstance(data, LabelledTexts):
        return data.labels if flat is None else flat.tolist()
    if flat is None:
        return data.tags
    ends = np.cumsum([len(tags) for tags in data.tags])
    return [part.tolist() for part in np.split(flat, ends[:-1])]


def _score(
    task: TransferTask, folder: Path, data: Examples, own: Sequences, answers: NDArray[np.int64]
) -> dict[str, Any]:
    """One target language; shares between 0 and 1, the main score is the strict profile's."""
    gold, predicted = _labels(data), _labels(data, answers)
    estimates = main_estimates(task, gold, predicted)
    return {
        "hf_subset": data.language,
        **_described(folder, data),
        "main_score": estimates["strict"].value,
        **profiles(task, gold, predicted),
        "ci95": {profile: [estimate.low, estimate.high] for profile, estimate in estimates.items()},
        **own.counts,
    }


def _items(data: Examples, own: Sequences, answers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Of every text or word of a language what it is and what was predicted (indices into the task's labels)."""
    arrays: dict[str, NDArray[Any]] = {"gold": own.flat_labels.astype(np.int16), "predicted": answers.astype(np.int16)}
    if isinstance(data, LabelledTexts):
        arrays["ids"] = np.array(data.ids)
    else:
        arrays["words"] = np.array([len(words) for words in data.words], np.int32)
    return {f"{name}:{data.language}": values for name, values in arrays.items()}
