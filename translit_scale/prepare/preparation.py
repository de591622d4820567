"""A recipe with its files: the tasks that make its shard set, and the check whether the set already exists."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import Any

from translit_scale.corpus.clean import CLEANING_VERSION
from translit_scale.corpus.manifest import MANIFEST_NAME, Manifest, read_manifest
from translit_scale.corpus.script import SCRIPT_DATA
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import DataError
from translit_scale.languages import listed
from translit_scale.prepare.inputs import InputFile, checksums
from translit_scale.prepare.recipe import Recipe
from translit_scale.prepare.sources import RecipeFiles
from translit_scale.prepare.tasks import Selection, SelectTask, ShardTask, transliteration_columns
from translit_scale.romanize.transliterator import FromColumns, source
from translit_scale.schema import changed_settings


class Preparation:
    """Some or all languages of a recipe, their files, and the folders that are used.

    The files are read if their checksums are not known yet.

    Args:
        run_dir: for temporary files.
    """

    def __init__(
        self, recipe: Recipe, data_dir: Path, out_dir: Path, run_dir: Path, workers: int, files: RecipeFiles
    ) -> None:
        self.recipe, self.workers = recipe, workers
        self.data_dir, self.out_dir, self.run_dir = data_dir, out_dir, run_dir
        self.work_dir = out_dir / ".work"
        """Holds the results of finished tasks."""
        names = sorted({name for of_one in (*files.languages.values(), files.held_out) for name, _ in of_one})
        self.checksums = known = checksums([data_dir / name for name in names], out_dir, workers)
        self.files = {
            language: tuple(InputFile(name, columns, *known[data_dir / name]) for name, columns in of_language)
            for language, of_language in sorted(files.languages.items())
        }
        self.excluded = tuple(InputFile(name, columns, *known[data_dir / name]) for name, columns in files.held_out)

    def provenance(self) -> dict[str, Any]:
        """Everything that the bytes of the set depend on; nothing about the machine, the time or the paths."""
        romanizer, *further = (source(self.recipe.romanize.by, lcode) for lcode in self.recipe.romanize.lcodes)
        from_columns = {
            language: FromColumns(columns, {}, romanizer).provenance()
            for language, files in self.files.items()
            if (columns := transliteration_columns(files))
        }
        provenance: dict[str, Any] = {
            "recipe": self.recipe.model_dump(mode="json"),
            "inputs": {
                language: {file.name: file.sha256 for file in of_language}
                for language, of_language in self.files.items()
            },
            "held_out": {file.name: file.sha256 for file in self.excluded},
            "cleaning": {"version": CLEANING_VERSION, "unicode": unicodedata.unidata_version, "scripts": SCRIPT_DATA},
        }
        if self.recipe.has_text_to_romanize:
            provenance["romanizer"] = romanizer.provenance()
            if further:
                provenance["further_romanizers"] = [other.provenance() for other in further]
        return provenance | ({"transliterations": from_columns} if from_columns else {})

    def select_tasks(self) -> list[SelectTask]:
        """One selection per language."""
        return [
            SelectTask(
                language=language,
                recipe=self.recipe.of(language),
                data_dir=self.data_dir,
                files=files,
                excluded=self.excluded,
                work_dir=self.work_dir,
                run_dir=self.run_dir,
            )
            for language, files in self.files.items()
        ]

    def shard_tasks(self, selection: Selection) -> list[ShardTask]:
        """The shards of one language, in order."""
        return [
            ShardTask(
                language=selection.language,
                number=number,
                romanize=self.recipe.romanize,
                columns=tuple(transliteration_columns(self.files[selection.language])),
                text=selection.text,
                part=part,
                block_rows=self.recipe.block_rows,
                work_dir=self.work_dir,
                run_dir=self.run_dir,
            )
            for number, part in enumerate(selection.parts)
        ]

    def existing_set(self, force: bool, is_whole: bool = True) -> Manifest | None:
        """The manifest of the set in `out_dir` if it is complete and equals the one to be made.

        Args:
            force: ignores a set that was made from something else.
            is_whole: whether these are all languages of the set; otherwise other languages in it are not compared.

        Raises:
            DataError: the set was made from something else, and `force` is not given.
        """
        if not (self.out_dir / MANIFEST_NAME).exists():
            return None
        try:
            manifest, _ = read_manifest(self.out_dir)
        except DataError:
            if force:
                return None
            raise
        expected, provenance = ({"transliterations": {}} | of for of in (self.provenance(), manifest.provenance))
        if not is_whole:
            for name in ("inputs", "transliterations"):
                provenance[name] = {code: value for code, value in provenance[name].items() if code in self.files}
        differences = sorted(name for name, *_ in changed_settings(provenance, expected))
        if not differences:
            return self._unless_damaged()
        if force:
            return None
        raise DataError(
            f"{self.out_dir} holds a finished set made from something else: {listed(differences, 3)} differ",
            "--force replaces it; --out DIR keeps both",
        )

    def _unless_damaged(self) -> Manifest | None:
        try:
            manifest = ShardSet.open(self.out_dir).manifest
        except DataError as error:
            print(f"{error.message}: made again", file=sys.stderr)
            return None
        print(f"up to date: {self.out_dir}", file=sys.stderr)
        return manifest
