"""What an evaluation task is: everything that the program has to know of it, apart from its reader's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

from translit_scale.errors import ConfigError, DataError
from translit_scale.progress import Advance
from translit_scale.testsets.classification import LabelledTexts
from translit_scale.testsets.hyperparameters import Hyperparameters
from translit_scale.testsets.layouts import SPLITS, Aliases, LanguageFiles, Layout, ParallelLayout, TaskFolder
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.tagging import TaggedSentences

TOP_K = (1, 5, 10)
MEASURES: dict[str, tuple[int, ...]] = {**{f"top{k}": (k,) for k in TOP_K}, "mean": TOP_K}
"""Measures of retrieval by which checkpoints are selected: name → the top-k whose accuracies are averaged."""
Examples = LabelledTexts | TaggedSentences


@dataclass(frozen=True, kw_only=True)
class Task:
    """What retrieval and transfer tasks have in common."""

    name: str
    """In commands, configurations, result files and folders of results."""
    title: str
    """As the papers write it."""
    kind: str
    folders: tuple[str, ...]
    """Folders under the data folder in which the files are looked for, in this order; `.` is the data folder."""
    layouts: tuple[Layout, ...]
    in_evaluate_all: bool = True
    """Whether `evaluate all` runs it unless told which tasks to run."""
    tables: tuple[str, ...] = ()
    """The papers' tables that report it (`report/published.yaml`)."""
    note: str = ""
    """What readers of these tables should know."""

    def find(self, data: Path, aliases: Aliases = ()) -> TaskFolder:
        """The folder with the task's files.

        Args:
            aliases: the set's own names for languages.

        Raises:
            DataError: there is none; the message has the folders that were searched and the files expected.
        """
        one_by_one = [(layout,) for layout in self.layouts]
        for layouts in one_by_one if self.kind == "retrieval" else [self.layouts]:
            for name in self.folders:
                folder = TaskFolder(data / name, layouts, aliases)
                if any(folder.files(split) for split in SPLITS):
                    return folder
        if not data.is_dir():
            raise DataError(f"data folder not found: {data}", "give the folder with --data")
        searched = ", ".join(str(data / name) for name in self.folders)
        expected = "".join(f"\n    {layout.shown} ({layout.content})" for layout in self.layouts)
        archives = [path for name in self.folders for path in sorted((data / name).glob("*.tar.gz"))]
        hint = "the layouts: translit-scale docs test-sets"
        if archives:
            loop = "do mkdir -p ${a%.tar.gz}; tar -xzf $a -C ${a%.tar.gz}; done"
            hint = f"unpack each archive into a folder of its name: for a in {archives[0].parent}/*.tar.gz; {loop}"
        raise DataError(f"no files of {self.name} in {searched}; expected{expected}", hint)


@dataclass(frozen=True)
class ParallelSet:
    """A retrieval test set in a data folder, with the one layout that is read there."""

    task: RetrievalTask
    folder: TaskFolder

    @property
    def layout(self) -> ParallelLayout:
        """The layout of the files."""
        return next(layout for layout in self.task.layouts if layout in self.folder.layouts)

    def read(self, source: str, target: str) -> ParallelText:
        """The parallel text of two languages, under the codes asked for.

        Raises:
            DataError: as `TaskFolder.find`, or the files cannot be paired.
        """
        return self.layout.pair(self.folder.find(source), self.folder.find(target))

    def read_pairs(
        self, pairs: Sequence[tuple[str, str]], limit: int | None = None, advance: Advance | None = None
    ) -> tuple[list[ParallelText], list[DataError]]:
        """The parallel texts of pairs of languages, and the errors of the pairs that cannot be read.

        Args:
            limit: only the first pairs of sentences of each text.
            advance: called with 1 after each pair of languages.
        """
        texts: list[ParallelText] = []
        errors: list[DataError] = []
        for pair in pairs:
            try:
                texts.append(self.read(*pair).first(limit))
            except DataError as error:
                errors.append(error)
            if advance is not None:
                advance(1)
        return texts, errors

    def notes(self, languages: Sequence[str]) -> list[str]:
        """What readers of the numbers should know."""
        names = {language: self.folder.find(language).name for language in languages}
        renamed = [f"{language} is {name} there" for language, name in names.items() if name != language]
        return [note for note in (self.layout.note, *renamed) if note]


@dataclass(frozen=True, kw_only=True)
class RetrievalTask(Task):
    """A test set of parallel sentences. Only the first layout that has files is read: layouts are not paired."""

    layouts: tuple[ParallelLayout, ...]
    measure: str = "mean"
    """Of `MEASURES`: what `select` compares checkpoints by, unless told otherwise."""
    query_language: str | None = None
    """The only query language in `evaluate all`; None: every source."""
    kind: Literal["retrieval"] = "retrieval"

    def find_set(self, data: Path, aliases: Aliases = ()) -> ParallelSet:
        """The test set under a data folder; arguments and errors as in `find`."""
        return ParallelSet(self, self.find(data, aliases))

    def read(
        self,
        data: Path,
        languages: Sequence[str],
        source: str | None = None,
        limit: int | None = None,
        aliases: Aliases = (),
        skipped: list[DataError] | None = None,
    ) -> tuple[list[ParallelText], list[str]]:
        """Parallel texts, and notes about them.

        Args:
            source: pairs this language with each of `languages`; without it every two of `languages` are a pair.
            limit: only the first pairs of each text, in the order of the source's file.
            aliases: the set's own names for languages.
            skipped: receives the errors of languages and pairs that are then left out; None: they are raised.

        Raises:
            ConfigError: fewer than two languages.
            DataError: the set, the source or all other languages are missing, or files cannot be paired.
        """
        targets = [language for language in dict.fromkeys(languages) if language != source]
        if not targets or (source is None and len(targets) < 2):
            raise ConfigError("retrieval needs two languages", "give two --languages, or --source and one of them")
        test_set = self.find_set(data, aliases)
        errors: list[DataError] = []
        if skipped is not None:
            if source:
                test_set.folder.find(source)
            present, errors = test_set.folder.find_all([source, *targets] if source else targets)
            targets = [language for language in targets if language in present]
        pairs = [(source, target) for target in targets] if source else list(combinations(targets, 2))
        texts, unreadable = test_set.read_pairs(pairs, limit)
        errors += unreadable
        if errors and (skipped is None or not texts):
            raise errors[0]
        if skipped is not None:
            skipped += errors
        return texts, test_set.notes(list(dict.fromkeys(language for pair in pairs for language in pair)))


class Metrics(NamedTuple):
    """Names of a task's metrics in each profile, the main score first; `evaluate/transfer/metrics.py` defines them."""

    paper: tuple[str, ...]
    strict: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TransferTask(Task):
    """A task that models are fine-tuned for. Its layouts may lie side by side; a language is read from the first."""

    kind: Literal["classification", "tagging"]
    labels: tuple[str, ...]
    """In the order of the classifier's outputs."""
    reader: Callable[[LanguageFiles], Examples]
    """Reads the examples of one language and split; their labels are indices into `labels`."""
    metrics: Metrics
    hyperparameters: Hyperparameters
    """The papers'."""

    def read(self, folder: Path, language: str, split: str, aliases: Aliases = ()) -> Examples:
        """The examples of one language and split.

        Args:
            aliases: the set's own names for languages.

        Raises:
            DataError: as `TaskFolder.find`, or the reader refuses a file.
        """
        return self.reader(TaskFolder(folder, self.layouts, aliases).find(language, split))

    def languages(self, folder: Path, split: str) -> list[str]:
        """As `TaskFolder.languages`."""
        return TaskFolder(folder, self.layouts).languages(split)
