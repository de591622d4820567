"""Languages that a mixture leaves out or that join later, in the other parts of the program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny import make_config
from tests.test_resume import ds_json
from translit_scale.config import Config
from translit_scale.report.trained_languages import visited_languages
from translit_scale.train.launching.ranks import Rank, start_rank
from translit_scale.train.loop import Plan, make_plan

BULGARIAN_JOINS: dict[str, Any] = {
    "data__mixture": "{languages: [ukr_Cyrl]}",
    "data__mixture_schedule": "[{from_step: 3, mixture: {}}]",
}


@pytest.fixture(scope="module")
def rank() -> Rank:
    """A world of one, in this process."""
    return start_rank()


@pytest.fixture
def plan(tiny_world: Path, tmp_path: Path, rank: Rank) -> Callable[..., Plan]:
    """The plan of a training on the tiny world: 40 pairs of ukr_Cyrl and 23 of bul_Cyrl, 4 steps of 12 pairs."""

    def make(**changes: Any) -> Plan:
        config: Config = make_config(tiny_world, **changes)
        return make_plan(config, ds_json(tmp_path / "ds.json", 2, 12), rank)

    return make


def test_a_checkpoint_names_the_languages_that_its_steps_have_visited(plan: Callable[..., Plan]) -> None:
    joins = plan(**BULGARIAN_JOINS)
    before, after = joins.info(3), joins.info(4)
    assert before.pairs == after.pairs == {"bul_Cyrl": 23, "ukr_Cyrl": 40}
    assert before.visits == {"bul_Cyrl": 0, "ukr_Cyrl": 36}
    assert visited_languages(before) == {"ukr_Cyrl": 40} and visited_languages(after) == after.pairs
    for info in (before, after):  # a record from before `visits` was stored
        assert visited_languages(replace(info, visits=None)) == visited_languages(info)
