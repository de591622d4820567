"""Language families of a file such as Glottolog's `languages.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from translit_scale.errors import DataError
from translit_scale.languages import related_iso3

ISOLATE = "isolate"
"""Stands for the family of a language that Glottolog assigns to none."""
UNKNOWN = "unknown"
_HINT = "translit-scale docs tables says which files can be read"


def read_families(path: Path) -> dict[str, str]:
    """ISO 639-3 or `iso3_Script` → name of the family.

    The file has a header and commas, or tabs as separators. It is Glottolog's table of languages (`cldf/languages.csv`
    or `languoid.csv`: columns id, name, level, family_id and iso639p3code, in upper or lower case), or has the columns
    `language` and `family`.

    Raises:
        DataError: the file cannot be read, has other columns, or names no family.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the families in {path}: {error}", _HINT) from None
    first_line = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first_line else ",")
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        records = [dict(zip(columns, row, strict=False)) for row in rows]
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}", _HINT) from None
    if {"language", "family"} <= set(columns):
        families = {record["language"]: record.get("family", "") for record in records}
    elif {"id", "name", "level", "family_id", "iso639p3code"} <= set(columns):
        families = dict(_of_glottolog(records))
    else:
        raise DataError(
            f"{path}: found the columns {', '.join(columns)}; expected language and family, or those of Glottolog's "
            "languages.csv (ID, Name, Level, Family_ID, ISO639P3code)",
            _HINT,
        )
    families = {code.strip(): family.strip() for code, family in families.items() if code.strip() and family.strip()}
    if not families:
        raise DataError(f"{path} names no family", _HINT)
    return families


def _of_glottolog(records: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    names = {record["id"]: record.get("name", "") for record in records}
    for record in records:
        family = record.get("family_id", "")
        if code := record.get("iso639p3code"):
            without = record["name"] if record["level"] == "family" else ISOLATE
            yield code, names.get(family, family) if family else without


def family_of(code: str, families: Mapping[str, str]) -> str:
    """The family of a language; of a macrolanguage without a line of its own, that of all its members."""
    iso3 = code.partition("_")[0]
    for name in (code, iso3):
        if name in families:
            return families[name]
    of_relatives = {families[other] for other in related_iso3(iso3) if other in families}
    return of_relatives.pop() if len(of_relatives) == 1 else UNKNOWN
