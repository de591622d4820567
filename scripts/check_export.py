"""Compares what other programs compute from an exported folder with what we compute; scripts/check_export.sh runs it.

check_export.py expected EXPORT FILE    writes our numbers; needs this project's environment
check_export.py compare EXPORT FILE     compares them with those of the environment that runs it, which needs
                                        transformers and sentence-transformers, and may have MTEB
"""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path

import numpy as np

TOLERANCE = 1e-5
"""Of embeddings, relative to the largest number of all; the sums of a trained encoder are larger than 1."""
LETTERS = "abdeklmnoprstuабвгдеклмнорст"
FORWARD, BACKWARD = "first-second", "second-first"


def invented_pairs(count: int = 300) -> tuple[list[str], list[str]]:
    """Sentences of invented words in two scripts, and the same with most of their words replaced."""
    draw = random.Random(0)
    words = ["".join(draw.choices(draw.choice((LETTERS[:14], LETTERS[14:])), k=draw.randint(2, 7))) for _ in range(400)]
    first = [draw.choices(words, k=draw.randint(4, 12)) for _ in range(count)]
    second = [[word if draw.random() < 0.4 else draw.choice(words) for word in sentence] for sentence in first]
    return [" ".join(sentence) for sentence in first], [" ".join(sentence) for sentence in second]


FIRST, SECOND = invented_pairs()
SENTENCES = ["short", " ".join(FIRST), *FIRST[:20], "  two  spaces, ﬁ and １２ ", " ".join(SECOND)]
"""Some are longer than any model, and some change when they are normalised."""


def write_expected(export: str, file: Path) -> None:
    """Our embeddings and accuracies, the token ids that training uses, and logits."""
    from translit_scale.corpus.tokenizer import encode_batch
    from translit_scale.evaluate.embedding import Encoder
    from translit_scale.evaluate.retrieval.metrics import hits, ranks

    layer = layer_of(export)
    encoder = Encoder.load(export, "cpu", layer)
    first, second = (encoder.embed(texts).vectors for texts in (FIRST, SECOND))
    ids = [
        [*encoder.prefix, *body[: encoder.max_length - len(encoder.prefix + encoder.suffix)], *encoder.suffix]
        for body in encode_batch(encoder.tokenizer, SENTENCES)
    ]
    np.savez(
        file,
        embeddings=encoder.embed(SENTENCES).vectors,
        ids=np.concatenate(ids),
        lengths=[len(sentence) for sentence in ids],
        logits=logits_of(export, ids[0]),
        accuracies=[hits(ranks(*sides), 1).mean() for sides in ((first, second), (second, first))],
    )


def layer_of(export: str) -> int:
    """The layer that sentence-transformers is told to pool."""
    import json

    settings = json.loads(Path(export, "sentence_bert_config.json").read_bytes())
    return int(settings["config_args"]["num_hidden_layers"])


def logits_of(export: str, ids: list[int]) -> np.ndarray:
    """Logits [tokens, vocabulary] of a sentence."""
    import torch
    from transformers import AutoModelForMaskedLM

    with torch.inference_mode():
        return AutoModelForMaskedLM.from_pretrained(export).eval()(torch.tensor([ids])).logits[0].numpy()


def compare(export: str, file: Path) -> None:
    """Raises an AssertionError about the first number that differs."""
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer

    expected = np.load(file)
    ids = [part.tolist() for part in np.split(expected["ids"], np.cumsum(expected["lengths"])[:-1])]
    kinds = [True, False] if Path(export, "sentencepiece.bpe.model").exists() else [True]
    for fast in kinds:
        tokenizer = AutoTokenizer.from_pretrained(export, use_fast=fast)
        assert [tokenizer(text, truncation=True)["input_ids"] for text in SENTENCES] == ids, type(tokenizer)
        print(f"{type(tokenizer).__name__}: {len(ids)} sentences have the same token ids")
    difference = np.abs(logits_of(export, ids[0]) - expected["logits"]).max()
    assert difference < 1e-4, difference
    print(f"AutoModelForMaskedLM: logits differ by at most {difference:.1e}")
    model = SentenceTransformer(export, device="cpu")
    difference = np.abs(model.encode(SENTENCES) - expected["embeddings"]).max()
    assert difference < TOLERANCE * np.abs(expected["embeddings"]).max(), difference
    print(f"SentenceTransformer: embeddings differ by at most {difference:.1e}")
    if importlib.util.find_spec("mteb"):
        found = mteb_accuracies(model, FIRST, SECOND)
        assert found == expected["accuracies"].tolist(), (found, expected["accuracies"])
        print(f"MTEB: the same accuracies, {found}")


def mteb_accuracies(model: object, first: list[str], second: list[str]) -> list[float]:
    """MTEB's accuracies of bitext mining, for the sentences of `first` as queries and for those of `second`."""
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskBitextMining
    from mteb.abstasks.task_metadata import TaskMetadata

    class OwnSentences(AbsTaskBitextMining):
        metadata = TaskMetadata(
            name="OwnSentences", description="sentences in memory", reference=None, type="BitextMining", category="t2t",
            modalities=["text"], dataset={"path": "local/sentences", "revision": "1"}, eval_splits=["test"],
            eval_langs={FORWARD: ["rus-Cyrl"], BACKWARD: ["pol-Latn"]}, main_score="accuracy", date=None, domains=[],
            task_subtypes=[], license=None, annotations_creators=None, dialect=[], sample_creation=None,
            bibtex_citation="",
        )  # fmt: skip

        def load_data(self, *arguments: object, **options: object) -> None:
            sides = {FORWARD: (first, second), BACKWARD: (second, first)}
            self.dataset = {
                name: DatasetDict(test=Dataset.from_dict({"sentence1": queries, "sentence2": candidates}))
                for name, (queries, candidates) in sides.items()
            }
            self.data_loaded = True

    [result] = mteb.evaluate(model, OwnSentences(), cache=None, show_progress_bar=False).task_results
    accuracies = {score["hf_subset"]: score["accuracy"] for score in result.scores["test"]}
    return [accuracies[FORWARD], accuracies[BACKWARD]]


if __name__ == "__main__":
    {"expected": write_expected, "compare": compare}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
