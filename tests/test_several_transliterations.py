"""A sentence may have several transliterations: they are stored beside each other, and one is drawn at each visit."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import uroman
import webdataset

from tests.support.small_corpus import CYRILLIC, invent, run
from tests.support.tiny import further_transliterations, make_shards, make_tokenizer, romanize, sentences
from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.order import PairKeys, PairOrder
from translit_scale.batch.pack import Packer, Vocabulary
from translit_scale.batch.reader import PairReader
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.stream import BatchStream
from translit_scale.cli import main
from translit_scale.config import MaskingConfig, MixtureConfig
from translit_scale.corpus.blocks import (
    Block,
    decode_block,
    decode_columns,
    decode_lengths,
    encode_block,
    lengths_bytes,
)
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SEVERAL_TRANSLITERATIONS,
    Manifest,
    write_manifest,
)
from translit_scale.corpus.shards import ShardSet, encode_shard
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.corpus.verify import verify
from translit_scale.errors import ConfigError, DataError
from translit_scale.prepare.recipe import Romanize, load_recipe
from translit_scale.prepare.tasks import ShardTask, TextPart

KEY = "ukr_Cyrl-00003-0007"
BLOCK = Block(("їжак", "a b", "гуска"), ("izhak", "a b", "guska"), (("yizhak", "", "huska"), ("", "", "gooska")))
RECIPE = """
name: several
languages:
  pol_Latn: [pol.txt]
  ukr_Cyrl: [{path: ukr.csv, column: text, transliteration: latin}, ukr.txt]
block_rows: 16
shard_blocks: 2
"""
ROWS = {"ukr_Cyrl": 700, "bul_Cyrl": 90, "srp_Cyrl": 260}
FURTHER = {"ukr_Cyrl": 2, "srp_Cyrl": 1}


def ignore(done: int) -> None:
    """Progress that nobody looks at."""


# What is stored


def test_a_block_with_further_transliterations_survives_the_tar() -> None:
    span, entry = encode_block(KEY, BLOCK)
    assert decode_block(KEY, entry, span, latn=3) == BLOCK
    lengths = decode_lengths(KEY, entry, span[: lengths_bytes(entry, 3)], 3)
    assert lengths.tolist() == [[8, 5, 6, 0], [3, 3, 0, 0], [10, 5, 5, 6]]
    for wrong in (1, 2, 4):
        with pytest.raises(ValueError, match="expected"):
            decode_block(KEY, entry, span, wrong)


def test_every_flipped_bit_of_a_further_transliteration_is_noticed() -> None:
    span, entry = encode_block(KEY, BLOCK)
    for position in range(len(span)):
        flipped = bytearray(span)
        flipped[position] ^= 1 << position % 8
        with pytest.raises(ValueError, match=r"expected|lengths|said to have|the json"):
            decode_columns(KEY, entry, bytes(flipped), 3)


@pytest.mark.parametrize("further", [(("a", "b"),), (("a", "b", "c\nd"),)])
def test_columns_that_do_not_fit_are_not_written(further: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"3 originals, 3, 2 transliterations|contains a newline"):
        encode_block(KEY, replace(BLOCK, further=further))


def test_webdataset_reads_them(tmp_path: Path) -> None:
    data, entry = encode_shard("ukr_Cyrl", 0, [BLOCK])
    (tmp_path / entry.name).write_bytes(data)
    (sample,) = webdataset.WebDataset(str(tmp_path / entry.name), shardshuffle=False)
    assert sample["latn2.txt"].decode().split("\n")[:-1] == list(BLOCK.further[0])
    lengths = np.load(io.BytesIO(sample["lengths.npy"]), allow_pickle=False)
    assert lengths.tolist() == [[8, 5, 6, 0], [3, 3, 0, 0], [10, 5, 5, 6]]


def test_a_manifest_whose_shards_disagree_is_refused(tmp_path: Path) -> None:
    make_shards(tmp_path, {"ukr_Cyrl": 40}, further={"ukr_Cyrl": 2})
    value = json.loads((tmp_path / MANIFEST_NAME).read_text())
    assert [shard["transliterations"] for shard in value["shards"]] == [3, 3]
    value["shards"][1]["transliterations"] = 2
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(value))
    with pytest.raises(DataError, match="another number of transliterations"):
        ShardSet.open(tmp_path)


# What `prepare` makes


@pytest.fixture(scope="module")
def reference() -> uroman.Uroman:
    return uroman.Uroman()


def write_data(folder: Path, more: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE + more)
    (folder / "pol.txt").write_text("zażółć gęślą jaźń\nto jest zdanie\n")
    own, others = ukrainian()
    (folder / "ukr.csv").write_text("text,latin\n" + "".join(f"{text},own {n}\n" for n, text in enumerate(own)))
    (folder / "ukr.txt").write_text("".join(f"{text}\n" for text in others))
    return folder


def ukrainian() -> tuple[list[str], list[str]]:
    """Sentences with and without a transliteration of their own; the letters г, и, є differ with uroman's rules."""
    invented = invent(CYRILLIC, 50)
    return invented[:20], [*invented[20:], "12.5"]


def stored(shards: ShardSet, language: str) -> dict[str, list[str]]:
    return {orig: latin for orig, *latin in shards.rows_of(language)}


@pytest.mark.parametrize("order", [["none", "by_language"], ["by_language", "none"]])
@pytest.mark.parametrize("beside", [False, True])
def test_uroman_with_and_without_the_language_and_the_users_own(
    tmp_path: Path, reference: uroman.Uroman, order: list[str], beside: bool
) -> None:
    """Compared with uroman itself, called by its own interface."""
    more = f"romanize: {{lcode: [{', '.join(order)}], beside_column: {str(beside).lower()}}}\n"
    shards = run(write_data(tmp_path / "data", more), tmp_path / "out")
    own, others = ukrainian()

    def made(text: str, language: str) -> list[str]:
        codes = {"none": None, "by_language": language}
        return [" ".join(reference.romanize_string(text, codes[policy]).split()) for policy in order]

    expected = {text: list(dict.fromkeys(made(text, "ukr"))) for text in others}
    expected |= {text: [f"own {n}", *(made(text, "ukr") if beside else [])] for n, text in enumerate(own)}
    assert stored(shards, "ukr_Cyrl") == expected
    assert len(expected["12.5"]) == 1 and len(expected[others[0]]) == 2, "the case tests something"
    polish = (tmp_path / "data/pol.txt").read_text().splitlines()
    assert stored(shards, "pol_Latn") == {text: made(text, "pol")[:1] for text in polish}
    assert (shards.transliterations("ukr_Cyrl"), shards.transliterations("pol_Latn")) == (3 if beside else 2, 1)
    counts = shards.manifest.languages["ukr_Cyrl"]
    assert counts.further == sum(len(latin) - 1 for latin in expected.values())
    assert counts.latn_chars == sum(len(latin[0]) for latin in expected.values())
    assert (counts.from_column, shards.manifest.format_version) == (20, 4)


def test_only_shards_that_a_policy_changes_are_made_again(tmp_path: Path) -> None:
    """uroman has no rules for Polish, and what stands beside columns matters only where there are some."""

    def shard(language: str, columns: tuple[str, ...] = (), **settings: object) -> Path:
        romanize, part = Romanize.model_validate(settings), TextPart(1, 0, 1, "0")
        return ShardTask(language, 0, romanize, columns, tmp_path, part, 10, tmp_path, tmp_path).target

    both = ["none", "by_language"]
    assert shard("pol_Latn", lcode=both, beside_column=True) == shard("pol_Latn")
    assert shard("ukr_Cyrl", beside_column=True) == shard("ukr_Cyrl")
    different = [shard("ukr_Cyrl", ("latin",), lcode=lcode, beside_column=beside)
                 for lcode in ("none", "by_language", both) for beside in (False, True)]  # fmt: skip
    assert len({*different, shard("ukr_Cyrl"), shard("ukr_Cyrl", lcode=both)}) == 8


def test_sets_with_one_transliteration_stay_as_they_are(tmp_path: Path) -> None:
    """Also the older version of the format, so that older programs can read them."""
    shards = run(write_data(tmp_path / "data", ""), tmp_path / "out")
    written = (shards.directory / MANIFEST_NAME).read_text()
    assert '"format_version": 3' in written and "further" not in written
    assert all(set(shard) == {"name", "bytes", "sha256", "blocks"} for shard in json.loads(written)["shards"])


@pytest.mark.parametrize("value", ["both", "[]", "[none, none]", "[none, other]", "[[none]]"])
def test_unknown_policies_are_named(tmp_path: Path, value: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE + f"romanize: {{lcode: {value}}}\n")
    with pytest.raises(ConfigError, match=r"romanize.lcode: .*expected 'none' or 'by_language', or a list of both"):
        load_recipe(tmp_path / "recipe.yaml")


def test_what_a_user_sees(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, out = write_data(tmp_path / "data", "romanize: {lcode: [none, by_language]}\n"), tmp_path / "out"
    assert main(["prepare", str(data / "recipe.yaml"), "--data", str(data), "--out", str(out)]) == 0
    assert "30 further transliterations of the same sentences: ukr_Cyrl 30" in "".join(capfd.readouterr())
    assert main(["shards", "cat", str(out), "--language", "ukr_Cyrl"]) == 0
    rows = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert Counter(map(len, rows)) == {4: 30, 3: 21}
    assert main(["prepare", str(data / "recipe.yaml"), "--data", str(data), "--out", str(out)]) == 0
    assert "up to date" in capfd.readouterr().err


def rewritten(shards: ShardSet, change: Callable[[Block], Block]) -> None:
    """The set with other blocks of Ukrainian, and a manifest that fits them."""
    language, entries = "ukr_Cyrl", []
    for entry in shards.manifest.shards:
        if entry.language == language:
            blocks = [change(shards.read_block(language, number)) for number in range(len(entry.blocks))]
            data, entry = encode_shard(language, 0, blocks)
            (shards.directory / entry.name).write_bytes(data)
        entries.append(entry)
    values = shards.manifest.model_dump() | {"shards": entries}
    write_manifest(shards.directory, Manifest.model_validate(values))


def test_verify_romanizes_all_of_them_again(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", "romanize: {lcode: [none, by_language]}\n")
    (data / "recipe.yaml").write_text(
        (data / "recipe.yaml").read_text().replace("{path: ukr.csv, column: text, transliteration: latin}, ", "")
    )
    shards = run(data, tmp_path / "out")
    assert verify(shards.directory, True, ignore) == []
    rewritten(shards, lambda block: replace(block, further=(("", *block.further[0][:-1]),)))
    (first, second) = verify(shards.directory, True, ignore)
    assert "rows looked at are not transliterations of their originals" in first + second
    assert verify(shards.directory, False, ignore) == []


# What training reads


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    directory = tmp_path_factory.mktemp("several")
    make_tokenizer(directory / "tokenizer")
    return ShardSet.open(make_shards(directory / "shards", ROWS, block_rows=16, further=FURTHER))


def an_order(shards: ShardSet) -> PairOrder:
    return PairOrder({language: shards.rows(language) for language in shards.languages}, MixtureConfig(), seed=2)


def expected_choices(shards: ShardSet, keys: PairKeys) -> Iterator[list[str]]:
    """All transliterations of each visit's sentence, made again from the invented text."""
    originals = {language: sentences(rows, seed) for seed, (language, rows) in enumerate(sorted(ROWS.items()))}
    for language, row in zip(keys.language.tolist(), keys.row.tolist(), strict=True):
        name = shards.languages[language]
        text = originals[name][row]
        further = further_transliterations(text, row, FURTHER.get(name, 0))
        yield [latin for latin in (romanize(text), *further) if latin]


def test_each_visit_draws_one_of_the_sentences_transliterations(shards: ShardSet) -> None:
    order, counts = an_order(shards), Counter[tuple[int, int]]()
    reader = PairReader(shards, order.languages)
    keys = order.batch(0, 12 * order.total)
    orig, latn = reader.texts(keys)
    for drawn, choices in zip(latn, expected_choices(shards, keys), strict=True):
        counts[len(choices), choices.index(drawn.decode())] += 1
    for number in (1, 2, 3):
        of_each = np.array([counts[number, index] for index in range(number)])
        assert abs(of_each / of_each.sum() - 1 / number).max() < 0.02, of_each
    assert np.array_equal(reader.lengths(keys), [[len(a), len(b)] for a, b in zip(orig, latn, strict=True)])
    assert max(counts) == (3, 2)


def test_a_visit_draws_the_same_in_any_company_and_another_epoch_draws_again(shards: ShardSet) -> None:
    order = an_order(shards)
    keys = order.batch(0, 5 * order.total)
    texts = PairReader(shards, order.languages).texts(keys)[1]
    backwards = np.arange(len(keys))[::-1]
    assert PairReader(shards, order.languages).texts(keys[backwards])[1] == texts[::-1]
    several: dict[tuple[int, int], set[bytes]] = {}
    for language, row, text in zip(keys.language.tolist(), keys.row.tolist(), texts, strict=True):
        several.setdefault((language, row), set()).add(text)
    assert sum(len(found) > 1 for found in several.values()) > 200


def test_first_takes_the_first(shards: ShardSet) -> None:
    order = an_order(shards)
    keys = order.batch(0, 500)
    reader = PairReader(shards, order.languages, transliterations="first")
    orig, latn = reader.texts(keys)
    assert latn == [romanize(text.decode()).encode() for text in orig]
    assert reader.lengths(keys)[:, 1].tolist() == list(map(len, latn))


@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("micro", [3, 48])
def test_all_ranks_together_make_the_batch_of_one(shards: ShardSet, ranks: int, micro: int) -> None:
    """Every rank balances the batch by the lengths of what other ranks will have drawn."""
    tokenizer = load_tokenizer(str(shards.directory.parent / "tokenizer"))
    order, vocabulary = an_order(shards), Vocabulary(0, 2, len(tokenizer) - 1, len(tokenizer), first_position=2)

    def stream(transliterations: Literal["draw", "first"], ranks: int, rank: int) -> BatchStream:
        return BatchStream(
            order, PairReader(shards, order.languages, transliterations=transliterations),
            TextEncoder(tokenizer, fast=False), Packer(MaskingConfig(), vocabulary, 64, with_tlm=True, split_tlm=False),
            BatchSizes(48), BatchLayout(48, ranks, micro), rank, np.full((len(order.languages), 2), 0.5),
            "transliteration",
        )  # fmt: skip

    def masked(streams: list[BatchStream], t: int) -> Counter[tuple[int, ...]]:
        found: Counter[tuple[int, ...]] = Counter()
        for micro_batch in (micro_batch for one in streams for micro_batch in one.step(t).micro):
            for part in micro_batch.parts:
                bounds = part.segments.cu_seqlens.tolist()
                found.update(tuple(part.input_ids[a:b].tolist()) for a, b in pairwise(bounds))
        return found

    for t in (0, 5, 10**6):
        together = masked([stream("draw", ranks, rank) for rank in range(ranks)], t)
        assert together == masked([stream("draw", 1, 0)], t)
        assert together != masked([stream("first", 1, 0)], t)


def test_the_document_names_the_versions_of_the_format() -> None:
    page = (Path(__file__).parents[1] / "docs/data-formats.md").read_text()
    versions = f"{FORMAT_VERSION}, or {SEVERAL_TRANSLITERATIONS} if a language has several transliterations"
    assert f"| `format_version` | {versions}" in page
