"""The experiment: every setting that decides what is learned. Settings of the hardware (ZeRO, micro-batch, offload) are
in the DeepSpeed JSON.

An experiment is one or more YAML files, merged from left to right, and then dotted overrides (`train.max_steps=20`).
Paths are relative to the directory in which the command is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from translit_scale.errors import ConfigError
from translit_scale.schema import Strict, read_yaml, reference, validate
from translit_scale.testsets.registry import retrieval_tasks
from translit_scale.testsets.task import MEASURES

Precision = Literal["fp32", "bf16_autocast", "bf16", "fp16"]
"""`bf16_autocast`: matrix products in bf16; parameters, gradients and optimizer in fp32. `bf16` and `fp16`: parameters,
gradients and everything computed from them have 16 bits, and the optimizer keeps fp32 copies of the parameters."""
Layer = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
"""A layer as an index (8 = output of the 8th block) or as a fraction of the depth (0.667 = 8 of 12)."""


def resolve_layer(layer: Layer, num_layers: int, setting: str = "layer") -> int:
    """Index into hidden_states (1 … num_layers) of a layer that is given as an index or a fraction of the depth.

    Args:
        setting: what the user has to change if the layer does not exist.

    Raises:
        ConfigError: the model is not that deep.
    """
    index = layer if isinstance(layer, int) else max(1, round(layer * num_layers))
    if not 1 <= index <= num_layers:
        raise ConfigError(
            f"{setting} is {layer}, but the model has {num_layers} layers",
            f"set {setting} to 1 … {num_layers}, or to a fraction of the depth such as 0.667",
        )
    return index


def _one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Allows the names that `names` has when a configuration is read."""

    def check(value: str) -> str:
        if value not in names():
            raise ValueError(f"expected one of {', '.join(names())}")
        return value

    return AfterValidator(check)


class MixtureConfig(Strict):
    """How often each language is drawn."""

    kind: Literal["concatenate", "temperature", "weights"] = "concatenate"
    """`concatenate`: every pair once an epoch, as in both papers; `temperature`: a language's
    fraction ∝ pairs ** alpha; `weights`: as given below."""
    alpha: float = Field(0.3, ge=0, le=1)
    """Exponent of `temperature`; 0: all languages equally, 1: by size."""
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """For `kind: weights`, how often each language is drawn, in any unit; a language without a weight is left out."""
    languages: list[str] | None = Field(None, min_length=1)
    """Only these take part, for a schedule that adds languages later; default: all of `data.languages`."""
    max_repeats: float | None = Field(None, gt=0)
    """No language is repeated more often than this in the whole training; the other languages get the rest. See
    docs/stream.md for a schedule."""

    @model_validator(mode="after")
    def _has_weights(self) -> MixtureConfig:
        if (self.kind == "weights") != (self.weights is not None):
            raise ValueError("`weights` are for kind: weights, which needs them")
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError("weights: at least one must be above 0")
        if self.weights is not None and self.languages is not None:
            raise ValueError("languages: with kind: weights, a language is left out by having no weight")
        return self


class MixtureChange(Strict):
    """Another mixture from an optimizer step on; every language continues at its current position."""

    from_step: int = Field(ge=1)
    """First step with the new mixture."""
    mixture: MixtureConfig
    """The new mixture."""


class DataConfig(Strict):
    """The training data, and how its languages are mixed."""

    shards: Path
    """Directory with `manifest.json`, made by `translit-scale prepare`."""
    staged: Path | None = None
    """Read the copy of the shards that `translit-scale shards stage SHARDS --out DIR` has made on every host in this
    folder; default: read the shards themselves."""
    languages: list[str] | None = None
    """Train on these languages of the shards only; default: all."""
    mixture: MixtureConfig = MixtureConfig()
    mixture_schedule: list[MixtureChange] = Field([])
    """Later mixtures, by ascending step. One may be added to a running experiment at a step that is still ahead."""
    max_damaged_fraction: float = Field(0.0, ge=0, lt=1)
    """Skip pairs in damaged blocks up to this fraction of all pairs, after a check of every block; 0: any damage is an
    error."""
    max_unknown_fraction: float = Field(0.05, ge=0, le=1)
    """Refuse to start if the tokenizer maps a larger fraction of a language's tokens to `<unk>`, in either script."""
    transliterations: Literal["draw", "first"] = "draw"
    """Where the shards have several transliterations of a sentence: draw one at each visit, or take the first one."""
    workers: int = Field(1, ge=0)
    """Processes of each rank that read, tokenize, mask and pack ahead of the step; 0: the rank does it itself."""
    prefetch: int = Field(2, ge=1)
    """Number of batches that each worker may be ahead."""

    @model_validator(mode="after")
    def _schedule_ascends(self) -> DataConfig:
        steps = [change.from_step for change in self.mixture_schedule]
        if steps != sorted(set(steps)):
            raise ValueError(f"mixture_schedule: from_step must ascend, found {steps}")
        return self

    @property
    def mixtures(self) -> list[tuple[int, MixtureConfig]]:
        """First step and mixture of each phase of the training."""
        return [(0, self.mixture), *((change.from_step, change.mixture) for change in self.mixture_schedule)]


class ModelConfig(Strict):
    """The encoder: XLM-R's architecture from scratch, or a pretrained BERT, RoBERTa, XLM-R or ModernBERT."""

    pretrained: str | None = None
    """Local directory or hub id of a masked language model to continue from; none: from scratch."""
    tokenizer: str | None = None
    """Local directory or hub id; default: the pretrained model's own."""
    hidden_size: int = Field(768, ge=1)
    """Width d of the encoder (from scratch)."""
    num_layers: int = Field(12, ge=1)
    """Number of Transformer blocks (from scratch)."""
    num_heads: int = Field(12, ge=1)
    """Attention heads; must divide hidden_size (from scratch)."""
    intermediate_size: int = Field(3072, ge=1)
    """Width of the feed-forward layer (from scratch)."""
    max_length: int = Field(512, ge=8)
    """Longest sequence in tokens with `<s>` and `</s>`; longer sentences are cut and counted."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout of hidden states and attention, also set on a pretrained model."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.pretrained is None and self.tokenizer is None:
            raise ValueError("a model from scratch needs `tokenizer` (see `translit-scale tokenizer --help`)")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        return self


class MaskingConfig(Strict):
    """Random masking of masked language modelling (BERT's 80/10/10 by default, as in the papers' code)."""

    mlm_probability: float = Field(0.15, gt=0, le=1)
    """Fraction of the non-special tokens that are predicted."""
    mask_replace_prob: float = Field(0.8, ge=0, le=1)
    """Fraction of those that are replaced by `<mask>`."""
    random_replace_prob: float = Field(0.1, ge=0, le=1)
    """Fraction of those that are replaced by a random token; the rest stay unchanged."""

    @model_validator(mode="after")
    def _replacements_fit(self) -> MaskingConfig:
        if self.mask_replace_prob + self.random_replace_prob > 1 + 1e-9:
            raise ValueError("mask_replace_prob + random_replace_prob must not exceed 1")
        return self


class ContrastiveConfig(Strict):
    """TCM of paper A, SEQ of paper B: a sentence and its transliteration are each other's positive."""

    weight: float = Field(0.0, ge=0)
    """Coefficient of the loss; 0 switches the objective off."""
    loss: Literal["info_nce", "sigmoid"] = "info_nce"
    """`info_nce`: softmax over all candidates, as in both papers; `sigmoid`: the loss of SigLIP, a binary decision for
    each candidate (its authors start with `similarity: cosine`, `temperature: 0.1`, `learn_temperature: true`)."""
    layer: Layer = 8
    """The embedding of a sentence is the mean over its tokens of this layer's output."""
    temperature: float = Field(1.0, gt=0)
    """τ: similarities are divided by it."""
    learn_temperature: bool = False
    """Train `logit_scale` = log 1/τ like a weight, from `temperature` on; τ stays above 0.01."""
    initial_bias: float = -10.0
    """Initial value of the learned bias that `sigmoid` adds to all logits (SigLIP: −10)."""
    similarity: Literal["dot", "cosine"] = "dot"
    """Similarity of two embeddings: dot product, or cosine."""
    exclude_duplicates: bool = False
    """Do not use sentences with the same original or the same transliteration as negatives of each other."""
    scope: Literal["effective_batch", "micro_batch"] = "effective_batch"
    """Where negatives come from: all ranks and micro-batches, or only the micro-batches with the same number."""


class TlmConfig(Strict):
    """Transliteration language modelling: masked language modelling over a sentence joined with its transliteration."""

    weight: float = Field(0.0, ge=0)
    """Coefficient of the loss; 0 switches the objective off."""


class ObjectivesConfig(Strict):
    """loss = mlm_orig + mlm_latn + tcm.weight · tcm + tlm.weight · tlm (paper B, section 3)."""

    pair_with: Literal["transliteration", "copy"] = "transliteration"
    """The second half of a pair. `copy` is paper A's Model-1: the same sentence twice, masked independently."""
    identical: Literal["keep", "mlm", "mlm_once"] = "keep"
    """Pairs whose sides are the same text, as of Latin sentences that uroman leaves as they are. `keep`: like others,
    as in both papers; `mlm`: left out of contrast and TLM; `mlm_once`: and masked once instead of twice."""
    identical_up_to: Literal["nothing", "diacritics"] = "nothing"
    """What the sides of such a pair may differ in. `diacritics`: also in upper and lower case."""
    masking: MaskingConfig = MaskingConfig()
    tcm: ContrastiveConfig = ContrastiveConfig()
    tlm: TlmConfig = TlmConfig()
    parity: Literal["ppa", "translico"] | None = None
    """Compute what the code of paper B (`ppa`) or of its predecessor (`translico`) computes; see docs/concepts.md."""

    @model_validator(mode="after")
    def _parity_decides(self) -> ObjectivesConfig:
        if self.parity and self.tcm.scope != "effective_batch":
            raise ValueError("parity decides the scope of the negatives: leave tcm.scope out")
        if self.identical != "keep" and (self.in_micro_batches or self.pair_with == "copy"):
            raise ValueError(
                f"identical={self.identical} is for pair_with=transliteration and contrast over the effective batch"
            )
        return self

    @property
    def in_micro_batches(self) -> bool:
        """Whether the losses depend on which pairs share a micro-batch."""
        return self.parity is not None or self.tcm.scope == "micro_batch"


class TrainConfig(Strict):
    """Optimization. Step counts are fixed before training."""

    batch_pairs: int = Field(1024, ge=1)
    """Effective batch in pairs over all ranks and micro-batches; it is also the contrastive batch."""
    first_batch_pairs: int | None = Field(None, ge=1)
    """Effective batch of the first step of a batch-size warm-up, a divisor of `batch_pairs`; default: no warm-up. See
    docs/launching.md."""
    batch_warmup_steps: int | None = Field(None, ge=1)
    """Steps in which the effective batch grows from `first_batch_pairs` to `batch_pairs`."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs of all languages; ignored where `max_steps` is set, which mixtures without some of the
    languages need."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps; also the length of the learning-rate schedule."""
    lr: float = Field(5e-5, gt=0)
    """Peak learning rate."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up from zero."""
    decay_steps: int | None = Field(None, ge=1)
    """The learning rate is constant until so many steps before the end, and then falls to zero as 1 − √progress;
    default: it falls linearly from the end of the warm-up on, as in both papers. See docs/launching.md."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW decay rates of the moments."""
    eps: float = Field(1e-6, gt=0)
    """AdamW ε."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW weight decay, not applied to biases and LayerNorm."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Global gradient norm limit; 0 switches clipping off."""
    max_skipped_steps: int = Field(5, ge=0)
    """How many updates in a row may be skipped because loss or gradient is not finite (apart from fp16's loss
    scaling)."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights, data order, masks and dropout."""
    gradient_checkpointing: bool = False
    """Keep only the inputs of layers and recompute the rest in the backward pass: a third more work, far less
    memory."""
    compile: bool = False
    """Fuse the element-wise operations of layers with torch.compile; needs a C++ compiler, and takes a minute at the
    start. It is meant for GPUs (benchmarks/h100.md); on a CPU it gains nothing (benchmarks/step.md)."""
    low_precision_layernorm: bool = False
    """With autocast, results of layer normalisation are bf16, computed in fp32: less memory and traffic, and a gradient
    error of 0.01 instead of 0.002."""
    precision: Literal["auto", Precision] = "auto"
    """`bf16_autocast`: bf16 in matrix products only; `bf16`, `fp16`: everywhere but in the optimizer; `auto`: fp32 on
    CPU, `bf16_autocast` on GPUs that have bf16, else `fp16`."""

    @model_validator(mode="after")
    def _batches_can_grow(self) -> TrainConfig:
        first, steps = self.first_batch_pairs, self.batch_warmup_steps
        if first is None or steps is None:
            if (first, steps) != (None, None):
                raise ValueError(
                    f"a batch-size warm-up needs first_batch_pairs and batch_warmup_steps, found {first} and {steps}: "
                    "set both or neither"
                )
            return self
        if first >= self.batch_pairs or self.batch_pairs % first:
            raise ValueError(
                f"batches grow by multiples of the first one, so first_batch_pairs must divide batch_pairs "
                f"{self.batch_pairs} and be smaller, found {first}"
            )
        if self.max_steps is not None and steps > self.max_steps:
            raise ValueError(f"batch_warmup_steps {steps} are more than max_steps {self.max_steps}")
        return self

    @model_validator(mode="after")
    def _decay_fits(self) -> TrainConfig:
        if self.decay_steps and self.max_steps and self.warmup_steps + self.decay_steps > self.max_steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} and decay_steps {self.decay_steps} are more than "
                f"max_steps {self.max_steps}"
            )
        return self


class RunConfig(Strict):
    """Where results are written, and how often."""

    name: str = Field(min_length=1, pattern=r"^\w[\w.\-]*(/\w[\w.\-]*)*$")
    """The run's folder under `dir`; default: the names of the configuration files, joined by `-`."""
    dir: Path = Path("runs")
    """Parent of all runs."""
    log_every: int = Field(10, ge=1)
    """Steps between log records."""
    checkpoint_every: int = Field(2000, ge=1)
    """Steps between checkpoints (paper A, appendix A); one more is written at the end."""
    checkpoint_minutes: float = Field(30.0, gt=0)
    """A checkpoint is also written when the last one was begun so many minutes ago, at the end of a step."""
    keep_checkpoints: int = Field(2, ge=1)
    """How many of the newest checkpoints are kept; the one that `best.json` names is never removed."""
    keep_every: int | None = Field(None, ge=1)
    """Checkpoints at multiples of this number of steps are never removed."""
    lost_seconds: float = Field(120.0, ge=20)
    """A rank that sends no heartbeat for so long is lost: all ranks end, with exit code 76."""
    stalled_minutes: float = Field(30.0, gt=0)
    """All ranks end, with exit code 76, if none has made progress for so long: longer than any evaluation takes."""

    def kept_checkpoints(self, steps: int) -> int:
        """How many checkpoints are on the disk at most after so many steps, with the one that is being written."""
        return 1 + self.keep_checkpoints + (steps // self.keep_every if self.keep_every else 0)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.dir / self.name


class SelectionConfig(Strict):
    """Early stopping: measures checkpoints by retrieval and names the best in best.json (docs/evaluation.md)."""

    task: Annotated[str, _one_of(retrieval_tasks)]
    """Retrieval task: Bible verses (paper A), FLORES or Tatoeba (paper B)."""
    data: Path
    """Folder of the test set, or its parent."""
    languages: list[str] = Field(min_length=1)
    """Languages whose pairs are evaluated: every two of them, or with `source` each of them with that language."""
    source: str | None = None
    """Only queries of this language are scored, against each of `languages`; default: both directions of every pair."""
    limit: int | None = Field(None, ge=1)
    """Use only so many pairs, the first ones; default: all."""
    measure: Annotated[str, _one_of(lambda: MEASURES)] | None = None
    """Averaged over directions; `mean` is the mean of top-1, 5 and 10. Default: the task's (docs/evaluation.md)."""
    layer: Layer | None = None
    """Layer whose hidden states are averaged; default: 2/3 of the depth, layer 8 of 12."""
    patience: int = Field(5, ge=1)
    """Training ends when this many checkpoints in a row are not better than the best before them."""


class MonitorConfig(Strict):
    """The four similarities and retrieval at every checkpoint, measured in the background (docs/analysis.md)."""

    task: Annotated[str, _one_of(retrieval_tasks)]
    """Set of parallel sentences: Bible verses (paper A), FLORES or Tatoeba (paper B)."""
    data: Path
    """Folder of the test set, or its parent."""
    languages: list[str] = Field(min_length=1)
    """Languages whose pairs are measured: every two of them, or with `source` each of them with that language."""
    source: str | None = None
    """Language that each of `languages` is paired with; default: none."""
    limit: int | None = Field(None, ge=1)
    """Use only so many pairs of sentences, the first ones; default: all."""
    layer: Layer | None = None
    """Layer whose hidden states are averaged; default: 2/3 of the depth, layer 8 of 12."""


class Config(Strict):
    """One experiment."""

    data: DataConfig
    model: ModelConfig
    objectives: ObjectivesConfig = ObjectivesConfig()
    train: TrainConfig = TrainConfig()
    run: RunConfig
    selection: SelectionConfig | None = None
    """Early stopping; default: none."""
    monitor: MonitorConfig | None = None
    """Similarities at every checkpoint; default: none."""

    def science(self) -> dict[str, Any]:
        """The settings on which the weights depend."""
        hardware = {"workers", "prefetch", "max_damaged_fraction", "staged"}
        not_science: Any = {"run": True, "selection": True, "monitor": True, "data": hardware}
        return self.model_dump(mode="json", exclude=not_science)

    def to_yaml(self) -> str:
        """All settings, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(files: Sequence[Path], overrides: Sequence[str] = ()) -> Config:
    """Merges YAML files and `a.b=value` overrides, later ones winning, and checks the result.

    Raises:
        ConfigError: a missing file, unknown key, wrong type or malformed override, with its origin.
    """
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for path in files:
        layer = read_yaml(path)
        merged = merge(merged, layer)
        origin.update(dict.fromkeys(_dotted_keys(layer), str(path)))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"override {override!r}: expected section.setting=value", "for example train.max_steps=20"
            )
        layer = _parse_value(value, override)
        for part in reversed(key.split(".")):
            layer = {part: layer}
        merged = merge(merged, layer)
        origin[key] = f"override {override!r}"
    merged = merge({"run": {"name": "-".join(path.stem for path in files)}}, merged)
    return validate(Config, merged, origin)


def stored_config(science: Mapping[str, Any], origin: str) -> Config:
    """The experiment whose `Config.science` was stored; settings that are newer than the record get their defaults.

    So the default of a new setting must mean what the program did before there was the setting.

    Args:
        origin: where it is stored, for error messages.

    Raises:
        ConfigError: this version does not have a stored setting any more, or does not allow its value.
    """
    return validate(Config, {**science, "run": {"name": "stored"}}, origin)


def merge(base: Any, layer: Any) -> Any:
    """`layer` over `base`: mappings are merged key by key, anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(layer, dict)):
        return layer
    return {key: merge(base.get(key), layer[key]) if key in layer else base[key] for key in {**base, **layer}}


def _parse_value(value: str, override: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: not a YAML value: {error}") from None


def _dotted_keys(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _dotted_keys(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def configuration_page() -> str:
    """The contents of docs/configuration.md; a test keeps the page up to date."""
    head = (
        "# Configuration\n\nAll settings of an experiment, written by "
        "`python -m translit_scale.config > docs/configuration.md`. In YAML the dots are levels; on the command line "
        "write them as they stand here: `train.max_steps=20`.\n\n"
    )
    return head + reference(Config).strip() + "\n"


if __name__ == "__main__":
    print(configuration_page(), end="")
