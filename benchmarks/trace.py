"""Predicts a training step on a GPU without having one, from the operations of the real code.

Encoder and losses run on tensors that have shapes but no numbers, with autocast as CUDA does it; DeepSpeed's part is
counted on a small model with as many layers. An operation is one kernel, and its time the largest of three: what it
computes at the rate of its kind, what it reads and writes at the bandwidth, and a launch. For compiled layers,
operations between two matrix products are joined: a kernel for each size of results, and one for each sum, which read
and write only what comes from outside or is needed outside.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from report import heading
from synthetic import MAX_LENGTH, POOL_LAYER, make_batch, make_config, make_step
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from translit_scale.batch.pack import MicroBatch
from translit_scale.config import Config, resolve_layer
from translit_scale.model import attention, encoder
from translit_scale.model.encoder import PairEncoder, build_model
from translit_scale.model.flops import Shape
from translit_scale.model.norms import use_low_precision_norms
from translit_scale.objectives import fused_cross_entropy
from translit_scale.objectives.chunks import ALIGNED
from translit_scale.objectives.contrastive import contrastive_loss, info_nce
from translit_scale.plan.memory import count_parameters
from translit_scale.text_table import markdown_table
from translit_scale.train.engine import take_step
from translit_scale.train.launching.ranks import start_rank

GLOT500 = Shape(768, 3072, 12, 401_145)
MEASURED = {(256, "eager"): 1302, (512, "eager"): 1587, (256, "compiled"): 1452, (512, "compiled"): 1729}
"""Pairs/s on one H100 (benchmarks/h100.md)."""
BANDWIDTH, LAUNCH = 2.6e12, 3e-6
"""Bytes/s of element-wise kernels, and seconds that every kernel takes at least: assumed."""
RATES = {"product": 720e12, "head": 740e12, "attention": 43e12, "attention backward": 29e12, "fp32 product": 50e12}
"""FLOP/s by kind: that of the head is measured, the others follow from the profile of 512 pairs in benchmarks/h100.md.
Attention is slow, because the sentences are short."""
PASSES = {"native_layer_norm": 2.4, "native_layer_norm_backward": 2.4, "cross_entropy": 1.5, "_to_copy": 1.3}
"""Operations whose kernels took so many times longer there than their operands take to be read and written once; that
of the cross-entropy reads its logits twice and writes them once."""
NO_KERNEL = {
    "view", "_unsafe_view", "t", "transpose", "permute", "detach", "split", "split_with_sizes", "select", "slice",
    "expand", "unsqueeze", "squeeze", "alias", "empty", "empty_like", "new_empty", "new_empty_strided", "as_strided",
    "unbind", "lift_fresh", "device", "is_pinned", "_local_scalar_dense", "resize_", "set_",
}  # fmt: skip
"""Operations that only describe memory anew."""
OVERWRITES = {"copy_", "fill_", "zero_"}
"""Operations that do not read the memory they change."""
SUMS = {"sum", "native_layer_norm_backward", "amax", "mean"}
"""Operations that compiled code leaves in a kernel of their own."""
LIBRARY = torch.library.Library("trace", "DEF")
LIBRARY.define("cross_entropy(Tensor(a!) logits, Tensor bias, Tensor labels, Tensor weights) -> Tensor")
LIBRARY.impl("cross_entropy", lambda logits, bias, labels, weights: weights.new_empty(len(logits)), "Meta")
"""Stands for our kernel in Triton."""


class Kernel(NamedTuple):
    """An operation."""

    name: str
    phase: str
    read: dict[int, int]
    """Bytes by memory."""
    written: dict[int, int]
    size: int
    """Numbers of its result."""
    flops: int
    kind: str
    """In RATES; empty for the rest."""

    @property
    def seconds(self) -> float:
        """On an H100."""
        computing = self.flops / RATES[self.kind] if self.kind else 0.0
        return max(computing, self.bytes * PASSES.get(self.name, 1.0) / BANDWIDTH, LAUNCH)

    @property
    def bytes(self) -> int:
        """Read and written."""
        return sum(self.read.values()) + sum(self.written.values())


class Recorder(TorchDispatchMode):
    """Records every operation below autograd."""

    def __init__(self, attention_flops: int = 0) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.phase = "forward"
        self.attention_flops = attention_flops
        self.memory: list[Any] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation._schema.name.partition("::")[2]
        if name not in NO_KERNEL:
            inputs = list(tensors((args, [value for key, value in (kwargs or {}).items() if key != "out"])))
            outputs = [*tensors(result), *tensors(changed(operation, args, kwargs or {}))]
            self.memory += [x.untyped_storage() for x in (*inputs, *outputs)]  # so that no address is used again
            kind, flops = self._work(name, inputs)
            size = max((x.numel() for x in outputs), default=0)
            read = by_memory(inputs[1:] if name in OVERWRITES else inputs)
            self.kernels.append(Kernel(name, self.phase, read, by_memory(outputs), size, flops, kind))
        return result

    def _work(self, name: str, inputs: list[torch.Tensor]) -> tuple[str, int]:
        if name in ("mm", "addmm", "bmm"):
            a, b = inputs[-2:]
            wide = max(*a.shape, *b.shape) > 100_000 and min(*a.shape, *b.shape) > 64
            kind = "fp32 product" if a.dtype == torch.float32 else "head" if wide else "product"
            return kind, 2 * a.numel() * b.shape[-1]
        if name == "_flash_attention_forward":
            return "attention", self.attention_flops
        if name == "_flash_attention_backward":
            return "attention backward", 5 * self.attention_flops // 2
        return "", 0


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested arguments."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def changed(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Arguments that an operation changes in place, such as the states of AdamW; what it returns need not name them.

    AdamW changes gradients only where it divides them by a loss scale.
    """
    named = dict(zip((argument.name for argument in operation._schema.arguments), args, strict=False)) | kwargs
    written = (x.name for x in operation._schema.arguments if x.alias_info is not None and x.alias_info.is_write)
    return [named[name] for name in written if name in named and name != "grads"]


def by_memory(found: Sequence[torch.Tensor]) -> dict[int, int]:
    """Bytes of each memory that some tensors lie in."""
    return {x.untyped_storage()._cdata: x.numel() * x.element_size() for x in found}


class CudaAutocast(TorchFunctionMode):
    """What autocast does on GPUs but not on CPUs, and dropout as the single kernel that it is there."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.layer_norm and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        if function is F.dropout:
            p, training = kwargs.get("p", 0.5), kwargs.get("training", True)
            return torch.native_dropout(args[0], p, True)[0] if training and p else args[0]
        return function(*args, **kwargs)


def encoder_kernels(config: Config, batch: MicroBatch, vocabulary: int, low_precision_layernorm: bool) -> list[Kernel]:
    """Kernels of the forward and backward pass of one micro-batch with all four losses."""
    squares = sum(int((x.segments.cu_seqlens.diff().long() ** 2).sum()) for x in batch.parts)
    recorder = Recorder(4 * squares * config.model.hidden_size)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, ExitStack() as stack:
        layers = config.model.num_layers
        lm = build_model(config.model, vocabulary, 1, 0, 2)
        if low_precision_layernorm:
            use_low_precision_norms(lm)
        model = PairEncoder(lm, resolve_layer(POOL_LAYER, layers)).train()
        parts = [x.with_tensors({name: fake.from_tensor(x) for name, x in x.tensors().items()}) for x in batch.parts]
        batch = dataclasses.replace(batch, parts=parts)
        for patch in as_on_a_gpu(recorder):
            stack.enter_context(patch)
        stack.enter_context(recorder)
        stack.enter_context(CudaAutocast())
        with torch.autocast("cpu", torch.bfloat16):
            output = model(batch, torch.ones(3))
        recorder.phase = "contrast"
        assert output.embeddings is not None
        embeddings = output.embeddings.detach()
        parameters = type(output.parameters)(*(x.detach() for x in output.parameters))
        index = torch.arange(len(embeddings))
        positive = (index + len(index) // 2) % len(index)
        found = contrastive_loss(info_nce, embeddings, embeddings, index, positive, parameters)
        loss = output.loss + (output.embeddings * (found.embedding_gradient + found.candidate_gradient)).sum()
        recorder.phase = "backward"
        loss.backward()
    return recorder.kernels


def as_on_a_gpu(recorder: Recorder) -> Iterator[Any]:
    """Patches that choose the code for GPUs, and mark which operations belong to layers."""
    layer = PairEncoder._run_layer

    def kernel(logits: Any, bias: Any, labels: Any, weights: Any, gradient: bool) -> Any:
        return torch.ops.trace.cross_entropy(logits, bias, labels, weights), logits

    def marked(self: PairEncoder, module: Any, hidden: torch.Tensor, part: Any) -> torch.Tensor:
        """Runs a layer, and has the hooks of its output and of the first layer's input say where backward is."""

        def leave(gradient: torch.Tensor) -> None:
            recorder.phase = "backward"

        def enter(gradient: torch.Tensor) -> None:
            recorder.phase = "layer backward"

        if hidden.requires_grad and not hidden._backward_hooks:
            hidden.register_hook(leave)
        recorder.phase = "layer"
        hidden = layer(self, module, hidden, part)
        recorder.phase = "forward"
        hidden.register_hook(enter)
        return hidden

    losses = partial(encoder.masked_lm_losses, align=ALIGNED, fused=True)
    yield mock.patch.object(attention, "has_kernel", lambda *arguments: True)
    yield mock.patch.object(fused_cross_entropy, "fused_cross_entropy", kernel)
    yield mock.patch.object(encoder, "masked_lm_losses", losses)
    yield mock.patch.object(PairEncoder, "_run_layer", marked)


def engine_kernels(shape: Shape, stage: int) -> list[Kernel]:
    """Kernels of DeepSpeed and AdamW after the backward pass, counted on a small model and scaled to the parameters."""
    small = Shape(32, 64, shape.layers, 1001)
    config = make_config(small, 8, 0.1, precision="bf16_autocast")
    zero = {"stage": stage, "use_multi_rank_bucket_allreduce": False}
    step = make_step(config, small.vocabulary, zero, 8, start_rank())
    batch = make_batch(config, small.vocabulary, 8, 1)
    step.accumulate(0, batch)
    take_step(step.engine, config.train.max_grad_norm)
    recorder, backward = Recorder(), step.engine.backward

    def marked(*arguments: Any, **options: Any) -> None:
        backward(*arguments, **options)
        recorder.phase = "update"

    with recorder, mock.patch.object(step.engine, "backward", marked):
        step.accumulate(1, batch)
        take_step(step.engine, config.train.max_grad_norm)
    factor = count_parameters(shape, MAX_LENGTH + 2).total / count_parameters(small, MAX_LENGTH + 2).total
    return [scaled(kernel, factor) for kernel in recorder.kernels if kernel.phase == "update"]


def scaled(kernel: Kernel, factor: float) -> Kernel:
    """The kernel of a larger model."""
    read, written = ({key: round(factor * n) for key, n in found.items()} for found in (kernel.read, kernel.written))
    return kernel._replace(read=read, written=written)


def compiled(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels of layers joined as torch.compile joins them."""
    last_read: dict[int, int] = {}
    for index, kernel in enumerate(kernels):
        last_read |= dict.fromkeys(kernel.read, index)
    joined: list[Kernel] = []

    def joins(indexed: tuple[int, Kernel]) -> str:
        kernel = indexed[1]
        return kernel.phase if kernel.phase.startswith("layer") and not kernel.kind else f"{indexed[0]}"

    for key, group in groupby(enumerate(kernels), joins):
        run = list(group)
        joined += join(run, last_read) if key.startswith("layer") else [kernel for _, kernel in run]
    return joined


def join(run: Sequence[tuple[int, Kernel]], last_read: dict[int, int]) -> Iterator[Kernel]:
    """One kernel for each size of results, and the sums."""
    end, parts = run[-1][0], defaultdict(list)
    for _, kernel in run:
        parts[kernel.name if kernel.name in SUMS else kernel.size].append(kernel)
    for key, some in parts.items():
        made: dict[int, int] = {}
        read: dict[int, int] = {}
        for kernel in some:
            read |= {memory: n for memory, n in kernel.read.items() if memory not in made}
            made |= kernel.written
        written = {memory: n for memory, n in made.items() if last_read.get(memory, -1) > end or key in SUMS}
        yield Kernel("joined" if key not in SUMS else str(key), some[0].phase, read, written, some[0].size, 0, "")


GROUPS = {
    "mm": "matrix products", "addmm": "matrix products", "_flash_attention_forward": "attention",
    "_flash_attention_backward": "attention", "_to_copy": "copies", "copy_": "copies", "cat": "copies",
    "native_layer_norm": "layer normalisation", "native_layer_norm_backward": "layer normalisation", "sum": "sums",
    "add": "additions", "add_": "additions", "cross_entropy": "cross-entropy", "joined": "joined by torch.compile",
}  # fmt: skip
"""Operation → row of the table."""


def table(columns: dict[str, Sequence[Kernel]]) -> str:
    """Milliseconds of each group of kernels, for each variant."""
    rows = []
    for group in [*dict.fromkeys(GROUPS.values()), "other", "DeepSpeed and AdamW"]:
        cells = []
        for kernels in columns.values():
            some = [kernel for kernel in kernels if group_of(kernel) == group]
            cells.append(f"{1e3 * sum(kernel.seconds for kernel in some):.1f} ({len(some)})" if some else "–")
        rows.append([group, *cells])
    totals = [f"{1e3 * sum(kernel.seconds for kernel in kernels):.0f} ({len(kernels)})" for kernels in columns.values()]
    return markdown_table(["ms (kernels)", *columns], [*rows, ["together", *totals]])


def group_of(kernel: Kernel) -> str:
    """Its row in the table."""
    return "DeepSpeed and AdamW" if kernel.phase == "update" else GROUPS.get(kernel.name, "other")


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[256, 512], help="pairs of a batch (default: 256 512)")
    args = parser.parse_args()
    print(heading("A step on a GPU, predicted", ("torch", "deepspeed", "transformers")))
    updates = {stage: engine_kernels(GLOT500, stage) for stage in (0, 1)}
    for pairs in args.pairs:
        config = make_config(GLOT500, pairs, dropout=0.1)
        batch = make_batch(config, GLOT500.vocabulary, pairs, 1).micro[0]
        usual, low = (encoder_kernels(config, batch, GLOT500.vocabulary, low) for low in (False, True))
        variants = {
            "eager": [*usual, *updates[1]],
            "compiled": [*compiled(usual), *updates[1]],
            "compiled, low-precision layernorm": [*compiled(low), *updates[1]],
            "the same, ZeRO 0": [*compiled(low), *updates[0]],
        }
        columns: dict[str, Sequence[Kernel]] = {}
        for name, kernels in variants.items():
            rate = MEASURED.get((pairs, name))
            columns[f"{name}, measured {1e3 * pairs / rate:.0f}" if rate else name] = kernels
        print(f"\n{pairs} pairs in one micro-batch:\n\n{table(columns)}")


if __name__ == "__main__":
    main()
