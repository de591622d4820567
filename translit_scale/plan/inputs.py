"""The inputs of a plan, each with where it comes from: model, pairs and tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from translit_scale.batch.mixture import language_proportions
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import Config
from translit_scale.corpus.clean import same_letters
from translit_scale.corpus.manifest import MANIFEST_NAME
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import ConfigError
from translit_scale.model.flops import Shape
from translit_scale.plan.workload import MEAN_TOKENS, Lengths, PairSample, PairTokens, log_normal_lengths

MMBERT = Shape(768, 1152, 22, 256_000, is_modern=True, window=64, local=tuple(layer % 3 > 0 for layer in range(22)))
KNOWN = {
    "jhu-clsp/mmBERT-base": (MMBERT, 0),
    "jhu-clsp/mmBERT-small": (MMBERT._replace(hidden=384), 0),
    "cis-lmu/glot500-base": (Shape(768, 3072, 12, 401_145), 514),
    "xlm-roberta-base": (Shape(768, 3072, 12, 250_002), 514),
    "FacebookAI/xlm-roberta-base": (Shape(768, 3072, 12, 250_002), 514),
    "xlm-roberta-large": (Shape(1024, 4096, 24, 250_002), 514),
    "FacebookAI/xlm-roberta-large": (Shape(1024, 4096, 24, 250_002), 514),
}
"""Shape and rows of the position embedding of models of the hub, from their config.json."""
PIECES = 30_002
"""Entries of a tokenizer that `translit-scale tokenizer` makes by default."""
SAMPLED = 5_000
"""Pairs that are tokenized, of all languages together; at least `SAMPLED_OF_LANGUAGE` of each."""
SAMPLED_OF_LANGUAGE = 40
CHARACTERS = (2.3, 1.7)
"""Characters of a token of originals and transliterations where there is no tokenizer: mean of 22 languages, 300
sentences each, with a tokenizer of 30,000 pieces trained on them; Polish has 3.2 and 2.8, Chinese 1.2 and 1.6."""
BYTES_PER_PAIR = 286
"""Of a shard set (benchmarks/prepare.md: 256 to 322)."""


@dataclass
class Inputs:
    """What is known, and from where."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, value and source of each input, in the order in which they are printed."""

    def add(self, name: str, value: str, source: str) -> None:
        """Records an input, in place of an earlier one of this name."""
        self.rows = [row for row in self.rows if row[0] != name] + [(name, value, source)]


@dataclass(frozen=True)
class Corpus:
    """The text that is trained on."""

    pairs: Mapping[str, int]
    """Of each language."""
    lines: int | None
    """That `prepare` reads; None: unknown."""
    bytes: float
    """Of the shard set."""
    shards: ShardSet | None = None

    @property
    def total(self) -> int:
        """Pairs of all languages."""
        return sum(self.pairs.values())


def open_corpus(config: Config, inputs: Inputs) -> Corpus | None:
    """The shard set of an experiment; None if it has not been made yet.

    Raises:
        ConfigError, DataError: it is damaged, or lacks a language of the experiment.
    """
    folder = config.data.shards
    if not (folder / MANIFEST_NAME).is_file():
        return None
    shards = ShardSet.open(folder, check_files=False)
    languages = config.data.languages or shards.languages
    if missing := sorted(set(languages) - set(shards.languages)):
        raise ConfigError(f"data.languages: {', '.join(missing)} not in {folder}")
    pairs = {language: shards.rows(language) for language in languages}
    inputs.add("pairs", f"{sum(pairs.values()):,} of {len(pairs):,} languages", f"{folder / MANIFEST_NAME}")
    manifest = shards.manifest
    size = sum(shard.bytes for shard in manifest.shards if shard.language in pairs)
    return Corpus(pairs, sum(manifest.languages[language].read for language in pairs), size, shards)


def planned_corpus(config: Config, counts: Mapping[str, tuple[int, int]], source: str, inputs: Inputs) -> Corpus:
    """The corpus of a recipe whose text has not been prepared.

    Args:
        counts: lines and pairs of each language.
    """
    chosen = {language: counts[language] for language in config.data.languages or counts if language in counts}
    pairs = {language: of_language for language, (_, of_language) in chosen.items()}
    total = sum(pairs.values())
    inputs.add("pairs", f"{total:,} of {len(pairs):,} languages", source)
    inputs.add("bytes of shards per pair", f"{BYTES_PER_PAIR}", "measured, prepare.md")
    return Corpus(pairs, sum(lines for lines, _ in chosen.values()), BYTES_PER_PAIR * total)


def model_shape(config: Config, vocabulary: int | None, inputs: Inputs) -> tuple[Shape, int]:
    """Shape of the encoder and rows of its position embedding.

    Args:
        vocabulary: number of entries of the tokenizer, if the user states it.

    Raises:
        ConfigError: the configuration of the pretrained model is not here.
    """
    model = config.model
    if model.pretrained is not None:
        shape, positions, source = _pretrained(model.pretrained)
        inputs.add("model", _described(shape), source)
        return shape, positions
    file = Path(str(model.tokenizer)) / "tokenizer.json"
    if vocabulary is None and file.is_file():
        vocabulary, source = Tokenizer.from_file(str(file)).get_vocab_size(), f"{model.tokenizer}"
    elif vocabulary is None:
        vocabulary, source = PIECES, "assumption: no tokenizer yet, default of `tokenizer`"
    else:
        source = "--vocabulary"
    shape = Shape(model.hidden_size, model.intermediate_size, model.num_layers, vocabulary)
    inputs.add("model", _described(shape), f"experiment; V: {source}")
    return shape, model.max_length + 2


def _described(shape: Shape) -> str:
    sizes = f"d {shape.hidden}, L {shape.layers}, f {shape.intermediate}, V {shape.vocabulary:,}"
    if not shape.is_modern:
        return sizes
    near = f", {sum(shape.local)} of L attend to ± {shape.window} tokens" if shape.window is not None else ""
    return f"ModernBERT, {sizes}{near}"


def _pretrained(name: str) -> tuple[Shape, int, str]:
    if name in KNOWN:
        return *KNOWN[name], f"config.json of {name}"
    file = Path(name) / "config.json"
    if not file.is_file():
        raise ConfigError(
            f"model.pretrained: there is no {file}, and the shape of {name} is not known",
            f"hf download {name} config.json --local-dir DIR, and model.pretrained=DIR; known: {', '.join(KNOWN)}",
        )
    shape, positions = read_shape(file)
    return shape, positions, str(file)


def read_shape(file: Path) -> tuple[Shape, int]:
    """Shape and rows of the position embedding from the config.json of a model.

    Raises:
        ConfigError: it lacks one of the sizes.
    """
    try:
        return shape_of(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is not the configuration of a model: {error!r}") from None


def shape_of(config: Mapping[str, Any]) -> tuple[Shape, int]:
    """Shape and rows of the position embedding from the contents of a config.json; rotary positions have none.

    Raises:
        KeyError, ValueError, TypeError: a size is missing or no number.
    """
    shape = Shape.of(config)
    return shape, 0 if shape.is_modern else int(config["max_position_embeddings"])


def sample_pairs(
    config: Config, corpus: Corpus, steps: int, stated: tuple[float, float] | None, inputs: Inputs
) -> PairSample:
    """Lengths of pairs: as stated, or of a sample of the shards, or of their characters, or assumed; and which of them
    are identical.

    Args:
        steps: of the training.
        stated: mean tokens of sentences and transliterations with special tokens.
    """
    file = Path(str(config.model.tokenizer or config.model.pretrained)) / "tokenizer.json"
    is_read = stated is None and corpus.shards is not None and file.is_file()
    if is_read and corpus.shards:
        sample = read_sample(config, corpus, corpus.shards, steps, Tokenizer.from_file(str(file)))
        source = f"{sample.lengths.shape[1]:,} pairs of the shards with {file.parent}"
    else:
        lengths, source = _assumed_lengths(corpus, stated)
        sample = PairSample(lengths, None, _expected_identical(config, corpus, corpus.shards, steps))
    is_copy = config.objectives.pair_with == "copy"
    if is_copy:
        sample = sample._replace(lengths=np.stack([sample.lengths[0], sample.lengths[0]]), same=1.0)
    tokens = PairTokens.of(sample, config)
    orig, latn = np.average(sample.lengths, axis=1, weights=sample.weights) + 2
    tlm = ", with TLM" if config.objectives.tlm.weight else ""
    inputs.add("tokens per pair", f"{orig:.1f} + {latn:.1f}: {tokens.tokens:.1f}{tlm}", source)
    if not is_copy:
        about = f"{100 * tokens.identical:.3g} % of a batch, objectives.identical={config.objectives.identical}"
        inputs.add("identical pairs", about, _source_of_identical(config, corpus, is_read))
    return sample


def _assumed_lengths(corpus: Corpus, stated: tuple[float, float] | None) -> tuple[Lengths, str]:
    """Lengths as `PairSample` has them, and their source, where no text is read."""
    if stated is None and corpus.shards:
        counts = [corpus.shards.manifest.languages[language] for language in corpus.pairs]
        sums = sum(c.orig_chars for c in counts), sum(c.latn_chars for c in counts)
        rows = sum(c.rows for c in counts)
        orig_mean, latn_mean = (n / rows / of_one + 2 for n, of_one in zip(sums, CHARACTERS, strict=True))
        source = f"assumption: {CHARACTERS[0]} and {CHARACTERS[1]} characters a token; characters of the manifest"
        return log_normal_lengths((orig_mean, latn_mean)), source
    source = "--tokens; log-normal, σ 0.6" if stated else "assumption: SIB-200 sentences; log-normal, σ 0.6"
    return log_normal_lengths(stated or MEAN_TOKENS), source


def language_shares(config: Config, corpus: Corpus, steps: int) -> tuple[Lengths, Lengths]:
    """[P] part of the pairs that each mixture has of a training of so many steps, and [P, L] shares of the languages in
    its batches, before `max_repeats` is applied."""
    languages, counts, sizes = list(corpus.pairs), np.array(list(corpus.pairs.values())), BatchSizes.of(config.train)
    mixtures = [(step, mixture) for step, mixture in config.data.mixtures if step < steps]
    bounds = [*(sizes.before(step) for step, _ in mixtures), sizes.before(steps)]
    parts = np.array([end - start for start, end in pairwise(bounds)]) / bounds[-1]
    return parts, np.stack([language_proportions(mixture, languages, counts) for _, mixture in mixtures])


def identical_fractions(corpus: Corpus, shards: ShardSet) -> Lengths:
    """[L] fraction of the pairs of each language whose sides are the same text, as the manifest counts them."""
    counts = [shards.manifest.languages[language] for language in corpus.pairs]
    return np.array([c.identical / c.rows for c in counts])


def _expected_identical(config: Config, corpus: Corpus, shards: ShardSet | None, steps: int) -> float:
    """Fraction of the pairs of a training; 0 before there are shards."""
    if shards is None:
        return 0.0
    parts, shares = language_shares(config, corpus, steps)
    return float(parts @ shares @ identical_fractions(corpus, shards))


def _source_of_identical(config: Config, corpus: Corpus, is_read: bool) -> str:
    if corpus.shards is None:
        less = "; with some, training costs less" * (config.objectives.identical != "keep")
        return f"assumption: none, as there is no text to count them in{less}"
    if config.objectives.identical_up_to == "nothing":
        are_drawn = is_read and any(_draws(config, corpus.shards, language) for language in corpus.pairs)
        drawn = "; of languages with several transliterations, the same pairs of the shards" * are_drawn
        return f"counts of the manifest, mixture of the experiment{drawn}"
    if is_read:
        return "the same pairs of the shards, up to diacritics and case"
    return "assumption: no more than the manifest counts, which knows of none that differ in diacritics or case"


def read_sample(config: Config, corpus: Corpus, shards: ShardSet, steps: int, tokenizer: Tokenizer) -> PairSample:
    """The first pairs of each language; of several transliterations of a sentence one is drawn, as in training.

    Which of them are identical is seen in their text; how many are, the manifest knows of all pairs of the language,
    unless diacritics do not count or transliterations are drawn.
    """
    most = max(SAMPLED_OF_LANGUAGE, SAMPLED // len(corpus.pairs))
    up_to_diacritics = config.objectives.identical_up_to == "diacritics"
    tokenizer.no_truncation()
    lengths, weights, same = [], [], []
    parts, shares = language_shares(config, corpus, steps)
    of_languages = zip(corpus.pairs, shares.T, identical_fractions(corpus, shards), strict=True)
    for language, proportions, fraction in of_languages:
        columns = _drawn_pairs(config, [c.split(b"\n")[:-1][:most] for c in shards.read_columns(language, 0)])
        encoded = [tokenizer.encode_batch([s.decode() for s in c], add_special_tokens=False) for c in columns]
        lengths.append(np.array([[len(e.ids) for e in side] for side in encoded], float))
        found = np.array(list(map(same_letters if up_to_diacritics else bytes.__eq__, *columns)), float)
        is_counted = up_to_diacritics or _draws(config, shards, language)
        of_pair, is_same = _reweighted(found, found.mean() if is_counted else fraction)
        weights.append(np.outer(proportions, of_pair) / len(found))
        same.append(is_same)
    mixtures = np.concatenate(weights, axis=1)
    tokens = np.maximum(np.concatenate(lengths, axis=1), 1)
    return PairSample(tokens, parts @ mixtures, np.concatenate(same), mixtures)


def _draws(config: Config, shards: ShardSet, language: str) -> bool:
    """Whether a visit of a sentence draws one of several transliterations."""
    return config.data.transliterations == "draw" and shards.transliterations(language) > 1


def _drawn_pairs(config: Config, columns: list[list[bytes]]) -> tuple[list[bytes], list[bytes]]:
    """Sentences, and a transliteration of each, from the columns of a block; those that it lacks are empty."""
    orig, *latn = columns
    random = np.random.default_rng(0)
    choices = ([line for line in lines if line] for lines in zip(*latn, strict=True))
    drawn = config.data.transliterations == "draw"
    return orig, [lines[random.integers(len(lines)) if drawn else 0] for lines in choices]


def _reweighted(found: Lengths, fraction: float) -> tuple[Lengths, Lengths]:
    """Weights [n], of mean 1, with which a sample has as many identical pairs as its language, and the probability [n]
    that a pair is identical.

    Args:
        found: [n] 1 for each identical pair, else 0; fraction: of identical pairs of the language.
    """
    if 0 < (in_sample := found.mean()) < 1:
        return np.where(found, fraction / in_sample, (1 - fraction) / (1 - in_sample)), found
    return np.ones_like(found), np.full_like(found, fraction)
