"""The model card: what a model is, how it was trained, how it is used, what it scores, how to cite it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pycountry
import yaml
from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedModel

from translit_scale import __version__
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import Config, ObjectivesConfig
from translit_scale.corpus.manifest import Manifest
from translit_scale.escaping import escape_markdown
from translit_scale.export.card_results import METRIC_NAMES, describe_results, main_scores
from translit_scale.export.card_texts import (
    CITATION,
    EMBED,
    FILL,
    LIMITS,
    NOT_CONTRASTED,
    SENTENCE_TRANSFORMERS,
)
from translit_scale.export.results import Score, title
from translit_scale.export.settings import is_local, public_name, used_settings
from translit_scale.languages import language_name
from translit_scale.model.families import family_of
from translit_scale.train.checkpointing.checkpoint import CheckpointInfo, visits_of

TASK_TYPES = {
    "retrieval": "sentence-similarity",
    "classification": "text-classification",
    "tagging": "token-classification",
}
"""Names that the hub has for kinds of tasks."""


@dataclass(frozen=True)
class CardInput:
    """What a card is written from."""

    model: PreTrainedModel
    config: Config
    info: CheckpointInfo
    layer: int
    """Index into hidden_states of the layer whose mean is a sentence embedding."""
    licence: str | None = None
    """Identifier of the hub, such as `apache-2.0`; the card says `unknown` for None."""
    manifest: Manifest | None = None
    """Of the shards that the model was trained on, if they are still there."""
    scores: Sequence[Score] = field(default=())

    @cached_property
    def seen(self) -> dict[str, int]:
        """Languages that training has visited, with the number of visits."""
        return {language: visits for language, visits in sorted(visits_of(self.info).items()) if visits}


def model_card(facts: CardInput) -> str:
    """The model card in Markdown with YAML front matter; text from data and users is escaped."""
    config, settings = facts.config, used_settings(facts.config)
    settings["train"]["precision"] = facts.info.science["train"]["precision"]  # what `auto` has become
    sections = [
        f"# {escape_markdown(config.run.name)}",
        _introduction(facts),
        "## Use",
        _usage(facts.layer, family_of(facts.model.config).has_pooler),
        "## Training",
        _training(facts),
        "## Training data",
        _data(facts),
        *(["## Results", describe_results(facts.scores, config.model.pretrained)] if facts.scores else []),
        "## Limits",
        LIMITS.strip() + ("" if config.objectives.tcm.weight else NOT_CONTRASTED.rstrip()),
        "## Settings",
        "Settings that had an effect; local folders are given by their names only.",
        fenced(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), "yaml"),
        "## Citation",
        fenced(CITATION.format(version=__version__).strip(), "bibtex"),
    ]
    return f"---\n{_metadata(facts)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(facts: CardInput) -> ModelCardData:
    """What the Hugging Face hub reads."""
    base, name = facts.config.model.pretrained, facts.config.run.name
    results = [
        EvalResult(
            task_type=TASK_TYPES[score.kind],
            dataset_type=score.task,
            dataset_name=title(score.task),
            dataset_config=score.languages,
            metric_type="accuracy" if score.kind == "retrieval" else "f1",
            metric_name=METRIC_NAMES[score.metric],
            metric_value=score.value,
        )
        for score in main_scores(facts.scores)
    ]
    return ModelCardData(
        language=list(dict.fromkeys(hub_language(code) for code in facts.seen)),
        license=facts.licence or "unknown",
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=[
            "multilingual",
            *(["transliteration"] if facts.config.objectives.pair_with == "transliteration" else []),
            "sentence-transformers",
            "feature-extraction",
            "sentence-similarity",
        ],
        base_model=None if base is None or is_local(base) else base,
        model_name=name if results else None,
        eval_results=results or None,
    )


def describe_objectives(objectives: ObjectivesConfig) -> list[str]:
    """Descriptions of the terms of the loss."""
    tcm, copy = objectives.tcm, objectives.pair_with == "copy"
    terms = ["masked language modelling of the original text"]
    terms.append(
        "masked language modelling of " + ("the same text with other masks" if copy else "its transliteration")
    )
    if tcm.weight:
        terms.append(
            f"contrast of each sentence with {'a copy of itself' if copy else 'its transliteration'} "
            f"(weight {tcm.weight:g}, layer {tcm.layer:g}, {tcm.similarity} similarity, "
            f"temperature {tcm.temperature:g}{', sigmoid loss' if tcm.loss == 'sigmoid' else ''})"
        )
    if objectives.tlm.weight:
        both = "a sentence joined with a copy of itself" if copy else "a sentence joined with its transliteration"
        terms.append(f"masked language modelling of {both} (weight {objectives.tlm.weight:g})")
    return terms


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


def _introduction(facts: CardInput) -> str:
    config, base = facts.model.config, facts.config.model.pretrained
    origin = f"continued from {escape_markdown(public_name(base))}" if base else "trained from scratch"
    copy = facts.config.objectives.pair_with == "copy"
    text = (
        "in their original scripts, without transliterations" if copy else "together with their Latin transliterations"
    )
    stated = escape_markdown(facts.licence or "") or "unknown (none was given when the model was exported)"
    return (
        f"A multilingual encoder ({escape_markdown(config.model_type)}, {config.num_hidden_layers} layers, hidden size "
        f"{config.hidden_size}, {config.vocab_size} tokens), {origin} on sentences {text}.\n\nLicence: {stated}."
    )


def _usage(layer: int, has_pooler: bool) -> str:
    without_pooler = ", add_pooling_layer=False" if has_pooler else ""
    return (
        f"As a masked language model:\n\n{fenced(FILL.strip(), 'python')}\n\n"
        f"Sentence embeddings, the mean hidden states of layer {layer} (compare them by cosine):\n\n"
        f"{fenced(EMBED.format(layer=layer, without_pooler=without_pooler).strip(), 'python')}\n\n"
        f"The same embeddings with sentence-transformers:\n\n{fenced(SENTENCE_TRANSFORMERS.strip(), 'python')}"
    )


def _training(facts: CardInput) -> str:
    objectives = [f"- {escape_markdown(objective)}" for objective in describe_objectives(facts.config.objectives)]
    second = "a copy of it" if facts.config.objectives.pair_with == "copy" else "its Latin transliteration"
    sizes = BatchSizes.of(facts.config.train)
    return "\n".join(
        [
            f"{facts.info.step:,} optimizer steps with {sizes} pairs each. A pair is a "
            f"sentence and {second}, cut to {facts.config.model.max_length} tokens each. Objectives:",
            "",
            *objectives,
        ]
    )


def _data(facts: CardInput) -> str:
    info, files = facts.info, _files(facts.manifest)
    rows = [
        f"| {escape_markdown(language_name(code))} | {code} | {info.pairs[code]:,} | {visits:,} |"
        + (f" {escape_markdown(', '.join(files.get(code, ())))} |" if files else "")
        for code, visits in facts.seen.items()
    ]
    extra = (" files of the recipe |", "---|") if files else ("", "")
    return "\n".join(
        [
            "Pairs seen in training count as often as they were repeated.",
            "",
            f"| language | code | pairs in the data | pairs seen in training |{extra[0]}",
            f"|---|---|---:|---:|{extra[1]}",
            *rows,
            "",
            *_transliterations(facts),
            "The licences of the texts are not recorded; the texts keep those of their owners.",
            f"Fingerprint of the training shards: {escape_markdown(info.shards)}. "
            f"Exported by translit-scale {escape_markdown(__version__)}.",
        ]
    )


def _files(manifest: Manifest | None) -> dict[str, list[str]]:
    """The files of each language as the recipe names them, below its data folder."""
    inputs: Mapping[str, Mapping[str, Any]] = manifest.provenance.get("inputs", {}) if manifest else {}
    recipe = (manifest.provenance.get("recipe") or {}) if manifest else {}
    patterns = {code: [source["path"] for source in sources] for code, sources in recipe.get("languages", {}).items()}
    return {code: patterns.get(code) or sorted(names) for code, names in inputs.items()}


def _transliterations(facts: CardInput) -> list[str]:
    """Sentences about where the transliterations come from."""
    if facts.config.objectives.pair_with == "copy" or facts.manifest is None:
        return []
    manifest, provenance = facts.manifest, facts.manifest.provenance
    further = sum(manifest.languages[code].further for code in facts.seen)
    if facts.config.data.transliterations == "first":
        further = 0  # they are not used
    romanizers = [provenance["romanizer"]] if "romanizer" in provenance else []
    romanizers += provenance.get("further_romanizers", []) if further else []
    sentences = []
    if romanizers:
        sentences.append(f"Transliterations were made by {', and also by '.join(map(_romanizer, romanizers))}.")
    counts = {code: manifest.languages[code].from_column for code in facts.seen}
    if given := [f"{count:,} of {code}" for code, count in counts.items() if count]:
        both = further and ((provenance.get("recipe") or {}).get("romanize") or {}).get("beside_column")
        where = "with the text, and those that were made stand beside them" if both else "with the text instead"
        sentences.append(f"Transliterations of these pairs came {where}: {', '.join(given)}.")
    if further:
        sentences.append(f"There were {further:,} further ones, and one was drawn at each visit of a sentence.")
    return sentences


def _romanizer(provenance: Mapping[str, Any]) -> str:
    name = f"{provenance['implementation']} {provenance.get('version', '')}".strip()
    return escape_markdown(name) + (", told the language" if provenance.get("lcode") == "by_language" else "")
