"""The training step against the papers' algorithm, written naively: same pairs, masks, weights and number type.

    python benchmarks/step.py --shards DIR --tokenizer DIR [--hidden 256 --layers 4 --vocabulary 30002 --pairs 16]

The naive step pads each of the three streams to its longest sentence, runs them through the Hugging Face model one
after the other, keeps all hidden states, and applies the head to masked tokens only, as the papers' code does. CPU
time of one thread, forward and backward, fp32, no dropout. Prints Markdown.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from report import heading
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, PreTrainedModel

from translit_scale.batch.deal import Deal
from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import MicroBatch, Packer, Vocabulary
from translit_scale.batch.reader import PairReader
from translit_scale.batch.stream import BatchStream
from translit_scale.config import MaskingConfig, ModelConfig
from translit_scale.corpus.encode import TextEncoder
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.tokenizer import load_tokenizer
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.model.flops import Shape, contrastive_flops, training_flops
from translit_scale.objectives.contrastive import contrast


def packed_step(encoder: PairEncoder, batch: MicroBatch) -> dict[str, torch.Tensor]:
    """One effective batch in one packed forward, as the trainer does it on one rank with one micro-batch."""
    passed = encoder(batch, 1 / torch.tensor(batch.masked))
    rows = passed.rows.detach()
    own = torch.arange(len(rows))
    found = contrast(rows, rows, own, own.roll(batch.pairs), scale=1 / len(rows))
    (passed.loss + (passed.rows * (found.rows + found.columns)).sum()).backward()
    return {"mlm": passed.loss.detach(), "tcm": found.loss_sum / len(rows)}


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


def naive_step(model: PreTrainedModel, padded: PaddedStreams, layer: int, first: int) -> dict[str, torch.Tensor]:
    """Three padded forwards, the head on masked tokens, contrast of the pooled rows, one backward."""
    losses, rows = [], []
    for number, (ids, attended, labels, inner) in enumerate(padded.streams):
        positions = (attended.cumsum(1) - 1).clamp(min=0) + first
        out = model.base_model(ids, attention_mask=attended, position_ids=positions, output_hidden_states=True)
        chosen = labels != -100
        losses.append(F.cross_entropy(model.lm_head(out.last_hidden_state[chosen]), labels[chosen]))
        if number < 2:
            rows.append((out.hidden_states[layer] * inner[..., None]).sum(1) / inner.sum(1, keepdim=True))
    z = torch.cat(rows)
    logits = (z @ z.T).masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    tcm = F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))
    (sum(losses) + tcm).backward()
    return {"mlm": sum(losses).detach(), "tcm": tcm.detach()}


def milliseconds(step: Callable[[int], object], batches: int, repeats: int) -> float:
    """CPU time of a batch: the median over repeats of the mean over batches, after a warm-up."""
    for number in range(batches):
        step(number)
    times = []
    for _ in range(repeats):
        began = time.process_time()
        for number in range(batches):
            step(number)
        times.append((time.process_time() - began) / batches)
    return 1e3 * float(np.median(times))


def attention_flops(query: list[int], *shapes: object, out_shape: object = None, **rest: object) -> int:
    """Two products of [g, H, L, D] attention forward; torch knows the kernels of GPUs only."""
    g, heads, length, width = query
    return 4 * g * heads * length * length * width


def attention_backward_flops(gradient: object, query: list[int], *shapes: object, **rest: object) -> int:
    """Twice the forward pass; what the kernel computes again is not counted."""
    return 2 * attention_flops(query)


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}


def flops_of(step: Callable[[], object]) -> int:
    """Operations of matrix products that torch counts while a step runs."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        step()
    return int(counter.get_total_flops())


def necessary_flops(shape: Shape, batch: MicroBatch) -> int:
    """The floor of translit_scale/model/flops.py for a batch."""
    return training_flops(shape, batch.work) + contrastive_flops(shape, batch.pairs)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR")
    parser.add_argument("--languages", nargs="+", metavar="CODE", help="of the shards (default: all)")
    for name, default in (
        ("hidden", 256),
        ("layers", 4),
        ("vocabulary", 30002),
        ("pairs", 16),
        ("batches", 8),
        ("repeats", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shards, tokenizer = ShardSet.open(args.shards), load_tokenizer(str(args.tokenizer))
    order = PairOrder({language: shards.rows(language) for language in args.languages or shards.languages})
    vocabulary = Vocabulary(0, 2, tokenizer.mask_token_id, len(tokenizer), first_position=2)
    packer = Packer(MaskingConfig(), vocabulary, 512, with_tlm=True, split_tlm=False)
    stream = BatchStream(
        order, PairReader(shards, order.languages), TextEncoder(tokenizer, fast=True), packer,
        Deal(args.pairs, 1, args.pairs), 0, np.ones((len(order.languages), 2)), "transliteration",
    )  # fmt: skip
    batches = [stream.step(t).micro[0] for t in range(args.batches)]
    padded = [PaddedStreams(batch, padding=1) for batch in batches]
    size = max(args.vocabulary, len(tokenizer))
    settings = ModelConfig(
        tokenizer="none", hidden_size=args.hidden, num_layers=args.layers, num_heads=args.hidden // 64,
        intermediate_size=4 * args.hidden, max_length=512, dropout=0.0,
    )  # fmt: skip
    layer = max(1, round(args.layers * 2 / 3))
    encoder = PairEncoder(build_model(settings, size, 1, 0, 2), layer)
    print(heading("Training step", ("torch", "transformers")))
    print(f"h{args.hidden} L{args.layers} V{size:,}, {args.pairs} pairs of {', '.join(order.languages)}; ", end="")
    print(f"{np.mean([b.tokens / b.pairs for b in batches]):.0f} tokens a pair, ", end="")
    print(f"padded tokens over real ones {np.mean([p.waste for p in padded]):.2f}.\n")
    own = milliseconds(lambda n: packed_step(encoder, batches[n]), args.batches, args.repeats)
    mine = packed_step(encoder, batches[0])
    shape = Shape(args.hidden, 4 * args.hidden, args.layers, size)
    floor, counted = necessary_flops(shape, batches[0]), flops_of(lambda: packed_step(encoder, batches[0]))
    print("| | ms a batch | pairs per CPU-second | times naive | counted FLOPs over the floor |\n|---|---|---|---|---|")
    for attention in ("eager", "sdpa"):
        config = copy.deepcopy(encoder.lm.config)
        model = AutoModelForMaskedLM.from_config(config, attn_implementation=attention)
        model.load_state_dict(encoder.lm.state_dict())
        theirs = naive_step(model, padded[0], layer, vocabulary.first_position)
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-4)
        naive = milliseconds(lambda n, m=model: naive_step(m, padded[n], layer, 2), args.batches, args.repeats)
        waste = flops_of(lambda m=model: naive_step(m, padded[0], layer, 2)) / floor
        print(f"| naive, {attention} | {naive:.0f} | {1e3 * args.pairs / naive:.1f} | 1 | {waste:.2f} |")
        speed = 1e3 * args.pairs / own
        print(f"| packed, against {attention} | {own:.0f} | {speed:.1f} | {naive / own:.2f} | {counted / floor:.3f} |")


if __name__ == "__main__":
    main()
