"""Exports a trained model as a Hugging Face folder with a model card."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Literal

import pycountry
from huggingface_hub import ModelCardData
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from translit_scale import __version__
from translit_scale.config import Config, ObjectivesConfig, load_config
from translit_scale.corpus.tokenizer import load_tokenizer, save_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.escaping import escape_markdown
from translit_scale.evaluate.embedding import ALIGNMENT_DEPTH
from translit_scale.files import sync
from translit_scale.languages import language_name
from translit_scale.model.encoder import resolve_layer
from translit_scale.silence import silence_transformers
from translit_scale.train.checkpointing.checkpoint import CheckpointInfo, read_info
from translit_scale.train.checkpointing.trained import find_checkpoint, trained_model

CARD = "README.md"


def export_run(
    run: Path, step: int | Literal["best"] | None, out: Path, licence: str | None = None, force: bool = False
) -> int:
    """Exports a checkpoint of a training run; returns its step.

    Args:
        step: step of the checkpoint; `best` means the one named in best.json, None the newest complete one.

    Raises:
        DataError: the run or checkpoint does not exist.
        ConfigError: `out` must not be replaced, see `export_folder`.
    """
    checkpoint = find_checkpoint(run, step)
    config, info = load_config([run / "config.yaml"]), read_info(checkpoint)
    model = trained_model(run, checkpoint)
    card = model_card(model, config, info, licence)
    export_folder(model, load_tokenizer(str(run / "model")), out, card, force)
    return info.step


def describe_objectives(objectives: ObjectivesConfig) -> list[str]:
    """Descriptions of the terms of the loss."""
    tcm = objectives.tcm
    second = "transliterated text" if objectives.pair_with == "transliteration" else "same text with other masks"
    terms = ["masked language modelling of the original text", f"masked language modelling of the {second}"]
    if tcm.weight:
        terms.append(
            f"contrast of each sentence with its transliteration (weight {tcm.weight:g}, {tcm.similarity} similarity, "
            f"temperature {tcm.temperature:g}{', sigmoid loss' if tcm.loss == 'sigmoid' else ''})"
        )
    if objectives.tlm.weight:
        terms.append(f"masked language modelling of both texts in one sequence (weight {objectives.tlm.weight:g})")
    return terms


def export_folder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path, card: str, force: bool = False
) -> None:
    """Writes weights (safetensors), configuration, tokenizer and model card; the folder appears when it is complete.

    Args:
        force: replace an earlier export.

    Raises:
        ConfigError: `out` is not empty and `force` is not given, or it is not a model folder.
        DataError: the disk is full or not writable; no partial files remain.
    """
    out = out.resolve()
    not_empty = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if not_empty and not force:
        raise ConfigError(f"{out} exists and is not empty", "choose another folder, or replace it with --force")
    if not_empty and not (out / "config.json").is_file():
        raise ConfigError(f"{out} is not a model folder, so it is not replaced", "choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        with silence_transformers():
            model.save_pretrained(temporary)
        save_tokenizer(tokenizer, temporary)
        (temporary / CARD).write_text(card, encoding="utf-8")
        for file in temporary.iterdir():
            shutil.copymode(temporary / CARD, file)  # safetensors creates files that only their owner can read
            sync(file)
        sync(temporary)
        _publish(temporary, out)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot write {out}: {error}", "free some space or choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, out: Path) -> None:
    """Renames `temporary` to `out`; an earlier export is deleted only after the new one has replaced it."""
    earlier = out.with_name(f".{out.name}.{os.getpid()}.old")
    replaced = out.exists() and any(out.iterdir())
    if replaced:
        out.rename(earlier)
    temporary.rename(out)
    sync(out.parent)
    if replaced:
        shutil.rmtree(earlier)


def model_card(model: PreTrainedModel, config: Config, info: CheckpointInfo, licence: str | None = None) -> str:
    """The model card in Markdown with YAML front matter; text from data and users is escaped.

    Args:
        licence: identifier such as `apache-2.0`; the card says `unknown` for None.
    """
    metadata = ModelCardData(  # what the Hugging Face hub reads
        language=list(dict.fromkeys(hub_language(code) for code in info.pairs)),
        license=licence or "unknown",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["multilingual", "transliteration", "feature-extraction", "sentence-similarity"],
        base_model=config.model.pretrained,
    )
    tcm = config.objectives.tcm
    sections = [
        f"# {escape_markdown(config.run.name)}",
        _introduction(model, config.model.pretrained, licence),
        "## Use",
        _usage(resolve_layer(tcm.layer if tcm.weight else ALIGNMENT_DEPTH, model.config.num_hidden_layers)),
        "## Training",
        _training(config, info),
        "## Configuration",
        fenced(config.to_yaml(), "yaml"),
    ]
    return f"---\n{metadata}\n---\n\n" + "\n\n".join(sections) + "\n"


def hub_language(code: str) -> str:
    """Language code as the hub expects it: ISO 639-1 if there is one, else ISO 639-3; `pol_Latn` → `pl`."""
    iso3 = code.partition("_")[0]
    language = pycountry.languages.get(alpha_3=iso3)
    return getattr(language, "alpha_2", iso3)


def fenced(text: str, kind: str) -> str:
    """A fenced code block; the fence is longer than any run of backticks in the text."""
    longest = max((len(backticks) for backticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def _introduction(model: PreTrainedModel, base_model: str | None, licence: str | None) -> str:
    config = model.config
    origin = f"continued from {escape_markdown(base_model)}" if base_model else "trained from scratch"
    stated = escape_markdown(licence) if licence else "unknown (none was given when the model was exported)"
    return (
        f"A multilingual encoder ({escape_markdown(config.model_type)}, {config.num_hidden_layers} layers, hidden size "
        f"{config.hidden_size}, {config.vocab_size} tokens), {origin} on sentences together with their Latin "
        f"transliterations.\n\nLicence: {stated}."
    )


def _usage(layer: int) -> str:
    fill = """
from transformers import AutoModelForMaskedLM, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForMaskedLM.from_pretrained(folder)
"""
    embed = f"""
import torch
from transformers import AutoModel, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
batch = tokenizer(["one sentence", "another sentence"], padding=True, truncation=True, return_tensors="pt")
with torch.inference_mode():
    states = model(**batch, output_hidden_states=True).hidden_states[{layer}]
mask = batch["attention_mask"].unsqueeze(-1)
embeddings = (states * mask).sum(dim=1) / mask.sum(dim=1)
"""
    return (
        f"As a masked language model:\n\n{fenced(fill.strip(), 'python')}\n\n"
        f"Sentence embeddings, the mean hidden states of layer {layer} (compare them by cosine):\n\n"
        f"{fenced(embed.strip(), 'python')}"
    )


def _training(config: Config, info: CheckpointInfo) -> str:
    rows = [
        f"| {escape_markdown(language_name(code))} | {code} | {pairs:,} |" for code, pairs in sorted(info.pairs.items())
    ]
    objectives = [f"- {escape_markdown(objective)}" for objective in describe_objectives(config.objectives)]
    return "\n".join(
        [
            f"{info.step:,} optimizer steps with {config.train.batch_pairs:,} sentence pairs each. Objectives:",
            "",
            *objectives,
            "",
            "| language | code | pairs in the training data |",
            "|---|---|---:|",
            *rows,
            "",
            f"Fingerprint of the training shards: {escape_markdown(info.shards)}. "
            f"Exported by translit-scale {escape_markdown(__version__)}.",
        ]
    )
