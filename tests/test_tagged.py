"""Tagged text: tab-separated and CoNLL-U files give the words and tags they hold, and nothing else."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from translit_scale.errors import DataError
from translit_scale.testsets.registry import transfer_tasks
from translit_scale.testsets.tagging import NER_LABELS, POS_LABELS, TaggedSentences

read_ner, read_pos, read_words = (transfer_tasks()[name].read for name in ("ner", "pos", "pos_words"))
NBSP, ZWNJ, LINE_SEPARATOR = "\u00a0", "\u200c", "\u2028"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def pos(folder: Path, text: str | bytes) -> TaggedSentences:
    write(folder / "test-pol_Latn.tsv", text)
    return read_pos(folder, "pol_Latn", "test")


def ner(folder: Path, text: str | bytes) -> TaggedSentences:
    write(folder / "test-pol_Latn.tsv", text)
    return read_ner(folder, "pol_Latn", "test")


def conllu(folder: Path, text: str, fused: bool = True) -> TaggedSentences:
    write(folder / "pl_inv-ud-test.conllu", text)
    return (read_pos if fused else read_words)(folder, "pol_Latn", "test")


def tags(data: TaggedSentences, labels: tuple[str, ...] = POS_LABELS) -> list[list[str]]:
    return [[labels[tag] for tag in sentence] for sentence in data.tags]


def token(key: str, form: str, tag: str, head: str = "_") -> str:
    return f"{key}\t{form}\t_\t{tag}\t_\t_\t{head}\t_\t_\t_\n"


def test_the_labels_are_upos_and_those_of_wikiann() -> None:
    assert list(POS_LABELS) == sorted(POS_LABELS) and len(POS_LABELS) == 17
    assert list(NER_LABELS) == sorted(NER_LABELS) and len(NER_LABELS) == 7


def test_sentences_are_separated_by_blank_lines_however_many(tmp_path: Path) -> None:
    data = pos(tmp_path, "\ufeff\n\nstary\tADJ\r\ndom\tNOUN\r\n\r\n \t\r\n\nstoi\tVERB")
    assert data.words == [["stary", "dom"], ["stoi"]]
    assert tags(data) == [["ADJ", "NOUN"], ["VERB"]]
    assert data.dropped == {} == data.noted


def test_white_space_inside_a_token_stays(tmp_path: Path) -> None:
    words = [f"10{NBSP}000", f"a{LINE_SEPARATOR}b", "New York", f"کتاب{ZWNJ}ها", NBSP, "#", '"']
    data = pos(tmp_path, "".join(f"{word}\tX\n" for word in words))
    assert data.words == [words]


words_and_tags = st.lists(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), min_size=1).filter(
                lambda word: word == word.strip(" ")
            ),
            st.sampled_from(POS_LABELS),
        ),
        min_size=1,
    ),
    min_size=1,
)


@settings(max_examples=150)
@given(words_and_tags, st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n\n"]), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read(tmp_path_factory, sentences, blank: str, end: str) -> None:
    text = blank.join("".join(f"{word}\t{tag}{end}" for word, tag in sentence) for sentence in sentences)
    data = pos(tmp_path_factory.mktemp("written"), "\ufeff" + text)
    assert data.words == [[word for word, _ in sentence] for sentence in sentences]
    assert tags(data) == [[tag for _, tag in sentence] for sentence in sentences]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dom\tNOUN\nstoi\tverb\n", r"tsv:2: unknown tag 'verb'\n.*one of ADJ, ADP"),
        ("dom\tNOUN\nstoi\n", r"tsv:2: expected token TAB tag, found 1 fields"),
        ("dom NOUN\n", r"tsv:1: expected token TAB tag, found 1 fields"),
        ("\ndom\tNOUN\tdom\n", r"tsv:2: expected token TAB tag, found 3 fields"),
        (f"dom\tNOUN\n{NBSP}\n", r"tsv:2: expected token TAB tag, found 1 fields"),
        ("\n\n", r"no sentence is left"),
        ("", r"test-pol_Latn\.tsv is empty"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pos(tmp_path, text)


def test_words_without_text_and_bad_bytes_are_dropped_and_counted(tmp_path: Path) -> None:
    data = pos(tmp_path, b"dom\tNOUN\n\tX\n \tX\n\nd\xffm\tNOUN\nstoi\tVERB\n\n\tX\n")
    assert data.words == [["dom"]] and data.dropped == {"empty_words": 3, "undecodable": 1}


def test_the_fingerprint_is_the_same_for_any_layout(tmp_path: Path) -> None:
    text = "stary\tADJ\ndom\tNOUN\n\nstoi\tVERB\n"
    units = token("1", "stary", "ADJ") + token("2", "dom", "NOUN") + "\n" + token("1", "stoi", "VERB")
    prints = {pos(tmp_path / "a", text).fingerprint, conllu(tmp_path / "b", units).fingerprint}
    write(tmp_path / "c" / "test-pol_Latn.tsv.gz", gzip.compress(text.encode()))
    prints.add(read_pos(tmp_path / "c", "pol_Latn", "test").fingerprint)
    assert len(prints) == 1
    assert pos(tmp_path / "d", text.replace("ADJ", "X")).fingerprint not in prints
    assert pos(tmp_path / "e", text.replace("NOUN\n\n", "NOUN\n")).fingerprint not in prints


def test_wikiann_with_and_without_its_prefix(tmp_path: Path) -> None:
    plain = "Jan\tB-PER\nNowak\tI-PER\n10:30\tO\n\nplay:off\tO\n"
    prefixed = re.sub(r"(?m)^(?=.)", "zh-min-nan:", plain)
    data = ner(tmp_path / "a", plain)
    assert data.words == [["Jan", "Nowak", "10:30"], ["play:off"]]
    assert ner(tmp_path / "b", prefixed).words == data.words
    write(tmp_path / "c" / "pl" / "test", prefixed)
    assert read_ner(tmp_path / "c", "pol_Latn", "test").words == data.words
    assert tags(data, NER_LABELS) == [["B-PER", "I-PER", "O"], ["O"]]


def test_inside_without_begin_stays_and_is_counted(tmp_path: Path) -> None:
    given_tags = ["I-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-ORG", "B-ORG", "I-ORG"]
    data = ner(tmp_path, "".join(f"w\t{tag}\n" for tag in given_tags) + "\nw\tI-LOC\n")
    assert tags(data, NER_LABELS) == [given_tags, ["I-LOC"]]
    assert (data.noted, data.dropped) == ({"inside_without_begin": 3}, {})


def test_conllu_has_two_readings(tmp_path: Path) -> None:
    text = (
        "# sent_id = 1\n# text = Dałabym mu 10 000.\n"
        + token("1-2", "Dałabym", "_") + token("1", "Dała", "VERB", "0") + token("2", "bym", "AUX", "1")
        + token("3", "mu", "PRON", "1") + token("3.1", "coś", "NOUN", "_")
        + token("4", "10 000", "NUM", "1") + token("5", f"x{ZWNJ}y", "X", "1")
    )  # fmt: skip
    fused, words = conllu(tmp_path / "a", text), conllu(tmp_path / "b", text, fused=False)
    assert fused.words == [["Dałabym", "mu", "10000", "xy"]] and tags(fused) == [["VERB", "PRON", "NUM", "X"]]
    assert words.words == [["Dała", "bym", "mu", "10 000", f"x{ZWNJ}y"]]
    assert tags(words) == [["VERB", "AUX", "PRON", "NUM", "X"]]
    for data in (fused, words):
        assert (data.dropped, data.noted) == ({"empty_nodes": 1}, {"multiword": 1})


@pytest.mark.parametrize(
    ("parts", "tag"),
    [
        ([("ADP", "3"), ("DET", "3")], "ADP"),  # both below the noun: the first in the precedence
        ([("DET", "3"), ("ADP", "3")], "ADP"),
        ([("ADP", "2"), ("NOUN", "3")], "NOUN"),  # the higher one, whatever it is
        ([("PUNCT", "3"), ("VERB", "1")], "PUNCT"),
        ([("SYM", "3"), ("PUNCT", "3")], "PUNCT"),
        ([("AUX", "0"), ("PRON", "3")], "AUX"),
    ],
)
def test_the_tag_of_a_multiword_token(tmp_path: Path, parts: list[tuple[str, str]], tag: str) -> None:
    (first, second) = parts
    text = token("1-2", "ab", "_") + token("1", "a", *first) + token("2", "b", *second)
    text += token("3", "c", "NOUN", "1" if first[1] == "0" else "0")
    assert tags(conllu(tmp_path, text)) == [[tag, "NOUN"]]


def test_heads_in_a_circle_end(tmp_path: Path) -> None:
    text = token("1-2", "ab", "_") + token("1", "a", "DET", "2") + token("2", "b", "NOUN", "1")
    assert tags(conllu(tmp_path, text)) == [["NOUN"]]


def test_sentences_whose_text_is_withheld_are_dropped_and_counted(tmp_path: Path) -> None:
    withheld = token("1", "_", "NOUN") + token("2", "_", "VERB") + token("3", ".", "PUNCT") + "\n"
    kept = token("1", "_", "SYM") + token("2", "dom", "NOUN") + token("3", "stoi", "VERB") + "\n"
    data = conllu(tmp_path, withheld + kept + withheld)
    assert data.words == [["_", "dom", "stoi"]] and data.dropped == {"withheld": 2}
    with pytest.raises(DataError, match=r"no sentence is left \(dropped: {'withheld': 1}\)"):
        conllu(tmp_path, withheld)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (token("1", "dom", "N"), r"conllu:1: unknown tag 'N'"),
        (token("1", "dom", "_"), r"conllu:1: unknown tag '_'"),
        ("# c\n1 dom dom NOUN _ _ 0 root _ _\n", r"conllu:2: expected 10 columns separated by tabs, found 1"),
        (token("1", "dom", "NOUN") + token("3", "stoi", "VERB"), r"conllu:1: the ids of this sentence are not 1 to 2"),
        (token("1-3", "dom", "_") + token("1", "dom", "NOUN"), r"conllu:1: the ids of this sentence"),
        (token("one", "dom", "NOUN"), r"conllu:1: 'one' is not an id"),
        ("# only a comment\n\n", "no sentence is left"),
    ],
)
def test_conllu_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        conllu(tmp_path, text)


def test_treebanks_of_a_language_are_read_one_after_the_other(tmp_path: Path) -> None:
    treebanks = {
        "UD_Serbian-Inv/sr_inv-ud-test.conllu": "kuća",
        "UD_Serbian-Abc/sr_abc-ud-test.conllu": "grad",
        "UD_Serbian-Cyr/sr_cyr-ud-test.conllu": "село",
        "UD_Serbian-Inv/sr_inv-ud-train.conllu": "reka",
        "UD_Urdu-Inv/ur_inv-ud-test.conllu": "گھر",
        "UD_Erzya-Inv/myv_inv-ud-test.conllu": "кудо",
        "UD_Nobody-Inv/qqq_inv-ud-test.conllu": "x",
    }
    for name, word in treebanks.items():
        write(tmp_path / name, f"# text = {word}\n" + token("1", word, "NOUN", "0"))
    task = transfer_tasks()["pos"]
    assert task.languages(tmp_path, "test") == ["myv_Cyrl", "srp_Cyrl", "srp_Latn", "urd_Arab"]
    latin = read_pos(tmp_path, "srp_Latn", "test")
    assert latin.words == [["grad"], ["kuća"]]
    assert [Path(file).name for file in latin.files] == ["sr_abc-ud-test.conllu", "sr_inv-ud-test.conllu"]
    assert read_pos(tmp_path, "srp_Cyrl", "test").words == [["село"]]
    with pytest.raises(DataError) as error:
        read_pos(tmp_path, "ukr_Cyrl", "test")
    assert str(tmp_path / "UD_*/uk_*-ud-test.conllu") in str(error.value)
    assert str(tmp_path / "test-ukr_Cyrl.tsv") in str(error.value)


def test_the_table_comes_before_the_treebank_but_not_for_syntactic_words(tmp_path: Path) -> None:
    write(tmp_path / "test-pol_Latn.tsv", "stół\tNOUN\n")
    write(
        tmp_path / "test-pol_Latn.conllu",
        token("1-2", "ab", "_") + token("1", "a", "X", "0") + token("2", "b", "X", "1"),
    )
    assert read_pos(tmp_path, "pol_Latn", "test").words == [["stół"]]
    assert transfer_tasks()["pos"].read(tmp_path, "pol_Latn", "test").words == [["stół"]]  # type: ignore[union-attr]
    assert transfer_tasks()["pos_words"].read(tmp_path, "pol_Latn", "test").words == [["a", "b"]]  # type: ignore[union-attr]
