"""The order, the split and the step written naively, as references.

The order of pairs is computed visit by visit, and parts are cut one after another. The step has padded batches, one
forward for each stream, one process, one graph.

It takes a plain Hugging Face model and shares no code with packing, attention, objectives or the step. From `batch/` it
takes `mask_tokens`, one sentence at a time, because masks are a function of the pair's key, and `Packer` as the holder
of the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from translit_scale.batch.cycle import Cycle
from translit_scale.batch.masking import mask_tokens
from translit_scale.batch.order import PairOrder
from translit_scale.batch.pack import LATN, ORIG, Packer
from translit_scale.batch.random_bits import derive, key, uniforms

Indices = npt.NDArray[np.int64]


class Masked(NamedTuple):
    """One sentence with some tokens hidden."""

    input_ids: list[int]
    positions: list[int]
    labels: list[int]


class MaskedPair(NamedTuple):
    """One pair as the three inputs of paper B."""

    orig: Masked
    latn: Masked | None
    tlm: Masked | None
    is_contrasted: bool


def mask(ids: Sequence[int], key: np.uint64, packer: Packer) -> Masked:
    """Masks one sentence on its own."""
    n = len(ids)
    v = packer.vocabulary
    found = mask_tokens(np.array(ids, np.int64), np.full(n, key), np.arange(n), packer.masking, v.mask_id, v.size)
    positions = [i for i in range(n) if found.selected[i]]
    return Masked(found.input_ids.tolist(), positions, [ids[i] for i in positions])


def mask_pair(orig: Sequence[int], latn: Sequence[int], key: np.uint64, packer: Packer) -> MaskedPair:
    """Masks a pair as `Packer` says it does, one sentence at a time."""
    numbers = [derive(np.array([key]), number)[0] for number in range(5)]
    limit = packer.max_length - 2
    orig, latn = orig[:limit], latn[:limit]
    tlm = None
    is_contrasted = packer.identical == "keep" or list(orig) != list(latn)
    if packer.with_tlm and is_contrasted:
        a, b = list(orig), list(latn)
        while len(a) + len(b) + 3 > packer.max_length:
            (a if len(a) > len(b) else b).pop()
        halves = [mask(a, numbers[3], packer), mask(b, numbers[4], packer)]
        if uniforms(np.array([numbers[2]]))[0] >= 0.5:
            halves.reverse()
        first, second = halves
        offset = len(first.input_ids) + 1
        tlm = Masked(
            [*first.input_ids, packer.vocabulary.eos_id, *second.input_ids],
            [*first.positions, *(offset + i for i in second.positions)],
            [*first.labels, *second.labels],
        )
    masked = mask(latn, numbers[LATN], packer) if is_contrasted or packer.identical == "mlm" else None
    return MaskedPair(mask(orig, numbers[ORIG], packer), masked, tlm, is_contrasted)


def pad(sentences: Sequence[Masked], bos: int, eos: int, padding: int) -> dict[str, torch.Tensor]:
    """Padded tensors [B, n] with labels (−100 where nothing is predicted) and the mask of non-special tokens."""
    longest = max(len(s.input_ids) for s in sentences) + 2
    shape = (len(sentences), longest)
    input_ids, labels = torch.full(shape, padding), torch.full(shape, -100)
    attention_mask, inner = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    for i, sentence in enumerate(sentences):
        n = len(sentence.input_ids)
        input_ids[i, : n + 2] = torch.tensor([bos, *sentence.input_ids, eos])
        attention_mask[i, : n + 2] = 1
        inner[i, 1 : n + 1] = 1
        for position, label in zip(sentence.positions, sentence.labels, strict=True):
            labels[i, position + 1] = label
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels, "inner": inner}


def losses(
    model: PreTrainedModel, pairs: Sequence[MaskedPair], layer: int, bos: int, eos: int, padding: int
) -> dict[str, torch.Tensor]:
    """The four losses of paper B, section 3, each a mean over what takes part in it."""
    result, rows = {}, []
    streams = {
        "mlm_orig": [(p.orig, p.is_contrasted) for p in pairs],
        "mlm_latn": [(p.latn, p.is_contrasted) for p in pairs if p.latn is not None],
        "tlm": [(p.tlm, False) for p in pairs if p.tlm is not None],
    }
    for name, inputs in streams.items():
        if not inputs:
            continue
        sentences = [sentence for sentence, _ in inputs]
        batch = pad(sentences, bos, eos, padding)
        # Left to itself, transformers takes a random replacement that happens to be <pad> for padding.
        positions = batch["attention_mask"].cumsum(1) * batch["attention_mask"] + padding
        out = model(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=positions,
            output_hidden_states=True,
        )
        chosen = batch["labels"] != -100
        log_p = out.logits.log_softmax(-1)[chosen]
        picked = [row[label] for row, label in zip(log_p, batch["labels"][chosen], strict=True)]
        result[name] = -torch.stack(picked).mean() if picked else out.logits.sum() * 0
        if name != "tlm":
            hidden, inner = out.hidden_states[layer], batch["inner"][..., None]
            rows.append(((hidden * inner).sum(1) / inner.sum(1))[[is_contrasted for _, is_contrasted in inputs]])
    z = torch.cat(rows)
    terms = []
    for i in range(len(z)):
        positive = (i + len(z) // 2) % len(z)
        others = [j for j in range(len(z)) if j != i]
        similarities = torch.stack([z[i] @ z[j] for j in others])
        terms.append(torch.logsumexp(similarities, 0) - z[i] @ z[positive])
    if terms:
        result["tcm"] = torch.stack(terms).mean()
    return result


def visit_naively(order: PairOrder, seed: int, position: int) -> tuple[int, int, int, int]:
    """(language, epoch, row, random key) at a position of the stream, as `docs/stream.md` describes them."""
    phase = order.phase_at(position)
    cycle, shared, here = phase.stream.cycle, phase.stream.shared, position - phase.start
    language = int(cycle.slots[here % len(cycle.slots)])
    if shared is not None:
        earlier = _count(cycle, here, len(order.languages))
        if language == len(order.languages):
            language = int(shared.slots[earlier % len(shared.slots)])
    visit = int(phase.visited[language]) + _count(cycle, here, language)
    if shared is not None:
        visit += _count(shared, earlier, language)
    size, width = order.pairs[order.languages[language]], order.window_rows
    epoch, offset = divmod(visit, size)
    of_epoch = _derived(int(key(seed, "order", order.languages[language])), epoch)
    window, inside = divmod(offset, width)
    windows = size // width
    if window < windows:  # the remainder comes last
        window = _permuted(window, windows, _derived(of_epoch, 1))
    else:
        width = size - windows * width
    inside = _permuted(inside, width, _derived(_derived(of_epoch, 2), window))
    row = (window * order.window_rows + inside + _derived(of_epoch, 0) % size) % size
    return language, epoch, row, _derived(of_epoch, row)


def _count(cycle: Cycle, position: int, language: int) -> int:
    """How often a language stands before a position."""
    cycles, slot = divmod(position, len(cycle.slots))
    return cycles * int(cycle.quotas[language]) + int((cycle.slots[:slot] == language).sum())


def _derived(seed: int, number: int) -> int:
    """The `number`-th value of the SplitMix64 stream that starts from `seed`."""
    x = (seed + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)


def _permuted(index: int, size: int, seed: int) -> int:
    """The image of one number under the keyed permutation of 0 … size−1."""
    digits = max((size - 1).bit_length(), 2)
    low_digits, high_digits = digits // 2, digits - digits // 2
    while True:
        high, low = divmod(index, 2**low_digits)
        for half_round in range(0, 8, 2):
            low ^= _derived(seed ^ high, half_round) % 2**low_digits
            high ^= _derived(seed ^ low, half_round + 1) % 2**high_digits
        index = high * 2**low_digits + low
        if index < size:
            return index


def split_over_ranks_naively(
    language: Indices, row: Indices, cost: Indices, ranks: int, least: int, candidates: int = 32
) -> list[Indices]:
    """[W] indices of the pairs of each rank: one rank after another is filled up with the best of the next pairs."""
    order = np.lexsort((row, language))
    total = np.cumsum(cost[order])
    parts, start = [], 0
    for rank in range(ranks - 1):
        target = total[-1] * (rank + 1) // ranks
        last = len(order) - least * (ranks - rank - 1)
        end = min(max(int(np.searchsorted(total, target, side="right")), start + least), last)
        while end < last:
            gap = target - total[end - 1]
            left = gap - cost[order[end : min(end + candidates, last)]]
            best = int(np.where(left >= 0, left, left.max(initial=0) - left).argmin())  # prefer not to overfill
            if abs(left[best]) >= abs(gap):
                break
            best += end
            # Move the chosen pair to the end of this part and update the running totals behind it.
            moved = slice(end, best + 1)
            order[moved] = np.roll(order[moved], 1)
            total[moved] = total[end - 1] + np.cumsum(cost[order[moved]])
            end += 1
        parts.append(order[start:end])
        start = end
    return [*parts, order[start:]]
