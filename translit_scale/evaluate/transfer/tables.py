"""Tables of transfer results: targets in lines, sources in columns, means over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from translit_scale.evaluate.transfer.job import TransferJob
from translit_scale.evaluate.transfer.metrics import PROFILES
from translit_scale.files import read_json
from translit_scale.text_table import format_table

Record = Mapping[str, Any]


def transfer_tables(jobs: Sequence[TransferJob]) -> str:
    """A table for each task and model; a cell without results is `-`."""
    pairs = dict.fromkeys((job.task_name, job.model) for job in jobs)
    return "\n\n".join(
        _table([job for job in jobs if (job.task_name, job.model) == (task, model)]) for task, model in pairs
    )


def _table(jobs: Sequence[TransferJob]) -> str:
    """One model, one task."""
    sources = list(dict.fromkeys(job.sources for job in jobs))
    records = {
        source: [read_json(job.result, "result") for job in jobs if job.sources == source and job.result.exists()]
        for source in sources
    }
    seeds = len({job.seed for job in jobs})
    title = f"{jobs[0].task_name}: {jobs[0].model.label}, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    scores = {
        score["language"]: score for group in records.values() for record in group for score in record["scores"]["test"]
    }
    if not scores:
        return f"{title}: no result"
    lines = [
        [target, str(scores[target]["n"]), *(_cell([_by_profile(r, [target]) for r in records[s]]) for s in sources)]
        for target in jobs[0].targets
    ]
    others = {source: [target for target in jobs[0].targets if target not in source] for source in sources}
    counts = ", ".join(map(str, dict.fromkeys(len(targets) for targets in others.values())))
    means = [_cell([_by_profile(r, others[source]) for r in records[source]]) for source in sources]
    lines.append([f"mean without source ({counts})", "", *means])
    strict, paper = (next(iter(next(iter(scores.values()))[profile])) for profile in ("strict", "paper"))
    note = (
        f"% strict {strict} ± standard deviation over seeds, in brackets the paper's {paper}; the last line is the "
        "unweighted mean over targets that are not the source"
    )
    table = format_table(["target", "n", *("+".join(source) for source in sources)], lines)
    return "\n".join([title, table, note, *_omissions(scores)])


def _by_profile(record: Record, targets: Sequence[str]) -> dict[str, float] | None:
    """Mean over some targets of one seed's main scores; None if one of them is missing."""
    scores = [score for score in record["scores"]["test"] if score["language"] in targets]
    if not targets or len(scores) < len(targets):
        return None
    return {profile: mean(next(iter(score[profile].values())) for score in scores) for profile in PROFILES}


def _cell(seeds: Sequence[dict[str, float] | None]) -> str:
    """`61.2 ± 1.3 (60.8)`."""
    complete = [scores for scores in seeds if scores is not None]
    if not complete:
        return "-"
    strict, paper = ([100 * scores[profile] for scores in complete] for profile in ("strict", "paper"))
    spread = f" ± {stdev(strict):.1f}" if len(strict) > 1 else ""
    return f"{mean(strict):.1f}{spread} ({mean(paper):.1f})"


def _omissions(scores: Mapping[str, Record]) -> Iterator[str]:
    """What was cut, divided or left out of the test sets, and which have another name there."""
    if named := [f"{language} is {score['named']} there" for language, score in scores.items() if "named" in score]:
        yield ", ".join(named)
    for name in ("truncated", "split", "no_tokens"):
        counts = {language: score.get(name, 0) for language, score in scores.items()}
        if any(counts.values()):
            worst = max(counts, key=lambda language: counts[language])
            yield f"{name}: {sum(counts.values())} in the test sets, most in {worst} ({counts[worst]})"
    dropped = {language: sum(score["dropped"].values()) for language, score in scores.items()}
    if any(dropped.values()):
        yield "left out by the reader: " + ", ".join(f"{count} in {name}" for name, count in dropped.items() if count)
