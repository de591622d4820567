"""The retrieval test sets of the papers, in the layouts that their users hold.

SR-B are verses of the Bible, SR-F the sentences of FLORES-200, Tatoeba is LASER's test set. Sentences are paired by
their ids where files have ids, and by their numbers where all files have the same number of lines. Files that are
aligned with English only are never paired by number with each other: two other languages meet at their English side.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import called_there, check_language, listed, resolve_language
from translit_scale.testsets.classification import read_sib200
from translit_scale.testsets.parallel import ParallelText, join, read_aligned, texts_by_id

ENGLISH = "eng_Latn"
_CODE = r"(?P<language>[a-z]{3}_[A-Z][a-z]{3})"


class Side(NamedTuple):
    """A language, under the code asked for, and its files."""

    language: str
    files: list[Path]


@dataclass(frozen=True)
class OwnFiles:
    """Files of its own for each language, found by their names."""

    form: str
    glob: str
    pattern: str
    note: str = ""

    def files(self, folder: Path) -> dict[str, list[Path]]:
        """The files of each language there."""
        return _by_language(folder, self.glob, self.pattern)


class WithIds(OwnFiles):
    """A table for each language, id and text on each line, joined on the id."""

    def pair(self, source: Side, target: Side) -> ParallelText:
        """Two languages with their files."""
        a, b = (texts_by_id(side.files, "1", "2") for side in (source, target))
        return join(source.language, target.language, a, b)


@dataclass(frozen=True)
class Sib200:
    """The sentences of all splits of SIB-200, joined on their ids: it was made from FLORES."""

    form: str
    note: str

    def files(self, folder: Path) -> dict[str, list[Path]]:
        """The files of each language there."""
        return _by_language(folder, "*/*.tsv", rf"{_CODE}/(?:train|dev|test)\.tsv")

    def pair(self, source: Side, target: Side) -> ParallelText:
        """Two languages with their files."""
        dropped: Counter[str] = Counter()
        a, b = (self._texts(side, dropped) for side in (source, target))
        return join(source.language, target.language, a, b, dropped)

    def _texts(self, side: Side, dropped: Counter[str]) -> dict[str, str]:
        texts: dict[str, str] = {}
        for path in side.files:
            read = read_sib200(path.parent.parent, path.parent.name, path.stem)
            texts |= zip(read.ids, read.texts, strict=True)
            dropped.update(read.dropped)
        return texts


class SameLines(OwnFiles):
    """One file for each language, line i of one translates line i of every other: equal numbers of lines."""

    def pair(self, source: Side, target: Side) -> ParallelText:
        """Two languages with their files."""
        return _aligned(source, target)


@dataclass(frozen=True)
class WithEnglish:
    """Two files for each language, it and English: `tatoeba.pol-eng.pol` and `tatoeba.pol-eng.eng`."""

    form: str
    prefix: str
    note: str = ""

    def files(self, folder: Path) -> dict[str, list[Path]]:
        """The two files of each language there; English has none of its own."""
        found: dict[str, list[Path]] = {}
        for path in sorted(folder.glob(f"{self.prefix}.*-eng*")):
            match = re.fullmatch(
                rf"{self.prefix}\.(?P<name>[a-z]{{3}}(?:_[A-Z][a-z]{{3}})?)-(?P<english>eng(?:_Latn)?)\.(?P=name)",
                path.name,
            )
            if match:
                english = path.with_name(f"{self.prefix}.{match['name']}-{match['english']}.{match['english']}")
                found.setdefault(code_of(match["name"]), [path, english])
        return found | ({ENGLISH: []} if found else {})

    def pair(self, source: Side, target: Side) -> ParallelText:
        """Two languages with their files."""
        if not target.files:
            return _with_english(source)
        if not source.files:
            text = _with_english(target)
            return ParallelText(ENGLISH, text.source_language, text.target, text.source, text.ids, text.dropped)
        return meet_at_english(_with_english(source), _with_english(target))


Layout = WithIds | Sib200 | SameLines | WithEnglish
"""How the files of a test set are named and paired: `form` says it in messages, `note` to readers of the numbers."""


@dataclass(frozen=True)
class RetrievalTask:
    """A test set of retrieval: where it may lie under a data folder, and in which layouts."""

    title: str
    folders: tuple[str, ...]
    layouts: tuple[Layout, ...]
    note: str = ""


RETRIEVAL_TASKS = {
    "sr_b": RetrievalTask(
        "SR-B",
        (".", "srb", "sr_b", "bible"),
        (
            WithIds("{language}.tsv (verse id, tab, text)", "*.tsv", rf"{_CODE}\.tsv"),
            WithEnglish("bible.{language}-eng_Latn.{language} and .eng_Latn (one verse a line)", "bible"),
            SameLines("{language}.txt (one verse a line, the same verses in all)", "*.txt", rf"{_CODE}\.txt"),
        ),
        "the ids of the papers' verses (450 of paper A, 500 of paper B) are not published",
    ),
    "sr_f": RetrievalTask(
        "SR-F",
        (".", "flores200_dataset", "flores200", "flores", "sr_f", "sib200"),
        (
            SameLines(
                "devtest/{language}.devtest (one sentence a line)", "devtest/*.devtest", rf"devtest/{_CODE}\.devtest"
            ),
            SameLines("dev/{language}.dev", "dev/*.dev", rf"dev/{_CODE}\.dev", "FLORES dev, not the papers' devtest"),
            Sib200(
                "{language}/{train,dev,test}.tsv of SIB-200 (index_id, category, text)",
                "sib200 (FLORES sentences, n=1004) in place of FLORES devtest",
            ),
        ),
    ),
    "tatoeba": RetrievalTask(
        "Tatoeba",
        (".", "tatoeba"),
        (WithEnglish("tatoeba.{language}-eng.{language} and .eng (also {language}-eng_Latn)", "tatoeba"),),
    ),
}
"""Paper A, section 4.5, and paper B, sections 4.2 and 4.3."""


@dataclass(frozen=True)
class RetrievalSet:
    """A test set that was found: `files` has the files of each language by the code they are named with."""

    task: RetrievalTask
    folder: Path
    layout: Layout
    files: dict[str, list[Path]]

    @property
    def languages(self) -> list[str]:
        """Codes of the languages there."""
        return sorted(self.files)

    def read(self, source: str, target: str) -> ParallelText:
        """One pair of languages, under the codes asked for.

        Raises:
            DataError: a language is not there, or the files cannot be paired.
        """
        a, b = (Side(code, self.files[self.name(code)]) for code in (source, target))
        return self.layout.pair(a, b)

    def name(self, language: str) -> str:
        """What the files call a language.

        Raises:
            DataError: it is not there, or it may be one of several.
        """
        found = called_there(check_language(language), self.languages)
        if len(found) == 1:
            return found[0]
        if not found:
            raise DataError(
                f"{self.task.title}: no {language} in {self.folder}: expected "
                f"{self.layout.form.replace('{language}', language)}",
                f"it has {listed(self.languages, 40)}",
            )
        raise DataError(f"{self.task.title}: {language} may be {' or '.join(found)} in {self.folder}", "name one")

    def notes(self, languages: Sequence[str]) -> list[str]:
        """What a reader of the numbers should know."""
        renamed = [f"{code} is {self.name(code)} there" for code in languages if self.name(code) != code]
        return [note for note in (self.layout.note, self.task.note, *renamed) if note]


def find_set(task: str, data: Path) -> RetrievalSet:
    """The test set under a data folder: in the folder itself or in one of the usual names below it.

    Raises:
        DataError: it is not there; the message has every path looked at.
    """
    wanted = RETRIEVAL_TASKS[task]
    for layout in wanted.layouts:
        for name in wanted.folders:
            if files := layout.files(data / name):
                return RetrievalSet(wanted, data / name, layout, files)
    forms = "".join(f"\n    {layout.form}" for layout in wanted.layouts)
    places = ", ".join(str(data / name) for name in wanted.folders)
    problem = f"no {wanted.title} in {data}" if data.is_dir() else f"data folder not found: {data}"
    raise DataError(f"{problem}; looked in {places} for{forms}", "give the folder with --data")


def read_task(
    task: str, data: Path, languages: Sequence[str], source: str | None = None, limit: int | None = None
) -> tuple[list[ParallelText], list[str]]:
    """Parallel texts of a test set, and notes about it.

    Args:
        source: pairs of this language with each of `languages`; without it every two of `languages` are a pair.
        limit: only the first pairs of each, in the order of the source's file.

    Raises:
        ConfigError: fewer than two languages.
        DataError: the set or a language of it is not there, or files cannot be paired.
    """
    targets = [language for language in dict.fromkeys(languages) if language != source]
    pairs = [(source, target) for target in targets] if source else list(combinations(targets, 2))
    if not pairs:
        raise ConfigError("retrieval needs two languages", "--languages pol_Latn,ukr_Cyrl, or --source eng_Latn too")
    found = find_set(task, data)
    texts = [found.read(*pair) for pair in pairs]
    chosen = [text.first(limit) if limit else text for text in texts]
    return chosen, found.notes(([source] if source else []) + targets)


def meet_at_english(source: ParallelText, target: ParallelText) -> ParallelText:
    """Two texts that are aligned with English, joined on the English sentence; ids are those of `source`.

    An English sentence that occurs twice on one side could be either: it is left out and counted.
    """
    dropped = Counter(source.dropped) + Counter(target.dropped)
    once: list[dict[str, str]] = []
    for text in (source, target):
        counts = Counter(text.target)
        rows = [row for row, sentence in enumerate(text.target) if counts[sentence] == 1]
        dropped["repeated_english"] += len(text) - len(rows)
        once.append({text.target[row]: text.source[row] for row in rows})
    joined = join(source.source_language, target.source_language, once[0], once[1], dropped)
    number = dict(zip(source.target, source.ids, strict=True))
    ids = [number[english] for english in joined.ids]
    return ParallelText(
        joined.source_language, joined.target_language, joined.source, joined.target, ids, joined.dropped
    )


def code_of(name: str) -> str:
    """`pol` → `pol_Latn`: the script is the one of which Glot500-c has most; a name without one there stays."""
    return name if "_" in name else resolve_language(name) or name


def _aligned(source: Side, target: Side) -> ParallelText:
    a, b = (f"{side.language}:{glob.escape(str(side.files[0]))}" for side in (source, target))
    return read_aligned(a, b)


def _with_english(side: Side) -> ParallelText:
    own, english = side.files
    return _aligned(Side(side.language, [own]), Side(ENGLISH, [english]))


def _by_language(folder: Path, pattern: str, names: str) -> dict[str, list[Path]]:
    """Files whose path below `folder` is `names`, in name order."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(pattern)):
        if match := re.fullmatch(names, path.relative_to(folder).as_posix()):
            found.setdefault(match["language"], []).append(path)
    return found
