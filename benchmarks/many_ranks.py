"""Simulates what many ranks would read and compute: coverage, mixture and balance over real shards, without a model.

    python benchmarks/many_ranks.py --shards DIR [--ranks 1024 --batch 65536 --steps N]

In training, every rank computes the plan of a step for all ranks. Here one process computes it once and examines the
pairs of all ranks. All pairs are tokenized, to compare true with estimated numbers of tokens. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from report import heading

from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import Packer, Vocabulary
from translit_scale.batch.reader import PairReader
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.stream import SPECIAL, BatchStream
from translit_scale.config import MaskingConfig, MixtureConfig
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.train.preflight import check_tokenizer

REPEATS = 31
"""How often each step is planned; the best time is least disturbed by other processes."""


class Simulation:
    """Statistics of all ranks over the steps so far."""

    def __init__(self, stream: BatchStream) -> None:
        self.stream, self.order, self.reader, self.encoder = stream, stream.order, stream.reader, stream.encoder
        order = stream.order
        self.proportions = order.phases[0].proportions
        self.visits = [np.zeros(n, np.int64) for n in order.pairs.values()]
        self.counts = np.zeros(len(order.languages), np.int64)
        self.mixture_error = 0.0
        self.slowest: dict[str, list[float]] = {"in estimated tokens": [], "in tokens": []}
        self.touched: dict[int, set[int]] = {}
        self.plan_seconds: list[float] = []
        self.first_plan_seconds: list[float] = []
        self.steps = 0

    def step(self, start: int, count: int, batch: int, ranks: int) -> None:
        """Splits the pairs at `count` positions over the ranks and records the statistics."""
        self.steps += 1
        self.stream.layout = BatchLayout(count, min(ranks, count), micro_batch_pairs=count)  # the last step is smaller
        seconds = []
        for _ in range(REPEATS):
            began = time.process_time()
            keys = self.order.batch(start, count)
            by_rank, pairs = self.stream.split(keys, 1)
            seconds.append(time.process_time() - began)
        if count == batch:
            self.first_plan_seconds.append(seconds[0])
            self.plan_seconds.append(min(seconds))
        parts = np.split(by_rank, np.cumsum(pairs)[:-1])
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(count)), "the split is not a permutation"
        self._compare_prefixes(keys.language, start)
        for language, visits in enumerate(self.visits):
            np.add.at(visits, keys.row[keys.language == language], 1)
        orig, latn = self.reader.texts(keys)
        limit = self.stream.packer.max_length - 2
        tokens = SPECIAL + np.sum([np.minimum(self.encoder(side).lengths, limit) for side in (orig, latn)], axis=0)
        block, _ = self.reader.locate(keys)
        for rank, part in enumerate(parts):
            self.touched.setdefault(rank, set()).update(block[part].tolist())
        if count == batch:
            cost = self.stream.estimated_cost(keys)
            for series, values in zip(self.slowest.values(), (cost, tokens), strict=True):
                totals = np.array([values[part].sum() for part in parts])
                series.append(float(totals.max() / totals.mean()))

    def _compare_prefixes(self, language: np.ndarray, done: int) -> None:
        """Updates the largest deviation of a language's count from its proportion, at every prefix of the stream."""
        length = np.arange(done + 1, done + len(language) + 1)
        for index, proportion in enumerate(self.proportions):
            count = self.counts[index] + np.cumsum(language == index)
            self.mixture_error = max(self.mixture_error, float(np.abs(count - proportion * length).max()))
        self.counts += np.bincount(language, minlength=len(self.counts))

    def report(self, ranks: int, batch: int) -> None:
        """Prints the statistics."""
        visits, blocks, order = np.concatenate(self.visits), len(self.reader._names), self.order
        print(f"{len(order.languages)} languages, {order.total:,} pairs in {blocks:,} blocks; ", end="")
        print(f"{self.steps} steps of {batch:,} pairs, {batch / ranks:g} per rank.\n\n| | |\n|---|---|")
        most = max(int(of_language.max() - of_language.min()) for of_language in self.visits)
        print(f"| pairs visited: never, once, more often | {(visits == 0).sum():,}, {(visits == 1).sum():,}, ", end="")
        print(f"{(visits > 1).sum():,} |\n| largest difference of visits between pairs of a language | {most} |")
        print(f"| largest deviation of a language from its proportion at any prefix | {self.mixture_error:.7f} pairs |")
        for name, values in self.slowest.items():
            print(f"| slowest rank over mean, {name}: mean, largest | {np.mean(values):.4f}, {max(values):.4f} |")
        touched = [len(blocks_of_rank) for blocks_of_rank in self.touched.values()]
        print(f"| blocks of text read by a rank: mean, largest | {np.mean(touched):.1f}, {max(touched)} |")
        print(f"| blocks read by all ranks together, divided by all blocks | {sum(touched) / blocks:.2f} |")
        planned, first = (1e3 * np.median(times) for times in (self.plan_seconds, self.first_plan_seconds))
        print(f"| time to plan a step on one core, best of {REPEATS}, median of steps | {planned:.1f} ms |")
        print(f"| the first of the {REPEATS}, which reads lengths of new blocks, median of steps | {first:.1f} ms |")


def main() -> None:
    """Simulates and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR")
    parser.add_argument("--ranks", type=int, default=1024, metavar="W")
    parser.add_argument("--batch", type=int, default=65536, metavar="B", help="pairs of an effective batch")
    parser.add_argument("--alpha", type=float, help="temperature mixture with this exponent (default: concatenation)")
    parser.add_argument("--steps", type=int, metavar="N", help="default: an epoch")
    args = parser.parse_args()
    shards, tokenizer = ShardSet.open(args.shards), load_tokenizer(str(args.tokenizer))
    mixture = MixtureConfig() if args.alpha is None else MixtureConfig(kind="temperature", alpha=args.alpha)
    order = PairOrder({language: shards.rows(language) for language in shards.languages}, mixture)
    check = check_tokenizer(shards, tokenizer, order.languages, "transliteration", 1.0)
    stream = BatchStream(
        order,
        PairReader(shards, order.languages),
        TextEncoder(tokenizer, check.use_sentencepiece),
        Packer(MaskingConfig(), Vocabulary(0, 2, len(tokenizer) - 1, len(tokenizer), 2), 512, True, False),
        BatchSizes(args.batch),
        BatchLayout(args.batch, 1, args.batch),
        0,
        check.token_rates,
        "transliteration",
    )
    simulation = Simulation(stream)
    positions = args.steps * args.batch if args.steps else order.total
    for start in range(0, positions, args.batch):
        simulation.step(start, min(args.batch, positions - start), args.batch, args.ranks)
    print(heading(f"{args.ranks:,} ranks", ("numpy", "sentencepiece")))
    simulation.report(args.ranks, args.batch)


if __name__ == "__main__":
    main()
