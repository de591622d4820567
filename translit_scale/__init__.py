"""translit_scale: train multilingual encoders on sentences together with their Latin transliterations.

The names in `__all__` are the Python interface that docs/api.md describes. They are imported at their first use, so
that `import translit_scale` waits for no large package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from translit_scale.corpus.shards import ShardSet
    from translit_scale.evaluate.embedding import Encoder
    from translit_scale.evaluate.retrieval import metrics as retrieval
    from translit_scale.pair_data import Pair, PairDataset, block_pairs, stream_pairs
    from translit_scale.romanize.romanizer import Romanizer

__version__ = "0.1.0"
__all__ = ["Encoder", "Pair", "PairDataset", "Romanizer", "ShardSet", "block_pairs", "retrieval", "stream_pairs"]

_PLACES = {
    "Encoder": "translit_scale.evaluate.embedding:Encoder",
    "Pair": "translit_scale.pair_data:Pair",
    "PairDataset": "translit_scale.pair_data:PairDataset",
    "Romanizer": "translit_scale.romanize.romanizer:Romanizer",
    "ShardSet": "translit_scale.corpus.shards:ShardSet",
    "block_pairs": "translit_scale.pair_data:block_pairs",
    "retrieval": "translit_scale.evaluate.retrieval.metrics:",
    "stream_pairs": "translit_scale.pair_data:stream_pairs",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    value = import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
