"""What a study consists of: its corpora, variants, scales and measurements (`configs/study/*.yaml`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from translit_scale.errors import ConfigError
from translit_scale.report.published import published
from translit_scale.schema import Strict, read_yaml, validate
from translit_scale.shipped_files import find_file

FOLDER = "configs/study"
PLACEHOLDERS = (
    "models", "rows", "runs", "run_options", "tests", "languages", "sources", "pair", "families", "shards",
    "tokenizer", "study", "group",
)  # fmt: skip
"""What the commands of measurements may contain in braces."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]*$")]


class Corpus(Strict):
    """Languages that are trained together, from scratch or from one model."""

    experiment: list[str] = Field(min_length=1)
    """Files of settings, as `train --config` takes them; those of the variant follow."""
    recipe: str
    """Recipe of its shards."""
    languages: list[str] = Field(min_length=2)
    """Languages that are tested."""
    sources: list[str] = Field([])
    """Languages that retrieval and fine-tuning start from; default: all of `languages`."""
    pair: list[str] = Field([], max_length=2)
    """s and t of the similarities; default: the first two languages."""


class Measurement(Strict):
    """A command of translit-scale over the trained models of a corpus."""

    command: str
    """Its words. In braces: `models` (`--model LABEL=RUN` for every run), `rows` (`--model LABEL=LABEL`, for reports),
    `run_options` (`--run LABEL=RUN`), `runs` (their folders), `tests` (folder of the test sets), `languages` (joined by
    commas), `sources` (`--source CODE` for each), `pair` (s and t, joined by a comma), `families` (`--families FILE` if
    the user has given it), `shards`, `tokenizer`, `group` (name of the corpus), `study` (folder of everything)."""
    seeds: Literal["all", "first"] = "all"
    """Whether it takes the runs of all seeds, or only of the first one."""
    each: bool = False
    """Whether every run has a step of its own."""
    languages: dict[str, list[str]] = Field({})
    """Corpus → languages that it tests instead of those of the corpus."""
    sources: dict[str, list[str]] = Field({})
    """Corpus → sources instead of those of the corpus."""

    @model_validator(mode="after")
    def _is_known(self) -> Measurement:
        try:
            self.command.format(**dict.fromkeys(PLACEHOLDERS, ""))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{self.command}: {error} in braces, expected one of {', '.join(PLACEHOLDERS)}") from None
        return self


class Scale(Strict):
    """How much of a study is run, on what."""

    about: str
    """Where it runs, and how long it takes there."""
    text: Literal["demo", "files"] = "files"
    """`demo`: sentences from installed packages; `files`: the user's own (`--text`)."""
    needs_tests: bool = True
    """Whether the measurements read test sets (`--tests`)."""
    recipes: dict[str, str] = Field({})
    """Recipes instead of those of the corpora."""
    corpora: list[str] | None = None
    """Only these; default: all."""
    vocabulary: int = 30_000
    """Pieces of the tokenizer."""
    settings: list[str] = Field([])
    """Words of `train` that win over the experiment: files that are laid over it, and settings."""
    pretrained: dict[str, str] = Field({})
    """Variant that is not trained → its model, a folder or hub id (`--pretrained` replaces it). Others start from it,
    and all have its tokenizer."""
    checkpoint: Literal["newest", "best"] = "newest"
    """Which one of a run is measured; `best` needs `selection` in the experiment."""
    variant_settings: dict[str, list[str]] = Field({})
    """Variant → settings of its trainings that win over all others."""
    ds_config: str = "zero2"
    """DeepSpeed configuration."""
    seeds: dict[str, list[int]]
    """Variant → seeds of its trainings; a variant that is missing is left out."""
    top: Literal[1, 5, 10] = 10
    """In the tables, retrieval counts as right if the translation is among so many sentences."""
    measurements: dict[Name, Measurement]
    """In their order; those that `report` read what others wrote, and wait for all before them."""
    seconds: dict[str, float] = Field({})
    """Kind of a step → seconds that it took where `about` says, for the first estimate."""


class Study(Strict):
    """A study of one of the papers' questions."""

    title: str
    """What is compared."""
    corpora: dict[Name, Corpus]
    """By name."""
    variants: dict[Name, list[str]]
    """Name → words of `train`: files that are merged into the experiment, settings and options."""
    starts_from: dict[str, str] = Field({})
    """Variant → variant whose exported model (of its first seed) it is trained further from, at the scales that have
    both."""
    tokenizers: dict[Name, list[str]] = Field({})
    """Name → options of `translit-scale tokenizer`, for tokenizers besides the one of each corpus."""
    tokenizer_of: dict[str, str] = Field({})
    """Variant → name of its tokenizer, if it has not that of its corpus."""
    comparisons: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    """Pairs of variants whose difference answers a question: the second minus the first."""
    paper_rows: dict[str, str] = Field({})
    """Row of the papers' tables (`report tables`) → variant whose first seed fills it."""
    scales: dict[Name, Scale]
    """By name."""

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        named = {name for pair in [*self.comparisons, *self.starts_from.items()] for name in pair}
        named |= {*self.tokenizer_of, *self.paper_rows.values()}
        rows = dict.fromkeys(row for table in published().values() for block in table.blocks for row in block.models)
        if unknown_rows := sorted(self.paper_rows.keys() - rows.keys()):
            raise ValueError(f"paper_rows: {', '.join(unknown_rows)}: no table has this row, only {', '.join(rows)}")
        if missing := sorted(set(self.tokenizer_of.values()) - self.tokenizers.keys()):
            raise ValueError(
                f"tokenizer_of: {', '.join(missing)}: none of the tokenizers, {', '.join(self.tokenizers)}"
            )
        for scale in self.scales.values():
            named |= scale.seeds.keys() | scale.variant_settings.keys() | scale.pretrained.keys()
            if len(scale.pretrained) > 1 or not scale.seeds.keys() >= scale.pretrained.keys():
                raise ValueError("pretrained: expected one of the variants that have seeds")
            tested = [name for found in scale.measurements.values() for name in (*found.languages, *found.sources)]
            for corpus in [*(scale.corpora or []), *scale.recipes, *tested]:
                if corpus not in self.corpora:
                    raise ValueError(f"{corpus} is none of the corpora, {', '.join(self.corpora)}")
        if unknown := sorted(named - self.variants.keys()):
            raise ValueError(f"{', '.join(unknown)}: none of the variants, {', '.join(self.variants)}")
        return self


def read_study(word: str) -> Study:
    """The study that a word on the command line means: a name or a path.

    Raises:
        ConfigError: no such file, or it is not valid.
    """
    path: Path = find_file(FOLDER, word)
    return validate(Study, read_yaml(path), str(path))


def scale_of(study: Study, name: str) -> Scale:
    """One of the scales of a study.

    Raises:
        ConfigError: it has no such scale.
    """
    if name not in study.scales:
        listed = "; ".join(f"{other}: {scale.about}" for other, scale in study.scales.items())
        raise ConfigError(f"--scale {name}: this study has no such scale", listed)
    return study.scales[name]
