"""Retrieval test sets: every layout, nothing paired blindly, and many languages with one embedding of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.encoders import WORDS, save_encoder
from translit_scale.cli import main
from translit_scale.errors import ConfigError, DataError
from translit_scale.evaluate.bootstrap import accuracy, mean_accuracy
from translit_scale.evaluate.embedding import Encoder
from translit_scale.languages import matching_codes
from translit_scale.testsets.parallel import ParallelText
from translit_scale.testsets.registry import retrieval_tasks
from translit_scale.testsets.retrieval import join_at_english


def write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def pairs_of(text: ParallelText) -> list[tuple[str, str]]:
    return list(zip(text.source, text.target, strict=True))


def test_verses_are_joined_on_their_ids(tmp_path: Path) -> None:
    write(tmp_path / "srb/pol_Latn.tsv", ["MAT 2:4\tpa", "MAT 3:4\tpb", "MAT 3:8\tpc"])
    write(tmp_path / "srb/ukr_Cyrl.tsv", ["MAT 3:8\tuc", "MAT 2:4\tua", "JHN 1:1\tud"])
    write(tmp_path / "srb/pol_Latn.modern.tsv", ["MAT 2:4\tanother translation"])
    (text,), notes = retrieval_tasks()["sr_b"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"])
    assert pairs_of(text) == [("pa", "ua"), ("pc", "uc")] and text.ids == ["MAT 2:4", "MAT 3:8"]
    assert text.dropped == {"only_in_pol_Latn": 1, "only_in_ukr_Cyrl": 1}
    assert notes == []  # these are own verses; `report tables` says that the papers' are not published


def test_the_folder_of_the_set_is_found_too(tmp_path: Path) -> None:
    write(tmp_path / "pol_Latn.tsv", ["1\ta"])
    assert retrieval_tasks()["sr_b"].find_set(tmp_path).folder.languages() == ["pol_Latn"]


def test_bibles_with_a_verse_a_line_need_equal_numbers_of_lines(tmp_path: Path) -> None:
    write(tmp_path / "bible/pol_Latn.txt", ["a", "", "c"])
    write(tmp_path / "bible/ukr_Cyrl.txt", ["x", "y", "z"])
    write(tmp_path / "bible/hin_Deva.txt", ["x", "y"])
    (text,), _ = retrieval_tasks()["sr_b"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"])
    assert pairs_of(text) == [("a", "x"), ("c", "z")] and text.dropped == {"empty": 1}
    with pytest.raises(DataError, match=r"has 3 lines, .*hin_Deva\.txt has 2"):
        retrieval_tasks()["sr_b"].read(tmp_path, ["pol_Latn", "hin_Deva"])


def test_flores_comes_before_sib200_and_devtest_before_dev(tmp_path: Path) -> None:
    for language, letter in (("pol_Latn", "p"), ("ukr_Cyrl", "u")):
        rows = {"train": [7, 3], "dev": [1], "test": [2]}
        for split, ids in rows.items():
            lines = [f'{key}\ttravel\t"{letter}{key}"' for key in ids]  # the set quotes some of its texts
            write(tmp_path / f"sib200/{language}/{split}.tsv", ["index_id\tcategory\ttext", *lines])
    (text,), notes = retrieval_tasks()["sr_f"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"])
    assert sorted(pairs_of(text)) == [(f"p{key}", f"u{key}") for key in (1, 2, 3, 7)]
    assert notes == ["these are the sentences of FLORES that SIB-200 has (at most 1,004), in place of its devtest"]
    for split in ("dev", "devtest"):
        for language in ("pol_Latn", "ukr_Cyrl"):
            write(tmp_path / f"flores200_dataset/{split}/{language}.{split}", [f"{split} {language}"])
        (text,), notes = retrieval_tasks()["sr_f"].read(tmp_path, ["ukr_Cyrl", "pol_Latn"])
        assert pairs_of(text) == [(f"{split} ukr_Cyrl", f"{split} pol_Latn")]
        assert notes == (["FLORES dev, not the papers' devtest"] if split == "dev" else [])


def write_tatoeba(folder: Path, name: str, pairs: Sequence[tuple[str, str]], english: str = "eng") -> None:
    for column, language in enumerate((name, english)):
        write(folder / f"tatoeba.{name}-{english}.{language}", [pair[column] for pair in pairs])


def test_tatoeba_is_aligned_with_english_and_others_meet_there(tmp_path: Path) -> None:
    folder = tmp_path / "tatoeba"
    write_tatoeba(folder, "pol", [("p1", "e1"), ("p2", "e2"), ("p3", "e3"), ("p4", "e3")])
    write_tatoeba(folder, "ukr", [("u2", "e2"), ("u9", "e9"), ("u1", "e1"), ("u3", "e3")])
    write_tatoeba(folder, "pes", [("f1", "e1")])
    write_tatoeba(folder, "awa", [("वाक्य", "e1")])  # Glot500-c does not have it: its letters decide
    texts, _ = retrieval_tasks()["tatoeba"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"], source="eng_Latn")
    assert [text.name for text in texts] == ["eng_Latn-pol_Latn", "eng_Latn-ukr_Cyrl"]
    assert pairs_of(texts[0]) == [("e1", "p1"), ("e2", "p2"), ("e3", "p3"), ("e3", "p4")]
    (text,), _ = retrieval_tasks()["tatoeba"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"])
    assert pairs_of(text) == [("p1", "u1"), ("p2", "u2")] and text.ids == ["1", "2"]
    assert text.dropped == {"only_in_ukr_Cyrl": 2, "repeated_english": 2}
    (text, _), notes = retrieval_tasks()["tatoeba"].read(tmp_path, ["fas_Arab", "awa_Deva"], source="eng_Latn")
    assert pairs_of(text) == [("e1", "f1")] and text.target_language == "fas_Arab"
    assert notes == ["fas_Arab is pes_Arab there"]


def test_the_files_of_glot500s_scripts(tmp_path: Path) -> None:
    write_tatoeba(tmp_path, "pol_Latn", [("p1", "e1")], english="eng_Latn")
    (text,), _ = retrieval_tasks()["tatoeba"].read(tmp_path, ["pol_Latn", "eng_Latn"])
    assert pairs_of(text) == [("p1", "e1")]
    write(tmp_path / "bible/bible.hin_Deva-eng_Latn.hin_Deva", ["h1", "h2"])
    write(tmp_path / "bible/bible.hin_Deva-eng_Latn.eng_Latn", ["e1", "e2"])
    write(tmp_path / "bible/bible.urd_Arab-eng_Latn.urd_Arab", ["u2", "u3", "u1"])
    write(tmp_path / "bible/bible.urd_Arab-eng_Latn.eng_Latn", ["e2", "e3", "e1"])
    (text,), _ = retrieval_tasks()["sr_b"].read(tmp_path, ["hin_Deva", "urd_Arab"])
    assert pairs_of(text) == [("h1", "u1"), ("h2", "u2")]
    write(tmp_path / "bible/bible.urd_Arab-eng_Latn.eng_Latn", ["e2", "e3"])
    with pytest.raises(DataError, match="lines cannot be paired"):
        retrieval_tasks()["sr_b"].read(tmp_path, ["hin_Deva", "urd_Arab"])


few = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8)


@given(few, few)
def test_only_equal_english_sentences_meet(left: list[str], right: list[str]) -> None:
    def text(language: str, english: list[str]) -> ParallelText:
        own = [f"{sentence} {language} {row}" for row, sentence in enumerate(english)]
        return ParallelText(language, "eng_Latn", own, english, [str(row) for row in range(len(own))], {})

    expected = {key for key in left if left.count(key) == 1 and right.count(key) == 1}
    try:
        joined = join_at_english(text("pol_Latn", left), text("ukr_Cyrl", right))
    except DataError:
        assert not expected
        return
    assert [a[0] for a in joined.source] == [b[0] for b in joined.target] and {a[0] for a in joined.source} == expected
    assert sum(joined.dropped.values()) == len(left) + len(right) - 2 * len(joined)


def test_the_first_pairs_and_the_others_counted(tmp_path: Path) -> None:
    for language in ("pol_Latn", "ukr_Cyrl"):
        write(tmp_path / f"{language}.tsv", [f"v{number}\t{language} {number}" for number in range(5)])
    (text,), _ = retrieval_tasks()["sr_b"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"], limit=3)
    assert text.ids == ["v0", "v1", "v2"] and text.target[2] == "ukr_Cyrl 2" and text.dropped == {"beyond_limit": 2}
    (text,), _ = retrieval_tasks()["sr_b"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"], limit=9)
    assert len(text) == 5 and not text.dropped


def test_missing_data_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        retrieval_tasks()["sr_b"].find_set(tmp_path)
    for stated in (f"{tmp_path}/srb", f"{tmp_path}/bible", "{language}.tsv (verse id TAB text)", "bible.{language}-"):
        assert stated in str(error.value)
    with pytest.raises(DataError, match="data folder not found"):
        retrieval_tasks()["tatoeba"].find_set(tmp_path / "nothing")
    write(tmp_path / "pol_Latn.tsv", ["1\ta"])
    with pytest.raises(
        DataError, match=r"no test data for ukr_Cyrl: there is no .*ukr_Cyrl\.tsv(?s:.)*the folder has pol_Latn"
    ):
        retrieval_tasks()["sr_b"].read(tmp_path, ["pol_Latn", "ukr_Cyrl"])
    with pytest.raises(ConfigError, match="two languages"):
        retrieval_tasks()["sr_b"].read(tmp_path, ["pol_Latn"])


def test_a_language_under_another_name() -> None:
    assert matching_codes("zho_Hani", ["zho_Hans", "zho_Hani"]) == ["zho_Hani"]
    assert matching_codes("zho_Hani", ["zho_Hans", "zho_Hant", "zho_Latn"]) == ["zho_Hans", "zho_Hant"]
    assert matching_codes("arb_Arab", ["ara_Arab", "arz_Arab", "ara_Latn"]) == ["ara_Arab"]
    assert matching_codes("pol_Latn", ["pol_Cyrl", "ces_Latn"]) == []


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_the_mean_of_one_direction_is_its_accuracy(hit: list[bool]) -> None:
    hits = np.array(hit)
    mean, one = mean_accuracy([([str(row) for row in range(len(hit))], hits)], resamples=4000), accuracy(hits)
    assert mean.value == pytest.approx(one.value)
    within = 1.01 / len(hit) + 0.01  # one step of the grid of possible values
    assert abs(mean.low - one.low) < within and abs(mean.high - one.high) < within


def test_mean_accuracy_equals_resampling_by_hand() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(60)
    hits = [generator.random(60) < hard, (generator.random(60) < hard)[:40]]
    ids = [[str(row) for row in range(60)], [str(row) for row in range(40)]]
    estimate = mean_accuracy(list(zip(ids, hits, strict=True)), seed=1)
    means = []
    for _ in range(4000):
        rows = generator.integers(0, 60, 60)
        means.append((hits[0][rows].mean() + hits[1][rows[rows < 40]].mean()) / 2)
    assert estimate.value == pytest.approx((hits[0].mean() + hits[1].mean()) / 2)
    np.testing.assert_allclose([estimate.low, estimate.high], np.percentile(means, [2.5, 97.5]), atol=0.012)


def write_verses(folder: Path, languages: Sequence[str], n: int = 20) -> None:
    """Invented verses: verse i has word i in common in all languages; every language lacks another verse."""
    for shift, language in enumerate(languages):
        lines = [f"v{i}\t{WORDS[i]} {WORDS[(i * (shift + 2)) % 60]}" for i in range(n) if i != shift]
        write(folder / f"{language}.tsv", lines)


def test_many_pairs_embed_each_language_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    languages = ["pol_Latn", "ukr_Cyrl", "hin_Deva"]
    write_verses(tmp_path / "data/srb", languages)
    model, embed, calls = save_encoder(tmp_path / "m"), Encoder.embed, []

    def counted(encoder: Encoder, sentences: Sequence[str], *arguments: Any) -> Any:
        calls.append(len(sentences))
        return embed(encoder, sentences, *arguments)

    monkeypatch.setattr(Encoder, "embed", counted)
    options = ["--task", "sr_b", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    command = ["evaluate", "retrieval", "--model", model, *options]
    assert main([*command, "--languages", ",".join(languages)]) == 0
    printed = capsys.readouterr().out
    assert calls == [56]  # three times 19, of which two are alike
    result = json.loads((tmp_path / "out/sr_b/m.json").read_bytes())
    scores = {(score["query"], score["candidates"]): score for score in result["scores"]["test"]}
    assert len(scores) == 6 and "notes" not in result
    mean = sum(score["top5"] for score in scores.values()) / 6
    assert f"{100 * mean:.1f}" in next(line for line in printed.split("\n") if "average of 6" in line)
    assert "note:" not in printed and "pol_Latn-ukr_Cyrl: dropped" in printed
    assert main([*command, "--languages", "pol_Latn,ukr_Cyrl", "--name", "one"]) == 0
    (score, _) = json.loads((tmp_path / "out/one/m.json").read_bytes())["scores"]["test"]
    assert score == scores["pol_Latn", "ukr_Cyrl"] and "average" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "sr_b", "--data", "d"], "needs --languages"),
        (["--data", "d"], "--data belongs to a test set"),
        (["--task", "sr_b", "--data", "d", "--languages", "a,b", "--parallel", "x", "y"], "give one of them"),
    ],
)
def test_wrong_combinations(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "retrieval", "--model", "m", *options]) == 2
    assert message in capsys.readouterr().err
