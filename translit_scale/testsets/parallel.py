"""Reads parallel text: two aligned files, one table, or two tables joined on an id.

Pairing is never guessed: files of unequal length are an error, ids must be unique, and every pair that is
left out is counted with its reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

from translit_scale.corpus.find import find_files
from translit_scale.corpus.lines import decode, is_unicode, read_lines
from translit_scale.corpus.tables import Column, Dialect, column_indices, read_header, read_records, recognise
from translit_scale.errors import ConfigError, DataError
from translit_scale.languages import is_language, language_code


@dataclass(frozen=True)
class ParallelText:
    """Sentence i of `source` means the same as sentence i of `target`.

    `dropped` counts the pairs left out, by reason.
    """

    source_language: str
    target_language: str
    source: list[str]
    target: list[str]
    ids: list[str]
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """`pol_Latn-ukr_Cyrl`."""
        return f"{self.source_language}-{self.target_language}"

    @cached_property
    def duplicates(self) -> dict[str, int]:
        """Repeated sentences of each language. They are kept: leaving them out would change the test set."""
        return {
            self.source_language: len(self.source) - len(set(self.source)),
            self.target_language: len(self.target) - len(set(self.target)),
        }

    def first(self, limit: int | None) -> ParallelText:
        """The first `limit` pairs, or all; the others are counted as `beyond_limit`."""
        if limit is None or len(self) <= limit:
            return self
        dropped = {**self.dropped, "beyond_limit": len(self) - limit}
        source, target, ids = self.source[:limit], self.target[:limit], self.ids[:limit]
        return replace(self, source=source, target=target, ids=ids, dropped=dropped)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the text and its order, in hexadecimal; the same for any file layout."""
        return text_sha256(self.source, self.target)


def nonzero(counts: Counter[str]) -> dict[str, int]:
    """The counts above 0, sorted by reason."""
    return {reason: count for reason, count in sorted(counts.items()) if count}


def text_sha256(*texts: Sequence[str]) -> str:
    """sha256 of lists of strings, including their order and boundaries, in hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)}\n".encode())
        for sentence in text:
            encoded = sentence.encode()
            digest.update(f"{len(encoded)}\n".encode() + encoded)
    return digest.hexdigest()


def split_arguments(source: str, target: str, meaning: str) -> list[str]:
    """`pol_Latn:a.txt` and `ukr_Cyrl:b.txt` -> `pol_Latn`, `a.txt`, `ukr_Cyrl`, `b.txt`.

    Raises:
        ConfigError: there is no colon, or nothing follows it.
        DataError: unknown language code.
    """
    parts = []
    for argument in (source, target):
        language, _, rest = argument.partition(":")
        if not rest:
            raise ConfigError(f"{argument!r} is not LANGUAGE:{meaning}", f"write for example pol_Latn:{meaning}")
        parts += [language_code(language), rest]
    return parts


def read_aligned(source: str, target: str) -> ParallelText:
    """Two files with one sentence a line (`pol_Latn:a.txt`, `ukr_Cyrl:b.txt`; globs in the order of names).

    Raises:
        DataError: as `align`.
    """
    source_language, source_files, target_language, target_files = split_arguments(source, target, "FILE")
    return align(source_language, find_files(source_files), target_language, find_files(target_files))


def align(
    source_language: str, source_paths: Sequence[Path], target_language: str, target_paths: Sequence[Path]
) -> ParallelText:
    """Pairs line i of the source's files with line i of the target's.

    Raises:
        DataError: a file is missing, the numbers of lines differ, or no pair is left.
    """
    source_lines, target_lines = (
        [decode(line).strip() for path in paths for line in read_lines(path)] for paths in (source_paths, target_paths)
    )
    if len(source_lines) != len(target_lines):
        source_files, target_files = (" and ".join(map(str, paths)) for paths in (source_paths, target_paths))
        raise DataError(
            f"{source_files} has {len(source_lines)} lines, {target_files} has {len(target_lines)}: "
            "lines cannot be paired",
            "give tables with an id column and --id-column, or aligned files",
        )
    pairs = [(str(number), *pair) for number, pair in enumerate(zip(source_lines, target_lines, strict=True), start=1)]
    return _keep_usable(source_language, target_language, pairs, Counter())


def read_table(file: str, source: str, target: str) -> ParallelText:
    """One table with a column for each language (`pol_Latn:COLUMN`, `ukr_Cyrl:COLUMN`).

    A column is a name of the header line, or a whole number (1 is the first) in a table without one.
    Delimiter and quoting are recognised (`corpus.tables`).

    Raises:
        DataError: the file is missing, a column is unknown, or a row is too short.
    """
    source_language, source_column, target_language, target_column = split_arguments(source, target, "COLUMN")
    records = _columns(find_files(file), [source_column, target_column])
    pairs = [(str(number), a, b) for number, (_, (a, b)) in enumerate(records, start=1)]
    return _keep_usable(source_language, target_language, pairs, Counter())


def read_joined(source: str, target: str, id_column: str, text_column: str) -> ParallelText:
    """Two sets of tables (globs allowed) joined on an id column, in the order of the source.

    Columns as in `read_table`. Ids that only one side has are dropped and counted.

    Raises:
        DataError: a file is missing, a column is unknown, an id occurs twice on one side, or no id is common.
    """
    source_language, source_files, target_language, target_files = split_arguments(source, target, "FILE")
    source_texts, target_texts = (
        texts_by_id(find_files(files), id_column, text_column) for files in (source_files, target_files)
    )
    common = source_texts.keys() & target_texts.keys()
    if not common and source_texts and target_texts:
        raise DataError(
            f"no id of {source_files} occurs in {target_files}: for example "
            f"{next(iter(source_texts))!r} and {next(iter(target_texts))!r}",
            "check --id-column",
        )
    return join(source_language, target_language, source_texts, target_texts)


def join(
    source_language: str,
    target_language: str,
    source: Mapping[str, str],
    target: Mapping[str, str],
    dropped: Mapping[str, int] | None = None,
) -> ParallelText:
    """Pairs the texts of ids that both sides have, in the order of the source; other ids are dropped and counted.

    Args:
        dropped: pairs that were left out before, by reason.

    Raises:
        DataError: no pair is left.
    """
    common = [key for key in source if key in target]
    counts = Counter(dropped or {})
    counts[f"only_in_{source_language}"] += len(source) - len(common)
    counts[f"only_in_{target_language}"] += len(target) - len(common)
    pairs = [(key, source[key], target[key]) for key in common]
    return _keep_usable(source_language, target_language, pairs, counts)


def _keep_usable(
    source_language: str,
    target_language: str,
    pairs: Iterable[tuple[str, str, str]],
    dropped: Counter[str],
) -> ParallelText:
    """Drops and counts pairs with an empty side or bytes that were not UTF-8."""
    if source_language == target_language:
        raise ConfigError(f"both sides are {source_language}", "counts and directions are named by language")
    kept = []
    for key, source, target in pairs:
        if not source or not target:
            dropped["empty"] += 1
        elif not is_unicode(source + target):
            dropped["undecodable"] += 1
        else:
            kept.append((key, source, target))
    if not kept:
        reasons = nonzero(dropped)
        raise DataError(
            f"no sentence pair is left for {source_language} and {target_language}"
            + (f" (dropped: {reasons})" if reasons else ": the files are empty")
        )
    ids, sources, targets = map(list, zip(*kept, strict=True))
    return ParallelText(source_language, target_language, sources, targets, ids, nonzero(dropped))


def texts_by_id(paths: Sequence[Path], id_column: str, text_column: str, comments: bool = False) -> dict[str, str]:
    """Text by id of one or several tables, in file order; columns as in `read_table`.

    Args:
        comments: lines that begin with `#` are left out.

    Raises:
        DataError: a file is missing, a column is unknown, an id is empty or occurs twice.
    """
    return unique_texts(
        (where, key, text) for where, (key, text) in _columns(paths, [id_column, text_column], comments)
    )


def unique_texts(records: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Text by id.

    Args:
        records: of each text where it stands, its id and itself.

    Raises:
        DataError: an id is empty or occurs twice.
    """
    texts: dict[str, str] = {}
    first: dict[str, str] = {}
    for where, key, text in records:
        if not key:
            raise DataError(f"{where}: the id is empty")
        if key in texts:
            raise DataError(f"{where}: id {key!r} occurs for the second time (first: {first[key]})")
        texts[key], first[key] = text, where
    return texts


def _columns(paths: Sequence[Path], columns: list[str], comments: bool = False) -> Iterator[tuple[str, list[str]]]:
    """`file:line`, for messages, and the given columns of every record of the tables that is no comment."""
    by_number = all(column.isdecimal() for column in columns)
    if by_number and min(map(int, columns)) < 1:
        raise ConfigError(f"column {min(columns)} does not exist", "columns are counted from 1")
    for path in paths:
        wanted: list[Column] = [int(column) if by_number else column for column in columns]
        records = _records(path, recognise(path, Dialect(), wanted), comments)
        if by_number:
            positions = [int(column) - 1 for column in columns]
        else:
            positions = column_indices(path, next(records, ("", []))[1], columns)
        for where, fields in records:
            if max(positions) >= len(fields):
                raise DataError(f"{where}: expected at least {max(positions) + 1} columns, found {len(fields)}")
            yield where, [fields[position].strip() for position in positions]


def _records(path: Path, dialect: Dialect, comments: bool) -> Iterator[tuple[str, list[str]]]:
    """`file:line` and fields of every line that is not blank; with `comments`, of those that do not begin with `#`."""
    for line, fields in read_records(path, dialect):
        if (len(fields) > 1 or fields[0].strip()) and not (comments and fields[0].startswith("#")):
            yield f"{path}:{line}", fields


def read_all(
    parallel: Sequence[Sequence[str]], tables: Sequence[Sequence[str]], id_column: str | None, text_column: str | None
) -> list[ParallelText]:
    """The texts of `--parallel A B` (with `--id-column`: tables that are joined) and of `--table FILE A B`.

    Of more than two languages every two are a pair. A table alone stands for the columns that are named by codes.

    Raises:
        ConfigError: no text at all, or only one of the two columns is given.
        DataError: as the readers.
    """
    if not parallel and not tables:
        raise ConfigError("no parallel text", "give --parallel pol_Latn:FILE ukr_Cyrl:FILE")
    if (id_column is None) != (text_column is None):
        raise ConfigError("--id-column and --text-column belong together: give both or neither")
    texts = []
    for source, target in _pairs(parallel, "--parallel", "pol_Latn:a.txt ukr_Cyrl:b.txt"):
        if id_column is not None and text_column is not None:
            texts.append(read_joined(source, target, id_column, text_column))
        else:
            texts.append(read_aligned(source, target))
    for file, *columns in tables:
        chosen = columns or _language_columns(file)
        pairs = _pairs([chosen], f"--table {file}", f"{file} pol_Latn:pl ukr_Cyrl:uk")
        texts += [read_table(file, source, target) for source, target in pairs]
    return texts


def _language_columns(file: str) -> list[str]:
    """`pol_Latn:pol_Latn` for every column of a table whose name is the code of a language."""
    path = find_files(file)[0]
    names = [name.strip().strip('"') for name in read_header(path, Dialect(), [])]  # quoting is recognised later
    return [f"{name}:{name}" for name in names if is_language(name)]


def _pairs(groups: Sequence[Sequence[str]], option: str, example: str) -> list[tuple[str, str]]:
    """Every two of each group of arguments."""
    for group in groups:
        if len(group) < 2:
            raise ConfigError(f"{option}: two languages are needed, found {' '.join(group) or 'none'}", example)
    return [pair for group in groups for pair in combinations(group, 2)]
