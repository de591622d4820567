"""The tasks a model is fine-tuned for: their labels, their files, their readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from translit_scale.errors import DataError
from translit_scale.testsets.classification import (
    SIB200_LABELS,
    SIB200_LAYOUTS,
    TAXI1500_LABELS,
    TAXI1500_LAYOUTS,
    Labelled,
    read_sib200,
    read_taxi1500,
)
from translit_scale.testsets.layouts import SPLITS, Layout, files_of, languages_in, looked_for
from translit_scale.testsets.tagging import (
    CONLLU_LAYOUTS,
    NER_LABELS,
    NER_LAYOUTS,
    POS_LABELS,
    POS_LAYOUTS,
    Tagged,
    read_ner,
    read_pos,
)


@dataclass(frozen=True)
class Task:
    """A task: `read(folder, language, split)` gives its examples, whose labels are indices into `labels`.

    `folders` are the names under which its folder is looked for, `format` says what its files hold.
    """

    name: str
    kind: Literal["classification", "tagging"]
    labels: tuple[str, ...]
    read: Callable[[Path, str, str], Labelled | Tagged]
    layouts: tuple[Layout, ...]
    folders: tuple[str, ...]
    format: str


_SIB200 = Task(
    "sib200",
    "classification",
    SIB200_LABELS,
    read_sib200,
    SIB200_LAYOUTS,
    ("sib200", "SIB-200", "sib-200", "sib-200/data/annotated"),
    "a header and index_id TAB category TAB text",
)
_TAXI1500 = Task(
    "taxi1500",
    "classification",
    TAXI1500_LABELS,
    read_taxi1500,
    TAXI1500_LAYOUTS,
    ("taxi1500", "Taxi1500"),
    "verse id TAB label TAB text, no header",
)
_NER = Task(
    "ner",
    "tagging",
    NER_LABELS,
    read_ner,
    NER_LAYOUTS,
    ("ner", "wikiann", "panx"),
    "token TAB tag, a blank line between sentences",
)
_POS = Task(
    "pos",
    "tagging",
    POS_LABELS,
    read_pos,
    POS_LAYOUTS,
    ("pos", "udpos", "conllu", "ud"),
    "token TAB tag with a blank line between sentences, or CoNLL-U",
)
_POS_WORDS = Task(
    "pos_words",
    "tagging",
    POS_LABELS,
    partial(read_pos, fused=False),
    CONLLU_LAYOUTS,
    ("pos_words", "conllu", "ud", "pos"),
    "CoNLL-U",
)

TASKS = {task.name: task for task in (_SIB200, _TAXI1500, _NER, _POS, _POS_WORDS)}


def languages(task: Task, folder: Path, split: str) -> list[str]:
    """The codes of the languages that a task's folder has of one split, sorted.

    Raises:
        DataError: a file whose name does not say its script cannot be read.
    """
    return languages_in(folder, task.layouts, split)


def find_folder(data_dir: Path, task: Task) -> Path:
    """Where under `data_dir` the files of a task lie: in it, or in a folder with the task's name.

    Raises:
        DataError: nowhere; the message has the paths looked at and the format expected.
    """
    candidates = [*(data_dir / name for name in task.folders), data_dir]
    for folder in candidates:
        if any(True for split in SPLITS for _ in files_of(folder, task.layouts, split)):
            return folder
    looked = ", ".join(str(folder) for folder in candidates)
    example = looked_for(data_dir / task.folders[0], task.layouts, "pol_Latn", "test")
    raise DataError(f"no files of {task.name} in {looked}", f"expected for example {example} ({task.format})")
