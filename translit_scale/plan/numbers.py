"""The plan for other programs: the numbers of its page."""

from __future__ import annotations

from typing import Any

from translit_scale.plan.page import Plan
from translit_scale.plan.step import seconds_range, step_memory, step_sent


def as_json(plan: Plan) -> dict[str, Any]:
    """The numbers of the page: seconds, bytes and hours."""
    row, w = plan.chosen, plan.chosen.workload
    low, high = seconds_range(row.seconds, plan.machine)
    return {
        "inputs": [{"name": name, "value": value, "source": source} for name, value, source in plan.inputs.rows],
        "calibration": [{**c._asdict(), "error": c.error} for c in plan.comparisons],
        "ranks": plan.ranks,
        "pairs": plan.corpus.total,
        "steps": plan.steps,
        "tokens_per_pair": w.tokens.tokens,
        "identical": {
            "setting": plan.config.objectives.identical,
            "fraction": w.tokens.identical,
            "contrasted_pairs": w.contrasted,
            "saved": plan.saved._asdict(),
        },
        "micro_batch_pairs": w.micro_batch_pairs(plan.ranks),
        "micro_batches": w.micro_batches(plan.ranks),
        "fits": row.fits if plan.workload.zero.micro_batch_pairs is None else plan.fits,
        "memory_bytes": step_memory(w, plan.machine, plan.ranks)._asdict(),
        "sent_bytes": step_sent(w, plan.ranks)._asdict(),
        "step_seconds": {**row.seconds._asdict(), "total": row.seconds.total, "low": low, "high": high},
        "hours": row.hours,
        "checkpoints": plan.checkpoints._asdict(),
        "preparation": plan.preparation._asdict(),
        "scaling": [
            {
                "ranks": each.ranks,
                "step_seconds": each.seconds.total,
                "efficiency": each.efficiency,
                "hours": each.hours,
                "most_time": each.limit,
                "fits": each.fits,
            }
            for each in plan.rows
        ],
    }
