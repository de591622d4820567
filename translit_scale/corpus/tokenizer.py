"""Loads, saves and identifies fast Hugging Face tokenizers, and encodes text with them.

`encode_batch` treats a sentence as plain text: if a corpus contains the characters `<s>` or `<mask>`, they do not
become the special tokens of those names.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from translit_scale.errors import DataError
from translit_scale.files import write_bytes, write_json

SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
"""The name XLM-R's tokenizer class looks for; the model in it is a unigram model all the same."""

_TRANSFORMERS_5_ONLY = ("extra_special_tokens", "backend", "is_local", "local_files_only", "unk_id")
_FOLDER = f"a tokenizer folder holds tokenizer.json and tokenizer_config.json, or {SENTENCEPIECE_FILE} and config.json"


def looks_like_path(name: str) -> bool:
    """Whether the name of a model or tokenizer can only mean a folder: an id of the hub is `NAME` or `OWNER/NAME`."""
    return Path(name).is_absolute() or name.startswith(".") or name.count("/") > 1


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerFast:
    """Loads a fast tokenizer from a local folder or, by its id, from the Hugging Face hub.

    `HF_HUB_OFFLINE=1` restricts it to the hub's local cache. No code from the hub is ever run.

    Raises:
        DataError: no tokenizer can be loaded, it is not a fast one, or it lacks a mask, padding, begin or end token,
            all of which masked-LM training on sentence pairs needs.
    """
    path = Path(name_or_path)
    if path.is_dir():
        if not any((path / name).is_file() for name in ("tokenizer.json", SENTENCEPIECE_FILE, "vocab.txt")):
            raise DataError(f"no tokenizer in the folder {path}", _FOLDER)
    elif looks_like_path(name_or_path):
        raise DataError(f"tokenizer folder not found: {path}", "translit-scale tokenizer --shards DIR --out DIR")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError, KeyError, TypeError) as error:  # raised by transformers for damaged files
        raise DataError(f"cannot load a tokenizer from {name_or_path!r}: {error}", _load_hint(path)) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise DataError(f"{name_or_path} is not a fast tokenizer (no tokenizer.json can be made of it)", _FOLDER)
    roles = {
        "mask": tokenizer.mask_token_id,
        "padding": tokenizer.pad_token_id,
        **dict(zip(("begin (cls or bos)", "end (sep or eos)"), boundary_ids(tokenizer), strict=True)),
    }
    missing = [role for role, token_id in roles.items() if token_id is None]
    if missing:
        raise DataError(
            f"the tokenizer {name_or_path} has no token for: {', '.join(missing)}",
            "use the tokenizer of a masked language model such as XLM-R",
        )
    return tokenizer


def boundary_ids(tokenizer: PreTrainedTokenizerFast) -> tuple[int | None, int | None]:
    """The tokens around a sentence: cls and sep, or bos and eos, as Gemma's tokenizer calls them, which mmBERT has."""
    begin = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    end = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    return begin, end


def _load_hint(path: Path) -> str:
    if path.is_dir():
        return _FOLDER
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set and the hub's cache lacks it: download it first, or give a local folder"
    return f"not a local folder, so taken for a hub id: check the name and the network; {_FOLDER}"


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, out: Path, max_length: int | None = None) -> None:
    """Writes a tokenizer into the folder `out` so that transformers 4 and 5 can both load it.

    `tokenizer_config.json` is rewritten, because version 4 fails on that of version 5 (a list instead of a mapping, an
    unknown class name). A SentencePiece model is copied if there is one.

    Args:
        max_length: longest sequence, in tokens, of the model in the same folder. Other programs read it as
            `model_max_length` and cut longer sentences. Without it, the folder keeps the tokenizer's own value.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        config = json.loads((Path(temporary) / "tokenizer_config.json").read_bytes())
    config = {key: value for key, value in config.items() if key not in _TRANSFORMERS_5_ONLY}
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if max_length is not None:
        config["model_max_length"] = max_length
    for token in tokenizer.added_tokens_decoder.values():
        if token.content == config.get("mask_token"):  # keeps `lstrip`: the mask includes the space before it
            fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
            config["mask_token"] = {"__type": "AddedToken"} | {field: getattr(token, field) for field in fields}
    write_bytes(out / "tokenizer.json", _stateless(tokenizer).to_str(pretty=True).encode())
    write_json(out / "tokenizer_config.json", config)
    if model := sentencepiece_file(tokenizer):
        write_bytes(out / SENTENCEPIECE_FILE, model.read_bytes())


def sentencepiece_file(tokenizer: PreTrainedTokenizerFast) -> Path | None:
    """The SentencePiece model from which a tokenizer was loaded, if there is one."""
    path = Path(getattr(tokenizer, "vocab_file", None) or "")
    return path if path.suffix == ".model" and path.is_file() else None


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 over the tokenizer's pipeline, vocabulary and special tokens, in hexadecimal.

    Truncation and padding are left out: they depend on the last call of the tokenizer.
    """
    roles = {role: str(token) for role, token in sorted(tokenizer.special_tokens_map.items())}
    content = [json.loads(_stateless(tokenizer).to_str()), roles]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def encode_batch(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens, truncation or padding.

    Runs on all cores, or on one with `TOKENIZERS_PARALLELISM=false`; the ids are the same.
    """
    return [encoding.ids for encoding in _text_encoder(tokenizer).encode_batch_fast(list(texts))]


def encode_with_offsets(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """As `encode_batch`, and for each token the characters `text[start:end]` that it stands for.

    A token may stand for no character, and a piece such as `▁` for white space.
    """
    encodings = _text_encoder(tokenizer).encode_batch(list(texts))
    return [(encoding.ids, encoding.offsets) for encoding in encodings]


def _stateless(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


@lru_cache(maxsize=4)
def _text_encoder(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The tokenizer's pipeline in which no text can become a special token.

    `split_special_tokens=True` is not enough: special tokens are also entries of a unigram model's vocabulary, with
    score 0, better than any real piece, so `<s>` in a text would still become token 0. Here those entries are renamed
    to begin with a space, which no pre-tokenizer lets through; all ids stay the same.
    """
    pipeline = json.loads(_stateless(tokenizer).to_str())
    special = {token["content"] for token in pipeline["added_tokens"] if token["special"]}
    model = pipeline["model"]

    def hidden(token: str) -> str:
        return f" {token}" if token in special else token

    if isinstance(model["vocab"], list):  # unigram: [piece, score] by id
        model["vocab"] = [[hidden(piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {hidden(piece): number for piece, number in model["vocab"].items()}
        if model.get("unk_token"):
            model["unk_token"] = hidden(model["unk_token"])
    pipeline["added_tokens"] = [token for token in pipeline["added_tokens"] if not token["special"]]
    pipeline["post_processor"] = None
    return Tokenizer.from_str(json.dumps(pipeline))
