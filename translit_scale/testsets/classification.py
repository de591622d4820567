"""Sentences with one label each: SIB-200 and Taxi1500 in the layouts of their makers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from translit_scale.corpus.text import is_unicode, read_records
from translit_scale.errors import DataError
from translit_scale.testsets.layouts import LANGUAGE, SPLIT, Layout, find_files
from translit_scale.testsets.parallel import occurred, text_sha256

SIB200_LABELS = ("science/technology", "travel", "politics", "sports", "health", "entertainment", "geography")
TAXI1500_LABELS = ("Recommendation", "Faith", "Violence", "Grace", "Sin", "Description")
"""In the order of the papers' code: it decides which row of the classifier a label is."""

SIB200_COLUMNS = ("index_id", "category", "text")
SIB200_LAYOUTS = (Layout("{language}/{split}.tsv", "*/*.tsv*", rf"{LANGUAGE}/{SPLIT}\.tsv", 2),)
TAXI1500_LAYOUTS = (
    Layout("860_{iso3}_{split}.tsv", "860_*.tsv*", rf"860_{LANGUAGE}_{SPLIT}\.tsv", 2),
    Layout("{iso3}_{split}.tsv", "*_*.tsv*", rf"{LANGUAGE}_{SPLIT}\.tsv", 2),
    Layout("{iso3}_data/{iso3}_{split}.tsv", "*/*_*.tsv*", rf"[^/]+/(?:860_)?{LANGUAGE}_{SPLIT}\.tsv", 2),
)

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True)
class Labelled:
    """Text i has label `labels[i]`, an index into the task's labels, and the id `ids[i]`.

    `language` is the code asked for, `files` are those that were read, `dropped` counts the lines left out, by
    reason (only reasons that occurred).
    """

    language: str
    split: str
    texts: list[str]
    labels: list[int]
    ids: list[str]
    dropped: dict[str, int]
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of texts, labels and their order, in hexadecimal; the same for any file layout."""
        return text_sha256(self.texts, [str(label) for label in self.labels])


def read_sib200(folder: Path, language: str, split: str) -> Labelled:
    """One split of one language of SIB-200: `{language}/{split}.tsv` with the header `index_id category text`.

    Its texts are quoted as in a `.csv` where they have quotation marks: those are taken away.

    Raises:
        DataError: no such file, another header, a line with too few or too many fields, an unknown label.
    """
    (path,) = find_files(folder, SIB200_LAYOUTS, language, split)
    records = read_records(path)
    header = [name.strip() for name in next(records, (1, []))[1]]
    if sorted(header) != sorted(SIB200_COLUMNS):
        raise DataError(
            f"{path}:1: expected the columns {', '.join(SIB200_COLUMNS)}, found {', '.join(map(repr, header))}",
            "is the first line missing, or the file separated by something else than tabs?",
        )
    order = [header.index(name) for name in SIB200_COLUMNS]
    rows = ((line, [unquote(fields[index]) for index in order]) for line, fields in _checked(path, records))
    return _labelled(path, rows, SIB200_LABELS, language, split)


def read_taxi1500(folder: Path, language: str, split: str) -> Labelled:
    """One split of one language of Taxi1500: `id label verse`, separated by tabs, without a header.

    `860_hin_train.tsv`, `hin_dev.tsv`, `hin_Deva_test.tsv` or `hin_data/hin_test.tsv`. Quotation marks are text.

    Raises:
        DataError: no such file, a line with too few or too many fields, an unknown label.
    """
    (path,) = find_files(folder, TAXI1500_LAYOUTS, language, split)
    return _labelled(path, _checked(path, read_records(path)), TAXI1500_LABELS, language, split)


def unquote(field: str) -> str:
    """A field that is quoted as in RFC 4180 without its quotes; any other field as it is."""
    return field[1:-1].replace('""', '"') if _QUOTED.fullmatch(field) else field


def _checked(path: Path, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Records of three fields; blank lines become three empty ones."""
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
    path: Path, rows: Iterator[tuple[int, list[str]]], labels: Sequence[str], language: str, split: str
) -> Labelled:
    """Texts with known labels; empty and undecodable ones are dropped and counted."""
    kept: list[tuple[str, int, str]] = []
    dropped: Counter[str] = Counter()
    for line, fields in rows:
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
        raise DataError(f"{path}: no text is left" + (f" (dropped: {occurred(dropped)})" if dropped else ""))
    return Labelled(
        language,
        split,
        texts=[text for text, _, _ in kept],
        labels=[label for _, label, _ in kept],
        ids=[key for _, _, key in kept],
        dropped=occurred(dropped),
        files=(str(path),),
    )
