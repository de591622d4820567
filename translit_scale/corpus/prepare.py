"""`prepare`: from a recipe and text files to a finished shard set.

The tasks of `translit_scale.corpus.tasks` run in worker processes and leave files under `.work`; a run
that was killed goes on with the tasks whose files are missing. Then the shards are packed in a fixed
order and the manifest is written last. The number of workers and of interruptions leaves no trace.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from translit_scale.corpus.clean import CLEANING_VERSION
from translit_scale.corpus.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SHARD_NAME,
    LanguageCounts,
    Manifest,
    ShardEntry,
    read_manifest,
    write_manifest,
)
from translit_scale.corpus.recipe import Recipe, excluded_files, input_files, load_recipe
from translit_scale.corpus.script import SCRIPT_DATA
from translit_scale.corpus.shards import Block, ShardSet, write_shards
from translit_scale.corpus.tasks import (
    InputFile,
    RomanizeTask,
    Selection,
    SelectTask,
    romanizer,
    run_romanize,
    run_select,
)
from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import DataError
from translit_scale.files import sha256_file
from translit_scale.progress import Advance, Progress
from translit_scale.schema import changed_settings

REASONS = (
    "undecodable", "malformed", "empty", "too_long", "wrong_script",
    "held_out", "duplicate", "not_sampled", "empty_transliteration",
)  # fmt: skip
"""Why a line or record of the input is not a pair of the shards."""


def prepare(recipe_path: Path, data_dir: Path, out_dir: Path, workers: int, force: bool = False) -> Manifest:
    """Makes the shard set of a recipe in `out_dir`, or goes on where a killed run has stopped.

    A set that is already there is left alone if it was made from the same recipe, inputs and versions.

    Args:
        data_dir: what the paths of the recipe are relative to.
        workers: processes. With more than one, a calling script needs the usual `__main__` guard.
        force: replace a finished set that was made from something else.

    Raises:
        ConfigError: the recipe is wrong.
        DataError: an input is missing or unusable, nothing is left of a language, the disk is full,
            another run is at work in `out_dir`, or it holds another finished set and `force` is not given.
    """
    recipe = load_recipe(recipe_path)
    work_dir = out_dir / ".work"
    with _locked(out_dir):
        files, excluded = _inputs(recipe, data_dir, workers)
        provenance = _provenance(recipe, files, excluded)
        manifest = _finished(out_dir, provenance, force)
        if manifest is not None:
            print(f"up to date: {out_dir}", file=sys.stderr)
        else:
            selections = _select(_select_tasks(recipe, data_dir, files, excluded, work_dir), workers)
            tasks = {
                selection.language: [
                    RomanizeTask(selection.language, number, recipe.romanize.lcode, selection.text, block, work_dir)
                    for number, block in enumerate(selection.blocks)
                ]
                for selection in selections
            }
            _romanize([task for of_language in tasks.values() for task in of_language], out_dir, workers)
            manifest = _pack(recipe, provenance, selections, tasks, out_dir)
        shutil.rmtree(work_dir, ignore_errors=True)
    return manifest


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Exclusive use of a directory; the lock goes with the process, however it ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / ".lock").open("ab")
    except OSError as error:
        raise DataError(f"cannot write into {directory}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"another prepare is at work in {directory}", "wait for it, or choose another --out"
            ) from None
        yield


def _inputs(
    recipe: Recipe, data_dir: Path, workers: int
) -> tuple[dict[str, tuple[InputFile, ...]], tuple[InputFile, ...]]:
    """The files of each language and the held-out files, with their checksums."""
    files = input_files(recipe, data_dir)
    excluded = excluded_files(recipe, data_dir)
    names = sorted({name for of_language in files.values() for name, _ in of_language} | set(excluded))
    sizes = [(data_dir / name).stat().st_size for name in names]
    with Progress("checksums of the input", sum(sizes), "bytes") as progress:
        digests = run_tasks(_checksum, [data_dir / name for name in names], workers, progress.advance)
    checksums = dict(zip(names, digests, strict=True))
    return (
        {
            language: tuple(InputFile(name, column, checksums[name]) for name, column in of_language)
            for language, of_language in files.items()
        },
        tuple(InputFile(name, None, checksums[name]) for name in excluded),
    )


def _checksum(path: Path, advance: Advance) -> str:
    digest = sha256_file(path)
    advance(path.stat().st_size)
    return digest


def _provenance(
    recipe: Recipe, files: dict[str, tuple[InputFile, ...]], excluded: tuple[InputFile, ...]
) -> dict[str, Any]:
    """Everything the bytes of the set depend on; nothing about the machine, the time or the paths."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "inputs": {
            language: {file.name: file.sha256 for file in of_language}
            for language, of_language in sorted(files.items())
        },
        "held_out": {file.name: file.sha256 for file in excluded},
        "cleaning": {"version": CLEANING_VERSION, "unicode": unicodedata.unidata_version, "scripts": SCRIPT_DATA},
        "romanizer": romanizer(recipe.romanize.lcode).provenance(),
    }


def _finished(out_dir: Path, provenance: dict[str, Any], force: bool) -> Manifest | None:
    """The manifest of the set in `out_dir`, if it is complete and what would be made.

    Raises:
        DataError: it is a set that was made from something else, and `force` is not given.
    """
    if not (out_dir / MANIFEST_NAME).exists():
        return None
    try:
        manifest, _ = read_manifest(out_dir)
    except DataError:
        if force:
            return None
        raise
    differences = sorted(name for name, *_ in changed_settings(manifest.provenance, provenance))
    if not differences:
        try:
            return ShardSet.open(out_dir).manifest
        except DataError as error:
            print(f"{error.message}: made again", file=sys.stderr)
            return None
    if force:
        return None
    more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
    raise DataError(
        f"{out_dir} holds a finished set made from something else: {', '.join(differences[:3])}{more} differ",
        "--force replaces it; --out DIR keeps both",
    )


def _select_tasks(
    recipe: Recipe,
    data_dir: Path,
    files: dict[str, tuple[InputFile, ...]],
    excluded: tuple[InputFile, ...],
    work_dir: Path,
) -> list[SelectTask]:
    """One selection per language, in the order of their codes."""
    return [
        SelectTask(
            language=language,
            data_dir=data_dir,
            files=files[language],
            excluded=excluded,
            seed=recipe.seed,
            **recipe.settings(language),
            block_rows=recipe.block_rows,
            work_dir=work_dir,
        )
        for language in sorted(files)
    ]


def _select(tasks: Sequence[SelectTask], workers: int) -> list[Selection]:
    """Runs the selections whose files are missing, the largest first."""
    missing = [task for task in tasks if not task.target.exists()]
    if missing:
        missing.sort(key=lambda task: -task.input_bytes)
        with Progress("select", sum(2 * task.input_bytes for task in missing), "bytes") as progress:
            run_tasks(run_select, missing, workers, progress.advance)
    return [task.result() for task in tasks]


def _romanize(tasks: Sequence[RomanizeTask], out_dir: Path, workers: int) -> None:
    """Runs the romanizations whose files are missing."""
    missing = [task for task in tasks if not task.target.exists()]
    _check_space(tasks, missing, out_dir)
    total = sum(task.block.rows for task in tasks)
    done = total - sum(task.block.rows for task in missing)
    if missing:
        with Progress("romanize", total, "sentences", done=done) as progress:
            run_tasks(run_romanize, missing, workers, progress.advance)


def _check_space(tasks: Sequence[RomanizeTask], missing: Sequence[RomanizeTask], out_dir: Path) -> None:
    """Stops early when the disk will be too small, taking a transliteration to be as long as its original."""
    shards = sum(path.stat().st_size for path in out_dir.iterdir() if SHARD_NAME.fullmatch(path.name))
    needed = 2 * sum(task.block.bytes for task in (*tasks, *missing)) - shards
    free = shutil.disk_usage(out_dir).free
    if needed > free:
        raise DataError(
            f"{out_dir} needs about {needed / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB free",
            "free some space, or use --out on another disk; finished parts are kept",
        )


def _pack(
    recipe: Recipe,
    provenance: dict[str, Any],
    selections: Sequence[Selection],
    tasks: dict[str, list[RomanizeTask]],
    out_dir: Path,
) -> Manifest:
    """Writes the shards of all languages, removes those of an older set, and writes the manifest."""
    (out_dir / MANIFEST_NAME).unlink(missing_ok=True)
    shards: list[ShardEntry] = []
    counts: dict[str, LanguageCounts] = {}
    with Progress("pack", sum(len(selection.blocks) for selection in selections), "blocks") as progress:
        for selection in selections:
            language, found = selection.language, Counter(selection.counts)
            blocks = _tallied(tasks[language], found, progress.advance)
            shards += write_shards(out_dir, language, blocks, recipe.shard_bytes)
            if not found["rows"]:
                raise DataError(f"{language}: uroman has no Latin form of any of its sentences")
            counts[language] = LanguageCounts(dropped={reason: found.pop(reason, 0) for reason in REASONS}, **found)
    for path in out_dir.iterdir():
        if SHARD_NAME.fullmatch(path.name) and path.name not in {shard.name for shard in shards}:
            path.unlink()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=recipe.name,
        languages=counts,
        provenance=provenance,
        shards=shards,
    )
    write_manifest(out_dir, manifest)
    return manifest


def _tallied(tasks: Sequence[RomanizeTask], counts: Counter[str], advance: Advance) -> Iterator[Block]:
    """The romanized blocks in order, adding to the counts; a block of which nothing is left is skipped."""
    for task in tasks:
        result = task.result()
        orig, latn = result.pairs.orig, result.pairs.latn
        counts["empty_transliteration"] += result.empty
        counts["rows"] += len(orig)
        counts["fallbacks"] += result.fallbacks
        counts["identical"] += sum(map(str.__eq__, orig, latn))
        counts["orig_chars"] += sum(map(len, orig))
        counts["latn_chars"] += sum(map(len, latn))
        if orig:
            yield result.pairs
        advance(1)
