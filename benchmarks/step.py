"""Compares the training step with a naive version of the papers' algorithm: same pairs, masks, weights and precision.

    python benchmarks/step.py --shards DIR --tokenizer DIR [--hidden 256 --layers 4 --vocabulary 30002 --pairs 16]

The naive step pads each of the three streams to its longest sentence, runs them through the Hugging Face model one
after the other, keeps all hidden states, and applies the head to masked tokens only, like the papers' code. Times are
CPU times of one thread for forward and backward, in fp32 without dropout. --embedding-pass measures the fraction of the
embedding pass in a step of two micro-batches instead. Prints Markdown.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from report import heading
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, PreTrainedModel

from translit_scale.batch.layout import BatchLayout
from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import MicroBatch, Packer, Vocabulary
from translit_scale.batch.reader import PairReader
from translit_scale.batch.sizes import BatchSizes
from translit_scale.batch.stream import BatchStream
from translit_scale.config import MaskingConfig, ModelConfig
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.model.flops import Shape, contrastive_flops, forward_flops, training_flops
from translit_scale.objectives.contrastive import LogitParameters, contrastive_loss, info_nce
from translit_scale.train.preflight import check_tokenizer

DOT = LogitParameters(torch.zeros(()), torch.zeros(()))
"""Logits are dot products: τ = 1, no bias."""
FIRST_POSITION = 2
"""Position id of a sentence's first token in XLM-R."""


def packed_step(encoder: PairEncoder, batch: MicroBatch) -> dict[str, torch.Tensor]:
    """One effective batch in one packed forward pass, as in training on one rank with one micro-batch."""
    passed = encoder(batch, 1 / torch.tensor(batch.masked))
    rows = passed.embeddings.detach()
    own = torch.arange(len(rows))
    found = contrastive_loss(info_nce, rows, rows, own, own.roll(batch.pairs), DOT, 1 / len(rows))
    (passed.loss + (passed.embeddings * (found.embedding_gradient + found.candidate_gradient)).sum()).backward()
    return {"mlm": passed.loss.detach(), "tcm": found.loss / len(rows)}


class PaddedStreams:
    """The three streams of a packed batch as padded tensors."""

    def __init__(self, batch: MicroBatch, padding: int) -> None:
        (part,) = batch.parts
        self.streams = []
        bounds = part.segments.cu_seqlens.tolist()
        for stream in range(3):
            spans = list(pairwise(bounds))[stream * batch.pairs : (stream + 1) * batch.pairs]
            longest = max(end - begin for begin, end in spans)
            ids = torch.full((batch.pairs, longest), padding)
            labels, attended = torch.full_like(ids, -100), torch.zeros_like(ids)
            for i, (begin, end) in enumerate(spans):
                ids[i, : end - begin], attended[i, : end - begin] = part.input_ids[begin:end], 1
                here = (part.mask_index >= begin) & (part.mask_index < end)
                labels[i, part.mask_index[here] - begin] = part.mask_labels[here]
            inner = attended.clone()
            inner[:, 0] = 0
            inner[torch.arange(batch.pairs), attended.sum(1) - 1] = 0
            self.streams.append((ids, attended, labels, inner))
        self.waste = sum(s[0].numel() for s in self.streams) / batch.tokens


def naive_step(model: PreTrainedModel, layer: int, padded: PaddedStreams) -> dict[str, torch.Tensor]:
    """Three padded forward passes, the head on masked tokens, the contrastive loss, one backward pass."""
    losses: list[torch.Tensor] = []
    rows: list[torch.Tensor] = []
    for number, (ids, attended, labels, inner) in enumerate(padded.streams):
        positions = (attended.cumsum(1) - 1).clamp(min=0) + FIRST_POSITION
        out = model.base_model(ids, attention_mask=attended, position_ids=positions, output_hidden_states=True)
        chosen = labels != -100
        losses.append(F.cross_entropy(model.lm_head(out.last_hidden_state[chosen]), labels[chosen]))
        if number < 2:
            rows.append((out.hidden_states[layer] * inner[..., None]).sum(1) / inner.sum(1, keepdim=True))
    z = torch.cat(rows)
    logits = (z @ z.T).masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    tcm = F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))
    mlm = torch.stack(losses).sum()
    (mlm + tcm).backward()
    return {"mlm": mlm.detach(), "tcm": tcm.detach()}


def milliseconds(step: Callable[[Any], object], batches: Sequence[Any], repeats: int) -> float:
    """CPU time per batch: the median over repeats of the mean over batches, after a warm-up."""
    for batch in batches:
        step(batch)
    times = []
    for _ in range(repeats):
        began = time.process_time()
        for batch in batches:
            step(batch)
        times.append((time.process_time() - began) / len(batches))
    return 1e3 * float(np.median(times))


def attention_flops(query: list[int], *shapes: object, out_shape: object = None, **rest: object) -> int:
    """Two products of [g, H, L, D] in the attention's forward pass; torch only knows the kernels of GPUs."""
    g, heads, length, width = query
    return 4 * g * heads * length * length * width


def attention_backward_flops(gradient: object, query: list[int], *shapes: object, **rest: object) -> int:
    """Twice the forward pass, without what the kernel recomputes."""
    return 2 * attention_flops(query)


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}


def flops_of(step: Callable[[], object]) -> int:
    """Operations of the matrix products in a step, counted by torch."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        step()
    return int(counter.get_total_flops())


def cached_step(encoder: PairEncoder, micro: list[MicroBatch]) -> tuple[float, float]:
    """Runs a step of several micro-batches as in training; returns CPU seconds of its embedding pass and in total."""
    began = time.process_time()
    with torch.no_grad():
        rows = [encoder(part).embeddings for part in micro]
    embedded = time.process_time() - began
    sizes = [len(part) for part in rows]
    columns, own = torch.cat(rows), torch.arange(sum(sizes))
    positive = torch.cat([part.roll(len(part) // 2) for part in own.split(sizes)])
    found = contrastive_loss(info_nce, columns, columns, own, positive, DOT, 1 / len(columns))
    weights = 1 / sum(torch.tensor(part.masked) for part in micro)
    for part, gradient in zip(micro, (found.embedding_gradient + found.candidate_gradient).split(sizes), strict=True):
        passed = encoder(part, weights)
        (passed.loss + (passed.embeddings * gradient).sum()).backward()
    return embedded, time.process_time() - began


def report_embedding_pass(
    encoder: PairEncoder, layer: int, shape: Shape, steps: list[list[MicroBatch]], repeats: int
) -> None:
    """Prints the fraction of the embedding pass in CPU time and in operations."""
    for micro in steps:
        cached_step(encoder, micro)
    shares = []
    for _ in range(repeats):
        embedded, total = np.sum([cached_step(encoder, micro) for micro in steps], axis=0)
        shares.append(100 * embedded / total)
    repeated = needed = 0
    for batch in chain.from_iterable(steps):
        repeated += forward_flops(shape, batch.parts[0].token_counts, layer)
        needed += training_flops(shape, batch.token_counts)
    needed += sum(contrastive_flops(shape, sum(micro.pairs for micro in step)) for step in steps)
    print("| embedding pass up to | CPU time of a step, each repeat | operations |\n|---|---|---|")
    measured = ", ".join(f"{share:.1f} %" for share in shares)
    print(f"| layer {layer} of {shape.layers} | {measured} | {100 * repeated / (repeated + needed):.1f} % |")


def report_against_naive(
    encoder: PairEncoder, layer: int, shape: Shape, batches: list[MicroBatch], repeats: int, compiled: bool
) -> None:
    """Compares the losses of both steps and prints their times."""
    padded = [PaddedStreams(batch, padding=1) for batch in batches]
    print(f"Padded / real tokens {np.mean([p.waste for p in padded]):.2f}.\n")
    pairs = batches[0].pairs
    packed = partial(packed_step, encoder)
    own = milliseconds(packed, batches, repeats)
    mine = packed(batches[0])
    floor = training_flops(shape, batches[0].token_counts) + contrastive_flops(shape, pairs)
    counted = flops_of(partial(packed, batches[0]))
    print("| | ms per batch | pairs per CPU-second | times naive | counted FLOPs / minimum |\n|---|---|---|---|---|")
    for attention in ("eager", "sdpa"):
        config = copy.deepcopy(encoder.lm.config)
        model = AutoModelForMaskedLM.from_config(config, attn_implementation=attention)
        model.load_state_dict(encoder.lm.state_dict())
        step = partial(naive_step, model, layer)
        theirs = step(padded[0])
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-4)
        naive = milliseconds(step, padded, repeats)
        waste = flops_of(partial(step, padded[0])) / floor
        print(f"| naive, {attention} | {naive:.0f} | {1e3 * pairs / naive:.1f} | 1 | {waste:.2f} |")
        speed = 1e3 * pairs / own
        print(f"| packed, against {attention} | {own:.0f} | {speed:.1f} | {naive / own:.2f} | {counted / floor:.3f} |")
    if compiled:
        encoder.compile_layers()
        fused = milliseconds(packed, batches, repeats)
        print(
            f"| packed and compiled, against sdpa | {fused:.0f} | {1e3 * pairs / fused:.1f} | {naive / fused:.2f} | |"
        )


def read_steps(args: argparse.Namespace) -> tuple[list[list[MicroBatch]], str, int]:
    """The micro-batches (one or two) of each of `args.batches` steps; the languages; the size of the vocabulary."""
    shards, tokenizer = ShardSet.open(args.shards), load_tokenizer(str(args.tokenizer))
    order = PairOrder({language: shards.rows(language) for language in args.languages or shards.languages})
    check = check_tokenizer(shards, tokenizer, order.languages, "transliteration", 1.0)
    vocabulary = Vocabulary(0, 2, tokenizer.mask_token_id, len(tokenizer), FIRST_POSITION)
    packer = Packer(MaskingConfig(), vocabulary, 512, with_tlm=True, split_tlm=args.embedding_pass)
    layout = BatchLayout(args.pairs * (2 if args.embedding_pass else 1), 1, args.pairs)
    stream = BatchStream(
        order, PairReader(shards, order.languages), TextEncoder(tokenizer, check.use_sentencepiece), packer,
        BatchSizes(layout.batch_pairs), layout, 0, check.token_rates, "transliteration",
    )  # fmt: skip
    steps = [stream.step(t).micro for t in range(args.batches)]
    return steps, ", ".join(order.languages), max(args.vocabulary, len(tokenizer))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR")
    parser.add_argument("--languages", nargs="+", metavar="CODE", help="languages to use (default: all)")
    for name, default in (
        ("hidden", 256),
        ("layers", 4),
        ("vocabulary", 30002),
        ("pairs", 16),
        ("batches", 8),
        ("repeats", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    parser.add_argument("--embedding-pass", action="store_true", help="measure the embedding pass instead")
    parser.add_argument("--compile", action="store_true", help="also measure with train.compile")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps, languages, size = read_steps(args)
    settings = ModelConfig(
        tokenizer="none", hidden_size=args.hidden, num_layers=args.layers, num_heads=args.hidden // 64,
        intermediate_size=4 * args.hidden, max_length=512, dropout=0.0,
    )  # fmt: skip
    layer = max(1, round(args.layers * 2 / 3))
    encoder = PairEncoder(build_model(settings, size, 1, 0, 2), layer)
    shape = Shape(args.hidden, 4 * args.hidden, args.layers, size)
    print(heading("Training step", ("torch", "transformers")))
    print(f"h{args.hidden} L{args.layers} V{size:,}, {args.pairs} pairs of {languages}; ", end="")
    print(f"{np.mean([b.tokens / b.pairs for step in steps for b in step]):.0f} tokens per pair.\n")
    if args.embedding_pass:
        report_embedding_pass(encoder, layer, shape, steps, args.repeats)
    else:
        report_against_naive(encoder, layer, shape, [micro for (micro,) in steps], args.repeats, args.compile)


if __name__ == "__main__":
    main()
