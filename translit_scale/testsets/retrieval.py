"""How the sentences of two languages are paired in the layouts of the retrieval test sets.

SR-B are verses of the Bible, SR-F the sentences of FLORES-200, Tatoeba is LASER's test set. Sentences are paired by
their ids where files have ids, and by line number where all files have the same number of lines. Files that are
aligned with English only are never paired by line number with each other: the two languages are joined on the English
sentence instead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from translit_scale.corpus.tables import read_records
from translit_scale.errors import DataError
from translit_scale.testsets.classification import read_sib200
from translit_scale.testsets.layouts import CODE, LanguageFiles, ParallelLayout
from translit_scale.testsets.parallel import ParallelText, align, join, texts_by_id
from translit_scale.testsets.parquet import languages_of, texts_of

ENGLISH = "eng_Latn"


def pair_by_id(source: LanguageFiles, target: LanguageFiles) -> ParallelText:
    """Tables without header, id and text on each line; lines that begin with `#` are comments."""
    a, b = (texts_by_id(files.paths, "1", "2", comments=True) for files in (source, target))
    return join(source.language, target.language, a, b)


def pair_verses(source: LanguageFiles, target: LanguageFiles) -> ParallelText:
    """By id if the lines of both files have one (`40001001 TAB verse`), otherwise by line.

    Raises:
        DataError: only one of the files has ids.
    """
    with_ids = [_has_ids(files.paths[0]) for files in (source, target)]
    if all(with_ids):
        return pair_by_id(source, target)
    if any(with_ids):
        named, other = (source, target) if with_ids[0] else (target, source)
        raise DataError(
            f"{named.paths[0]} has a verse id before each verse, {other.paths[0]} has none: they cannot be paired",
            "give both files ids (id TAB verse), or neither",
        )
    return pair_lines(source, target)


def _has_ids(path: Path) -> bool:
    """Whether the first line that is neither blank nor a comment is `id TAB verse`."""
    first = next((fields for _, fields in read_records(path) if any(fields) and not fields[0].startswith("#")), [])
    return len(first) == 2 and bool(first[0]) and not any(character.isspace() for character in first[0].strip())


def pair_parquet(source: LanguageFiles, target: LanguageFiles) -> ParallelText:
    """The rows of two languages, joined on their ids."""
    a, b = (texts_of(files.paths, files.name) for files in (source, target))
    return join(source.language, target.language, a, b)


def pair_sib200(source: LanguageFiles, target: LanguageFiles) -> ParallelText:
    """The sentences of all splits of SIB-200, which was made from FLORES, joined on their ids."""
    dropped: Counter[str] = Counter()
    texts: list[dict[str, str]] = []
    for files in (source, target):
        splits = [read_sib200(replace(files, split=path.stem, paths=(path,))) for path in files.paths]
        texts.append({key: text for split in splits for key, text in zip(split.ids, split.texts, strict=True)})
        for split in splits:
            dropped.update(split.dropped)
    return join(source.language, target.language, texts[0], texts[1], dropped)


def pair_lines(source: LanguageFiles, target: LanguageFiles) -> ParallelText:
    """One file for each language; line i of one translates line i of every other."""
    return align(source.language, source.paths[:1], target.language, target.paths[:1])


def pair_at_english(source: LanguageFiles, target: LanguageFiles) -> ParallelText:
    """Two files for each language, it and English: `tatoeba.pol-eng.pol` and `tatoeba.pol-eng.eng`."""
    if not target.paths:
        return _with_english(source)
    if not source.paths:
        text = _with_english(target)
        return ParallelText(ENGLISH, text.source_language, text.target, text.source, text.ids, text.dropped)
    return join_at_english(_with_english(source), _with_english(target))


def _with_english(files: LanguageFiles) -> ParallelText:
    path: Path = files.paths[0]
    english = path.with_suffix(f".{path.stem.rpartition('-')[2]}")
    return align(files.language, [path], ENGLISH, [english])


def join_at_english(source: ParallelText, target: ParallelText) -> ParallelText:
    """Joins two texts that are aligned with English on the English sentence; ids are those of `source`.

    An English sentence that occurs twice on one side is ambiguous: its pairs are dropped and counted.
    """
    dropped = Counter(source.dropped) + Counter(target.dropped)
    by_english: list[dict[str, str]] = []
    for text in (source, target):
        counts = Counter(text.target)
        indices = [index for index, sentence in enumerate(text.target) if counts[sentence] == 1]
        dropped["repeated_english"] += len(text) - len(indices)
        by_english.append({text.target[index]: text.source[index] for index in indices})
    joined = join(source.source_language, target.source_language, by_english[0], by_english[1], dropped)
    id_of = dict(zip(source.target, source.ids, strict=True))
    return replace(joined, ids=[id_of[english] for english in joined.ids])


def english_layout(prefix: str, shown: str, content: str) -> ParallelLayout:
    """Files named after `prefix` that are aligned with English."""
    pattern = rf"{prefix}\.(?P<language>[a-z]{{3}}(?:_[A-Z][a-z]{{3}})?)-eng(?:_Latn)?\.(?P=language)"
    return ParallelLayout(
        shown, f"{prefix}.*-eng*", pattern, content, several=True, pair=pair_at_english, aligned_with=ENGLISH
    )


_VERSES = "verse id TAB verse, or one verse a line, the same verses in all"
SR_B_LAYOUTS = (
    ParallelLayout("{language}.tsv", "*.tsv", rf"{CODE}\.tsv", "verse id TAB text", pair=pair_by_id),
    english_layout(
        "bible", "bible.{language}-eng_Latn.{language}", "one verse a line, with the English verses beside it"
    ),
    ParallelLayout("{language}.txt", "*.txt", rf"{CODE}\.txt", _VERSES, pair=pair_verses),
    ParallelLayout(
        "{iso3}-x-bible*.txt", "*-x-bible*.txt", r"(?P<language>[a-z]{3})-x-bible(?:-(?P<variety>[^/]+))?\.txt",
        _VERSES, 1, pair=pair_verses,
    ),
)  # fmt: skip
_LINE = "one sentence a line"
_ROWS = "id, iso_639_3, iso_15924, text"
_DEV = "FLORES dev, not the papers' devtest"
_VARIETY = r"(?:_(?P<variety>[a-z]{4}[0-9]{4}))?"


def flores_layouts(split: str, note: str = "") -> tuple[ParallelLayout, ...]:
    """A split of FLORES-200, of FLORES+ as it is released, and of FLORES+ on the Hugging Face hub."""
    return (
        ParallelLayout(
            f"{split}/{{language}}.{split}", f"{split}/*.{split}", rf"{split}/{CODE}\.{split}", _LINE,
            pair=pair_lines, note=note,
        ),
        ParallelLayout(
            f"{split}/{split}.{{language}}", f"{split}/{split}.*", rf"{split}/{split}\.{CODE}{_VARIETY}", _LINE,
            pair=pair_lines, note=note,
        ),
        ParallelLayout(
            f"{split}/{{language}}.parquet", f"{split}/*.parquet", rf"{split}/{CODE}{_VARIETY}\.parquet", _ROWS,
            pair=pair_parquet, note=note,
        ),
        ParallelLayout(
            f"{split}*.parquet", f"{split}*.parquet", rf"{split}[^/]*\.parquet", f"{_ROWS} of all languages",
            several=True, pair=pair_parquet, note=note, languages_of=languages_of,
        ),
    )  # fmt: skip


SR_F_LAYOUTS = (
    *flores_layouts("devtest"),
    *flores_layouts("dev", _DEV),
    ParallelLayout(
        "{language}/*.tsv", "*/*.tsv", rf"{CODE}/(?:train|dev|test)\.tsv",
        "SIB-200, all splits: index_id, category, text", several=True, pair=pair_sib200,
        note="these are the sentences of FLORES that SIB-200 has (at most 1,004), in place of its devtest",
    ),
)  # fmt: skip
TATOEBA_LAYOUTS = (
    english_layout(
        "tatoeba", "tatoeba.{iso3}-eng.{iso3}", f"{_LINE}, with the English sentences beside it, or named like bible.*"
    ),
)
