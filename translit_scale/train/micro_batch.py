"""The size of micro-batches where the DeepSpeed JSON says `"auto"`: the largest that fits by the cost model, and half
of it after the memory of a GPU was not enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from translit_scale.batch.order import total_steps
from translit_scale.batch.sizes import BatchSizes
from translit_scale.config import Config
from translit_scale.corpus.shards import ShardSet
from translit_scale.deepspeed_json import AUTO, MICRO
from translit_scale.errors import EXIT_LOST, ConfigError, DataError, UserError
from translit_scale.files import read_json, write_json
from translit_scale.model.devices import DEVICES
from translit_scale.model.encoder import pretrained_architecture
from translit_scale.model.flops import Shape
from translit_scale.plan.inputs import Corpus, Inputs, model_shape, sample_pairs, shape_of
from translit_scale.plan.machine import MEMORY_USABLE, gpu_machine
from translit_scale.plan.step import largest_micro_batch, step_memory
from translit_scale.plan.workload import PairTokens, Workload
from translit_scale.train.engine import Hardware, with_micro_batch
from translit_scale.train.launching.machines import Machine
from translit_scale.train.launching.ranks import Rank

ANY_GPU = "h100"
"""Only the memory of the machine matters here, and that is measured."""
LIMIT = "micro_batch.json"
"""File of the run directory with the limit that was found by running out of memory."""


class OutOfMemoryError(UserError):
    """A micro-batch did not fit, and a smaller one has been chosen: the same command resumes the training."""

    exit_code = EXIT_LOST


def choose_micro_batch(
    hardware: Hardware, config: Config, shards: ShardSet, vocabulary: int, machines: Sequence[Machine], rank: Rank
) -> Hardware:
    """Settles the micro-batch that the JSON leaves open. Every rank must call it.

    Args:
        vocabulary: entries of the tokenizer.
        machines: of all ranks; the micro-batch fits the GPU with the least free memory.

    Raises:
        ConfigError: not even one pair fits, or the pretrained model cannot be loaded.
    """
    if not hardware.micro_batch_is_open:
        return hardware
    found: list[tuple[int, str] | None] = [None]
    if rank.is_first:
        memory = MEMORY_USABLE * min(machine.free_memory for machine in machines)
        w = _workload(hardware, config, shards, vocabulary)
        found = [largest_that_fits(w, hardware, memory, _limit(config.run.path))]
    dist.broadcast_object_list(found)
    assert found[0] is not None
    return with_micro_batch(hardware, BatchSizes.of(config.train), *found[0])


def largest_that_fits(w: Workload, hardware: Hardware, memory: float, limit: int | None) -> tuple[int, str]:
    """Pairs of the largest micro-batch, and why it is this one.

    Args:
        memory: bytes that a rank may use; limit: pairs that a micro-batch may have at most.

    Raises:
        ConfigError: not even one pair fits.
    """
    ranks = hardware.layout.world_size
    machine = replace(gpu_machine(ANY_GPU, ranks, None), memory=memory)
    largest = largest_micro_batch(w, machine, ranks)
    if largest is None:
        one = replace(w, zero=replace(w.zero, micro_batch_pairs=1))
        raise ConfigError(
            f"a micro-batch of one pair needs {step_memory(one, machine, ranks).total / 1e9:.1f} GB by the cost model, "
            f"and {memory / 1e9:.1f} GB of a GPU's memory are free for tensors",
            f"raise the ZeRO stage or offload states in {hardware.path}, lower train.batch_pairs (embeddings of the "
            f"whole batch are on every GPU), or set {MICRO} to a number to try it all the same",
        )
    pairs, why = largest.micro_batch_pairs(ranks), "all that a rank has"
    if largest.micro_batches(ranks) > 1:
        why = "the largest that fit"
    if limit is not None and limit < pairs:
        pairs, why = limit, f"because more did not fit before ({LIMIT} of the run)"
    needed = step_memory(replace(w, zero=replace(w.zero, micro_batch_pairs=pairs)), machine, ranks).total
    memories = f"{needed / 1e9:.1f} of {memory / 1e9:.1f} GB by the cost model"
    return pairs, f"micro-batches of at most {pairs:,} pairs, {why}: {memories}"


def _workload(hardware: Hardware, config: Config, shards: ShardSet, vocabulary: int) -> Workload:
    shape, positions = _shape(config, vocabulary)
    languages = config.data.languages or shards.languages
    corpus = Corpus({language: shards.rows(language) for language in languages}, None, 0, shards)
    steps = total_steps(config.train, corpus.total)
    try:
        sample = sample_pairs(config, corpus, steps, None, Inputs())
    except DataError:  # a damaged block; what training does with it is decided elsewhere
        sample = sample_pairs(config, replace(corpus, shards=None), steps, None, Inputs())
    tokens = PairTokens.of(sample.longest, config, shape.window)
    w = Workload.of(config, hardware.path, DEVICES[ANY_GPU], shape, positions, len(languages), tokens)
    return replace(w, precision=hardware.precision)


def _shape(config: Config, vocabulary: int) -> tuple[Shape, int]:
    """Shape of the encoder and rows of its position embedding; a pretrained one may be a hub id."""
    if config.model.pretrained is None:
        return model_shape(config, vocabulary, Inputs())
    return shape_of(pretrained_architecture(config.model.pretrained).to_dict())


def _limit(run: Path) -> int | None:
    path = run / LIMIT
    return int(read_json(path, "limit of micro-batches")["at_most"]) if path.is_file() else None


@contextmanager
def halve_when_memory_ends(hardware: Hardware, run: Path) -> Iterator[None]:
    """Notes half the size of micro-batches for the next start when the memory of a GPU is not enough for the steps.

    Raises:
        OutOfMemoryError: instead of torch's, where the JSON says `"auto"` and there is more than one pair to halve.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        pairs = hardware.layout.micro_batch_pairs
        if not hardware.micro_batch_is_open or pairs == 1:
            raise
        write_json(run / LIMIT, {"at_most": pairs // 2, "because": f"{pairs} pairs did not fit: {error}"[:500]})
        raise OutOfMemoryError(
            f"out of GPU memory with micro-batches of {pairs:,} pairs, which {hardware.path} leaves open "
            f'("{AUTO}"): {error}',
            f"the same command resumes from the last checkpoint, if there is one, with at most {pairs // 2:,} "
            f"({run / LIMIT}); the update stays the same",
        ) from error
