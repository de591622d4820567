"""The evaluation tasks: one entry states everything about a task.

The choices of commands, what `evaluate all` runs, the values that a configuration allows, titles in tables and presets
of fine-tuning follow from it. A new task is one entry here and one reader; tests compare the lists in docs with it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from translit_scale.testsets.classification import (
    SIB200_LABELS,
    SIB200_LAYOUTS,
    TAXI1500_LABELS,
    TAXI1500_LAYOUTS,
    read_sib200,
    read_taxi1500,
)
from translit_scale.testsets.hyperparameters import CLASSIFICATION, TAGGING
from translit_scale.testsets.retrieval import ENGLISH, SR_B_LAYOUTS, SR_F_LAYOUTS, TATOEBA_LAYOUTS
from translit_scale.testsets.tagging import (
    CONLLU_LAYOUTS,
    NER_LABELS,
    NER_LAYOUTS,
    POS_LABELS,
    POS_LAYOUTS,
    read_ner,
    read_pos,
)
from translit_scale.testsets.task import Metrics, RetrievalTask, TransferTask

_TEXT_METRICS = Metrics(("macro_f1",), ("macro_f1", "accuracy"))
_ENTITY_METRICS = Metrics(("entity_f1",), ("entity_f1", "entity_macro_f1", "token_accuracy", "token_macro_f1"))
_WORD_METRICS = Metrics(("entity_f1",), ("token_accuracy", "token_macro_f1"))

_PAPER_B = ("b10", "b11", "b12", "b2", "b3", "b4", "b5", "b7", "b8", "b9")
_SIB200_FOLDERS = (
    "sib200", "sib200/data", "data", "SIB-200", "sib-200", "SIB-200/data/annotated", "sib-200/data/annotated",
    "data/annotated",
)  # fmt: skip
"""With its files, as the Hugging Face hub has it (`data`), and as the repository of its authors (`data/annotated`)."""

_SR_B = RetrievalTask(  # paper A, section 4.5
    name="sr_b",
    title="SR-B",
    folders=(".", "srb", "sr_b", "bible"),
    layouts=SR_B_LAYOUTS,
    tables=("a2", *_PAPER_B),
    note="the ids of the papers' verses (450 of paper A, 500 of paper B) are not published",
)
_SR_F = RetrievalTask(  # paper A, section 4.5
    name="sr_f",
    title="SR-F",
    folders=(
        ".",
        "flores200_dataset",
        "flores200",
        "flores",
        "flores_plus",
        "floresp",
        "sr_f",
        *_SIB200_FOLDERS,
    ),
    layouts=SR_F_LAYOUTS,
    tables=("a2",),
)
_TATOEBA = RetrievalTask(  # paper B, sections 4.2 and 4.3
    name="tatoeba",
    title="Tatoeba",
    folders=(".", "tatoeba"),
    layouts=TATOEBA_LAYOUTS,
    measure="top10",
    query_language=ENGLISH,  # other pairs have next to no sentences in common
)
_SIB200 = TransferTask(
    name="sib200",
    title="SIB200",
    kind="classification",
    folders=(*_SIB200_FOLDERS, "."),
    layouts=SIB200_LAYOUTS,
    reader=read_sib200,
    labels=SIB200_LABELS,
    metrics=_TEXT_METRICS,
    hyperparameters=CLASSIFICATION,
    tables=("a3", *_PAPER_B),
)
_TAXI1500 = TransferTask(
    name="taxi1500",
    title="Taxi1500",
    kind="classification",
    folders=("taxi1500", "Taxi1500", "."),
    layouts=TAXI1500_LAYOUTS,
    reader=read_taxi1500,
    labels=TAXI1500_LABELS,
    metrics=_TEXT_METRICS,
    hyperparameters=replace(CLASSIFICATION, max_length=100),
    tables=_PAPER_B,
)
_NER = TransferTask(
    name="ner",
    title="NER",
    kind="tagging",
    folders=("ner", "wikiann", "panx", "WikiAnn", "panx_dataset", "."),
    layouts=NER_LAYOUTS,
    reader=read_ner,
    labels=NER_LABELS,
    metrics=_ENTITY_METRICS,
    hyperparameters=TAGGING,
    tables=("a3", *_PAPER_B),
)
_POS = TransferTask(
    name="pos",
    title="POS",
    kind="tagging",
    folders=("pos", "udpos", "conllu", "ud", "."),
    layouts=POS_LAYOUTS,
    reader=read_pos,
    labels=POS_LABELS,
    metrics=_WORD_METRICS,
    hyperparameters=replace(TAGGING, epochs=10),
    tables=("a3", *_PAPER_B),
)
_POS_WORDS = replace(  # not in the papers
    _POS,
    name="pos_words",
    title="POS of syntactic words",
    folders=("pos_words", "conllu", "ud", "pos", "."),
    layouts=CONLLU_LAYOUTS,
    reader=partial(read_pos, fused=False),
    in_evaluate_all=False,
    tables=(),
)

TASKS: dict[str, RetrievalTask | TransferTask] = {
    task.name: task for task in (_SR_B, _SR_F, _TATOEBA, _SIB200, _TAXI1500, _NER, _POS, _POS_WORDS)
}


def retrieval_tasks() -> dict[str, RetrievalTask]:
    """The tasks of `evaluate retrieval` and `select`, by name."""
    return {name: task for name, task in TASKS.items() if isinstance(task, RetrievalTask)}


def transfer_tasks() -> dict[str, TransferTask]:
    """The tasks of `evaluate transfer`, by name."""
    return {name: task for name, task in TASKS.items() if isinstance(task, TransferTask)}


def default_tasks() -> list[str]:
    """Names of the tasks that `evaluate all` runs unless told which."""
    return [name for name, task in TASKS.items() if task.in_evaluate_all]
