"""Compares the loader with WebDataset with one sample per pair: raw pairs, packed batches, far batches, resuming.

    python benchmarks/loader.py --shards DIR --tokenizer DIR [--pairs 40000]

Everything runs in one process, one after the other, on files in the page cache. Times are CPU times of that process,
unless a line says otherwise. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import webdataset
from report import heading

from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import Packer, Vocabulary
from translit_scale.batch.reader import PairReader
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.stream import BatchStream
from translit_scale.config import MaskingConfig
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.train.preflight import check_tokenizer

BATCH = 1024
FAR = 10**9
REPEATS = 7


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process spent on `work`."""
    began = time.process_time()
    work()
    return time.process_time() - began


def median_wall_seconds(work: Callable[[], object]) -> float:
    """Median wall time of several runs."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


class Setting:
    """A shard set and everything that a rank needs to make batches from it."""

    def __init__(self, shards: Path, tokenizer: Path) -> None:
        self.shards = ShardSet.open(shards)
        self.tokenizer = load_tokenizer(str(tokenizer))
        self.order = PairOrder({language: self.shards.rows(language) for language in self.shards.languages})
        self.check = check_tokenizer(self.shards, self.tokenizer, self.order.languages, "copy", 1.0)

    def reader(self) -> PairReader:
        """A reader that has read nothing yet."""
        return PairReader(self.shards, self.order.languages)

    def stream(self, ranks: int = 1, rank: int = 0) -> BatchStream:
        """The stream of a rank, all objectives on, micro-batches of 64 pairs."""
        pad, tokenizer = self.tokenizer.pad_token_id, self.tokenizer
        vocabulary = Vocabulary(
            tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id, len(tokenizer), pad + 1
        )
        packer = Packer(MaskingConfig(), vocabulary, 512, with_tlm=True, split_tlm=False)
        layout, encoder = BatchLayout(BATCH, ranks, 64), TextEncoder(tokenizer, self.check.use_sentencepiece)
        return BatchStream(
            self.order, self.reader(), encoder, packer, BatchSizes(BATCH), layout, rank, self.check.token_rates,
            "transliteration",
        )  # fmt: skip

    def sentences(self, pairs: int) -> list[tuple[str, str]]:
        """The first pairs of the stream, as text."""
        orig, latn = self.reader().texts(self.order.batch(0, pairs))
        return [(a.decode(), b.decode()) for a, b in zip(orig, latn, strict=True)]


def first_batch(setting: Setting, t: int) -> None:
    """Makes one batch with a new stream."""
    setting.stream().step(t)


def write_per_sentence(path: Path, pairs: list[tuple[str, str]], as_json: bool) -> None:
    """Writes the usual layout: each sample of the tar is a pair, in one JSON member or in two text members."""
    with webdataset.TarWriter(str(path)) as writer:
        for number, (orig, latn) in enumerate(pairs):
            texts = {"orig": orig.encode(), "latn": latn.encode()}
            sample = {"json": json.dumps([orig, latn]).encode()} if as_json else texts
            writer.write({"__key__": f"{number:09d}", **sample})


def read_per_sentence(path: Path, count: int) -> int:
    """Reads pairs with plain WebDataset; returns their number."""
    seen = 0
    for sample in webdataset.WebDataset(str(path), shardshuffle=False):
        if "json" in sample:
            json.loads(sample["json"])
        else:
            sample["orig"].decode(), sample["latn"].decode()
        seen += 1
        if seen >= count:
            break
    return seen


def raw_rates(setting: Setting, pairs: int, folder: Path) -> dict[str, float]:
    """Pairs a second of reading alone, in each layout."""
    reader, batches = setting.reader(), range(0, pairs - BATCH + 1, BATCH)

    def ours() -> None:
        for start in batches:
            reader.texts(setting.order.batch(start, BATCH))

    rates = {"this loader, first pass": len(batches) * BATCH / cpu_seconds(ours)}
    rates["this loader, again"] = len(batches) * BATCH / cpu_seconds(ours)
    sentences = setting.sentences(pairs)
    for name, as_json in (("WebDataset, a JSON per pair", True), ("WebDataset, two files per pair", False)):
        path = folder / f"{as_json}.tar"
        write_per_sentence(path, sentences, as_json)
        read_per_sentence(path, 1000)
        rates[name] = pairs / cpu_seconds(partial(read_per_sentence, path, pairs))
    return rates


def packed_rate(setting: Setting, ranks: int, pairs: int) -> float:
    """Pairs per second of reading, tokenizing, masking and packing; counts only the pairs of the first rank."""
    stream, packed = setting.stream(ranks), 0
    stream.step(0)
    began = time.process_time()
    for t in range(1, pairs // BATCH + 1):
        packed += stream.step(t).pairs_per_rank[0]
    return packed / (time.process_time() - began)


def resume_times(setting: Setting, folder: Path) -> dict[str, float]:
    """Seconds to the first batch at 80 % of an epoch, by position and by skipping, over the whole set."""
    total, at = setting.order.total, int(0.8 * setting.order.total) // BATCH
    path = folder / "epoch.tar"
    write_per_sentence(path, setting.sentences(total), as_json=True)
    began = time.perf_counter()
    read_per_sentence(path, at * BATCH)
    skipping = time.perf_counter() - began
    reader = setting.reader()
    began = time.perf_counter()
    for t in range(at):
        reader.texts(setting.order.batch(t * BATCH, BATCH))
    return {
        "position": median_wall_seconds(lambda: setting.reader().texts(setting.order.batch(at * BATCH, BATCH))),
        "skipping": skipping,
        "own": time.perf_counter() - began,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR")
    parser.add_argument("--pairs", type=int, default=40_000, metavar="N", help="number of pairs to read")
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(args.shards, args.tokenizer)
    total = setting.order.total
    pairs, size = min(args.pairs, total), sum(shard.bytes for shard in setting.shards.manifest.shards)
    print(heading("Loader", ("webdataset", "sentencepiece", "numpy", "torch")))
    encoder = "SentencePiece" if setting.check.use_sentencepiece else "tokenizers"
    print(f"{len(setting.order.languages)} languages, {total:,} pairs, {size / total:.0f} bytes per pair; ", end="")
    print(f"encoded by {encoder}; {pairs:,} pairs per row.\n")
    with tempfile.TemporaryDirectory() as name:
        rates = raw_rates(setting, pairs, Path(name))
        rates["packed, 1 rank"] = packed_rate(setting, 1, pairs)
        rates["packed, one of 8 ranks (its own pairs)"] = packed_rate(setting, 8, pairs)
        slow = rates["WebDataset, a JSON per pair"]
        print("| | pairs/s/core | times WebDataset with a JSON per pair |\n|---|---|---|")
        for label, rate in rates.items():
            print(f"| {label} | {rate:,.0f} | {rate / slow:.1f} |")
        first, far = (median_wall_seconds(partial(first_batch, setting, t)) for t in (0, FAR))
        print(f"\nFirst batch of {BATCH} packed pairs at t = 0: {first * 1e3:.0f} ms, at t = 10⁹: ", end="")
        print(f"{far * 1e3:.0f} ms ({far / first:.2f} times), median of {REPEATS} by the clock.\n")
        seconds = resume_times(setting, Path(name))
    print(
        f"First raw batch at 80 % of an epoch: {seconds['position'] * 1e3:.0f} ms. Skipping to it with WebDataset ",
        end="",
    )
    print(f"(a JSON per pair): {seconds['skipping']:.1f} s, ", end="")
    print(f"{seconds['skipping'] / seconds['position']:.0f} times as long; with this loader: {seconds['own']:.1f} s.\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"Peak memory of the process, including both loaders and torch: {peak:,.0f} MB.")


if __name__ == "__main__":
    main()
