"""Trains a SentencePiece unigram vocabulary on original-script text and writes it as a fast tokenizer with XLM-R's ids.

Paper A, section 4.4: the tokenizer learns from the originals only and is not adapted to transliterations; the report
tells what that costs for them. A share of the vocabulary may be learned from transliterations instead. Before anything
is written, the fast tokenizer must give the ids of SentencePiece on real lines (the parity gate).
"""

from __future__ import annotations

import hashlib
import io
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast, XLMRobertaTokenizer

from translit_scale.corpus.blocks import Block
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import SENTENCEPIECE_FILE, load_tokenizer, save_tokenizer, tokenizer_fingerprint
from translit_scale.corpus.tokenizer_parity import TextFigures, check_parity, compare
from translit_scale.corpus.unigram_mixture import mixture
from translit_scale.errors import ConfigError, DataError
from translit_scale.files import read_json, sync, write_json
from translit_scale.progress import Progress

Column = Literal["orig", "latn"]
REPORT_FILE = "tokenizer_report.json"
_MOST_LINES, _WORST = 100, 20
"""A longer table is not printed as a whole, but so many lines of it."""
CHARACTER_COVERAGE = 0.9995
"""Fraction of the text's characters that get a piece; the rest becomes `<unk>`. SentencePiece's default: it keeps the
alphabets of all languages of a balanced sample and drops stray symbols and rare Han."""
REQUIRED_CHARACTERS = "abcdefghijklmnopqrstuvwxyz"
"""Always get a piece. Transliterations are written in these letters, but in text of another script most of them are too
rare for the coverage, and then over a third of the transliterated tokens are `<unk>`."""
PARITY_LINES = 2000
"""Lines of each language and column that the parity gate compares."""
_MAX_SENTENCE_BYTES = 2**16 - 1
"""The longest sentence of a shard. SentencePiece's default of 4192 would leave out Thai with 1400 letters."""
_RESERVED = "\u2585"
_THREADS = 16
"""Not the number of cores: SentencePiece adds up its counts by thread, so the model depends on the number."""


@dataclass(frozen=True)
class TokenizerReport:
    """What `tokenizer_report.json` holds."""

    vocabulary: int
    """Entries of the fast tokenizer: SentencePiece's pieces plus `<pad>` and `<mask>`."""
    fingerprint: str
    sentences: int
    skipped: int
    """Sentences that SentencePiece cannot use (`unusable`)."""
    sentences_sha256: str
    """Of the originals, and where they were used, of the transliterations."""
    texts: dict[str, TextFigures]
    examples: list[dict[str, Any]]
    """Up to five mismatching sentences with both segmentations."""
    settings: dict[str, Any]
    versions: dict[str, str]


def train_from_shards(
    shards: Path,
    out: Path,
    vocab_size: int,
    max_sentences: int,
    seed: int,
    force: bool = False,
    latn_share: float = 0.0,
) -> TokenizerReport:
    """Trains on the originals of a shard set, or on both columns; see `train_tokenizer`, also for its errors.

    Does nothing when `out` is up to date, and refuses an `out` that was made from something else.

    With more than `max_sentences`, all languages contribute equally and small ones all they have: in a proportional
    sample the alphabet of a small language could fall below the character coverage. The report covers both columns, as
    `pol_Latn:orig` and `pol_Latn:latn`.
    """
    shard_set = ShardSet.open(shards)
    inputs = {"shards": shard_set.fingerprint, "max_sentences": max_sentences, "seed": seed}
    if not force and (out / REPORT_FILE).exists():
        return _up_to_date(out, _options(vocab_size) | inputs | {"latn_share": latn_share})
    rows = {language: shard_set.rows(language) for language in shard_set.languages}
    quotas = equal_counts(rows, max_sentences)
    texts: dict[str, list[str]] = {}
    for language in shard_set.languages:
        blocks = list(sample_blocks(shard_set, language, min(PARITY_LINES, rows[language]), seed + 1))
        texts[f"{language}:orig"] = [line for block in blocks for line in block.orig]
        texts[f"{language}:latn"] = [line for block in blocks for line in block.latn]

    left_out: dict[str, Counter[str]] = {}

    def sentences(column: Column) -> Iterator[str]:
        with Progress(f"reading sentences ({column})", sum(quotas.values()), "sentences") as progress:
            for language in shard_set.languages:
                reasons = left_out[f"{language}:{column}"] = Counter()
                for block in sample_blocks(shard_set, language, quotas[language], seed):
                    lines: Sequence[str] = getattr(block, column)
                    reasons.update(filter(None, map(unusable, lines)))
                    yield from lines
                    progress.advance(len(lines))

    report = train_tokenizer(
        sentences("orig"), out, vocab_size, parity_lines=texts, inputs=inputs, force=force,
        transliterations=sentences("latn"), latn_share=latn_share,
    )  # fmt: skip
    for text, reasons in left_out.items():
        for reason, count in reasons.items():
            print(f"{text}: {count:,} sentences are left out of the training: {reason}", file=sys.stderr)
    return report


def train_tokenizer(
    sentences: Iterable[str],
    out: Path,
    vocab_size: int = 30_000,
    *,
    parity_lines: Mapping[str, Sequence[str]],
    inputs: Mapping[str, Any] | None = None,
    force: bool = False,
    transliterations: Iterable[str] = (),
    latn_share: float = 0.0,
) -> TokenizerReport:
    """Trains a unigram model of `vocab_size` pieces and writes the folder `out`, all of it or nothing.

    With `latn_share`, that part of the pieces is learned from `transliterations`, and both models are joined
    (`unigram_mixture.py`); pieces that both have count once, so the vocabulary is smaller by those.

    The folder: `tokenizer.json`, `tokenizer_config.json`, `sentencepiece.bpe.model` and
    `tokenizer_report.json` (`inputs` is recorded in its settings). Equal sentences in equal order give
    equal files. Ids are XLM-R's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, pieces, `<mask>` last.

    Raises:
        ConfigError: the text does not have `vocab_size` pieces, or more characters than that.
        DataError: no sentences, `out` exists (and not `force`, or it is no tokenizer folder), or the fast
            tokenizer disagrees with SentencePiece on over 0.05 % of `parity_lines`.
    """
    _check_replaceable(out, force)
    reserved = round(latn_share * vocab_size)
    readers = [_SentenceReader(sentences)]
    model = _train_sentencepiece(readers[0], _options(vocab_size - reserved))
    if reserved:
        readers.append(_SentenceReader(transliterations))
        latn = _train_sentencepiece(readers[1], _options(reserved), " for transliterations")
        model = mixture(model, latn, latn_share)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        built = Path(temporary) / out.name
        tokenizer = _fast_tokenizer(model, built)
        texts, examples = compare(model, tokenizer, parity_lines)
        check_parity(texts, examples)
        report = TokenizerReport(
            vocabulary=len(tokenizer),
            fingerprint=tokenizer_fingerprint(load_tokenizer(str(built))),
            sentences=sum(reader.used for reader in readers),
            skipped=sum(reader.skipped for reader in readers),
            sentences_sha256=" ".join(reader.digest.hexdigest() for reader in readers),
            texts=texts,
            examples=examples,
            settings=_options(vocab_size) | dict(inputs or {}) | {"latn_share": latn_share},
            versions={name: version(name) for name in ("sentencepiece", "tokenizers", "transformers")},
        )
        write_json(built / REPORT_FILE, asdict(report))
        _replace_folder(built, out)
    return report


def equal_counts(rows: Mapping[str, int], total: int) -> dict[str, int]:
    """Divides `total` sentences equally over the languages; what a small language lacks goes to the others.

    >>> equal_counts({"a": 10, "b": 100, "c": 100}, 90)
    {'a': 10, 'b': 40, 'c': 40}
    """
    quotas: dict[str, int] = {}
    left = total
    ordered = sorted(rows, key=lambda language: (rows[language], language))
    for position, language in enumerate(ordered):
        quotas[language] = min(rows[language], left // (len(ordered) - position))
        left -= quotas[language]
    return {language: quotas[language] for language in rows}


def sample_blocks(shard_set: ShardSet, language: str, count: int, seed: int) -> Iterator[Block]:
    """`count` rows from whole blocks, in a random order that depends only on the language and the seed."""
    numbers = list(range(len(shard_set.block_rows(language))))
    if count < shard_set.rows(language):
        random.Random(f"{seed} {language}").shuffle(numbers)
    for number in numbers:
        if count <= 0:
            return
        block = shard_set.read_block(language, number)
        block = Block(block.orig[:count], block.latn[:count])
        count -= len(block.orig)
        yield block


def learn_pieces(sentences: Iterable[str], most: int) -> list[tuple[str, float]]:
    """Pieces and scores of a unigram model with `most` pieces, or fewer if the text has no more.

    Raises:
        DataError: no sentences, or SentencePiece fails on them.
    """
    options = _options(most) | {"hard_vocab_limit": False}
    model = sentencepiece.SentencePieceProcessor(model_proto=_train_sentencepiece(_SentenceReader(sentences), options))
    normal = (i for i in range(len(model)) if not (model.is_control(i) or model.is_unknown(i)))
    return [(model.id_to_piece(i), model.get_score(i)) for i in normal]


def unusable(sentence: str) -> str:
    """Why SentencePiece would drop a sentence silently; "" if it would not."""
    size = len(sentence.encode())
    if size > _MAX_SENTENCE_BYTES:
        return f"more than {_MAX_SENTENCE_BYTES:,} bytes"
    if _RESERVED in sentence:
        return f"they contain {_RESERVED} (U+{ord(_RESERVED):04X}), which SentencePiece reserves"
    return "" if sentence.strip() else "empty"


class _SentenceReader:
    """Gives sentences to SentencePiece; counts and hashes them, and skips those that it would drop silently."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = sentences
        self.used = self.skipped = 0
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[str]:
        for sentence in self.sentences:
            if unusable(sentence):
                self.skipped += 1
                continue
            self.used += 1
            self.digest.update(sentence.encode() + b"\n")
            yield sentence


def _options(vocab_size: int) -> dict[str, Any]:
    """SentencePiece's options, as passed and as recorded.

    Ids keep SentencePiece's defaults (unk 0, bos 1, eos 2): with others, converters silently shift the vocabulary.
    """
    return {
        "model_type": "unigram",
        "vocab_size": vocab_size,
        "character_coverage": CHARACTER_COVERAGE,
        "required_chars": REQUIRED_CHARACTERS,
        "normalization_rule_name": "nmt_nfkc",
        "max_sentence_length": _MAX_SENTENCE_BYTES,
        "shuffle_input_sentence": False,
        "num_threads": _THREADS,
    }


def _train_sentencepiece(reader: _SentenceReader, options: Mapping[str, Any], name: str = "") -> bytes:
    """The serialised model; `name` follows "a vocabulary of N" in errors."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(reader), model_writer=model, minloglevel=2, **options
        )
    except RuntimeError as error:
        raise _training_error(str(error), reader, options["vocab_size"], name) from error
    return model.getvalue()


def _training_error(message: str, reader: _SentenceReader, vocab_size: int, name: str) -> ConfigError | DataError:
    if reader.used == 0:
        return DataError(f"no sentences to train a tokenizer on{name} ({reader.skipped} skipped as unusable)")
    hint = " (--vocab-size × --latn-share)" if name else ""
    text = f"{reader.used:,} sentences"
    if too_high := re.search(r"Vocabulary size too high.*<= (\d+)", message):
        return ConfigError(
            f"a vocabulary of {vocab_size:,}{name} is too large: {text} give at most {int(too_high[1]):,} pieces",
            f"--vocab-size {too_high[1]} or less{hint}, or more text",
        )
    if too_low := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return ConfigError(
            f"a vocabulary of {vocab_size:,}{name} is too small: {text} have {int(too_low[1]):,} characters to cover",
            f"--vocab-size well above {too_low[1]}{hint}",
        )
    return DataError(f"SentencePiece failed on {text}: {message}")


def _fast_tokenizer(model: bytes, folder: Path) -> PreTrainedTokenizerFast:
    """The SentencePiece model as XLM-R's fast tokenizer, saved into `folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / SENTENCEPIECE_FILE
        path.write_bytes(model)
        mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)
        tokenizer = XLMRobertaTokenizer.from_pretrained(temporary, mask_token=mask)
        save_tokenizer(tokenizer, folder)
    return tokenizer


def read_report(folder: Path) -> TokenizerReport:
    """The report of a trained tokenizer.

    Raises:
        DataError: it does not exist, or is not a report of this program.
    """
    content = read_json(folder / REPORT_FILE, "tokenizer report", "translit-scale tokenizer --force makes it anew")
    try:
        texts = {name: TextFigures(**figures) for name, figures in content.pop("texts").items()}
        return TokenizerReport(texts=texts, **content)
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"not a tokenizer report: {folder / REPORT_FILE}: {error}") from None


def report_table(report: TokenizerReport) -> str:
    """The figures of each text as a table, a line each; of many texts, those with the most unknown characters."""
    texts = list(report.texts.items())
    if len(texts) > _MOST_LINES:
        texts = sorted(texts, key=lambda item: (-item[1].unknown_rate, -item[1].mismatches))[:_WORST]
    lines = [f"{'text':<20}{'sentences':>10}{'tokens/char':>13}{'unknown':>10}{'mismatches':>12}"]
    lines += [
        f"{name:<20}{t.sentences:>10,}{t.tokens_per_character:>13.3f}{t.unknown_rate:>10.2%}{t.mismatches:>12,}"
        for name, t in texts
    ]
    if hidden := len(report.texts) - len(texts):
        lines.append(f"These have most unknown characters; {REPORT_FILE} has the other {hidden:,} texts too.")
    skipped = f" ({report.skipped:,} skipped as unusable)" if report.skipped else ""
    lines.append(f"{report.vocabulary:,} entries from {report.sentences:,} sentences{skipped}")
    return "\n".join(lines)


def _up_to_date(out: Path, settings: Mapping[str, Any]) -> TokenizerReport:
    """The report in `out`, if it was made with these settings and the tokenizer has not changed since."""
    report = read_report(out)
    changed = sorted(key for key in settings if report.settings.get(key) != settings[key])
    if changed:
        was = ", ".join(f"{key} {report.settings.get(key)} (now {settings[key]})" for key in changed)
        raise DataError(f"{out} holds a tokenizer made with other settings: {was}", "another --out, or --force")
    if tokenizer_fingerprint(load_tokenizer(str(out))) != report.fingerprint:
        raise DataError(f"the tokenizer in {out} is not the one its report describes", "--force trains it anew")
    print(f"{out} is up to date", file=sys.stderr)
    return report


def _check_replaceable(out: Path, force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / REPORT_FILE).is_file():
        raise DataError(f"{out} exists and is not a tokenizer folder of ours; it is left alone", "another --out")
    if not force:
        raise DataError(f"{out} holds a tokenizer already", "another --out, or --force to replace it")


def _replace_folder(built: Path, out: Path) -> None:
    """Moves the finished folder to its name; the previous one is removed with the temporary directory."""
    if out.exists():
        out.rename(built.with_name("previous"))
    built.rename(out)
    sync(out.parent)
