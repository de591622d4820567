"""What of a study is done, what is missing, and how long that takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from translit_scale.progress import duration
from translit_scale.study.settings import Scale, Study
from translit_scale.study.steps import Step
from translit_scale.text_table import format_table


def overview(
    study: Study, scale: Scale, steps: Sequence[Step], done: Mapping[str, Mapping[str, Any]], jobs: int
) -> str:
    """A table with a row for each kind of steps.

    A missing step is expected to take as long as those of its kind have taken here; if there are none, as long as the
    study's file says.

    Args:
        done: name → evidence of finished steps.
        jobs: how many run at the same time.
    """
    by_kind: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_kind[step.kind].append(step)
    rows, total, unknown = [], 0.0, []
    for kind, some in by_kind.items():
        measured = [done[step.name]["seconds"] for step in some if "ended" in done.get(step.name, {})]
        missing = sum(step.name not in done for step in some)
        each = mean(measured) if measured else scale.seconds.get(kind)
        expected = "?" if each is None else duration(each * missing)
        total += (each or 0) * missing
        if missing and each is None:
            unknown.append(kind)
        rows.append([kind, str(len(some)), str(len(some) - missing), str(missing), expected if missing else ""])
    table = format_table(("step", "all", "done", "missing", "expected"), rows)
    left = sum(step.name not in done for step in steps)
    if not left:
        return f"{study.title}\n{scale.about}\n\n{table}\n\nall {len(steps)} steps are done"
    times = [f"about {duration(total / min(jobs, left))}"] if total else []
    times += [f"an unknown time for {', '.join(unknown)}"] if unknown else []
    return (
        f"{study.title}\n{scale.about}\n\n{table}\n\n{left} of {len(steps)} steps are missing: "
        f"{' and '.join(times)} with --jobs {jobs}"
    )
