"""The step written naively, as a reference: padded batches, one forward for each stream, one process, one graph.

It takes a plain Hugging Face model and shares no code with packing, attention, objectives or the step. From `batch/` it
takes `mask_tokens`, one sentence at a time, because masks are a function of the pair's key, and `Packer` as the holder
of the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from translit_scale.batch.masking import mask_tokens
from translit_scale.batch.pack import LATN, ORIG, Packer
from translit_scale.batch.random_bits import derive, uniforms


class Masked(NamedTuple):
    """One sentence with some tokens hidden."""

    input_ids: list[int]
    positions: list[int]
    labels: list[int]


class MaskedPair(NamedTuple):
    """One pair as the three inputs of paper B."""

    orig: Masked
    latn: Masked
    tlm: Masked | None


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
    if packer.with_tlm:
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
    return MaskedPair(mask(orig, numbers[ORIG], packer), mask(latn, numbers[LATN], packer), tlm)


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
    """The four losses of paper B, section 3, each a mean over the batch."""
    result, rows = {}, []
    streams = {"mlm_orig": [p.orig for p in pairs], "mlm_latn": [p.latn for p in pairs]}
    if pairs[0].tlm is not None:
        streams["tlm"] = [p.tlm for p in pairs if p.tlm is not None]
    for name, sentences in streams.items():
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
            rows.append((hidden * inner).sum(1) / inner.sum(1))
    orig, latn = rows
    z = torch.cat([orig, latn])
    terms = []
    for i in range(len(z)):
        positive = (i + len(pairs)) % len(z)
        others = [j for j in range(len(z)) if j != i]
        similarities = torch.stack([z[i] @ z[j] for j in others])
        terms.append(torch.logsumexp(similarities, 0) - z[i] @ z[positive])
    result["tcm"] = torch.stack(terms).mean()
    return result
