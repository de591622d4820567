"""Reads texts with one label each: SIB-200 and Taxi1500 in the layouts of their authors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from translit_scale.corpus.lines import is_unicode
from translit_scale.corpus.tables import read_records
from translit_scale.errors import DataError
from translit_scale.testsets.layouts import COMPRESSED, LANGUAGE, SPLIT, LanguageFiles, Layout
from translit_scale.testsets.parallel import nonzero, text_sha256

SIB200_LABELS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")
TAXI1500_LABELS = ("Recommendation", "Faith", "Violence", "Grace", "Sin", "Description")
"""In the order of the papers' code, which is the order of the classifier's outputs."""

SIB200_COLUMNS = ("index_id", "category", "text")
_TSV = rf"\.tsv{COMPRESSED}"
_SIB200_LINE = "a header and index_id TAB category TAB text"
_TAXI1500_LINE = "verse id TAB label TAB text, no header"
SIB200_LAYOUTS = (Layout("{language}/{split}.tsv", "*/*.tsv*", rf"{LANGUAGE}/{SPLIT}{_TSV}", _SIB200_LINE, 2),)
TAXI1500_LAYOUTS = (
    Layout("860_{iso3}_{split}.tsv", "860_*.tsv*", rf"860_{LANGUAGE}_{SPLIT}{_TSV}", _TAXI1500_LINE, 2),
    Layout("{iso3}_{split}.tsv", "*_*.tsv*", rf"{LANGUAGE}_{SPLIT}{_TSV}", _TAXI1500_LINE, 2),
    Layout(
        "{iso3}_data/{iso3}_{split}.tsv", "*/*_*.tsv*", rf"[^/]+/(?:860_)?{LANGUAGE}_{SPLIT}{_TSV}", _TAXI1500_LINE, 2
    ),
)

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class LabelledTexts:
    """Text i has label `labels[i]`, an index into the task's labels, and the id `ids[i]`.

    `language` is the code that was asked for, `name` what the folder calls it, `files` are the files that were read,
    `dropped` counts the lines left out by reason.
    """

    language: str
    split: str
    texts: list[str]
    labels: list[int]
    ids: list[str]
    dropped: dict[str, int]
    files: tuple[str, ...] = ()
    name: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of texts, labels and their order, in hexadecimal; the same for any file layout."""
        return text_sha256(self.texts, [str(label) for label in self.labels])


def read_sib200(files: LanguageFiles) -> LabelledTexts:
    """SIB-200: tab-separated, with the header `index_id category text`.

    Texts that contain quotation marks are quoted as in a `.csv`: the quoting is undone.

    Raises:
        DataError: another header, a line with too few or too many fields, an unknown label, or no text is left.
    """
    (path,) = files.paths
    records = read_records(path)
    header = [name.strip() for name in next(records, (1, []))[1]]
    if sorted(header) != sorted(SIB200_COLUMNS):
        raise DataError(
            f"{path}:1: expected the columns {', '.join(SIB200_COLUMNS)}, found {', '.join(map(repr, header))}",
            "is the first line missing, or the file separated by something else than tabs?",
        )
    order = [header.index(name) for name in SIB200_COLUMNS]
    records_in_order = ((line, [unquote(fields[index]) for index in order]) for line, fields in _checked(path, records))
    return _labelled(path, records_in_order, SIB200_LABELS, files)


def read_taxi1500(files: LanguageFiles) -> LabelledTexts:
    """Taxi1500: `id label verse`, tab-separated, without a header. Quotation marks are text.

    Raises:
        DataError: a line with too few or too many fields, an unknown label, or no text is left.
    """
    (path,) = files.paths
    return _labelled(path, _checked(path, read_records(path)), TAXI1500_LABELS, files)


def unquote(field: str) -> str:
    """Removes the quotes of a field that is quoted as in RFC 4180; returns any other field as it is."""
    return field[1:-1].replace('""', '"') if _QUOTED.fullmatch(field) else field


def _checked(path: Path, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Records of three fields; a blank line becomes three empty fields."""
    for line, fields in records:
        if len(fields) == 1 and not fields[0].strip():
            yield line, ["", "", ""]
        elif len(fields) != 3:
            raise DataError(
                f"{path}:{line}: expected 3 fields (id, label, text), found {len(fields)}", "fields are cut at tabs"
            )
        else:
            yield line, fields


def _labelled(
    path: Path, records: Iterator[tuple[int, list[str]]], labels: Sequence[str], files: LanguageFiles
) -> LabelledTexts:
    """Texts with known labels; empty and undecodable texts are dropped and counted."""
    kept: list[tuple[str, int, str]] = []
    dropped: Counter[str] = Counter()
    for line, fields in records:
        key, label, text = (field.strip() for field in fields)
        if not (key or label or text):
            dropped["empty"] += 1
            continue
        if label not in labels:
            raise DataError(f"{path}:{line}: unknown label {label!r}", f"expected one of {', '.join(labels)}")
        if not text:
            dropped["empty"] += 1
        elif not is_unicode(key + text):
            dropped["undecodable"] += 1
        else:
            kept.append((text, labels.index(label), key))
    if not kept:
        raise DataError(f"{path}: no text is left" + (f" (dropped: {nonzero(dropped)})" if dropped else ""))
    texts, numbers, ids = map(list, zip(*kept, strict=True))
    return LabelledTexts(files.language, files.split, texts, numbers, ids, nonzero(dropped), (str(path),), files.name)
