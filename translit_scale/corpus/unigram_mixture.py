"""Joins two SentencePiece unigram models into one, so that transliterations have pieces of their own.

A unigram model is a distribution over pieces. Of text that is with probability λ a transliteration and otherwise in the
original script, the distribution is (1 − λ) · p_original + λ · p_transliteration: pieces of both, each with the
logarithm of that as its score, and segmentations are the most probable ones as before.
"""

from __future__ import annotations

import math
from typing import Any

from sentencepiece import sentencepiece_model_pb2

_messages: Any = sentencepiece_model_pb2
"""Its classes are made when it is imported, so that mypy knows none of them."""


def mixture(original: bytes, transliterations: bytes, share: float) -> bytes:
    """The model of text of which a `share` is transliterated.

    Args:
        original, transliterations: serialised models, trained with the same options.

    Returns:
        A serialised model: the unknown and control pieces of `original`, then the pieces of both by falling score. Its
        number of pieces is the sum less the pieces that both have.
    """
    models = []
    for content in (original, transliterations):
        model = _messages.ModelProto()
        model.ParseFromString(content)
        models.append(model)
    normal = _messages.ModelProto.SentencePiece.NORMAL
    probability: dict[str, float] = {}
    for model, weight in zip(models, (1 - share, share), strict=True):
        for piece in model.pieces:
            if piece.type == normal:
                probability[piece.piece] = probability.get(piece.piece, 0.0) + weight * math.exp(piece.score)
    result = models[0]
    kept = [piece for piece in result.pieces if piece.type != normal]
    del result.pieces[:]
    result.pieces.extend(kept)
    for piece, p in sorted(probability.items(), key=lambda item: (-item[1], item[0])):
        result.pieces.add(piece=piece, score=math.log(p))
    result.trainer_spec.vocab_size = len(result.pieces)
    return bytes(result.SerializeToString())
