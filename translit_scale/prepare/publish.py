"""Turns finished tasks into a shard set.

A set without a manifest is not finished. So the manifest of an older set is removed first and the new one is written
last; in between, shards are renamed. If the process is killed in between, the same command finds each shard in one of
its two places and continues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from translit_scale.corpus.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SEVERAL_TRANSLITERATIONS,
    SHARD_NAME,
    LanguageCounts,
    Manifest,
    ShardEntry,
    write_manifest,
)
from translit_scale.corpus.text import UNREADABLE
from translit_scale.corpus.thin import write_thin_languages
from translit_scale.corpus.web import KINDS
from translit_scale.errors import DataError
from translit_scale.files import sync
from translit_scale.languages import listed
from translit_scale.prepare.inputs import remember
from translit_scale.prepare.preparation import Preparation
from translit_scale.prepare.tasks import Selection, ShardTask, transliteration_columns

REASONS = (
    "undecodable", "lone_surrogate", "malformed", "empty", "too_long", "wrong_script",
    "held_out", "duplicate", "not_sampled", "empty_transliteration",
)  # fmt: skip
"""Why a line or record of the input is not a pair of the shards."""
COLUMN_REASONS = ("missing_transliteration", "multiline_transliteration", "non_latin_transliteration")
"""Further reasons in languages whose files have transliterations."""

Finished = Sequence[tuple[Selection, Sequence[ShardTask]]]
"""The selection of each language and the tasks that made its shards."""


def publish(preparation: Preparation, finished: Finished) -> Manifest:
    """Gives all shards their final names, removes those of an older set, and writes the manifest.

    Raises:
        DataError: no pair is left of a language; then nothing has changed.
    """
    shards: list[tuple[ShardTask, ShardEntry]] = []
    languages: dict[str, LanguageCounts] = {}
    for selection, tasks in finished:
        counts = Counter(selection.counts)
        for task in tasks:
            result = task.result()
            counts.update(result.counts)
            if result.entry is not None:
                shards.append((task, result.entry))
        has_columns = transliteration_columns(preparation.files[selection.language])
        dropped = {reason: counts.pop(reason, 0) for reason in REASONS + (COLUMN_REASONS if has_columns else ())}
        contains, cleaned = (_by_kind(counts, what) for what in ("contains", "cleaned"))
        if counts["rows"]:
            languages[selection.language] = LanguageCounts(
                dropped=dropped, unreadable=selection.unreadable, contains=contains, cleaned=cleaned, **counts
            )
    if empty := [selection.language for selection, _ in finished if selection.language not in languages]:
        by = preparation.recipe.romanize.by
        raise DataError(f"{listed(empty)}: {by} has no Latin form of any of its sentences", _leave_out(empty))
    several = any(entry.transliterations > 1 for _, entry in shards)
    manifest = Manifest(
        format_version=SEVERAL_TRANSLITERATIONS if several else FORMAT_VERSION,
        name=preparation.recipe.name,
        languages=languages,
        provenance=preparation.provenance(),
        shards=[entry for _, entry in shards],
    )
    remember(preparation.checksums, preparation.out_dir)
    _replace_set(preparation, [task for task, _ in shards], manifest)
    return manifest


def _by_kind(counts: Counter[str], what: str) -> dict[str, int]:
    """Takes the counts of HTML, URLs and e-mail addresses out of all counts."""
    of_each = {kind: counts.pop(f"{what}_{kind}", 0) for kind in KINDS}
    return {kind: number for kind, number in of_each.items() if number}


def _replace_set(preparation: Preparation, tasks: Sequence[ShardTask], manifest: Manifest) -> None:
    out_dir = preparation.out_dir
    (out_dir / MANIFEST_NAME).unlink(missing_ok=True)
    sync(out_dir)
    for task, entry in zip(tasks, manifest.shards, strict=True):
        if task.shard.exists():
            task.shard.replace(out_dir / entry.name)
    names = {entry.name for entry in manifest.shards}
    for path in out_dir.iterdir():
        if SHARD_NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()
    write_thin_languages(out_dir, manifest)
    sync(out_dir)
    write_manifest(out_dir, manifest)


def finished_tasks(preparation: Preparation) -> Finished:
    """All selections with the tasks of their shards.

    Raises:
        DataError: a task is not done (the message tells how many of which languages), or a language is empty.
    """
    finished, unselected, missing = [], [], Counter[str]()
    for select_task in preparation.select_tasks():
        if not select_task.target.exists():
            unselected.append(select_task.language)
            continue
        selection = select_task.result()
        tasks = preparation.shard_tasks(selection)
        missing[selection.language] = sum(not task.is_done(preparation.out_dir) for task in tasks)
        finished.append((selection, tasks))
    problems = [f"nothing is done of {listed(unselected)}"] if unselected else []
    if total := missing.total():
        of_each = listed([f"{language} {number}" for language, number in missing.items() if number])
        problems.append(f"{total:,} shards are missing: {of_each}")
    if problems:
        raise DataError(
            f"{preparation.out_dir} is not finished: {'; '.join(problems)}",
            "submit the same array again, or let one run do the rest: the same command without --finalize",
        )
    check_not_empty(preparation, [selection for selection, _ in finished])
    return finished


def check_not_empty(preparation: Preparation, selections: Sequence[Selection]) -> None:
    """Raises a DataError that tells, for each language without any sentence left, why, and what helps if known."""
    empty = [selection for selection in selections if not selection.parts]
    if not empty:
        return
    lines = []
    for selection in empty:
        language, counts = selection.language, selection.counts
        reasons = ", ".join(
            f"{n:,} {reason}" for reason, n in counts.items() if n and reason in (*REASONS, *COLUMN_REASONS)
        )
        files = listed([file.name for file in preparation.files[language]], 8)
        lines.append(
            f"{language}: no sentence is left of {counts.get('read', 0):,} in {files} ({reasons or 'no lines'})"
        )
        worst = max(UNREADABLE, key=lambda reason: counts.get(reason, 0))
        if 2 * counts.get(worst, 0) > counts.get("read", 0):
            what, remedy = UNREADABLE[worst]
            lines.append(f"  {worst} lines {what}; {remedy}")
    raise DataError("\n".join(lines), _leave_out([selection.language for selection in empty]))


def _leave_out(languages: Sequence[str]) -> str:
    return f"leave {listed(languages)} out of the recipe, or give it other text"
