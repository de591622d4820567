"""Fine-tuning: the states, losses and gradients of transformers' own classes, sequences that lose no word."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, XLMRobertaForSequenceClassification, XLMRobertaForTokenClassification

from tests.support.encoders import save_encoder, word_tokenizer
from tests.support.labelled_world import save_learner
from translit_scale.errors import ConfigError, NumericError
from translit_scale.evaluate.embedding import Encoder
from translit_scale.evaluate.packed import flat_states, last_states, pack_attention
from translit_scale.evaluate.transfer.finetune import Classifier, Kind, finetune, predict
from translit_scale.evaluate.transfer.tokenize import TokenizedSplit, tokenize_split
from translit_scale.testsets.classification import LabelledTexts
from translit_scale.testsets.hyperparameters import Hyperparameters
from translit_scale.testsets.tagging import TaggedSentences

ONE_STEP = Hyperparameters(epochs=1, lr=1e-3, max_length=20, batch_size=100, dropout=0.0)


def some_ids(count: int, longest: int = 18) -> list[list[int]]:
    rng = random.Random(1)
    return [[0, *(rng.randrange(4, 64) for _ in range(rng.randint(0, longest))), 2] for _ in range(count)]


@pytest.mark.parametrize("family", ["xlm-roberta", "bert", "distilbert", "albert", "modernbert"])
def test_flat_states_are_those_of_one_sentence_at_a_time(tmp_path: Path, family: str) -> None:
    folder = save_encoder(tmp_path, family)
    plain, model = (AutoModel.from_pretrained(folder).eval() for _ in range(2))
    pack_attention(model)
    sentences = some_ids(9)
    with torch.no_grad():
        outputs = [plain(torch.tensor([sentence]), output_hidden_states=True) for sentence in sentences]
        for layer in (0, 2, 3):
            states, bounds = flat_states(model, [*sentences, []], layer)
            assert bounds[-1] == bounds[-2] == len(states)
            for output, start, end in zip(outputs, bounds, bounds[1:], strict=False):
                torch.testing.assert_close(states[start:end], output.hidden_states[layer][0], atol=1e-5, rtol=0)
        assert flat_states(model, [[], []], 2)[0].shape == (0, 16)
        places = [list(range(row % 2, len(sentence), 2)) for row, sentence in enumerate(sentences)]
        expected = torch.cat([output.last_hidden_state[0, own] for output, own in zip(outputs, places, strict=True)])
        torch.testing.assert_close(last_states(model, sentences, places), expected, atol=1e-5, rtol=0)


def reference(kind: Kind, folder: str, model: Classifier) -> torch.nn.Module:
    """transformers' own model with the weights of ours."""
    family = XLMRobertaForSequenceClassification if kind == "classification" else XLMRobertaForTokenClassification
    theirs = family.from_pretrained(folder, num_labels=5, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    head = theirs.classifier if kind == "classification" else theirs
    loaded = head.load_state_dict(model.head.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    return theirs


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_loss_and_gradients_equal_transformers_padded(tmp_path: Path, kind: Kind) -> None:
    folder = save_learner(tmp_path)
    torch.manual_seed(3)
    model = Classifier(Encoder.load(folder, layer=1.0).model, kind, 5, dropout=0.0)
    theirs = reference(kind, folder, model)
    ids = some_ids(11)
    places = [[0] if kind == "classification" else list(range(1, len(s) - 1, 2)) for s in ids]
    labels = [[(row + place) % 5 for place in own] for row, own in enumerate(places)]

    width = max(map(len, ids))
    padded = torch.tensor([sentence + [1] * (width - len(sentence)) for sentence in ids])
    wanted = torch.full(padded.shape, -100)
    for row, (own, gold) in enumerate(zip(places, labels, strict=True)):
        wanted[row, own] = torch.tensor(gold, dtype=torch.long)
    output = theirs(padded, attention_mask=padded != 1, labels=wanted[:, 0] if kind == "classification" else wanted)
    output.loss.backward()

    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients: dict[str, torch.Tensor] = {}

    def keep(_: Classifier) -> float:
        gradients.update(
            {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        )
        return 0.0

    (epoch,) = finetune(model, TokenizedSplit(ids, places, labels, {}), keep, ONE_STEP, seed=1, name="job")
    assert epoch.loss == pytest.approx(output.loss.item(), abs=1e-5)
    head = "classifier." if kind == "classification" else ""
    compared = 0
    for name, parameter in theirs.named_parameters():
        own = (
            name.replace("roberta.", "encoder.", 1)
            if name.startswith("roberta.")
            else f"head.{name.removeprefix(head)}"
        )
        if parameter.grad is not None and own in gradients:
            torch.testing.assert_close(gradients[own], parameter.grad, atol=1e-5, rtol=0)
            compared += 1
    assert compared == len(gradients) == len([p for p in model.parameters() if p.requires_grad])
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_an_update_in_parts_is_the_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_learner(tmp_path)
    ids = some_ids(20)
    data = TokenizedSplit(ids, [[0]] * 20, [[row % 3] for row in range(20)], {})
    results = []
    for tokens in (10_000, 40):
        monkeypatch.setattr("translit_scale.evaluate.transfer.finetune.MICRO_TOKENS", tokens)
        torch.manual_seed(0)
        model = Classifier(Encoder.load(folder, layer=1.0).model, "classification", 3, dropout=0.0)
        calls: list[int] = []
        model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        (epoch,) = finetune(model, data, lambda _: 0.0, ONE_STEP, seed=1, name="job")
        results.append((len(calls), epoch.loss, [p.grad for p in model.parameters() if p.grad is not None]))
    (one, loss, gradients), (many, loss_in_parts, gradients_in_parts) = results
    assert one == 1 < many
    assert loss == pytest.approx(loss_in_parts, abs=1e-6)
    for a, b in zip(gradients, gradients_in_parts, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_dropout_is_on_in_training_and_off_in_prediction(tmp_path: Path) -> None:
    model = Classifier(Encoder.load(save_learner(tmp_path), layer=1.0).model, "tagging", 5, dropout=0.5)
    ids, places = some_ids(3), [[0]] * 3
    model.train()
    assert not torch.equal(model(ids, places), model(ids, places))
    layer = model.encoder.encoder.layer[0]
    assert layer.attention.self.dropout.p == layer.output.dropout.p == 0.5
    model.eval()
    assert torch.equal(model(ids, places), model(ids, places))


def test_the_best_epoch_is_kept_and_its_first_occurrence(tmp_path: Path) -> None:
    model = Classifier(Encoder.load(save_learner(tmp_path), layer=1.0).model, "classification", 3, dropout=0.1)
    data = TokenizedSplit(some_ids(20), [[0]] * 20, [[row % 3] for row in range(20)], {})
    seen: list[dict[str, torch.Tensor]] = []
    scores = iter([0.1, 0.5, 0.5, 0.2])

    def dev_score(model: Classifier) -> float:
        assert not model.training
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(scores)

    epochs = finetune(model, data, dev_score, Hyperparameters(4, 1e-3, 20, batch_size=8), seed=1, name="job")
    assert [epoch.dev for epoch in epochs] == [0.1, 0.5, 0.5, 0.2]
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())
    assert not torch.equal(seen[1]["head.dense.weight"], seen[3]["head.dense.weight"])


def test_predictions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    model = Classifier(Encoder.load(save_learner(tmp_path), layer=1.0).model, "tagging", 5, dropout=0.1).eval()
    ids = some_ids(30)
    data = TokenizedSplit(ids, [list(range(len(s))) for s in ids], [[0] * len(s) for s in ids], {})
    whole = predict(model, data)
    assert whole.shape == (sum(map(len, ids)),)
    np.testing.assert_array_equal(whole, predict(model, data, batch_tokens=25))
    alone = [
        predict(model, TokenizedSplit([s], [p], [g], {})) for s, p, g in zip(ids, data.places, data.labels, strict=True)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(alone))


def test_a_loss_that_is_no_number_names_job_and_step(tmp_path: Path) -> None:
    model = Classifier(Encoder.load(save_learner(tmp_path), layer=1.0).model, "classification", 3, dropout=0.0)
    data = TokenizedSplit(some_ids(20), [[0]] * 20, [[0]] * 20, {})
    with torch.no_grad():
        model.head.out_proj.bias[0] = float("inf")
    with pytest.raises(NumericError, match=r"sib200/tcm\.eng_Latn\.seed42, step 1 of 3: the loss is (nan|inf)"):
        finetune(model, data, lambda _: 0, Hyperparameters(1, 1e-3, 20, batch_size=8), 1, "sib200/tcm.eng_Latn.seed42")
    with pytest.raises(NumericError, match="not finite"):
        predict(model.eval(), data)


words = st.lists(st.sampled_from(["w1", "w2 w3", "w4 w5 w6 w7 w8", "\u200b", " ", "strange"]), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(sentences=st.lists(words, min_size=1, max_size=4), max_length=st.integers(3, 12))
def test_no_word_loses_its_label(sentences: list[list[str]], max_length: int) -> None:
    tokenizer = word_tokenizer()
    labels = iter(range(10_000))
    tags = [[next(labels) for _ in sentence] for sentence in sentences]
    found = tokenize_split(tokenizer, TaggedSentences("pol_Latn", "test", sentences, tags, {}), max_length)
    assert found.flat_labels.tolist() == [tag for sentence in tags for tag in sentence]
    assert all(len(ids) <= max_length and ids[0] == 0 and ids[-1] == 2 for ids in found.ids)
    firsts = [ids[place] for ids, places in zip(found.ids, found.places, strict=True) for place in places]
    expected = [(tokenizer(word, add_special_tokens=False)["input_ids"] or [3])[0] for s in sentences for word in s]
    assert firsts == expected
    room = max_length - 2
    lengths = [[len(word.split()) for word in sentence] for sentence in sentences]
    assert found.counts["truncated"] == sum(n > room for sentence in lengths for n in sentence)
    assert found.counts["split"] == sum(sum(min(max(n, 1), room) for n in sentence) > room for sentence in lengths)


def test_texts_are_cut_and_counted() -> None:
    data = LabelledTexts("pol_Latn", "test", ["w1 w2 w3 w4", "w1", " "], [4, 5, 6], ["a", "b", "c"], {})
    found = tokenize_split(word_tokenizer(), data, 5)
    assert found.ids == [[0, 5, 6, 7, 2], [0, 5, 2], [0, 2]]
    assert found.labels == [[4], [5], [6]] and found.places == [[0]] * 3
    assert found.counts == {"truncated": 1, "no_tokens": 1}
    with pytest.raises(ConfigError, match="no room"):
        tokenize_split(word_tokenizer(), data, 2)
