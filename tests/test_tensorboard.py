"""What TensorBoard shows of a run: the loss first, settings to compare runs by, the configuration, and charts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from tests.support.tiny import make_config
from translit_scale.batch.order import PairOrder
from translit_scale.config import MixtureConfig
from translit_scale.train import loop
from translit_scale.train.launching.ranks import start_rank
from translit_scale.train.run_directory import mixture_line, mixture_table

Show = Callable[..., EventAccumulator]


@pytest.fixture
def show(tiny_world: Path, tmp_path: Path) -> Show:
    """Trains two steps and returns what TensorBoard reads."""

    def run(**changes: Any) -> EventAccumulator:
        ds_config = tmp_path / "ds.json"
        ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 6, "zero_optimization": {"stage": 1}}))
        config = make_config(tiny_world, run__dir=tmp_path, run__log_every=1, train__max_steps=2, **changes)
        loop.train(config, ds_config, "none", start_rank())
        return EventAccumulator(str(config.run.path / "tb")).Reload()

    return run


def charts(events: EventAccumulator) -> dict[str, list[str]]:
    """Regular expressions of the metrics of each chart."""
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}


def hyperparameters(events: EventAccumulator) -> dict[str, Any]:
    content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()}


def test_loss_and_learning_rate_are_the_first_curves(show: Show) -> None:
    events = show()
    curves = sorted(events.Tags()["scalars"])
    terms = [f"train/loss_{name}" for name in ("mlm_latn", "mlm_orig", "tcm", "tlm")]
    assert curves[:6] == ["train/loss", *terms, "train/lr"]
    assert len({name.partition("/")[0] for name in curves}) <= 7


def test_settings_and_configuration_are_in_the_run_itself(show: Show, tmp_path: Path) -> None:
    """A second folder would be a second run."""
    events = show(train__lr=3e-4, data__mixture__kind="temperature")
    settings = hyperparameters(events)
    assert settings["train.lr"] == 3e-4 and settings["objectives.tcm.weight"] == 0.7
    assert settings["data.mixture.kind"] == "temperature" and settings["total_steps"] == 2
    assert settings["model.hidden_size"] == 32 and settings["train.betas"] == "[0.9, 0.999]"
    assert not any(name.startswith("run") or "workers" in name for name in settings)
    assert metadata.EXPERIMENT_TAG not in events.summary_metadata  # TensorBoard would ask no other run for its settings
    assert len(list((tmp_path / "tiny" / "tb").iterdir())) == 1
    (event,) = events.Tensors("configuration/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    for line in (tmp_path / "tiny" / "config.yaml").read_text().splitlines():
        assert f"    {line}\n" in text
    assert "| ukr_Cyrl | 40 |" in text and '"world_size": 1' in text


@pytest.mark.parametrize("weight", [0, 0.7])
def test_no_chart_is_empty(weight: float, show: Show) -> None:
    events = show(objectives__tcm__weight=weight)
    curves = events.Tags()["scalars"]
    shown = charts(events)
    for title, patterns in shown.items():
        assert any(re.fullmatch(pattern, name) for pattern in patterns for name in curves), title
    assert shown["the loss and its terms"] == ["train/loss", "train/loss_.*"]
    assert ("similarity of positives and negatives" in shown) == bool(weight)


def test_mixture_is_shown_for_its_step() -> None:
    order = PairOrder({"tam_Taml": 300, "sin_Sinh": 100}, changes=[(640, MixtureConfig(kind="temperature", alpha=0))])
    assert mixture_line(order, 639) == "mixture: tam_Taml 75 %, sin_Sinh 25 %"
    assert mixture_line(order, 640) == "mixture: sin_Sinh 50 %, tam_Taml 50 %"
    assert mixture_table(order, [0, 10]).splitlines() == [
        "| language | pairs | mixture from step 0 | mixture from step 10 |",
        "| --- | --- | --- | --- |",
        "| sin_Sinh | 100 | 25 % | 50 % |",
        "| tam_Taml | 300 | 75 % | 50 % |",
    ]


def test_mixture_of_many_languages_fits_a_line() -> None:
    order = PairOrder({f"aa{chr(97 + i)}_Latn": 2**i for i in range(15)})
    line = mixture_line(order, 0)
    assert line.startswith("mixture: aao_Latn 50 %, aan_Latn 25 %, ")
    assert line.endswith("… (12 more), aaa_Latn 0.00305 %") and len(line) <= 80
