"""Experiments: strict, composed, and agreed with the DeepSpeed JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from translit_scale.batch.layout import BatchLayout
from translit_scale.config import Config, configuration_page, load_config
from translit_scale.deepspeed_json import BLOCKS
from translit_scale.errors import ConfigError
from translit_scale.languages import language_set
from translit_scale.train.engine import learning_rate, resolve_hardware
from translit_scale.train.launching.ranks import Rank
from translit_scale.train.precision import resolve_precision

ROOT = Path(__file__).resolve().parents[1]
MINIMAL = ["data.shards=s", "model.tokenizer=t", "run.name=n"]
CPU = torch.device("cpu")
VARIANTS = {
    "paper_a": (("pol-ukr", "hin-urd"), ("model1", "model2", "model3", "model4", "model5")),
    "paper_b": (("mediterranean", "south_east_asia"), ("mlm", "mlm_seq", "mlm_tlm", "mlm_seq_tlm")),
}


def test_every_shipped_experiment_loads() -> None:
    assert load_config([ROOT / "configs/demo.yaml"]).run.name == "demo"
    for paper, (bases, variants) in VARIANTS.items():
        for base in bases:
            for variant in variants:
                config = load_config([ROOT / f"configs/{paper}/{base}.yaml", ROOT / f"configs/{paper}/{variant}.yaml"])
                assert config.run.name == f"{base}-{variant}"
    shipped = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    named = {Path(paper, f"{name}.yaml") for paper, groups in VARIANTS.items() for group in groups for name in group}
    wide = {Path("glot500/glot500.yaml"), Path("glot500/small.yaml")}
    studies = {Path("study", f"{name}.yaml") for name in ("paper_a", "paper_b", "contrast", "wide", "beyond")}
    studies |= {Path("encoders", f"width{width}.yaml") for width in (64, 192, 384)}
    assert shipped == named | wide | studies | {Path("demo.yaml"), Path("small.yaml")}
    small = load_config([ROOT / f"configs/{name}.yaml" for name in ("paper_a/pol-ukr", "paper_a/model5", "small")])
    assert (small.objectives.tcm.weight, small.model.num_layers, small.run.name) == (1, 4, "pol-ukr-model5-small")
    assert small.selection is None


def test_the_experiment_on_all_languages_and_its_small_version() -> None:
    """It is paper B's objective; the languages that choose checkpoints are in the shard set and have test files."""
    glot500 = load_config([ROOT / "configs/glot500/glot500.yaml"])
    paper = load_config([ROOT / f"configs/paper_b/{name}.yaml" for name in ("mediterranean", "mlm_seq_tlm")])
    assert (glot500.objectives, glot500.model) == (paper.objectives, paper.model)
    assert glot500.selection and set(glot500.selection.languages) < set(language_set("glot500"))
    assert len(glot500.selection.languages) == 20
    small = load_config([ROOT / f"configs/glot500/{name}.yaml" for name in ("glot500", "small")])
    assert (small.objectives.tlm.weight, small.data.mixture, small.selection) == (1, glot500.data.mixture, None)
    ablation = load_config([ROOT / f"configs/{name}.yaml" for name in ("glot500/glot500", "paper_b/mlm_seq")])
    assert (ablation.objectives.tcm.weight, ablation.objectives.tlm.weight, ablation.run.name) == (
        1,
        0,
        "glot500-mlm_seq",
    )


@pytest.mark.parametrize(("name", "ranks", "micro_batches"), [("paper_a", 8, 16), ("paper_b", 4, 8), ("zero2", 8, 4)])
def test_the_jsons_of_the_papers_have_their_micro_batches(name: str, ranks: int, micro_batches: int) -> None:
    """Paper A, appendix A: 8 GPUs × 8 pairs × 16; paper B's code: 4 GPUs × 16 pairs × 8. Others leave it open."""
    batch = 512 if name == "paper_b" else 1024
    found = resolve_hardware(ROOT / f"ds_configs/{name}.json", config(batch_pairs=batch), Rank(0, ranks, CPU))
    assert found.layout.micro_batches == micro_batches and not found.micro_batch_is_open


@pytest.mark.parametrize(("paper", "task", "measure", "source"), [
    ("paper_a", "sr_b", "mean", None), ("paper_b", "tatoeba", "top10", "eng_Latn"),
])  # fmt: skip
def test_experiments_of_the_papers_choose_among_all_checkpoints(
    paper: str, task: str, measure: str, source: str | None
) -> None:
    """Paper A, appendix A; paper B, section 4.2. None is removed, and training does not end before the last."""
    for base in VARIANTS[paper][0]:
        config = load_config([ROOT / f"configs/{paper}/{base}.yaml"], ["selection.data=DIR"])
        selection, run = config.selection, config.run
        assert selection and (selection.task, selection.measure, selection.source) == (task, measure, source)
        assert run.keep_every == run.checkpoint_every == 2000
        assert selection.patience >= (config.train.max_steps or 0) / run.checkpoint_every
        assert load_config([ROOT / f"configs/{paper}/{base}.yaml"], ["selection=null"]).selection is None


def test_models_of_paper_a_differ_in_objectives_only() -> None:
    base = ROOT / "configs/paper_a/pol-ukr.yaml"
    models = [load_config([base, ROOT / f"configs/paper_a/model{i}.yaml"]) for i in range(1, 6)]
    rest = [m.model_dump(exclude={"objectives", "run"}) for m in models]
    assert all(r == rest[0] for r in rest)
    terms = [(m.objectives.pair_with, m.objectives.tcm.weight, m.objectives.tlm.weight) for m in models]
    latn = "transliteration"
    assert terms == [("copy", 0, 0), (latn, 0, 0), (latn, 1, 0), (latn, 0, 1), (latn, 1, 1)]


def test_later_files_and_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {shards: s}\nmodel: {tokenizer: t}\ntrain: {lr: 5e-5, seed: 1}\n")
    (tmp_path / "b.yaml").write_text("train: {seed: 2}\n")
    config = load_config([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["train.max_steps=20"])
    assert (config.train.lr, config.train.seed, config.train.max_steps) == (5e-5, 2, 20)
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert load_config([tmp_path / "c.yaml"]) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_stps=3", "override 'train.max_stps=3': train.max_stps: unknown setting; did you mean 'max_steps'"),
        ("objectives.tcm.wieght=3", "objectives.tcm.wieght: unknown setting; did you mean 'weight'"),
        ("trian.lr=3", "trian: unknown setting; did you mean 'train'"),
        ("train.batch_pairs=many", "train.batch_pairs: Input should be a valid integer.*found 'many'"),
        ("train.batch_pairs=0", "greater than or equal to 1"),
        ("train.first_batch_pairs=64", "needs first_batch_pairs and batch_warmup_steps, found 64 and None: set both"),
        ("train.batch_warmup_steps=9", "needs first_batch_pairs and batch_warmup_steps, found None and 9: set both"),
        ("train={first_batch_pairs: 96, batch_warmup_steps: 9}", "divide batch_pairs 1024 and be smaller, found 96"),
        ("train={first_batch_pairs: 1024, batch_warmup_steps: 9}", "1024 and be smaller, found 1024"),
        ("train={first_batch_pairs: 2048, batch_warmup_steps: 9}", "1024 and be smaller, found 2048"),
        (
            "train={first_batch_pairs: 64, batch_warmup_steps: 9, max_steps: 8}",
            "batch_warmup_steps 9 are more than max_steps 8",
        ),
        ("objectives.tcm.layer=0", "objectives.tcm.layer"),
        ("model.num_heads=7", "hidden_size 768 is not a multiple of num_heads 7"),
        ("model.tokenizer=null", "a model from scratch needs `tokenizer`"),
        ("objectives.masking.random_replace_prob=0.5", "must not exceed 1"),
        ("run.name=../x", "run.name"),
        ("train.lr", "expected section.setting=value"),
        ("train.lr=[1", "not a YAML value"),
    ],
)
def test_wrong_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config([], [*MINIMAL, override])


def test_wrong_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("run: {nam: x}\n")
    with pytest.raises(ConfigError, match=r"demo\.yaml: run\.nam: unknown setting; did you mean 'name'"):
        load_config([tmp_path / "demo.yaml"], MINIMAL)
    with pytest.raises(ConfigError, match=r"file not found: .*dema\.yaml\n.*did you mean .*demo\.yaml"):
        load_config([tmp_path / "dema.yaml"])
    (tmp_path / "bad.yaml").write_text("run: [\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml:2:1: not valid YAML"):
        load_config([tmp_path / "bad.yaml"])
    (tmp_path / "twice.yaml").write_text("run: {name: a}\ntrain: {lr: 1}\nrun: {name: b}\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml:3:1: not valid YAML: duplicate key 'run'"):
        load_config([tmp_path / "twice.yaml"])
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="found list"):
        load_config([tmp_path / "list.yaml"])


def config(**train: Any) -> Config:
    return load_config([], [*MINIMAL, *(f"train.{key}={value}" for key, value in train.items())])


def hardware(tmp_path: Path, given: dict[str, Any], ranks: int = 2, **train: Any) -> Any:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"train_micro_batch_size_per_gpu": 8, "zero_optimization": {"stage": 2}} | given))
    return resolve_hardware(path, config(**train), Rank(0, ranks, CPU))


def test_micro_batches_follow_from_batch_ranks_and_json(tmp_path: Path) -> None:
    found = hardware(tmp_path, {}, ranks=4, batch_pairs=1024)
    assert found.layout.micro_batches == 32
    assert found.ds_config["gradient_accumulation_steps"] == 1
    assert found.ds_config["gradient_clipping"] == 1.0


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "ds_configs").glob("*.json"))])
def test_shipped_jsons_state_nothing_the_experiment_owns(name: str) -> None:
    path = ROOT / f"ds_configs/{name}.json"
    assert resolve_hardware(path, config(), Rank(0, 8, CPU)).layout.batch_pairs == 1024
    assert not {"train_batch_size", "optimizer", "scheduler", "fp16", "bf16"} & json.loads(path.read_text()).keys()


@pytest.mark.parametrize("path", sorted((ROOT / "ds_configs").glob("*.json")), ids=lambda path: path.stem)
def test_shipped_jsons_reduce_to_owners_and_offload_to_pinned_memory(path: Path) -> None:
    zero = json.loads(path.read_text())["zero_optimization"]
    assert zero["stage"] in (0, 3) or zero["use_multi_rank_bucket_allreduce"] is False  # a third less traffic
    for name in zero.keys() & {"offload_optimizer", "offload_param"}:
        assert zero[name] == {"device": "cpu", "pin_memory": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_batch_size": 256}, r"train_batch_size = 256, the experiment says 1024 \(train.batch_pairs"),
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps = 4, the experiment says 64"),
        ({"gradient_clipping": 0.5}, r"gradient_clipping = 0.5, the experiment says 1.0"),
        ({"optimizer": {"type": "AdamW"}}, "block 'optimizer'"),
        ({"train_micro_batch_size_per_gpu": "many"}, "must be a number of pairs or \"auto\", found 'many'"),
        ({"train_micro_batch_size_per_gpu": True}, 'must be a number of pairs or "auto", found True'),
        ({"zero_optimization": {"stage": 4}}, "stage is 4; there are 0, 1, 2 and 3"),
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "contradicting precisions"),
        ({"bf16": {"enabled": "yes"}}, "bf16.enabled must be true, false or \"auto\", found 'yes'"),
        ({"bf16": True}, "bf16 must be an object, found True"),
        ({"bf16": {"enabled": True}, "zero_optimization": {"stage": 0}}, "stage 0 with bf16 begins with a wrong Adam"),
        ({"bf16": {"enabled": True, "bf16_master_weights_and_grads": True}}, "work with fp32 weights here"),
        (
            {"bf16": {"enabled": True}, "zero_optimization": {"stage": 1}, "data_types": {"grad_accum_dtype": "fp32"}},
            "stage 1 cannot accumulate gradients in fp32",
        ),
        ({"torch_autocast": {"enabled": True, "dtype": "float16"}}, "autocast is for bfloat16"),
    ],
)
def test_contradictions_print_both_values(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hardware(tmp_path, given)


def test_experiment_and_json_with_different_precisions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"contradicting precisions: JSON bf16, experiment train.precision=fp32"):
        hardware(tmp_path, {"bf16": {"enabled": True}}, precision="fp32")


def test_agreeing_json_is_accepted(tmp_path: Path) -> None:
    same = {"train_batch_size": 1024, "gradient_accumulation_steps": 64, "gradient_clipping": "auto"}
    assert hardware(tmp_path, same).layout.micro_batches == 64


def test_missing_and_broken_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DeepSpeed configuration not found"):
        resolve_hardware(tmp_path / "none.json", config(), Rank(0, 1, CPU))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        resolve_hardware(tmp_path / "broken.json", config(), Rank(0, 1, CPU))


def test_fp16_on_cpu_runs_fp32_and_says_so(tmp_path: Path) -> None:
    found = hardware(tmp_path, {"fp16": {"enabled": True}})
    assert found.precision == "fp32"
    assert "fp16" not in found.ds_config
    assert found.notes == ("fp16 does not run on CPU: running fp32",)


@pytest.mark.parametrize(
    ("given", "asked", "precision", "block"),
    [
        ({}, "auto", "fp32", {}),
        ({}, "bf16", "bf16", {"bf16": {"enabled": True}}),
        ({}, "bf16_autocast", "bf16_autocast", {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}),
        ({"bf16": {"enabled": True}}, "auto", "bf16", {"bf16": {"enabled": True}}),
        ({"bf16": {"enabled": False}}, "auto", "fp32", {}),
        ({"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}, "auto", "fp32", {}),
        ({"bf16": {"enabled": "auto"}}, "bf16", "bf16", {"bf16": {"enabled": True}}),
        ({"torch_autocast": {"enabled": True}}, "auto", "bf16_autocast",
         {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}),
    ],
)  # fmt: skip
def test_precision_of_a_cpu(
    tmp_path: Path, given: dict[str, Any], asked: str, precision: str, block: dict[str, Any]
) -> None:
    found = hardware(tmp_path, given, precision=asked)
    assert found.precision == precision
    assert {key: found.ds_config[key] for key in BLOCKS if key in found.ds_config} == block


@pytest.mark.parametrize(
    ("asked", "capability", "precision", "notes"),
    [
        ("auto", (8, 0), "bf16_autocast", 0),
        ("auto", (7, 5), "fp16", 0),
        ("bf16", (9, 0), "bf16", 0),
        ("bf16", (7, 0), "fp16", 1),
        ("bf16_autocast", (7, 0), "fp16", 1),
        ("fp32", (8, 0), "fp32", 0),
        ("fp16", (8, 0), "fp16", 0),
    ],
)
def test_precision_of_a_gpu(
    asked: str, capability: tuple[int, int], precision: str, notes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    found = resolve_precision(asked, {"bf16": {"enabled": "auto"}}, torch.device("cuda", 0))
    assert (found[0], len(found[1])) == (precision, notes)


@pytest.mark.parametrize(
    ("given", "ranks", "device", "said"),
    [
        ({}, 1, "cuda", True),
        ({}, 2, "cuda", False),
        ({}, 1, "cpu", False),
        ({"zero_optimization": {"stage": 0}}, 1, "cuda", False),
        ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}, 1, "cuda", False),
        ({"fp16": {"enabled": True}}, 1, "cuda", False),
    ],
)
def test_a_single_gpu_needs_no_zero(
    given: dict[str, Any], ranks: int, device: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"train_micro_batch_size_per_gpu": 8, "zero_optimization": {"stage": 2}} | given))
    found = resolve_hardware(path, config(), Rank(0, ranks, torch.device(device)))
    assert any("--ds_config zero0 is faster" in note for note in found.notes) == said


def test_stage_0_clips_in_the_step_and_others_in_deepspeed(tmp_path: Path) -> None:
    for stage, expected in ((0, 0.0), (1, 0.7)):
        found = hardware(tmp_path, {"zero_optimization": {"stage": stage}}, max_grad_norm=0.7)
        assert found.ds_config["gradient_clipping"] == expected


def test_more_ranks_than_pairs() -> None:
    with pytest.raises(ConfigError, match="8 ranks cannot share a batch of 4 pairs"):
        BatchLayout(4, 8, 1)
    with pytest.raises(ConfigError, match="10 pairs cannot fill 3 ranks × 4 micro-batches"):
        BatchLayout(10, 3, 1)


def test_learning_rate_is_linear() -> None:
    train = config(lr=1.0, warmup_steps=4, max_steps=20).train
    rates = [learning_rate(t, 20, train) for t in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[-1] == pytest.approx(1 / 16)
    assert learning_rate(0, 10, config(lr=2.0).train) == 2.0


def test_learning_rate_is_constant_until_the_decay() -> None:
    train = config(lr=1.0, warmup_steps=2, max_steps=20, decay_steps=4).train
    rates = [learning_rate(t, 20, train) for t in range(20)]
    assert rates == pytest.approx([0.5, *[1.0] * 16, 1 - math.sqrt(1 / 4), 1 - math.sqrt(2 / 4), 1 - math.sqrt(3 / 4)])
    with pytest.raises(ConfigError, match="warmup_steps 17 and decay_steps 4 are more than max_steps 20"):
        config(warmup_steps=17, max_steps=20, decay_steps=4)


def test_documented_settings_are_the_settings() -> None:
    page = ROOT / "docs/configuration.md"
    assert page.read_text() == configuration_page(), "run: python -m translit_scale.config > docs/configuration.md"
