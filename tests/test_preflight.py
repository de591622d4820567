"""Before training: does the tokenizer fit, how long are sentences in tokens, and which blocks are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny import make_config, make_tokenizer
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.manifest import SEVERAL_TRANSLITERATIONS, LanguageCounts, Manifest, write_manifest
from translit_scale.corpus.shards import ShardSet, encode_shard
from translit_scale.corpus.tokenizer import encode_batch, load_tokenizer
from translit_scale.errors import DataError
from translit_scale.files import write_bytes
from translit_scale.train.launching.ranks import Rank, start_rank
from translit_scale.train.preflight import DamagedBlock, check_tokenizer, find_damaged_blocks, write_damaged_blocks
from translit_scale.train.setup import build_training, make_plan


@pytest.fixture(scope="module")
def rank() -> Rank:
    """A world of one, in this process."""
    return start_rank()


@pytest.fixture
def world(tiny_world: Path, tmp_path: Path) -> Path:
    """A copy of the tiny world that may be damaged."""
    shutil.copytree(tiny_world, tmp_path / "world", ignore=shutil.ignore_patterns("runs"))
    return tmp_path / "world"


def flip(shards: Path, language: str, block: int, member_offset: int) -> None:
    """Flips a bit of a block: 512 + x is byte x of lengths.npy."""
    shard_set = ShardSet.open(shards)
    shard = next(s for s in shard_set.manifest.shards if s.language == language)
    path = shards / shard.name
    data = bytearray(path.read_bytes())
    data[shard.blocks[block].offset + member_offset] ^= 1
    path.write_bytes(data)


def test_token_rates_are_tokens_per_byte(tiny_world: Path) -> None:
    shards, tokenizer = ShardSet.open(tiny_world / "shards"), load_tokenizer(str(tiny_world / "tokenizer"))
    check = check_tokenizer(shards, tokenizer, ["bul_Cyrl", "ukr_Cyrl"], "transliteration", 0.05)
    assert not check.use_sentencepiece  # a tokenizer without a SentencePiece model
    for rates, language in zip(check.token_rates, ("bul_Cyrl", "ukr_Cyrl"), strict=True):
        block = shards.read_block(language, 0)
        for rate, column in zip(rates, (block.orig, block.latn), strict=True):
            tokens = sum(map(len, encode_batch(tokenizer, column)))
            assert rate == pytest.approx(tokens / sum(len(sentence.encode()) for sentence in column))


def test_undamaged_shards_have_no_damage(tiny_world: Path, rank: Rank) -> None:
    assert find_damaged_blocks(ShardSet.open(tiny_world / "shards"), ["bul_Cyrl", "ukr_Cyrl"], 0.1, rank) == []


def test_damage_is_found_in_lengths_text_and_missing_shards(world: Path, rank: Rank) -> None:
    flip(world / "shards", "ukr_Cyrl", 1, 512 + 130)
    flip(world / "shards", "ukr_Cyrl", 2, 1024 + 512)
    (world / "shards/bul_Cyrl-00000.tar").unlink()
    shards = ShardSet.open(world / "shards", check_files=False)
    found = find_damaged_blocks(shards, ["bul_Cyrl", "ukr_Cyrl"], 0.9, rank)
    assert [(one.language, one.block) for one in found] == [
        *(("bul_Cyrl", b) for b in range(3)), ("ukr_Cyrl", 1), ("ukr_Cyrl", 2),
    ]  # fmt: skip
    assert "No such file" in found[0].problem and "crc32" in found[3].problem
    assert sum(one.rows for one in found) == 23 + 16
    with pytest.raises(
        DataError, match=r"5 damaged blocks with 39 of 63 pairs .* at most 50\.00% of the pairs are allowed"
    ):
        find_damaged_blocks(shards, ["bul_Cyrl", "ukr_Cyrl"], 0.5, rank)


@pytest.mark.parametrize("share", [0, 0.3])
def test_training_refuses_damage_or_leaves_it_out(share: float, world: Path, tmp_path: Path, rank: Rank) -> None:
    flip(world / "shards", "ukr_Cyrl", 2, 1024 + 512)
    ds_config = tmp_path / "ds.json"
    ds_config.write_text(json.dumps({"train_micro_batch_size_per_gpu": 12, "zero_optimization": {"stage": 1}}))
    training = build_training(make_plan(make_config(world, data__max_damaged_fraction=share), ds_config, rank))
    epoch: Callable[[], list[Any]] = lambda: [training.stream.step(t) for t in range(5)]  # noqa: E731
    if not share:
        with pytest.raises(DataError, match="ukr_Cyrl-00000-0002"):
            epoch()
        return
    assert sum(batch.pairs for batch in epoch()) == 60 - 8
    keys = [training.stream.batch(t) for t in range(5)]
    assert not any(((k.language == 1) & (k.row // 8 == 2)).any() for k in keys)


def test_the_ledger_says_what_is_left_out(tmp_path: Path) -> None:
    write_damaged_blocks(tmp_path / "damaged.json", [DamagedBlock("ukr_Cyrl", 2, 8, "crc32")])
    assert json.loads((tmp_path / "damaged.json").read_bytes()) == [
        {"language": "ukr_Cyrl", "block": 2, "rows": 8, "problem": "crc32"}
    ]


def test_rates_are_arrays_of_languages_by_sides(tiny_world: Path) -> None:
    shards, tokenizer = ShardSet.open(tiny_world / "shards"), load_tokenizer(str(tiny_world / "tokenizer"))
    assert np.shape(check_tokenizer(shards, tokenizer, ["ukr_Cyrl"], "copy", 0.05).token_rates) == (1, 2)


def test_all_transliterations_that_may_be_drawn_are_checked(tmp_path: Path) -> None:
    """The further ones have letters that the tokenizer does not know."""
    rows = range(9)
    first, second = tuple("ab" for _ in rows), tuple("žž" * (row % 3 == 0) for row in rows)
    data, entry = encode_shard("ukr_Cyrl", 0, [Block(tuple("аб" for _ in rows), first, (second,))])
    write_bytes(tmp_path / entry.name, data)
    counts = LanguageCounts(read=9, dropped={}, rows=9, identical=0, fallbacks=0, orig_chars=18, latn_chars=18)
    manifest = {"format_version": SEVERAL_TRANSLITERATIONS, "name": "s", "provenance": {}, "shards": [entry]}
    write_manifest(tmp_path, Manifest(languages={"ukr_Cyrl": counts}, **manifest))
    shards, tokenizer = ShardSet.open(tmp_path), load_tokenizer(str(make_tokenizer(tmp_path / "tokenizer")))
    check = partial(check_tokenizer, shards, tokenizer, ["ukr_Cyrl"], "transliteration")
    with pytest.raises(DataError, match=r"25\.0% of the tokens of the transliterations of ukr_Cyrl"):
        check(0.2)
    assert check(0.2, "first").token_rates[0, 1] == 1.0
    assert check(0.3).token_rates[0, 1] == pytest.approx(24 / 30)
