"""`translit-scale train` as a user meets it, with good settings and with bad ones."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from tokenizers import Tokenizer, models, normalizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    ModernBertConfig,
    PreTrainedTokenizerFast,
)

from tests.support.tiny import make_shards, make_tokenizer
from tests.support.train_script import SPOILT, STEPS, ZERO2, records, without_clock
from translit_scale.cli import build_parser
from translit_scale.cli import main as console_script
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import save_tokenizer
from translit_scale.corpus.tokenizer_training import train_tokenizer
from translit_scale.errors import ConfigError, DataError, NumericError
from translit_scale.evaluate.embedding import Encoder
from translit_scale.export.sentence_transformers import write_modules
from translit_scale.train.checkpointing.checkpoint import complete_checkpoints
from translit_scale.train.checkpointing.restoring import consolidated_weights
from translit_scale.train.engine import take_step
from translit_scale.train.launching.agreement import software

Train = Callable[..., str]


@pytest.fixture
def train(experiment: Path, capsys: pytest.CaptureFixture[str]) -> Train:
    """Runs the command in this process, a world of one; returns what it printed."""

    def run(*words: object) -> str:
        args = build_parser().parse_args(["train", "--config", str(experiment), *map(str, words)])
        args.run(args)
        return capsys.readouterr().out

    return run


# ------------------------------------------------------------------------------------------------ good settings


def test_finished_run_says_so_and_trains_nothing(train: Train, tmp_path: Path) -> None:
    banner = train()
    run = tmp_path / "runs" / "tiny"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    said = train()
    assert "batch 12 pairs = 1 rank × 1 micro-batch of about 12;" in banner  # less than the JSON's 32
    assert f"nothing to train: {run}/checkpoints/step_000004 is step 4 of 4" in said
    assert f"translit-scale export --run {run}" in said and "run.name=tiny-2" in said
    assert f"run.name=NEW_NAME model.pretrained={run}/export" in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"} == before


def test_resumed_run_continues_schedule_and_metrics(train: Train, tmp_path: Path) -> None:
    """Set back to step 2 with records beyond it: learning rates and all other numbers as if never interrupted."""
    train("train.warmup_steps=1")
    run = tmp_path / "runs" / "tiny"
    whole = without_clock(run)
    shutil.rmtree(run / "checkpoints" / "step_000004")
    (run / "checkpoints" / "step_000004.tmp").mkdir()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "train/lr"')  # killed while writing
    assert f"resumed from {run}/checkpoints/step_000002" in train("train.warmup_steps=1")
    assert without_clock(run) == whole
    assert [r["train/lr"] for r in records(run)] == pytest.approx([1e-3, 1e-3, 2e-3 / 3, 1e-3 / 3])
    assert not list((run / "checkpoints").glob("*.tmp"))


def test_a_resumed_run_draws_the_transliterations_of_an_uninterrupted_one(train: Train, tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "several", {"ukr_Cyrl": 40, "bul_Cyrl": 23}, further={"ukr_Cyrl": 2})
    train(f"data.shards={shards}")
    run = tmp_path / "runs" / "tiny"
    whole = without_clock(run)
    shutil.rmtree(run / "checkpoints" / "step_000004")
    assert f"resumed from {run}/checkpoints/step_000002" in train(f"data.shards={shards}")
    assert without_clock(run) == whole
    train(f"data.shards={shards}", "data.transliterations=first", "run.name=first")
    first = records(tmp_path / "runs" / "first")
    assert [record["train/loss"] for record in records(run)] != [record["train/loss"] for record in first]
    with pytest.raises(DataError, match=r"data\.transliterations: 'draw' in the checkpoint, 'first' now"):
        train(f"data.shards={shards}", "data.transliterations=first", "train.max_steps=8")


def test_a_batch_size_warmup_is_shown_and_recorded_and_belongs_to_the_experiment(train: Train, tmp_path: Path) -> None:
    words = ("train.first_batch_pairs=4", "train.batch_warmup_steps=2", "objectives.tcm.weight=1")
    banner = train(*words)
    assert "batch 12 pairs = 1 rank × 1 micro-batch of about 12;" in banner
    assert (
        "  batch-size warm-up: from 4 pairs = 1 rank × 1 micro-batch, by multiples of it, to 12 from step 2 on"
        in banner
    )
    assert "6 to 22 negatives each" in banner and "(6 an epoch of full batches)" in banner
    run = tmp_path / "runs" / "tiny"
    assert [record["train/batch_pairs"] for record in records(run)] == [4, 8, 12, 12]
    train("run.name=constant")
    assert not any("train/batch_pairs" in record for record in records(tmp_path / "runs" / "constant"))
    with pytest.raises(DataError, match=r"train\.first_batch_pairs: 4 in the checkpoint, 6 now"):
        train(*words, "train.first_batch_pairs=6", "train.max_steps=8")


def test_a_branch_from_the_constant_rate_is_the_shorter_training(train: Train, tmp_path: Path) -> None:
    """Bit for bit, from a checkpoint before the decay of the longer one; after it, the number of steps is fixed."""
    words = ("train.warmup_steps=1", "train.decay_steps=2", "run.keep_every=2", "run.checkpoint_every=2")
    train(*words, "train.max_steps=8")
    long = tmp_path / "runs" / "tiny"
    assert [r["train/lr"] for r in records(long)] == pytest.approx([1e-3] * 7 + [1e-3 * (1 - math.sqrt(0.5))])
    short = (*words, "train.max_steps=4", "train.decay_steps=1")
    train(*short, "run.name=whole")
    train(*short, "run.name=branch", "--resume", long / "checkpoints" / "step_000002")
    whole, branch = (consolidated_weights(tmp_path / f"runs/{n}/checkpoints/step_000004") for n in ("whole", "branch"))
    assert all(torch.equal(whole[name], branch[name]) for name in whole)
    late = ("train.max_steps=20", "run.name=late", "--resume", long / "checkpoints" / "step_000008")
    with pytest.raises(DataError, match=r"experiment:\n    train.max_steps: 8 in the checkpoint, 20 now\n  →"):
        train(*words, *late)
    limited = ("data.mixture.kind=temperature", "data.mixture.max_repeats=4", "run.name=limited")
    train(*words, *limited, "train.max_steps=8")
    with pytest.raises(DataError, match=r"train\.max_steps: 8 in the checkpoint, 6 now"):
        start = tmp_path / "runs" / "limited" / "checkpoints" / "step_000002"
        train(*words, *limited, "train.max_steps=6", "run.name=other", "--resume", start)


def test_pretrained_model_from_an_exported_folder(train: Train, tmp_path: Path) -> None:
    train()
    assert console_script(["export", "--run", str(tmp_path / "runs" / "tiny")]) == 0
    folder = tmp_path / "runs" / "tiny" / "export"
    again = ("model.tokenizer=null", f"model.pretrained={folder}", "train.max_steps=1", "train.lr=1e-12")
    train(*again, "run.name=again")
    exported, continued = (
        consolidated_weights(complete_checkpoints(tmp_path / "runs" / name / "checkpoints")[-1])
        for name in ("tiny", "again")
    )
    assert exported.keys() == continued.keys()
    assert all(torch.allclose(exported[name], continued[name], atol=1e-6) for name in exported)


def test_tokenizers_of_run_and_export_take_what_the_model_takes(train: Train, tmp_path: Path) -> None:
    train("model.max_length=24", "train.max_steps=1")
    run = tmp_path / "runs" / "tiny"
    assert console_script(["export", "--run", str(run)]) == 0
    for folder in (run / "model", run / "export"):
        assert AutoTokenizer.from_pretrained(folder).model_max_length == 24
        assert AutoConfig.from_pretrained(folder).max_position_embeddings == 24 + 2


def test_pretrained_bert_with_a_sentencepiece_tokenizer(train: Train, tmp_path: Path) -> None:
    """Positions from 0 and XLM-R's kind of tokenizer, as multilingual E5 has them, to sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    text = [" ".join(random.Random(i).choices(["ба", "до", "ba", "do", "абв", "abv"], k=9)) for i in range(300)]
    train_tokenizer(iter(text), tmp_path / "base", 40, parity_lines={"text": text[:50]})
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    base = BertConfig(vocab_size=42, max_position_embeddings=30, type_vocab_size=2, pad_token_id=1, **sizes)
    AutoModelForMaskedLM.from_config(base).save_pretrained(tmp_path / "base")
    train("model.tokenizer=null", f"model.pretrained={tmp_path / 'base'}", "model.max_length=30", "train.max_steps=3",
          "data.max_unknown_fraction=1")  # fmt: skip
    run = tmp_path / "runs" / "tiny"
    assert console_script(["export", "--run", str(run)]) == 0
    sentences = [text[0], " ".join(text[1:9]), "до"]
    ours = Encoder.load(str(run / "export"), "cpu", layer=2).embed(sentences)
    assert ours.truncated == 1 and ours.vectors.shape == (3, 32)
    theirs = SentenceTransformer(str(run / "export"), device="cpu").encode(sentences)
    np.testing.assert_allclose(theirs, ours.vectors, atol=1e-5)


def test_pretrained_modernbert_with_a_tokenizer_like_gemmas(train: Train, tmp_path: Path) -> None:
    """As mmBERT has them: rotary positions, attention over windows, byte pairs, sentences between bos and eos."""
    from sentence_transformers import SentenceTransformer

    text = [" ".join(random.Random(i).choices(["ба", "до", "ba", "do", "абв", "abv"], k=9)) for i in range(300)]
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    special["mask_token"] = "<mask>"
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.train_from_iterator(text, trainers.BpeTrainer(vocab_size=60, special_tokens=list(special.values())))
    pieces = [("<bos>", backend.token_to_id("<bos>")), ("<eos>", backend.token_to_id("<eos>"))]
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=pieces)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    save_tokenizer(tokenizer, tmp_path / "base")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "cls_token_id": 2, "sep_token_id": 1}
    base = ModernBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=30, local_attention=8, global_attn_every_n_layers=3,
        **sizes, **ids,
    )  # fmt: skip
    AutoModelForMaskedLM.from_config(base).save_pretrained(tmp_path / "base")
    words = ["model.tokenizer=null", f"model.pretrained={tmp_path / 'base'}", "model.max_length=30"]
    words += ["train.max_steps=3", "data.max_unknown_fraction=1", "model.dropout=0.1", "--ds_config", "paper_a"]
    said = train(*words)
    run = tmp_path / "runs" / "tiny"
    assert "1 rank × 2 micro-batches" in said and len(records(run)) == 3
    assert console_script(["export", "--run", str(run)]) == 0
    sentences = [text[0], " ".join(text[1:9]), "до"]
    for layer in (1, 2, 3):
        ours = Encoder.load(str(run / "export"), "cpu", layer=layer).embed(sentences)
        assert ours.truncated == 1 and ours.vectors.shape == (3, 32)
        write_modules(run / "export", base, layer)
        theirs = SentenceTransformer(str(run / "export"), device="cpu").encode(sentences)
        np.testing.assert_allclose(theirs, ours.vectors, atol=1e-5)
    saved = consolidated_weights(run / "checkpoints" / "step_000003")
    exported = AutoModelForMaskedLM.from_pretrained(run / "export").state_dict()
    assert exported.keys() == saved.keys() | {"decoder.weight"}
    assert all(torch.equal(exported[name], saved[name]) for name in saved)


@pytest.mark.parametrize(
    ("words", "given", "precision", "note"),
    [
        (["train.precision=bf16_autocast"], {}, "bf16_autocast", 0),
        ([], {"bf16": {"enabled": True}}, "bf16", 0),
        ([], {"fp16": {"enabled": True}}, "fp32", 1),
    ],
)
def test_precisions_of_a_cpu(
    train: Train, tmp_path: Path, words: list[str], given: dict[str, Any], precision: str, note: int
) -> None:
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps(json.loads(ZERO2.read_text()) | given))
    said = train("--ds_config", ds_config, *words)
    run = tmp_path / "runs" / "tiny"
    assert said.count("note: fp16 does not run on CPU: running fp32") == note
    record = json.loads((run / "environment.json").read_text())
    assert record["precision"] == precision
    assert record["packages"].keys() == software().keys() - {"python"}  # what ranks compare
    assert f", {precision}, ZeRO-2" in said
    losses = [record["train/loss"] for record in records(run)]
    assert len(losses) == STEPS and losses[0] == pytest.approx(14.8, abs=0.1)


# ------------------------------------------------------------------------------------------------- bad settings


def change_shards(world: Path, directory: Path, change: Callable[[Path], None]) -> Path:
    shutil.copytree(world / "shards", directory)
    change(directory)
    return directory


def other_format(shards: Path) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    (shards / "manifest.json").write_text(json.dumps(manifest | {"format_version": 9}))


def flip_bit_of_last_block(shards: Path) -> None:
    shard = ShardSet.open(shards).manifest.shards[-1]
    path, entry = shards / shard.name, shard.blocks[-1]
    damaged = bytearray(path.read_bytes())
    damaged[entry.offset + 512] ^= 1
    path.write_bytes(damaged)


def test_shards_that_are_missing_of_another_format_or_damaged(train: Train, tiny_world: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no local directory with a shard set: .*none/manifest.json does not exist\n  → make the set"
    ):
        train(f"data.shards={tmp_path / 'none'}")
    newer = change_shards(tiny_world, tmp_path / "newer", other_format)
    with pytest.raises(DataError, match=r"manifest.json has format version 9, expected 3"):
        train(f"data.shards={newer}")
    damaged = change_shards(tiny_world, tmp_path / "damaged", flip_bit_of_last_block)
    with pytest.raises(DataError, match=r"tar:ukr_Cyrl-00001-0001: .*crc32.*\n  → translit-scale shards"):
        train(f"data.shards={damaged}")


@pytest.mark.parametrize(("letters", "side"), [("а-я", "sentences"), ("a-z", "transliterations")])
def test_tokenizer_that_does_not_know_a_script(letters: str, side: str, train: Train, tmp_path: Path) -> None:
    path = make_tokenizer(tmp_path / "other") / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] = {
        re.sub(f"^[{letters}]$", lambda letter: letter[0] + "0", token): i
        for token, i in content["model"]["vocab"].items()
    }
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"100.0% of the tokens of the {side} of .* unknown .*\n  → train one.*=1\.00"):
        train(f"model.tokenizer={tmp_path / 'other'}")


def test_settings_that_contradict_each_other_or_the_data(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.max_step: unknown setting; did you mean 'max_steps'\?"):
        train("train.max_step=3")
    with pytest.raises(ConfigError, match="unrecognized arguments: --max_steps"):
        train("--max_steps=3")
    with pytest.raises(ConfigError, match=r"has 64 pairs \(train\.batch_pairs\), but .*shards has 63 of bul_Cyrl"):
        train("train.batch_pairs=64")
    with pytest.raises(ConfigError, match=r"data.languages: deu_Latn not in"):
        train("data.languages=[deu_Latn]")
    ds_config = tmp_path / "ds.json"
    for given, message in [
        ({"train_batch_size": 256}, "train_batch_size = 256, the experiment says 12"),
        ({"zero_optimization": 2}, "zero_optimization must be an object, found 2"),
        ({"zero_optimization": {"stage": 2, "overlap": True}}, r"(?s)DeepSpeed refuses .*ds.json: .*overlap"),
    ]:
        ds_config.write_text(
            json.dumps({"train_micro_batch_size_per_gpu": 8, "zero_optimization": {"stage": 2}} | given)
        )
        with pytest.raises(ConfigError, match=message):
            train("--ds_config", ds_config)


def test_run_directory_that_cannot_be_written(train: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write to the run directory .*file/tiny: .*\n  → choose another"):
        train(f"run.dir={tmp_path / 'file'}")


def test_second_job_in_a_run_directory_touches_nothing(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the first one, another process, is killed."""
    monkeypatch.setattr("translit_scale.locks.GRACE_SECONDS", 0.2)
    run = tmp_path / "runs" / "tiny"
    hold = (
        "import sys, time; from pathlib import Path; from translit_scale.locks import lock_folder\n"
        "with lock_folder(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(run)], stdout=subprocess.PIPE) as first:
        assert first.stdout and first.stdout.readline() == b"held\n"
        message = (
            rf"runs/tiny is in use: process {first.pid} on {os.uname().nodename}, since 20.*\n  → wait for its end"
        )
        with pytest.raises(DataError, match=message):
            train()
        assert [path.name for path in run.iterdir()] == [".lock"]
        first.kill()
    train()


def test_resume_with_other_settings_data_or_a_damaged_checkpoint(train: Train, tmp_path: Path) -> None:
    train()
    run = tmp_path / "runs" / "tiny"
    with pytest.raises(DataError) as found:
        train("train.lr=3e-3", "train.precision=bf16", "objectives.tcm.layer=1", "run.log_every=3")
    assert str(found.value) == (
        f"{run}/checkpoints/step_000004 belongs to another experiment:\n"
        "    objectives.tcm.layer: 2 in the checkpoint, 1 now\n"
        "    train.lr: 0.001 in the checkpoint, 0.003 now\n"
        "    train.precision: 'fp32' in the checkpoint, 'bf16' now\n"
        "  → go back to what the checkpoint says, or start a run of its own: run.name=NEW_NAME"
    )
    with pytest.raises(DataError) as found:
        train("train.max_steps=7")
    assert str(found.value).endswith(
        "    train.max_steps: 4 in the checkpoint, 7 now\n"
        "  → go back to what the checkpoint says, or start a run of its own: run.name=NEW_NAME\n"
        f"    or train its model longer: translit-scale export --run {run}, then run.name=NEW_NAME "
        f"model.pretrained={run}/export"
    )
    make_shards(tmp_path / "other", {"ukr_Cyrl": 40, "bul_Cyrl": 24})
    with pytest.raises(DataError, match=r"(?s)belongs to another experiment:.*shards: '"):
        train(f"data.shards={tmp_path / 'other'}")
    with pytest.raises(ConfigError, match="tiny already has the checkpoint step_000004"):
        train("--resume", "none")
    with pytest.raises(DataError, match=r"checkpoint record not found: nowhere/COMPLETE.json"):
        train("--resume", "nowhere")
    weights = run / "checkpoints" / "step_000004" / "state-00000.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    hint = r"  → remove .*step_000004 to resume from the one before it"
    with pytest.raises(DataError, match=r"expected [\d,]+ bytes, found [\d,]+\n" + hint):
        train()
    weights.write_bytes(bytes(len(whole)))
    shutil.rmtree(run / "checkpoints" / "step_000002")
    (run / "checkpoints" / "step_000004").rename(run / "checkpoints" / "step_000002")  # so that there is work left
    record = run / "checkpoints" / "step_000002" / "COMPLETE.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"step": 2, "visits": None}))
    with pytest.raises(DataError, match="step_000002 is damaged: "):
        train()


def test_loss_that_is_not_finite(train: Train, tmp_path: Path) -> None:
    with pytest.raises(NumericError, match=r"(?s)step \d: .* not finite.*lower train.lr"):
        train(*SPOILT.split())
    assert records(tmp_path / "runs" / "tiny")  # the steps before are on record


def test_out_of_memory_says_which_setting_to_lower(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("translit_scale.train.loop.take_step", out_of_memory)
    with pytest.raises(ConfigError, match=r"micro-batches of 32 pairs: CUDA .*\n  → lower train_micro_batch_size_per"):
        train()


def test_fp16_that_overflows_at_every_loss_scale() -> None:
    scaler = DynamicLossScaler(1.0, scale_window=10, min_scale=1.0, delayed_shift=1, consecutive_hysteresis=False)
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}], _update_scale=scaler.update_scale)
    engine = SimpleNamespace(
        global_steps=7, step=lambda: optimizer._update_scale(True), zero_optimization_stage=lambda: 1,
        fp16_enabled=lambda: True, optimizer=optimizer,
    )  # fmt: skip
    with pytest.raises(NumericError, match="step 7: the gradient overflows fp16 at any loss scale"):
        take_step(engine, 1.0)


# --------------------------------------------------------------------------------- failures among several ranks
