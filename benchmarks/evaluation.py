"""Measures the time of the parts of retrieval and of a transfer grid on a CPU, with real texts and random weights.

    python benchmarks/evaluation.py retrieval --tokenizer DIR --data DIR
    python benchmarks/evaluation.py transfer --tokenizer DIR --data DIR --workers 2

retrieval: SR-F of two languages with a model of base size (12 layers of hidden size 768) and layer 8, as in the papers.
Prints the fraction of the command's CPU time, including loading and results, that is spent in the encoder, and the time
of a plain padded model for the same sentences.
transfer: 5 seeds, 4 source languages and 2 tasks (SIB-200, Taxi1500), each tested on 10 languages, with 2 layers of
hidden size 64.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from report import heading
from transformers import AutoModel, AutoModelForMaskedLM, XLMRobertaConfig

from translit_scale.cli import main as command
from translit_scale.corpus.tokenizer import load_tokenizer, save_tokenizer
from translit_scale.evaluate import embedding
from translit_scale.evaluate.models import EmbeddingSettings, ModelName
from translit_scale.evaluate.packed import flat_states
from translit_scale.evaluate.retrieval.run import run_retrieval
from translit_scale.silence import silence_transformers
from translit_scale.testsets.registry import retrieval_tasks

SOURCES = ("eng_Latn", "heb_Hebr", "hin_Deva", "kor_Hang")
TARGETS = (*SOURCES, "deu_Latn", "fra_Latn", "rus_Cyrl", "spa_Latn", "tur_Latn", "vie_Latn")


def save_random(folder: Path, tokenizer: str, width: int, layers: int) -> Path:
    """XLM-R's architecture with random weights and a trained tokenizer."""
    loaded = load_tokenizer(tokenizer)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(loaded), hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(2, width // 64),
        intermediate_size=4 * width, max_position_embeddings=514, pad_token_id=1,
    )  # fmt: skip
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    save_tokenizer(loaded, folder)
    return folder


class Timed:
    """Wraps a function and counts the CPU time of its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds, self.tokens = function, 0.0, 0

    def __call__(self, model: Any, sentences: list[list[int]], *rest: Any) -> Any:
        """Calls the function."""
        begin = time.process_time()
        result = self.function(model, sentences, *rest)
        self.seconds += time.process_time() - begin
        self.tokens += sum(map(len, sentences))
        return result


def plain(model: Any, sentences: list[list[int]], layer: int) -> torch.Tensor:
    """The layers of the model as transformers runs them on a padded batch."""
    width = max(map(len, sentences))
    ids = torch.full((len(sentences), width), 1)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = torch.tensor(sentence)
    return model(ids, attention_mask=(ids != 1).long(), output_hidden_states=True).hidden_states[layer]


def retrieval(folder: Path, args: argparse.Namespace) -> None:
    """Prints the encoder's fraction of the time."""
    model = save_random(folder / "model", args.tokenizer, 768, 12)
    texts, notes = retrieval_tasks()["sr_f"].read(args.data, args.languages.split(","))
    batches: list[list[list[int]]] = []
    timed = Timed(flat_states)

    def kept(own: Any, sentences: list[list[int]], layer: int) -> Any:
        batches.append(sentences)
        return timed(own, sentences, layer)

    begin = time.process_time()
    with mock.patch.object(embedding, "flat_states", kept):
        run_retrieval([ModelName("random", str(model))], texts, EmbeddingSettings(device="cpu"), "sr_f", folder)
    total = time.process_time() - begin
    with silence_transformers():
        layers = AutoModel.from_pretrained(model, add_pooling_layer=False, num_hidden_layers=8).eval()
    padded = Timed(plain)
    with torch.inference_mode():
        for sentences in batches:
            padded(layers, sentences, 8)
    print(f"{len(texts[0]):,} pairs of {args.languages} ({'; '.join(notes)}), {timed.tokens:,} tokens\n")
    print("| | CPU s | share |\n|---|---|---|")
    print(f"| the command without imports | {total:.1f} | 100 % |")
    print(f"| in the encoder | {timed.seconds:.1f} | {timed.seconds / total:.1%} |")
    print(f"| the same batches, padded | {padded.seconds:.1f} | |")


def transfer(folder: Path, args: argparse.Namespace) -> None:
    """Prints how long the grid takes."""
    model = save_random(folder / "model", args.tokenizer, 64, 2)
    words = ["evaluate", "transfer", "--model", f"tiny={model}", "--data", str(args.data), "--task", "sib200"]
    words += ["--task", "taxi1500", "--languages", ",".join(TARGETS), "--out", str(folder / "results")]
    words += ["--lr", "1e-3", "--workers", str(args.workers), "--num-seeds", str(args.num_seeds)]
    for source in SOURCES:
        words += ["--source", source]
    begin = time.monotonic()
    code = command(words)
    seconds = time.monotonic() - begin
    results = [json.loads(path.read_bytes()) for path in (folder / "results").glob("*/*.json")]
    epochs = sum(len(result["epochs"]) for result in results)
    cpu = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"\nexit code {code}, {len(results)} jobs, {epochs:,} epochs, {seconds:.0f} s, {cpu:.0f} s of CPU time")


def main() -> None:
    """Runs one of the two benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["retrieval", "transfer"])
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="folder of a trained tokenizer")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder that contains sib200 and taxi1500"
    )
    parser.add_argument("--languages", default="hin_Deva,urd_Arab", help="for retrieval (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="for transfer (default: %(default)s)")
    parser.add_argument("--num-seeds", type=int, default=5, help="for transfer (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(heading(f"Evaluation: {args.what}", ("torch", "transformers")))
    with tempfile.TemporaryDirectory() as folder:
        (retrieval if args.what == "retrieval" else transfer)(Path(folder), args)


if __name__ == "__main__":
    main()
