"""A trained model as a folder that Hugging Face tools load, with a model card that says what it is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pycountry
from huggingface_hub import ModelCardData
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from translit_scale import __version__
from translit_scale.config import ObjectivesConfig, load_config
from translit_scale.corpus.tokenizer import load_tokenizer, save_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.escaping import escape
from translit_scale.files import sync
from translit_scale.languages import language_name
from translit_scale.model.encoder import resolve_layer
from translit_scale.silence import silence_transformers
from translit_scale.train.checkpoint import best_checkpoint, checkpoint_name, complete_checkpoints, read_info
from translit_scale.train.trained import trained_model

CARD = "README.md"


@dataclass(frozen=True)
class CardFacts:
    """What the model card says; everything else in it is fixed text."""

    name: str
    pairs: Mapping[str, int]
    """Training pairs (sentence and transliteration) by language, `iso3_Script`."""
    objectives: Sequence[str]
    """As they are to be read: `masked language modelling of the original text`, …"""
    steps: int
    batch_pairs: int
    """Pairs in one effective batch."""
    alignment_layer: int
    """Index into `hidden_states` of the layer that the contrastive objective used, or is evaluated at."""
    shard_fingerprint: str
    config: str
    """The resolved configuration of the training, as YAML."""
    licence: str | None = None
    """Identifier such as `apache-2.0`; None is written as `unknown`."""
    base_model: str | None = None


def export_run(
    run: Path, step: int | Literal["best"] | None, out: Path, licence: str | None = None, force: bool = False
) -> int:
    """Exports a checkpoint of a training run; returns its step.

    Args:
        step: which checkpoint; `best` is the one that best.json names, None the newest complete one.

    Raises:
        DataError: no such run or checkpoint; ConfigError: `out` is occupied.
    """
    checkpoint = find_checkpoint(run, step)
    config = load_config([run / "config.yaml"])
    model = trained_model(run, checkpoint)
    info = read_info(checkpoint)
    card = CardFacts(
        name=config.run.name,
        pairs=info.pairs,
        objectives=describe_objectives(config.objectives),
        steps=info.step,
        batch_pairs=config.train.batch_pairs,
        alignment_layer=resolve_layer(
            config.objectives.tcm.layer if config.objectives.tcm.weight else 2 / 3, model.config.num_hidden_layers
        ),
        shard_fingerprint=info.shards,
        config=config.to_yaml(),
        licence=licence,
        base_model=config.model.pretrained,
    )
    export_folder(model, load_tokenizer(str(run / "model")), out, card, force)
    return info.step


def find_checkpoint(run: Path, step: int | Literal["best"] | None) -> Path:
    """The checkpoint of `step`, the best or the newest complete one.

    Raises:
        DataError: there is none; the message says which there are.
    """
    checkpoints = complete_checkpoints(run / "checkpoints")
    if step is None and checkpoints:
        return checkpoints[-1]
    name = best_checkpoint(run) if step == "best" else checkpoint_name(step or 0)
    if name is None and run.is_dir():
        raise DataError(f"{run} has no best.json", "choose a checkpoint: translit-scale select")
    wanted = run / "checkpoints" / (name or "")
    if wanted in checkpoints:
        return wanted
    if not run.is_dir():
        raise DataError(f"run folder not found: {run}", "training makes runs/NAME, the name is run.name of its config")
    there = ", ".join(path.name for path in checkpoints)
    raise DataError(
        f"{run} has no complete checkpoint{'' if step is None else f' {name}'}",
        f"there are: {there}" if there else "training writes the first one after run.checkpoint_every steps",
    )


def describe_objectives(objectives: ObjectivesConfig) -> list[str]:
    """The terms of the loss, in words."""
    tcm = objectives.tcm
    second = "transliterated" if objectives.pair_with == "transliteration" else "same original, masked again,"
    terms = ["masked language modelling of the original text", f"masked language modelling of the {second} text"]
    if tcm.weight:
        terms.append(
            f"contrast of each sentence with its transliteration (weight {tcm.weight:g}, {tcm.similarity} similarity, "
            f"temperature {tcm.temperature:g})"
        )
    if objectives.tlm.weight:
        terms.append(f"masked language modelling of both joined (weight {objectives.tlm.weight:g})")
    return terms


def export_folder(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path, card: CardFacts, force: bool = False
) -> None:
    """Writes weights (safetensors), configuration, tokenizer and model card; all of it appears at once.

    Args:
        force: replace an earlier export.

    Raises:
        ConfigError: `out` is not empty and `force` is not given, or what it holds is not a model folder.
        DataError: the disk is full or not writable; nothing is left behind.
    """
    out = out.resolve()
    occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if occupied and not force:
        raise ConfigError(f"{out} exists and is not empty", "choose another folder, or replace it with --force")
    if occupied and not (out / "config.json").is_file():
        raise ConfigError(f"{out} is not a model folder: it is not replaced", "choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        with silence_transformers():
            model.save_pretrained(temporary)
        save_tokenizer(tokenizer, temporary)
        (temporary / CARD).write_text(model_card(model, card), encoding="utf-8")
        for file in temporary.iterdir():
            shutil.copymode(temporary / CARD, file)  # safetensors makes its files readable by their owner only
            sync(file)
        sync(temporary)
        _publish(temporary, out)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot write {out}: {error}", "free some space or choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, out: Path) -> None:
    """Renames; an earlier export stays until the new one is in its place."""
    earlier = out.with_name(f".{out.name}.{os.getpid()}.old")
    replaced = out.exists() and any(out.iterdir())
    if replaced:
        out.rename(earlier)
    temporary.rename(out)
    sync(out.parent)
    if replaced:
        shutil.rmtree(earlier)


def model_card(model: PreTrainedModel, card: CardFacts) -> str:
    """The card in Markdown with YAML front matter; strings from data and users are escaped."""
    sections = [
        f"# {escape(card.name)}",
        _introduction(model, card),
        "## Use",
        _usage(card),
        "## Training",
        _training(card),
        "## Configuration",
        fenced(card.config, "yaml"),
    ]
    return f"---\n{front_matter(card)}\n---\n\n" + "\n\n".join(sections) + "\n"


def front_matter(card: CardFacts) -> ModelCardData:
    """Metadata that the Hugging Face hub reads."""
    return ModelCardData(
        language=list(dict.fromkeys(hub_language(code) for code in card.pairs)),
        license=card.licence or "unknown",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["multilingual", "transliteration", "feature-extraction", "sentence-similarity"],
        base_model=card.base_model,
    )


def hub_language(code: str) -> str:
    """`pol_Latn` -> `pl`: ISO 639-1 where it exists, else ISO 639-3, which is what the hub expects."""
    iso3 = code.partition("_")[0]
    language = pycountry.languages.get(alpha_3=iso3)
    return getattr(language, "alpha_2", iso3)


def fenced(text: str, kind: str) -> str:
    """A code block that the text cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text.rstrip()}\n{fence}"


def _introduction(model: PreTrainedModel, card: CardFacts) -> str:
    config = model.config
    origin = f"continued from {escape(card.base_model)}" if card.base_model else "trained from scratch"
    licence = escape(card.licence) if card.licence else "unknown: none was given when the model was exported"
    return (
        f"A multilingual encoder ({escape(config.model_type)}, {config.num_hidden_layers} layers, hidden size "
        f"{config.hidden_size}, {config.vocab_size} tokens), {origin} on sentences together with their Latin "
        f"transliterations.\n\nLicence: {licence}."
    )


def _usage(card: CardFacts) -> str:
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
    states = model(**batch, output_hidden_states=True).hidden_states[{card.alignment_layer}]
mask = batch["attention_mask"].unsqueeze(-1)
embeddings = (states * mask).sum(dim=1) / mask.sum(dim=1)
"""
    return (
        f"As a masked language model:\n\n{fenced(fill.strip(), 'python')}\n\n"
        f"Sentence embeddings, the mean of the states of layer {card.alignment_layer} (compare them by cosine):\n\n"
        f"{fenced(embed.strip(), 'python')}"
    )


def _training(card: CardFacts) -> str:
    rows = [f"| {escape(language_name(code))} | {code} | {count:,} |" for code, count in sorted(card.pairs.items())]
    objectives = [f"- {escape(objective)}" for objective in card.objectives]
    return "\n".join(
        [
            f"{card.steps:,} optimizer steps with {card.batch_pairs:,} sentence pairs each. Objectives:",
            "",
            *objectives,
            "",
            "| language | code | pairs in the training data |",
            "|---|---|---:|",
            *rows,
            "",
            f"Fingerprint of the training shards: {escape(card.shard_fingerprint)}. "
            f"Made with translit-scale {escape(__version__)}.",
        ]
    )
