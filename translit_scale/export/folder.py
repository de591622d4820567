"""Writes a model as a Hugging Face folder, which is complete or absent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from translit_scale.corpus.tokenizer import save_tokenizer
from translit_scale.errors import ConfigError, DataError
from translit_scale.export.sentence_transformers import write_modules
from translit_scale.files import sync, write_bytes
from translit_scale.model.families import family_of
from translit_scale.silence import silence_transformers

CARD = "README.md"


def export_folder(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    card: str,
    layer: int,
    force: bool = False,
) -> None:
    """Writes weights (safetensors), configuration, tokenizer, model card and the files of sentence-transformers.

    The folder appears when it is complete.

    Args:
        layer: index into hidden_states of the layer whose mean is a sentence embedding.
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
        family = family_of(model.config)
        with silence_transformers():
            model.save_pretrained(temporary, state_dict={**model.state_dict(), **family.second_names(model)})
        save_tokenizer(tokenizer, temporary, family.max_length(model.config))
        write_modules(temporary, model.config, layer)
        write_bytes(temporary / CARD, card.encode())
        for weights in temporary.glob("*.safetensors"):
            shutil.copymode(temporary / CARD, weights)  # safetensors creates files that only their owner can read
        for path in (*temporary.iterdir(), temporary):
            sync(path)
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
