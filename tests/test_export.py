"""An exported folder loads in other tools, has a model card, and is complete or absent."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests.support.encoders import save_encoder, tiny_model, word_tokenizer
from translit_scale.config import Config, load_config
from translit_scale.corpus.manifest import LanguageCounts, Manifest
from translit_scale.errors import ConfigError, DataError
from translit_scale.escaping import escape_markdown
from translit_scale.evaluate.embedding import Encoder
from translit_scale.export import folder
from translit_scale.export.card import CardInput, fenced, hub_language, model_card
from translit_scale.export.card_results import describe_results, main_scores
from translit_scale.export.folder import export_folder
from translit_scale.export.licences import check_licence
from translit_scale.export.results import Score, read_scores
from translit_scale.files import write_json
from translit_scale.languages import inventory
from translit_scale.train.checkpointing.checkpoint import CheckpointInfo

SETTINGS = {
    "data.shards": "set", "model.tokenizer": "t", "run.name": "tiny", "objectives.tcm.layer": 2,
    "train.batch_pairs": 64, "train.lr": 0.001,
}  # fmt: skip
CONFIG = load_config([], [f"{name}={value}" for name, value in SETTINGS.items()])
INFO = CheckpointInfo(
    step=1500, world_size=1, zero_stage=0, science=CONFIG.science(), shards="0123abcd", tokenizer="",
    pairs={"ukr_Cyrl": 40, "pol_Latn": 1200},
)  # fmt: skip


@pytest.mark.parametrize("family", ["xlm-roberta", "bert", "modernbert"])
def test_reloaded_model_gives_the_same_logits(tmp_path: Path, family: str) -> None:
    model, tokenizer = tiny_model(family).eval(), word_tokenizer()
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_()
    export_folder(model, tokenizer, tmp_path / "out", "# A card", 2)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(["w1 w2 <mask>", "w3"], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == tokenizer(["w1 w2 <mask>", "w3"], padding=True)["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(again(**batch).logits, model(**batch).logits, rtol=0, atol=0)
    if family == "xlm-roberta":  # transformers 4.46 reads the second name only
        weights = load_file(tmp_path / "out/model.safetensors")
        assert weights["lm_head.bias"].equal(model.lm_head.bias) and weights["lm_head.decoder.bias"].equal(
            model.lm_head.bias
        )
    head, embeddings = again.get_output_embeddings(), again.get_input_embeddings()
    assert head.weight.data_ptr() == embeddings.weight.data_ptr()


@pytest.mark.parametrize("family", ["xlm-roberta", "modernbert"])
def test_the_code_of_the_card_runs(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(family)
    export_folder(model, word_tokenizer(), tmp_path / "out", model_card(CardInput(model, CONFIG, INFO, 2)), 2)
    monkeypatch.chdir(tmp_path / "out")
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "out/README.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    *blocks, with_sentence_transformers = blocks
    for block in blocks:
        exec(block, names)
    expected_type = {"xlm-roberta": "XLMRobertaModel", "modernbert": "ModernBertModel"}[family]
    assert len(blocks) == 2 and type(names["model"]).__name__ == expected_type
    expected = Encoder.load(".", layer=2).embed(["one sentence", "another sentence"]).vectors
    np.testing.assert_allclose(names["embeddings"].numpy(), expected, atol=1e-6)  # type: ignore[attr-defined]
    exec(with_sentence_transformers, names)
    np.testing.assert_allclose(names["embeddings"], expected, atol=1e-5)  # type: ignore[arg-type]


def card(config: Config = CONFIG, info: CheckpointInfo = INFO, **facts: Any) -> tuple[dict[str, Any], str]:
    """Front matter and text of the card."""
    content = model_card(CardInput(tiny_model(), config, info, 2, **facts))
    assert content.startswith("---\n")
    front, text = content[4:].split("\n---\n", 1)
    return yaml.safe_load(front), text


def changed(**values: object) -> Config:
    """The configuration with other values (`__` for dots), which are not validated."""
    config = CONFIG.model_copy(deep=True)
    for name, value in values.items():
        *sections, last = name.split("__")
        object.__setattr__(reduce(getattr, sections, config), last, value)
    return config


def test_card_says_what_the_model_is() -> None:
    front, text = card(changed(model__pretrained="org/base"), licence="apache-2.0")
    assert front["language"] == ["pl", "uk"] and front["license"] == "apache-2.0"
    assert front["base_model"] == "org/base"
    rows = re.findall(r"\| (\w{8}) \| ([\d,]+) \| ([\d,]+) \|", text)
    pairs = {code: [int(number.replace(",", "")) for number in numbers] for code, *numbers in rows}
    assert [pairs["pol_Latn"][0], pairs["ukr_Cyrl"][0]] == [1200, 40]
    assert pairs["pol_Latn"][1] == pytest.approx(1500 * 64 * 1200 / 1240, abs=1)
    assert pairs["pol_Latn"][1] + pairs["ukr_Cyrl"][1] == 1500 * 64
    for stated in ("1,500 optimizer steps", "64 pairs each", "layer 2", "0123abcd", "lr: 0.001", "org/base"):
        assert stated in text
    for stated in ("can reveal parts of its training text", "2025.coling-main.165", "arxiv.org/abs/2406.19759"):
        assert stated in text


def test_card_counts_the_smaller_batches_of_a_warmup() -> None:
    config = changed(train__first_batch_pairs=16, train__batch_warmup_steps=300, train__max_steps=1500)
    _, text = card(config, replace(INFO, science=config.science()))
    rows = re.findall(r"\| \w{8} \| [\d,]+ \| ([\d,]+) \|", text)
    assert sum(int(number.replace(",", "")) for number in rows) == 100 * (16 + 32 + 48) + 1200 * 64
    assert "1,500 optimizer steps with 16 to 64 pairs each" in text and "first_batch_pairs: 16" in text


def test_card_leaves_out_languages_that_join_after_the_checkpoint() -> None:
    front, text = card(info=replace(INFO, visits={"pol_Latn": 0, "ukr_Cyrl": 96_000}))
    assert front["language"] == ["uk"] and "| ukr_Cyrl | 40 | 96,000 |" in text and "| pol_Latn |" not in text


def test_licence_and_base_model_that_nobody_gave() -> None:
    front, text = card()
    assert front["license"] == "unknown" and "base_model" not in front
    assert "Licence: unknown" in text and "trained from scratch" in text


def test_strings_of_others_stay_text() -> None:
    hostile = "x](http://a) <script>\n---\nlicense: mit\n# heading | `code`"
    config = changed(
        run__name=hostile, model__pretrained=hostile, objectives__tcm__similarity=hostile,
        data__shards=Path("````\n```\n# not a heading\n"),
    )  # fmt: skip
    front, text = card(config, licence=hostile)
    assert front["license"] == hostile and "base_model" not in front  # it looks like a path
    outside = re.sub(r"(`{3,})\w*\n.*?\n\1\n", "", text + "\n", flags=re.DOTALL)
    assert "not a heading" not in outside
    assert [line for line in outside.split("\n") if line.startswith("#")][1:] == [
        "## Use", "## Training", "## Training data", "## Limits", "## Settings", "## Citation",
    ]  # fmt: skip
    assert "<script>" not in outside and "x](" not in outside


def test_settings_without_effect_and_private_paths_are_not_in_the_card(tmp_path: Path) -> None:
    (tmp_path / "secret" / "our-base").mkdir(parents=True)
    words = ["objectives.tcm.weight=1", f"data.shards={tmp_path}/secret/horn", "train.max_steps=9",
             f"model.pretrained={tmp_path}/secret/our-base", f"model.tokenizer={tmp_path}/secret/tok"]  # fmt: skip
    front, text = card(load_config([], [f"{k}={v}" for k, v in SETTINGS.items()] + words))
    assert "secret" not in text and "base_model" not in front and "continued from our-base" in text
    settings = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])  # type: ignore[index]
    assert settings["data"]["shards"] == "horn" and settings["model"] == {
        "pretrained": "our-base", "tokenizer": "tok", "max_length": 512, "dropout": 0.1,
    }  # fmt: skip
    assert "epochs" not in settings["train"] and "initial_bias" not in settings["objectives"]["tcm"]
    assert "tlm" not in settings["objectives"] and "alpha" not in settings["data"]["mixture"]


def test_the_card_of_a_model_without_transliterations_says_so() -> None:
    front, text = card(changed(objectives__pair_with="copy", objectives__tcm__weight=0.5))
    prose = text.partition("## Settings")[0]
    assert "without transliterations" in prose and "the same text with other masks" in prose
    assert "a copy of itself" in prose and "its transliteration" not in prose
    assert "transliteration" not in front["tags"]


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_card_says_what_a_pair_is_and_whether_sentences_were_compared(weight: float) -> None:
    for pair_with, second in {"copy": "a copy of it", "transliteration": "its Latin transliteration"}.items():
        _, text = card(changed(objectives__pair_with=pair_with, objectives__tcm__weight=weight))
        assert f"A pair is a sentence and {second}, cut to 512 tokens each" in text
        assert ("No objective of this training compared sentences" in text) == (weight == 0)


def test_where_text_and_transliterations_come_from() -> None:
    count = {"read": 9, "dropped": {}, "rows": 9, "identical": 0, "fallbacks": 0, "orig_chars": 9, "latn_chars": 9}
    counts = {code: LanguageCounts(**count, from_column=n) for code, n in {"pol_Latn": 0, "ukr_Cyrl": 7}.items()}  # type: ignore[arg-type]
    provenance = {
        "recipe": {"languages": {"pol_Latn": [{"path": "news/*.txt"}]}},
        "inputs": {"pol_Latn": {"news/a.txt": "0"}, "ukr_Cyrl": {"web/ukr.jsonl": "1"}},
        "romanizer": {"implementation": "uroman", "version": "1.2.3", "lcode": "by_language"},
    }
    manifest = Manifest.model_construct(name="set", languages=counts, provenance=provenance)
    _, text = card(manifest=manifest)
    assert r" | news/\*.txt |" in text and "| web/ukr.jsonl |" in text
    assert "made by uroman 1.2.3, told the language." in text and "came with the text instead: 7 of ukr_Cyrl" in text
    count = counts["ukr_Cyrl"].model_copy(update={"further": 1300})
    several = provenance | {
        "recipe": {"romanize": {"lcode": ["by_language", "none"], "beside_column": True}},
        "further_romanizers": [{"implementation": "uroman", "version": "1.2.3", "lcode": "none"}],
    }
    manifest = Manifest.model_construct(name="set", languages=counts | {"ukr_Cyrl": count}, provenance=several)
    _, text = card(manifest=manifest)
    assert "made by uroman 1.2.3, told the language, and also by uroman 1.2.3." in text
    assert "came with the text, and those that were made stand beside them: 7 of ukr_Cyrl" in text
    assert "There were 1,300 further ones" in text and "instead" not in text
    _, text = card(changed(data__transliterations="first"), manifest=manifest)
    assert "told the language. Transliterations" in text.replace("\n", " ") and "with the text instead: 7" in text
    assert "further" not in text


def test_licences_of_the_hub() -> None:
    assert [check_licence(name) for name in ("MIT", "CC-BY-SA-4.0", "other")] == ["mit", "cc-by-sa-4.0", "other"]
    for wrong, meant in {"cc-by": "cc-by-4.0", "apache2": "apache-2.0", "GPL-3.0-only": "gpl-3.0"}.items():
        with pytest.raises(ConfigError, match="no licence of this name") as error:
            check_licence(wrong)
        assert meant in str(error.value.hint)


def result(
    folder: Path, model: str, weights: str, task: str, kind: str, tests: list[dict[str, Any]], **more: Any
) -> None:
    record = {"schema": 1, "task_name": task, "task_type": kind, "scores": {"test": tests}, "settings": more}
    record["model"] = {"label": model, "path": model, "weights_sha256": weights}
    write_json(folder / task / f"{model.replace('/', '_')}{more.get('seed', '')}.json", record)


def test_results_of_these_weights_and_of_the_base_model(tmp_path: Path) -> None:
    model = tiny_model()
    weights = Encoder.load(save_encoder(tmp_path / "model")).weights_sha256
    texts = {"n": 1200, "text_sha256": "a"}
    direction = {"query": "pol_Latn", "candidates": "ukr_Cyrl", "top5": 0.5, "top10": 0.75} | texts
    result(tmp_path, "mine", weights, "sr_b", "retrieval", [direction | {"top1": 0.25}])
    result(tmp_path, "org/base", "other", "sr_b", "retrieval", [direction | {"top1": 0.125}])
    result(tmp_path, "stranger", "third", "sr_b", "retrieval", [direction | {"top1": 0.0625}])
    for seed, score in enumerate((0.4, 0.6)):
        tests = [{"language": "ukr_Cyrl", "main_score": score} | texts]
        result(tmp_path, "mine", weights, "ner", "tagging", tests, source=["pol_Latn"], seed=seed)
    scores = read_scores(tmp_path, model, "org/base")
    front, text = card(changed(model__pretrained="org/base"), scores=scores)
    assert "| pol\\_Latn → ukr\\_Cyrl | 1,200 | 25.0 (12.5) | 50.0 (50.0) | 75.0 (75.0) |" in text
    assert "NER: fine-tuned on → tested on | n | F1 |" in text
    assert "| pol\\_Latn → ukr\\_Cyrl | 1,200 | 50.0 |" in text
    assert "In brackets: org/base" in text and "6.2" not in text
    [index] = front["model-index"]
    values = {r["dataset"]["name"]: [m["value"] for m in r["metrics"]] for r in index["results"]}
    assert index["name"] == "tiny" and values == {"NER": [0.5], "SR-B": [0.25, 0.5, 0.75]}
    with pytest.raises(DataError, match="no results of these weights; there are results of mine, org/base, stranger"):
        read_scores(tmp_path, tiny_model(seed=5), None)


def test_only_results_on_the_same_texts_are_compared(tmp_path: Path) -> None:
    """The base model was measured on fewer sentences of the same set: its score stands in no bracket."""
    weights = Encoder.load(save_encoder(tmp_path / "model")).weights_sha256
    direction = {"query": "hin_Deva", "candidates": "urd_Arab", "top1": 0.25, "top5": 0.5, "top10": 0.75}
    result(tmp_path, "mine", weights, "sr_f", "retrieval", [direction | {"n": 400, "text_sha256": "all"}])
    result(tmp_path, "base", "other", "sr_f", "retrieval", [direction | {"n": 100, "text_sha256": "first"}])
    scores = read_scores(tmp_path, tiny_model(), "base")
    assert [(score.n, score.value, score.base) for score in scores] == [
        (400, value, None) for value in (0.25, 0.5, 0.75)
    ]


@given(st.text())
def test_escaped_text_is_one_line_and_comes_back(text: str) -> None:
    escaped = escape_markdown(text)
    assert len(escaped.splitlines()) <= 1
    assert re.sub(r"\\(.)", r"\1", escaped) == " ".join(text.split())
    assert not re.search(r"(?<!\\)(?:\\\\)*[`<\[|]", escaped)


@given(st.text(alphabet="`a\n"))
def test_a_code_block_cannot_be_closed_from_inside(text: str) -> None:
    opening, *inside, closing = fenced(text, "yaml").split("\n")
    assert opening == closing + "yaml"
    assert not any(closing in line for line in inside)


def test_language_codes_of_the_hub() -> None:
    assert [hub_language(code) for code in ("pol_Latn", "wuu_Hani", "hin_Deva")] == ["pl", "wuu", "hi"]


def test_a_folder_that_is_not_empty_needs_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_folder(tiny_model(), word_tokenizer(), out, "# A card", 2)  # empty is fine
    (out / "old").touch()
    with pytest.raises(ConfigError, match="not empty"):
        export_folder(tiny_model(seed=1), word_tokenizer(), out, "# A card", 2)
    assert (out / "old").exists()
    export_folder(tiny_model(seed=1), word_tokenizer(), out, "# A card", 2, force=True)
    assert not (out / "old").exists() and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_models_only(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not a model folder"):
        export_folder(tiny_model(), word_tokenizer(), tmp_path, "# A card", 2, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_encoder(tmp_path / "out", seed=3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "save_tokenizer", fail)
    with pytest.raises(DataError, match="No space left"):
        export_folder(tiny_model(), word_tokenizer(), tmp_path / "out", "# A card", 2, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_all_files_can_be_read_by_whom_the_card_can(tmp_path: Path) -> None:
    export_folder(tiny_model(), word_tokenizer(), tmp_path / "out", "# A card", 2)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {stat.S_IMODE((tmp_path / "out/README.md").stat().st_mode)}


def test_libraries_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_folder(tiny_model(), word_tokenizer(), tmp_path / "out", "# A card", 2)
    assert capsys.readouterr() == ("", "")


def test_a_card_stays_short_with_hundreds_of_languages() -> None:
    codes = list(inventory())[:300]
    scores = [
        Score("sr_b", "retrieval", f"eng_Latn → {code}", 500, metric, 0.5 + index / 1000, 0.5)
        for index, code in enumerate(codes) for metric in ("top1", "top5", "top10")
    ]  # fmt: skip
    text = describe_results(scores, "org/base")
    assert "| average of 300 | | 65.0 \\[" in text and "| minus the base model, 300 | | +14.9 \\[" in text
    rows = [line for line in text.split("\n") if line.startswith("| eng")]
    assert len(rows) == 10 and escape_markdown(codes[0]) in rows[0] and escape_markdown(codes[-1]) in rows[-1]
    assert "290 others are left out" in text and "org/base, from which training continued" in text
    assert [(score.languages, score.metric) for score in main_scores(scores)] == [
        ("average of 300", metric) for metric in ("top1", "top5", "top10")
    ]
    few = describe_results(scores[:6], None)
    assert few.count("| eng") == 2 and "left out" not in few
