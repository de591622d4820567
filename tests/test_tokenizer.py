"""Tokenizers: ids of SentencePiece in XLM-R's numbering, text that never turns special, honest failures."""

import hashlib
import json
import math
import random
import re
import string
import unicodedata
from dataclasses import fields
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.support.tiny import make_shards
from translit_scale.cli import main
from translit_scale.corpus import tokenizer_training
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.tokenizer import encode_batch, load_tokenizer, save_tokenizer, tokenizer_fingerprint
from translit_scale.corpus.tokenizer_parity import compare
from translit_scale.corpus.tokenizer_training import (
    REPORT_FILE,
    REQUIRED_CHARACTERS,
    TextFigures,
    TokenizerReport,
    equal_counts,
    read_report,
    report_table,
    train_from_shards,
    train_tokenizer,
)
from translit_scale.errors import ConfigError, DataError

LATIN, CYRILLIC, HANGUL = "aąbcćdeęfghijklłmno", "абвгґдеєжзиіїйклмнопр", "".join(map(chr, range(0xAC00, 0xAD00, 8)))
LITERALS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]


def sentences(alphabet: str, count: int, seed: int = 0) -> list[str]:
    """Sentences of 1 to 12 words out of 300 invented ones."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(alphabet, k=rng.randint(1, 7))) for _ in range(300)]
    return [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(count)]


TEXTS = {"pol_Latn": sentences(LATIN, 400), "ukr_Cyrl": sentences(CYRILLIC, 400, seed=1)}
TRAINING = [line for lines in TEXTS.values() for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizers") / "made"
    train_tokenizer(TRAINING, out, 300, parity_lines=TEXTS)
    return out


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(str(folder))


@pytest.fixture(scope="module")
def processor(folder):
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------------------- training


def test_the_numbering_is_that_of_xlm_r(tokenizer, processor):
    pieces = [processor.id_to_piece(i) for i in range(3, 300)]
    assert tokenizer.convert_ids_to_tokens(range(302)) == ["<s>", "<pad>", "</s>", "<unk>", *pieces, "<mask>"]
    assert len(tokenizer) == 302 and tokenizer.mask_token_id == 301
    assert tokenizer.model_max_length > 10**20  # the model decides
    (word,) = encode_batch(tokenizer, ["ab"])
    assert tokenizer("ab", "ab")["input_ids"] == [0, *word, 2, 2, *word, 2]


def test_training_twice_gives_the_same_files(folder, tmp_path):
    train_tokenizer(iter(TRAINING), tmp_path / "again", 300, parity_lines=TEXTS)
    assert files_of(tmp_path / "again") == files_of(folder)


def test_the_report_says_what_was_done(folder, tokenizer):
    report = read_report(folder)
    assert report.vocabulary == len(tokenizer)
    assert report.fingerprint == tokenizer_fingerprint(tokenizer)
    assert (report.sentences, report.skipped) == (800, 0)
    assert report.sentences_sha256 == hashlib.sha256("".join(f"{line}\n" for line in TRAINING).encode()).hexdigest()
    for name, figures in report.texts.items():
        ids = tokenizer(TEXTS[name], add_special_tokens=False)["input_ids"]
        assert figures.tokens == sum(map(len, ids))
        assert figures.tokens_per_character == pytest.approx(figures.tokens / sum(map(len, TEXTS[name])), abs=1e-4)
        assert (figures.sentences, figures.mismatches, figures.unknown_rate) == (400, 0, 0.0)


def test_unknown_characters_are_counted(folder, tokenizer):
    model = (folder / "sentencepiece.bpe.model").read_bytes()
    figures, _ = compare(model, tokenizer, {"hangul": ["가", "나다"]})
    # "▁ <unk>" each: a run of unknown characters is one token.
    assert (figures["hangul"].tokens, figures["hangul"].unknown_rate) == (4, 0.5)
    assert figures["hangul"].tokens_per_character == pytest.approx(4 / 3, abs=1e-4)


def test_sentences_that_sentencepiece_would_leave_out_silently_are_counted(tmp_path):
    unusable = ["", "  ", "a" * 2**16, "ab \u2585 ab"]
    report = train_tokenizer([*unusable, *TRAINING], tmp_path / "made", 300, parity_lines=TEXTS)
    assert (report.sentences, report.skipped) == (800, 4)
    for lines in ([], unusable):
        with pytest.raises(DataError, match="no sentences"):
            train_tokenizer(lines, tmp_path / "none", 300, parity_lines=TEXTS)
    assert not (tmp_path / "none").exists()


def test_too_large_a_vocabulary_is_an_error_with_the_largest_that_works(tmp_path):
    with pytest.raises(ConfigError, match="too large: 800 sentences give at most") as error:
        train_tokenizer(TRAINING, tmp_path / "made", 30_000, parity_lines=TEXTS)
    largest = int(re.search(r"--vocab-size (\d+)", error.value.hint)[1])
    assert train_tokenizer(TRAINING, tmp_path / "made", largest, parity_lines=TEXTS).vocabulary == largest + 2
    with pytest.raises(ConfigError, match="too small"):
        train_tokenizer(TRAINING, tmp_path / "other", 20, parity_lines=TEXTS)


def test_the_parity_gate_stops_a_tokenizer_that_disagrees(tmp_path):
    composed = sentences(HANGUL, 300)
    # Text that `prepare` never emits: the fast tokenizer's normaliser does not compose conjoining jamo.
    decomposed = [unicodedata.normalize("NFD", line) for line in composed]
    with pytest.raises(DataError, match=r"on 300 of 600 sentences[\s\S]*SentencePiece ▁[\s\S]*prepare"):
        train_tokenizer(composed, tmp_path / "made", 100, parity_lines={"good": composed, "bad": decomposed})
    assert not list(tmp_path.iterdir())
    report = train_tokenizer(
        composed, tmp_path / "made", 100, parity_lines={"good": composed * 10, "bad": decomposed[:1]}
    )
    assert report.texts["bad"].mismatches == 1 and report.examples[0]["sentence"] == decomposed[0]


def test_equally_good_segmentations_do_not_fail_the_gate(tmp_path):
    dots = ["." * count for count in (1, 2, 3, 3, 3, 3)]
    lines = [f"{line} ab{dots[i % 6]}" for i, line in enumerate(TRAINING)]
    runs = [f"{line}{'.' * (4 + i % 9)}" for i, line in enumerate(TRAINING)]
    (figures,) = train_tokenizer(lines, tmp_path / "made", 300, parity_lines={"runs": runs}).texts.values()
    assert figures.mismatches == figures.ties > 0


def test_letters_that_the_text_lacks_are_required(tmp_path, monkeypatch):
    """Without the requirement they would be unknown."""
    for required, unknown_rate in ((REQUIRED_CHARACTERS, 0), ("", 0.5)):
        monkeypatch.setattr("translit_scale.corpus.tokenizer_training.REQUIRED_CHARACTERS", required)
        report = train_tokenizer(TRAINING, tmp_path / f"made{unknown_rate}", 300, parity_lines={"other": ["xyz"]})
        assert report.texts["other"].unknown_rate == unknown_rate


def test_a_folder_that_is_not_ours_is_left_alone(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="left alone"):
        train_tokenizer(TRAINING, tmp_path, 300, parity_lines=TEXTS, force=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(DataError, match="--force"):
        train_tokenizer(TRAINING, folder, 300, parity_lines=TEXTS)


# ----------------------------------------------------------------------------------------------- from shards


def test_training_from_shards(tmp_path, capsys):
    shards = make_shards(tmp_path / "shards", {"pol_Latn": 60, "ukr_Cyrl": 90})
    command = ["tokenizer", "--shards", str(shards), "--out", str(tmp_path / "made"), "--vocab-size", "60"]
    assert main(command) == 0
    assert "ukr_Cyrl:latn" in capsys.readouterr().out
    report = read_report(tmp_path / "made")
    assert list(report.texts) == ["pol_Latn:orig", "pol_Latn:latn", "ukr_Cyrl:orig", "ukr_Cyrl:latn"]
    assert report.sentences == 150
    # The invented originals are Cyrillic: of the Latin side, the letters are in the vocabulary but no subword.
    pieces = set(load_tokenizer(str(tmp_path / "made")).get_vocab()) - set(LITERALS)
    assert {piece for piece in pieces if any(letter.isascii() for letter in piece)} == set(string.ascii_lowercase)
    assert all(figures.unknown_rate == 0 for figures in report.texts.values())

    before = files_of(tmp_path / "made")
    assert main(command) == 0
    assert "up to date" in capsys.readouterr().err
    assert main([*command, "--seed", "1"]) == 3
    assert "seed 0 (now 1)" in capsys.readouterr().err
    assert main([*command, "--seed", "1", "--force", "--max-sentences", "100"]) == 0
    assert read_report(tmp_path / "made").sentences == 100
    assert main([*command, "--force"]) == 0
    assert files_of(tmp_path / "made") == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    capsys.readouterr()
    path = tmp_path / "made" / "tokenizer.json"
    pipeline = json.loads(path.read_bytes())
    pipeline["model"]["vocab"][10][1] -= 1
    path.write_text(json.dumps(pipeline))
    assert main(command) == 3
    assert "not the one its report describes" in capsys.readouterr().err


def pieces_of(model: bytes) -> dict[str, float]:
    """Scores by piece, without control pieces."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    numbers = [i for i in range(len(processor)) if not processor.is_control(i) and not processor.is_unknown(i)]
    return {processor.id_to_piece(i): processor.get_score(i) for i in numbers}


def test_transliterations_get_their_share_of_the_vocabulary(tmp_path):
    """Scores are those of the mixture of both models, and transliterations are cut into fewer pieces."""
    originals, latin = sentences(CYRILLIC, 600), sentences(LATIN, 600)
    texts = {"orig": originals[:200], "latn": latin[:200]}
    alone = train_tokenizer(originals, tmp_path / "alone", 300, parity_lines=texts)
    made = train_tokenizer(
        originals, tmp_path / "made", 300, parity_lines=texts, transliterations=latin, latn_share=0.4
    )
    first = train_tokenizer(originals, tmp_path / "first", 180, parity_lines=texts)
    second = train_tokenizer(latin, tmp_path / "second", 120, parity_lines={"latn": latin[:200]})
    found, orig, latn = (
        pieces_of((tmp_path / name / "sentencepiece.bpe.model").read_bytes()) for name in ("made", "first", "second")
    )
    assert found.keys() == orig.keys() | latn.keys()
    for piece, score in found.items():
        p = sum(w * math.exp(m[piece]) for w, m in ((0.6, orig), (0.4, latn)) if piece in m)
        assert score == pytest.approx(math.log(p), rel=1e-5)
    assert sorted(found.values(), reverse=True) == list(found.values())
    assert made.vocabulary == len(found) + 5 and first.vocabulary + second.vocabulary > made.vocabulary
    assert made.sentences == 1200 and made.settings["latn_share"] == 0.4
    assert made.texts["latn"].tokens < 0.7 * alone.texts["latn"].tokens
    assert made.texts["orig"].tokens <= 1.01 * first.texts["orig"].tokens
    assert all(figures.mismatches == figures.ties for figures in made.texts.values())


def test_the_share_of_transliterations_is_an_option(tmp_path, capsys):
    shards = make_shards(tmp_path / "shards", {"pol_Latn": 100, "ukr_Cyrl": 400})
    command = ["tokenizer", "--shards", str(shards), "--out", str(tmp_path / "made"), "--vocab-size", "90"]
    assert main([*command, "--latn-share", "0.4"]) == 0
    assert read_report(tmp_path / "made").settings["latn_share"] == 0.4
    assert main(command) == 3 and "latn_share 0.4 (now 0.0)" in capsys.readouterr().err
    command[4] = str(tmp_path / "small")
    assert main([*command, "--latn-share", "0.1"]) == 2
    assert "a vocabulary of 9 for transliterations is too small" in (error := capsys.readouterr().err)
    assert "(--vocab-size × --latn-share)" in error
    for share in ("1", "-0.1", "half"):
        assert main([*command, "--latn-share", share]) == 2
        assert f"expected a number from 0 to 0.9, found '{share}'" in capsys.readouterr().err


def test_what_is_left_out_of_the_training_is_named_by_language(tmp_path, monkeypatch, capsys):
    """Long sentences are used: 2000 Thai letters are 6000 bytes."""
    shards = make_shards(tmp_path / "shards", {"tha_Thai": 100, "ukr_Cyrl": 100})
    genuine = tokenizer_training.sample_blocks

    def sample(shard_set, language, count, seed):
        yield from genuine(shard_set, language, count, seed)
        extra = {"tha_Thai": "\u0e01\u0e32 " * 800, "ukr_Cyrl": "знак \u2585 тут"}[language]
        yield Block((extra,), ("x",))

    monkeypatch.setattr(tokenizer_training, "sample_blocks", sample)
    report = train_from_shards(shards, tmp_path / "made", 60, 1000, 0)
    assert (report.sentences, report.skipped) == (201, 1)
    lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(lines) == 1 and lines[0].startswith(
        "ukr_Cyrl:orig: 1 sentences are left out of the training: they contain"
    )


def test_the_sample_depends_on_the_seed_alone(tmp_path):
    shards = make_shards(tmp_path / "shards", {"pol_Latn": 100, "ukr_Cyrl": 400})
    digests = [
        train_from_shards(shards, tmp_path / str(i), 50, 150, seed).sentences_sha256 for i, seed in enumerate([0, 0, 1])
    ]
    assert digests[0] == digests[1] != digests[2]


@given(
    rows=st.dictionaries(st.text("abc", min_size=1), st.integers(0, 1000), min_size=1, max_size=9),
    total=st.integers(0, 5000),
)
def test_shares_are_as_equal_as_the_languages_allow(rows, total):
    shares = equal_counts(rows, total)
    assert sum(shares.values()) == min(total, sum(rows.values()))
    assert all(shares[language] <= rows[language] for language in rows)
    largest = max(shares.values())
    assert all(share == rows[language] or share >= largest - 1 for language, share in shares.items())


# ------------------------------------------------------------------------------------------------- encoding


@settings(max_examples=60)
@given(st.lists(st.sampled_from([*LITERALS, " ", "▁", "a", "ąb", "абв", "<", "s", ">", "가", "  "]), max_size=12))
def test_no_text_becomes_a_special_token(tokenizer, processor, parts):
    text = "".join(parts)
    (ids,) = encode_batch(tokenizer, [text])
    assert not set(ids) & {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert tokenizer.mask_token_id not in ids
    assert ids == [i + 1 if i else tokenizer.unk_token_id for i in processor.encode(text)]


def test_a_plain_call_does_take_literals_for_special_tokens(tokenizer):
    """Why `encode_batch` exists; should this fail one day, it may be replaced by `split_special_tokens`."""
    assert tokenizer.mask_token_id in tokenizer("a <mask> b")["input_ids"]
    assert tokenizer.mask_token_id in tokenizer("a <mask> b", split_special_tokens=True)["input_ids"]
    assert tokenizer.mask_token_id not in encode_batch(tokenizer, ["a <mask> b"])[0]


def test_encoding_does_not_depend_on_earlier_calls_or_threads(folder, monkeypatch):
    tokenizer = load_tokenizer(str(folder))
    fingerprint = tokenizer_fingerprint(tokenizer)
    tokenizer(TRAINING[:3], truncation=True, max_length=4, padding="max_length")
    expected = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in TRAINING]
    tokenizer(TRAINING[:3], truncation=True, max_length=4, padding="max_length")
    assert encode_batch(tokenizer, TRAINING) == expected
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert encode_batch(tokenizer, TRAINING) == expected
    assert tokenizer_fingerprint(tokenizer) == fingerprint


def other_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    special = {
        role: f"[{role[:-6].upper()}]" for role in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    }
    if kind == "wordpiece":
        backend, trainer = Tokenizer(models.WordPiece(unk_token="[UNK]")), trainers.WordPieceTrainer
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        backend, trainer = Tokenizer(models.BPE(unk_token="[UNK]")), trainers.BpeTrainer
        backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    backend.train_from_iterator(
        [*TRAINING, "[mask] MASK"], trainer(vocab_size=400, special_tokens=list(special.values()), show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_other_kinds_of_tokenizer(kind, tmp_path):
    tokenizer = other_tokenizer(kind)
    assert encode_batch(tokenizer, TRAINING) == tokenizer(TRAINING, add_special_tokens=False)["input_ids"]
    assert tokenizer.mask_token_id not in encode_batch(tokenizer, ["a [MASK] b"])[0]
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)
    assert encode_batch(loaded, TRAINING) == encode_batch(tokenizer, TRAINING)


# ------------------------------------------------------------------------------------------ loading, saving


def test_the_folder_loads_by_the_general_class(folder, tokenizer):
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded(TRAINING)["input_ids"] == tokenizer(TRAINING)["input_ids"]
    assert loaded("a <mask>")["input_ids"][-2] == loaded.mask_token_id


def test_a_saved_copy_is_the_same_tokenizer(tokenizer, folder, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "copy")
    expected = files_of(folder)
    del expected[REPORT_FILE]
    assert files_of(tmp_path / "copy") == expected
    assert tokenizer_fingerprint(load_tokenizer(str(tmp_path / "copy"))) == tokenizer_fingerprint(tokenizer)


def test_the_saved_config_is_one_that_transformers_4_reads(folder):
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    assert config["tokenizer_class"] == "XLMRobertaTokenizer"
    assert config["mask_token"]["lstrip"] is True
    assert not {"extra_special_tokens", "backend", "is_local", "local_files_only", "unk_id"} & config.keys()


def test_different_tokenizers_have_different_fingerprints(tokenizer, tmp_path):
    other = train_tokenizer(TRAINING, tmp_path / "other", 290, parity_lines=TEXTS)
    assert other.fingerprint != tokenizer_fingerprint(tokenizer)


def test_loading_what_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"not found: .*/nothing"):
        load_tokenizer(str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"no tokenizer in the folder[\s\S]*holds tokenizer.json"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="cannot load a tokenizer"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_without_a_mask_is_refused(tmp_path):
    tokenizer = other_tokenizer("bpe")
    tokenizer.mask_token = None
    save_tokenizer(tokenizer, tmp_path)
    with pytest.raises(DataError, match="no token for: mask"):
        load_tokenizer(str(tmp_path))


def test_the_table_of_many_texts_has_the_worst_ones_only() -> None:
    def figures(unknown: float) -> TextFigures:
        return TextFigures(**{**dict.fromkeys((f.name for f in fields(TextFigures)), 1), "unknown_rate": unknown})

    texts = {f"l{number}:orig": figures(number / 1000) for number in range(130)}
    known = {f.name: 0 for f in fields(TokenizerReport)} | {"settings": {}, "fingerprint": "", "texts": texts}
    lines = report_table(TokenizerReport(**known)).splitlines()
    assert [line.split(":")[0] for line in lines[1:21]] == [f"l{number}" for number in range(129, 109, -1)]
    assert lines[21] == "These have most unknown characters; tokenizer_report.json has the other 110 texts too."
    few = TokenizerReport(**known | {"texts": dict(list(texts.items())[:90])})
    assert len(report_table(few).splitlines()) == 92
