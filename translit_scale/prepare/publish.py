"""The end of `prepare`: finished tasks become a shard set.

A set without a manifest is not finished. So the manifest of an older set goes first and the new one is written last;
between them shards are renamed. Killed anywhere between, the same command finds each shard in one of its
two places and goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from translit_scale.corpus.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SHARD_NAME,
    LanguageCounts,
    Manifest,
    ShardEntry,
    write_manifest,
)
from translit_scale.errors import DataError
from translit_scale.files import sync
from translit_scale.prepare.inputs import remember
from translit_scale.prepare.job import Job
from translit_scale.prepare.tasks import Selection, ShardTask, transliteration_columns

REASONS = (
    "undecodable", "malformed", "empty", "too_long", "wrong_script",
    "held_out", "duplicate", "not_sampled", "empty_transliteration",
)  # fmt: skip
"""Why a line or record of the input is not a pair of the shards."""
COLUMN_REASONS = ("missing_transliteration", "multiline_transliteration", "non_latin_transliteration")
"""Further reasons in languages that have transliterations of their own."""

_NAMED = 12
"""Languages named in an error; the others are counted."""


def publish(job: Job) -> Manifest:
    """Gives all shards of a job their final names, removes those of an older set, and writes the manifest.

    Raises:
        DataError: a task is not done, or nothing is left of a language; then nothing has changed.
    """
    selections = _selections(job)
    shards: list[ShardEntry] = []
    moves: list[ShardTask] = []
    counts: dict[str, LanguageCounts] = {}
    for selection, tasks in selections:
        found = Counter(selection.counts)
        for task in tasks:
            entry, of_shard = task.result()
            found.update(of_shard)
            if entry is not None:
                shards.append(entry)
                moves.append(task)
        reasons = REASONS + (COLUMN_REASONS if transliteration_columns(job.files[selection.language]) else ())
        dropped = {reason: found.pop(reason, 0) for reason in reasons}
        if found["rows"]:
            counts[selection.language] = LanguageCounts(dropped=dropped, **found)
    if none := [selection.language for selection, _ in selections if selection.language not in counts]:
        raise DataError(
            f"{listed(none)}: {job.recipe.romanize.by} has no Latin form of any of its sentences", _leave_out(none)
        )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=job.recipe.name,
        languages=counts,
        provenance=job.provenance(),
        shards=shards,
    )
    remember(job.checksums(), job.out_dir)
    _replace_set(job, moves, manifest)
    return manifest


def _replace_set(job: Job, moves: Sequence[ShardTask], manifest: Manifest) -> None:
    (job.out_dir / MANIFEST_NAME).unlink(missing_ok=True)
    sync(job.out_dir)
    for task, entry in zip(moves, manifest.shards, strict=True):
        if task.shard.exists():
            task.shard.replace(job.out_dir / entry.name)
    names = {entry.name for entry in manifest.shards}
    for path in job.out_dir.iterdir():
        if SHARD_NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()
    sync(job.out_dir)
    write_manifest(job.out_dir, manifest)


def _selections(job: Job) -> list[tuple[Selection, list[ShardTask]]]:
    """All selections with their shards.

    Raises:
        DataError: one is missing; names how many of which languages.
    """
    done, unselected, missing = [], [], Counter[str]()
    for select_task in job.select_tasks():
        if not select_task.target.exists():
            unselected.append(select_task.language)
            continue
        selection = select_task.result()
        tasks = job.shard_tasks(selection)
        missing[selection.language] = sum(not task.is_done(job.out_dir) for task in tasks)
        done.append((selection, tasks))
    what = [f"nothing is done of {listed(unselected)}"] if unselected else []
    if total := missing.total():
        of_each = listed([f"{language} {number}" for language, number in missing.items() if number])
        what.append(f"{total:,} shards are missing: {of_each}")
    if what:
        raise DataError(
            f"{job.out_dir} is not finished: {'; '.join(what)}",
            "submit the same array again, or let one run do the rest: the same command without --finalize",
        )
    check_not_empty(job, [selection for selection, _ in done])
    return done


def check_not_empty(job: Job, selections: Sequence[Selection]) -> None:
    """Raises a DataError that says of every language of which nothing is left where its sentences went."""
    empty = [selection for selection in selections if not selection.parts]
    if not empty:
        return
    lines = []
    for language, counts in ((selection.language, selection.counts) for selection in empty):
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.items() if n and reason != "read")
        files = ", ".join(file.name for file in job.files[language])
        lines.append(
            f"{language}: no sentence is left of {counts.get('read', 0):,} in {files} ({reasons or 'no lines'})"
        )
    raise DataError("\n".join(lines), _leave_out([selection.language for selection in empty]))


def _leave_out(languages: Sequence[str]) -> str:
    return f"leave {listed(languages)} out of the recipe, or give it other text"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
