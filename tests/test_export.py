"""An exported folder loads in other tools, has a model card, and is complete or absent."""

from __future__ import annotations

import re
import stat
from functools import reduce
from pathlib import Path

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
from translit_scale.errors import ConfigError, DataError
from translit_scale.escaping import escape_markdown
from translit_scale.evaluate.embedding import Encoder
from translit_scale.export import folder
from translit_scale.export.card import fenced, hub_language, model_card
from translit_scale.export.folder import export_folder
from translit_scale.train.checkpointing.checkpoint import CheckpointInfo

SETTINGS = {
    "data.shards": "set", "model.tokenizer": "t", "run.name": "tiny", "objectives.tcm.layer": 2,
    "train.batch_pairs": 64, "train.lr": 0.001,
}  # fmt: skip
CONFIG = load_config([], [f"{name}={value}" for name, value in SETTINGS.items()])
INFO = CheckpointInfo(
    step=1500, world_size=1, zero_stage=0, science={}, shards="0123abcd", tokenizer="",
    pairs={"ukr_Cyrl": 40, "pol_Latn": 1200},
)  # fmt: skip


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
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


def test_the_code_of_the_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    export_folder(model, word_tokenizer(), tmp_path / "out", model_card(model, CONFIG, INFO, 2), 2)
    monkeypatch.chdir(tmp_path / "out")
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "out/README.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert len(blocks) == 2 and type(names["model"]).__name__ == "XLMRobertaModel"
    expected = Encoder.load(".", layer=2).embed(["one sentence", "another sentence"]).vectors
    np.testing.assert_allclose(names["embeddings"].numpy(), expected, atol=1e-6)  # type: ignore[attr-defined]


def card(config: Config = CONFIG, licence: str | None = None) -> tuple[dict[str, object], str]:
    """Front matter and text of the card."""
    content = model_card(tiny_model(), config, INFO, 2, licence)
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
    assert front["language"] == ["uk", "pl"] and front["license"] == "apache-2.0"
    assert front["base_model"] == "org/base"
    assert "| Polish (Latin) | pol_Latn | 1,200 |" in text
    for stated in ("1,500 optimizer steps", "64 sentence pairs", "layer 2", "0123abcd", "lr: 0.001", "org/base"):
        assert stated in text


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
    assert front["license"] == hostile and front["base_model"] == hostile
    outside = re.sub(r"(`{3,})\w*\n.*?\n\1\n", "", text + "\n", flags=re.DOTALL)
    assert "not a heading" not in outside
    assert [line for line in outside.split("\n") if line.startswith("#")][1:] == [
        "## Use", "## Training", "## Configuration",
    ]  # fmt: skip
    assert "<script>" not in outside and "x](" not in outside


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
