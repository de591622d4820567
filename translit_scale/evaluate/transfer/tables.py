"""Results of transfer for people: targets down, sources across, mean over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from translit_scale.evaluate.results import format_table
from translit_scale.evaluate.transfer.job import Job
from translit_scale.evaluate.transfer.metrics import PROFILES
from translit_scale.files import read_json

Record = Mapping[str, Any]


def transfer_tables(jobs: Sequence[Job]) -> str:
    """A table for each task and model, of the results that are there; a cell without one is `-`."""
    pairs = dict.fromkeys((job.task_name, job.model) for job in jobs)
    return "\n\n".join(
        _table([job for job in jobs if (job.task_name, job.model) == (task, model)]) for task, model in pairs
    )


def _table(jobs: Sequence[Job]) -> str:
    """One model, one task."""
    sources = list(dict.fromkeys(job.sources for job in jobs))
    records = {
        source: [read_json(job.result, "result") for job in jobs if job.sources == source and job.result.exists()]
        for source in sources
    }
    title = f"{jobs[0].task_name}: {jobs[0].model.label}, {_number(len({job.seed for job in jobs}), 'seed')}"
    of_language = {
        score["language"]: score for group in records.values() for record in group for score in _scores(record)
    }
    if not of_language:
        return f"{title}: no result"
    rows = [
        [
            target,
            str(of_language[target]["n"]),
            *(_cell([_by_profile(r, [target]) for r in records[s]]) for s in sources),
        ]
        for target in jobs[0].targets
    ]
    others = {source: [target for target in jobs[0].targets if target not in source] for source in sources}
    counts = ", ".join(map(str, dict.fromkeys(len(targets) for targets in others.values())))
    means = [_cell([_by_profile(r, others[source]) for r in records[source]]) for source in sources]
    rows.append([f"mean without source ({counts})", "", *means])
    strict, paper = (next(iter(next(iter(of_language.values()))[profile])) for profile in ("strict", "paper"))
    note = (
        f"% strict {strict} ± standard deviation over seeds, in brackets the paper's {paper}; the last line is the "
        "unweighted mean over targets that are not the source"
    )
    lines = [title, format_table(["target", "n", *("+".join(source) for source in sources)], rows), note]
    return "\n".join([*lines, *_losses(of_language)])


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _scores(record: Record) -> list[dict[str, Any]]:
    scores: list[dict[str, Any]] = record["scores"]["test"]
    return scores


def _by_profile(record: Record, targets: Sequence[str]) -> dict[str, float] | None:
    """Mean over some targets of one seed's main scores, or none where one of them is missing."""
    found = [score for score in _scores(record) if score["language"] in targets]
    if not targets or len(found) < len(targets):
        return None
    return {profile: mean(next(iter(score[profile].values())) for score in found) for profile in PROFILES}


def _cell(seeds: Sequence[dict[str, float] | None]) -> str:
    """`61.2 ± 1.3 (60.8)`."""
    found = [scores for scores in seeds if scores is not None]
    if not found:
        return "-"
    strict, paper = ([100 * scores[profile] for scores in found] for profile in ("strict", "paper"))
    spread = f" ± {stdev(strict):.1f}" if len(strict) > 1 else ""
    return f"{mean(strict):.1f}{spread} ({mean(paper):.1f})"


def _losses(of_language: Mapping[str, Record]) -> Iterator[str]:
    """What was cut, divided or left out of the test sets, where anything was."""
    for name in ("truncated", "split", "no_tokens"):
        counts = {language: score.get(name, 0) for language, score in of_language.items()}
        if any(counts.values()):
            worst = max(counts, key=lambda language: counts[language])
            yield f"{name}: {sum(counts.values())} in the test sets, most in {worst} ({counts[worst]})"
    dropped = {language: sum(score["dropped"].values()) for language, score in of_language.items()}
    if any(dropped.values()):
        yield "left out by the reader: " + ", ".join(f"{count} in {name}" for name, count in dropped.items() if count)
