"""Other programs compute from an exported folder what we compute, also for sentences longer than the model."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from scripts.check_export import mteb_accuracies
from tests.support.encoders import POSITIONS, WORDS, tiny_model, word_tokenizer
from tests.support.labelled_world import save_learner, write_sib200
from tests.test_export import CONFIG, INFO
from translit_scale.cli import main
from translit_scale.evaluate.embedding import Encoder
from translit_scale.export.card import CardInput, model_card
from translit_scale.export.folder import export_folder

LONGEST = {"xlm-roberta": POSITIONS - 2, "bert": POSITIONS}
"""Tokens that the tiny models take: XLM-R's positions begin behind its padding index, 1."""
TOO_LONG = " ".join(WORDS)
SENTENCES = ["w1 w2 w3", TOO_LONG, "w7", "w9 unknown w4 w4", "", " ".join(reversed(WORDS))]


@pytest.fixture(params=LONGEST)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def exported(family: str, tmp_path: Path) -> Path:
    """A tiny model whose embeddings are those of layer 2 of 3; its tokenizer knows no longest sentence."""
    model = tiny_model(family)
    export_folder(model, word_tokenizer(), tmp_path / "out", model_card(CardInput(model, CONFIG, INFO, 2)), 2)
    return tmp_path / "out"


def test_the_tokenizer_knows_how_many_tokens_the_model_takes(exported: Path, family: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert tokenizer.model_max_length == LONGEST[family]
    ids = tokenizer(TOO_LONG, truncation=True, return_tensors="pt")
    assert ids["input_ids"].shape == (1, LONGEST[family])
    assert AutoModelForMaskedLM.from_pretrained(exported)(**ids).logits.isfinite().all()


def test_the_snippet_of_the_card_takes_long_sentences(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    code = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), flags=re.DOTALL)
    [embed] = [block for block in code if '"another sentence"' in block and "AutoModel" in block]
    names: dict[str, object] = {}
    exec(embed.replace('"another sentence"', repr(TOO_LONG)), names)
    expected = Encoder.load(".", layer=2).embed(["one sentence", TOO_LONG])
    assert expected.truncated == 1
    np.testing.assert_allclose(np.asarray(names["embeddings"]), expected.vectors, atol=1e-6)


def test_pipelines_take_long_sentences(exported: Path, family: str) -> None:
    features = pipeline("feature-extraction", model=str(exported), truncation=True)(TOO_LONG)
    assert len(features[0]) == LONGEST[family]
    fill = pipeline("fill-mask", model=str(exported), tokenizer_kwargs={"truncation": True})
    assert len(fill(f"w1 <mask> {TOO_LONG}")) == 5


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_sentence_transformers_gives_our_embeddings(family: str, layer: int, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    export_folder(tiny_model(family), word_tokenizer(), tmp_path / "out", "# A card", layer)
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    expected = Encoder.load(str(tmp_path / "out"), "cpu", layer).embed(SENTENCES)
    assert expected.truncated == 2
    np.testing.assert_allclose(model.encode(SENTENCES, batch_size=4), expected.vectors, atol=1e-5)
    assert model.max_seq_length == LONGEST[family] and model.similarity_fn_name == "cosine"
    assert len(list((tmp_path / "out").rglob("*.safetensors"))) == 1


@pytest.mark.slow
def test_mteb_counts_the_translations_that_evaluate_counts(exported: Path, tmp_path: Path) -> None:
    """MTEB's accuracy of bitext mining in each direction is our top-1 to the last digit, long sentences included."""
    from sentence_transformers import SentenceTransformer

    draw = random.Random(1)
    first = [draw.choices(WORDS, k=draw.randint(3, 30)) for _ in range(200)]
    second = [[word if draw.random() < 0.5 else draw.choice(WORDS) for word in sentence] for sentence in first]
    sides = {"pol_Latn": [" ".join(words) for words in first], "ukr_Cyrl": [" ".join(words) for words in second]}
    for language, sentences in sides.items():
        (tmp_path / language).write_text("\n".join(sentences) + "\n")
    parallel = [f"{language}:{tmp_path / language}" for language in sides]
    out = ["--out", str(tmp_path / "results"), "--name", "own"]
    assert main(["evaluate", "retrieval", "--model", f"m={exported}", "--parallel", *parallel, *out]) == 0
    [result] = map(json.loads, (path.read_text() for path in (tmp_path / "results/own").glob("m*.json")))
    ours = {test["query"]: test["top1"] for test in result["scores"]["test"]}
    assert min(ours.values()) > 0.1 and max(ours.values()) < 0.95
    model = SentenceTransformer(str(exported), device="cpu")
    assert mteb_accuracies(model, *sides.values()) == [ours["pol_Latn"], ours["ukr_Cyrl"]]


@pytest.mark.slow
def test_mteb_reads_our_results(tmp_path: Path) -> None:
    """Of retrieval and of transfer, with the languages under the codes that mteb uses."""
    from mteb.results import TaskResult

    save_learner(tmp_path / "model")
    for language in ("pol_Latn", "ukr_Cyrl"):
        (tmp_path / language).write_text("".join(f"w{number}\n" for number in range(9)))
    write_sib200(tmp_path, ("pol_Latn", "ukr_Cyrl"))
    model, parallel = f"m={tmp_path / 'model'}", [f"{name}:{tmp_path / name}" for name in ("pol_Latn", "ukr_Cyrl")]
    out = ["--out", str(tmp_path / "results")]
    assert main(["evaluate", "retrieval", "--model", model, "--parallel", *parallel, "--name", "own", *out]) == 0
    transfer = ["--task", "sib200", "--source", "pol_Latn", "--epochs", "1", "--num-seeds", "1", "--workers", "1"]
    assert main(["evaluate", "transfer", "--model", model, "--data", str(tmp_path), *transfer, *out]) == 0
    for path in ("own/m.json", "sib200/m.pol_Latn.seed42.json"):
        file = tmp_path / "results" / path
        read, scores = TaskResult.from_disk(file), json.loads(file.read_bytes())["scores"]["test"]
        assert read.get_score() == pytest.approx(np.mean([score["main_score"] for score in scores]))
        ukrainian = [score["main_score"] for score in scores if "ukr-Cyrl" in score["languages"]]
        assert ukrainian and read.get_score(languages=["ukr"]) == pytest.approx(np.mean(ukrainian))
