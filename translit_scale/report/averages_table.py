"""The table of averages: scores, families and languages of the training, read and put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from translit_scale.errors import DataError
from translit_scale.languages import listed
from translit_scale.report.averages import AverageBlock, average_blocks, groupings
from translit_scale.report.families import UNKNOWN, family_of, read_families
from translit_scale.report.language_scores import language_scores
from translit_scale.report.results import Results
from translit_scale.report.trained_languages import Languages, languages_of_models, read_languages


@dataclass(frozen=True)
class AveragesTable:
    """All averages, and what readers should know about them."""

    blocks: list[AverageBlock]
    notes: list[str]


def make_averages(
    results: Results,
    models: Mapping[str, str],
    profile: str,
    families: Path | None,
    seen: Path | None,
    damaged: list[DataError],
) -> AveragesTable:
    """Averages of all tasks and sources over groups of languages.

    Args:
        models: row → label of results; the first one is that which the others are compared with.
        profile: of transfer scores, `paper` or `strict`.
        families: a file that `read_families` reads.
        seen: shards or a run; None: the run that the models come from, if it can be found.
        damaged: gets an error about every result that cannot be read; the others are used.

    Raises:
        DataError: `families` or `seen` cannot be read, or no score can be used.
    """
    of_family = read_families(families) if families else None
    paths = (path for label in models.values() for path in results.model_paths(label))
    languages, seen_note = _seen({seen: read_languages(seen)} if seen else languages_of_models(paths))
    scores, incomplete = language_scores(results, models, profile, damaged)
    blocks = average_blocks(scores, groupings(of_family, languages), next(iter(models)))
    if not blocks:
        problems = "".join(f"\n{error}" for error in damaged)
        raise DataError(f"no score of {', '.join(models)} can be averaged{problems}", "evaluate again")
    averaged = dict.fromkeys(
        code for by_model in scores.values() for of_model in by_model.values() for code in of_model
    )
    notes = [
        "head: XLM-R was pretrained on the language in this script; tail: the other languages",
        seen_note,
        _family_note(families, of_family, averaged),
        *incomplete,
    ]
    return AveragesTable(blocks, notes)


def _seen(found: Mapping[Path, Languages]) -> tuple[Languages | None, str]:
    """The seen languages, if all shards or runs agree, and a note for readers."""
    folder, languages = next(iter(found.items()), (None, {}))
    if folder and all(other == languages for other in found.values()):
        return languages, f"seen: one of the {len(languages)} languages of {folder}; unseen: the other languages"
    if found:
        counts = ", ".join(f"{folder}: {len(languages)}" for folder, languages in found.items())
        return (
            None,
            f"seen and unseen: the models were trained on different languages ({counts}); choose with --seen DIR",
        )
    return None, "seen and unseen: no run of the models was found; name shards or a run with --seen DIR"


def _family_note(path: Path | None, families: Mapping[str, str] | None, languages: Iterable[str]) -> str:
    if families is None:
        return "families: no family file given (--families FILE); `translit-scale docs tables` says where to get one"
    unknown = [code for code in languages if family_of(code, families) == UNKNOWN]
    return f"families: {path}" + (f"; {UNKNOWN}: {listed(unknown)}" if unknown else "")
