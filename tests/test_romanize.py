"""Romanization is byte for byte uroman's, cuts or not, and survives uroman's own failures."""

import io
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
import uroman

from tests.support.romanize_fuzz import Fuzz, differences, outcome
from translit_scale.cli import main
from translit_scale.corpus.clean import clean
from translit_scale.errors import ConfigError
from translit_scale.romanize import characters, exact, split_points
from translit_scale.romanize.best_path import BestPath, Letters, UnusualTextError
from translit_scale.romanize.characters import Tables, known_lcodes
from translit_scale.romanize.exact import ExactUroman, Memory, load_uroman
from translit_scale.romanize.romanizer import Romanizer
from translit_scale.romanize.split_points import PLAIN, SplitPoints

COUNTEREXAMPLES = {
    "Ethiopic word space before a space": [
        "ሰላም፡ ለዓለም", "ሰ፡  ለ", "፡", "፡ ", " ፡ ፡ ", "ሰ፡ለ፡፡",
    ],
    "Braille capitals and numbers reach over spaces": [
        "⠠⠠⠁⠃ ⠉ x é", "⠼⠁⠃ ⠉", "é ⠼⠁", "⠠⠁é", "⠠⠠⠁⠃⠀⠉",
    ],
    "silent O ANG asks for the last letter of the word before": [
        "ก่อตั้งขึ้น", "x ก่อตั้งขึ้น", "a ก่อตั้งขึ้น", "x  ก่อตั้งขึ้น", "ด ก่อตั้งขึ้น มา ก่อตั้งขึ้น",
        "x่อก", "é ่อก", "ก ่ ่อก", "1 ก่อก", "ก่อ่อก", "กาก่อน", "สอ่อน", "\u0e48อก", "( ่อก", "ก่อก่อก",
    ],
    "Thai syllable ends look two characters ahead": [
        "ขอให้", "ขอ", "ขอา", "ข่อา", "พอเพียง", "ทองคำ", "ข(", "ขkn", "ข่kn",
    ],
    "Thai vowel patterns": [
        "เขา", "เก้า", "เกียะ", "แล้ว", "เมือง", "ไทย", "โดย", "เรือย", "เ า", "ใน", "เน่า",
    ],
    "Thai vowels as guards": [
        "นานา", "กูอา", "รูอก", "ดีอก", "มีย", "าอา", "ปีกา", "ะรร", "\u0e34รร", "คำกา", "ฤๅก", "ฦๅก",
        "\u0e4dก",
    ],
    "Thai consonants whose neighbours are replaced by guards": [
        "กรรม", "พรรค", "สวยมาก", "รวยอา", "หลวงพ่อ", "จันทร์อก", "ศุกร์อน", "สงฆ์องค์", "ทหารอาน", "วหอาน", "ก่หอา",
        "เพชรนคร", "โรคมะ", "เทศกาล", "ดอกบัว", "ชอบยา", "ก็อเอก", "น่อเมา", "คนสวน", "นกรร", "ขวย", "ท่วย",
        "ขํก", "เํก", "ทำหา", "ญหอก", "๏ดน", "ฤดู", "ฦๅชา", "อยาก", "บ๊วย", "ช็อก",
    ],
    "Khmer consonant before Latin keeps a dash": [
        "វិញCape", "វិញ Cape", "ញយ", "កយ", "ក្យ", "កxយ", "ញ。", "កញ(", "ខ្ញុំ",
    ],
    "numbers are joined": [
        "一百", "二〇二三年",
        "百分之五", "五分之三x", "十一五", "兩千", "3½", "½x", "a²三", "负五", "x负五", "1.5億", "三.5", "..5é",
        "৫৫ক", "ក៥៥ក", "一1", "é1.2.3é", "٣.٤", "҂一", "㎡三", "ྋ༣", "１２", "፻፳", "嗯一", "\u1087一",
    ],
    "leading and trailing spaces": [
        "『a", "a『", "x 『x", "。", "好。", "好。 好", "好。  好", "a\xa0b", " \xa0é", "（é）（é）", "é ・ é",
    ],
    "Grantha consonant and virama": [
        "𑌕𑍍", "𑌕𑍍𑌖", "𑌕𑌾𑌖",
    ],
    "Bengali ya with nukta, foreign marks, vowel signs": [
        "য়a", "য়", "ক়্খ", "ক́ি", "ক্́খ", "কিa", "কa", "aক", "ক।", "।ক",
    ],
    "kana": [
        "っか", "ッか", "っち", "がっこう", "きゃ", "シャ", "カー", "っkn", "っー", "きゃー",
        "きーゃ", "っ", "xっ", "っx", "ッ が", "ィゃ",
    ],
    "Cyrillic and Greek word edges": [
        "ий", "синий", "ийа", "ий-а", "ий1", "ий́", "ий\u200bа", "μπα", "αμπα", "-μπα", "1μπ", "γκ", "αγκ",
        "μs", "μsα", "5μm", "xμs", "ИЯ", "Ьий ий", "ий’я",
    ],
    "Armenian words and word starts": [
        "են", "ենթ", "ես", "եկ", "ոչ", "որ", "մեե", "աո", "-ո", "«եմ»", "ու", "Ու",
    ],
    "capitals before small letters": [
        "Ча", "ЧА", "Ч а", "Θα", "ΘΑ", "Þé", "ÞÉ", "ŠČk", "Œé", "ＴＨa", "Éa", "Шé", "Щь",
    ],
    "addak and other signs that reach right": [
        "ਪੱਕਾ", "\u0a71ਕ", "\u0a71 ਕ", "ਕੱa", "ਪੱਤ",
    ],
    "inherent vowels": [
        "कमल", "कत", "क", "क ", "कत्", "त्क", "कृत", "कऋत", "कa", "aक", "क1", "१क", "क।", "।क", "कं", "कंत",
        "कः", "कँत", "ड़क", "क़", "क्\u200dत", "क\u200cत", "กक", "कఅ", "కఅ", "ಕ್ತ", "ക്ത", "ක්ෂ", "கத", "ကန်က",
        "က်း", "က့က", "\u1087လ", "ꩠ", "ၵႃႇၵ", "ᮊ᮪ᮊ", "ऋक", "रक", "अक", "অক", "কঅ", "ક્ષ",
    ],
    "Tibetan syllables": [
        "བོད", "བོད་", "་བོད", "དབུ་ཅན", "བསྒྲུབས", "འགྲོ", "པའི", "བོདx", "xབོད", "ཀ༣ཀ", "ཀ།ཀ", "ཀ ཀ", "འ",
        "གང་ག", "ུྰচ", "ུྰक",
    ],
    "Coptic grave accent": [
        "ⲁ̀", "ⲛ̀ⲧⲉ", "ⲛ ̀ⲧ", "ǹ", "kn̂", "xkn̂", "dt̂", "L̂a", "’я", "'я", "x'я",
    ],
    "a rule that makes uroman fail at a word end": [
        "ИЯ፼", "dt፼", "เdt፼", "ИЯ ፼", "ий፻", "〇ий",
    ],
    "no script, no rules": [
        "\ud800", "a\udfffé", "\x00é", "é\x00", "é\té", "\u0301", "é\n", "é\r\n", "\u2028é", "😀", "😀é",
        "\ue000é",
    ],
}  # fmt: skip
"""Where cutting by words or letters goes wrong."""


@pytest.fixture(scope="module")
def plain() -> uroman.Uroman:
    return uroman.Uroman()


@pytest.fixture(scope="module")
def memory() -> Memory:
    return Memory(load_uroman())


@pytest.fixture(scope="module")
def uncoded(memory: Memory) -> ExactUroman:
    return ExactUroman(memory)


@pytest.fixture(scope="module")
def fuzz(plain: uroman.Uroman) -> Fuzz:
    return Fuzz(plain, 1)


@pytest.fixture(scope="module")
def romanizer() -> Romanizer:
    return Romanizer()


@pytest.mark.parametrize("reason", COUNTEREXAMPLES)
def test_where_naive_cutting_fails(plain: uroman.Uroman, uncoded: ExactUroman, reason: str) -> None:
    texts = COUNTEREXAMPLES[reason]
    texts += [f"x {text} y" for text in texts] + [text * 2 for text in texts] + [" ".join(texts)]
    for text in texts:
        for _ in range(2):  # the second time out of the memo
            assert (text, outcome(uncoded.romanize, text)) == (text, outcome(plain.romanize_string, text))


@pytest.mark.parametrize("lcode", ["ukr", "bul", "fas", "ben", "guj", "san", "eng", "rus"])
def test_the_same_with_language_codes(plain: uroman.Uroman, memory: Memory, lcode: str) -> None:
    coded = ExactUroman(memory, lcode)
    for text in [text for texts in COUNTEREXAMPLES.values() for text in texts]:
        assert (text, outcome(coded.romanize, text)) == (text, outcome(plain.romanize_string, text, lcode))


def test_random_text(plain: uroman.Uroman, uncoded: ExactUroman, fuzz: Fuzz) -> None:
    assert list(differences(plain, uncoded, None, fuzz.texts(3_000))) == []


def thai_texts(number: int, seed: int) -> Iterator[str]:
    """Random Thai: consonants, what is written around them, and now and then what else can be next to them."""
    pick = random.Random(seed)
    signs = "ะัาำิีึืุูๅ็่้๊๋์ํๆฯฺ"
    kinds = [(characters.THAI_O_ANG, 3), ("หยวรลนม", 5), ("".join(sorted(characters.THAI_CONSONANTS)), 6), ("เแโใไ", 3)]
    kinds += [(signs, 6), ("่้์าะ", 3), (" ", 1), ("ก1๒a-ๆກ。", 0.5)]
    for _ in range(number):
        chosen = pick.choices(kinds, weights=[weight for _, weight in kinds], k=pick.randint(2, 14))
        yield "".join(pick.choice(chars) for chars, _ in chosen)


@pytest.mark.parametrize("texts", [3_000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_random_thai(plain: uroman.Uroman, uncoded: ExactUroman, texts: int) -> None:
    assert list(differences(plain, uncoded, None, thai_texts(texts, seed=texts))) == []


@pytest.mark.parametrize("missing", ["has_syllable_end", "is_thai_tone_mark"])
def test_random_thai_notices_what_is_missing(
    plain: uroman.Uroman, memory: Memory, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    exact_uroman = ExactUroman(memory)
    exact_uroman.romanize("กิน")  # its guards are chosen with all facts
    monkeypatch.setattr(characters.Character, missing, False)
    for known in (exact_uroman._tables.characters, exact_uroman._split_points):
        known.clear()
    assert any(differences(plain, exact_uroman, None, thai_texts(20_000, seed=8)))


@pytest.mark.parametrize("lcode", [None, "ben", "san", "ukr"])
def test_the_best_path_of_whole_texts(plain: uroman.Uroman, memory: Memory, lcode: str | None) -> None:
    """Without splitting; what needs uroman's lattice says so."""
    letters = Letters(Tables(memory.source, lcode), memory.count)
    usual = 0
    for text in [*Fuzz(plain, 40).texts(1_000), *thai_texts(300, seed=4)]:
        expected = outcome(plain.romanize_string, text, lcode)
        outcome(memory.source.romanize_string, text, lcode)  # takes texts apart and remembers that
        try:
            latin = BestPath(letters, text).latin()
        except UnusualTextError:
            continue
        usual += 1
        assert (text, latin) == (text, expected)
    assert usual > 500


@pytest.mark.parametrize("texts", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_random_text_with_language_codes(plain: uroman.Uroman, memory: Memory, fuzz: Fuzz, texts: int) -> None:
    for lcode in sorted(known_lcodes(plain))[:: 1 if texts > 100 else 5]:
        assert list(differences(plain, ExactUroman(memory, lcode), lcode, fuzz.texts(texts))) == []


@pytest.mark.slow
def test_much_random_text(plain: uroman.Uroman, uncoded: ExactUroman) -> None:
    assert list(differences(plain, uncoded, None, Fuzz(plain, 1_000).texts(60_000))) == []


RULES = ["numbers_meet", "in_one_tibetan_syllable", "word_edge_is_the_same"]
FACTS = [
    "attaches", "begins_with_space", "is_capital", "asks_word_start", "asks_word_end", "reaches_right",
    "vowel_depends_right", "looks_for_space",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("missing", RULES + FACTS)
def test_random_text_notices_what_is_missing(
    plain: uroman.Uroman, memory: Memory, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """A test of the test: without one of the reasons not to cut, there are differences."""
    if missing in RULES:
        monkeypatch.setattr(split_points, missing, lambda x, y: missing == "word_edge_is_the_same")
    else:
        monkeypatch.setattr(characters.Character, missing, False)
    assert any(differences(plain, ExactUroman(memory), None, Fuzz(plain, 0).texts(30_000)))


class Recording(ExactUroman):
    """Keeps the texts that it had to read, because it did not remember them."""

    def __init__(self, memory: Memory) -> None:
        self.seen: list[str] = []
        super().__init__(memory)

    def _read(self, text: str) -> tuple[str, bool]:
        self.seen.append(text)
        return super()._read(text)


def test_parts_are_short_and_few(plain: uroman.Uroman) -> None:
    """What makes it fast: uroman sees new parts only, not new words."""
    counting = Recording(Memory(plain))
    seen = counting.seen
    letters = {"Cyrillic": "бвгдеж", "Deva": "कमलतन", "Hang": "가나다라", "Deva with signs": ["कि", "त्", "मा"]}
    for alphabet in letters.values():
        generator = random.Random(1)
        counting.romanize(" ".join("".join(generator.choices(alphabet, k=9)) for _ in range(300)))
    assert len(seen) < 150
    known = len(seen)
    counting.romanize("жедгвбжд नकमलतमल 라다나가")
    assert len(seen) == known


def test_thai_is_split_at_nearly_every_syllable(plain: uroman.Uroman) -> None:
    """It has no spaces; longer parts would seldom occur again."""
    counting = Recording(Memory(plain))
    seen = counting.seen
    syllables = ["แม่", "น้ำ", "โขง", "ปลา", "บึก", "ตัว", "ใหญ่", "ต้น", "ไผ่", "ฝน", "ตก", "หนัก", "ชาย", "ฝั่ง"]
    generator = random.Random(2)
    for _ in range(60):
        counting.romanize("".join(generator.choices(syllables, k=40)))
    assert len(seen) < 250 and max(map(len, seen)) < 14


def test_memory_is_bounded_and_forgetting_changes_nothing(plain: uroman.Uroman, fuzz: Fuzz) -> None:
    small = Memory(load_uroman(), limit=200_000)
    forgetful = ExactUroman(small)
    texts = list(fuzz.texts(300))
    before = len(small.source.dict_bool)
    for text in texts * 2:
        assert outcome(forgetful.romanize, text) == outcome(plain.romanize_string, text)
        assert small.held <= small.limit + 20_000
    assert len(forgetful) < 300
    small.clear()
    assert not forgetful and len(small.source.dict_bool) <= before


@pytest.mark.parametrize("lcode", [None, "tur", "deu", "ell", "ukr", "yid"])
def test_uroman_leaves_ascii_alone(plain: uroman.Uroman, lcode: str | None) -> None:
    generator = random.Random(7)
    printable = "".join(map(chr, range(32, 127)))
    for _ in range(100):
        line = "".join(generator.choices(printable, k=60))
        assert plain.romanize_string(line, lcode) == line


def test_ascii_needs_no_uroman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("translit_scale.romanize.romanizer.load_uroman")
    assert Romanizer()("<s> Just-text, 1/2 </s>", "eng_Latn") == ("<s> Just-text, 1/2 </s>", False)


def test_what_is_not_in_the_tables_is_still_in_the_code() -> None:
    """The constants stand for lines of uroman's code; this notices a version whose code has others."""
    source = re.sub(r"\s+", " ", Path(exact.uroman_code.__file__).read_text(encoding="utf-8"))
    for text in ("'っッ\\u0A71'", "'ゃゅょャュョ'", "== 'ー'", 'in "យ"', "'\\u0E2D'", '"\\u0300"', "'NUKTA' in"):
        assert text in source
    compared = set(re.findall(r"lcode (?:not )?in \(([^)]*)\)", source))
    assert {code for group in compared for code in re.findall(r"'(\w{3})'", group)} == characters.LCODES_IN_CODE


def test_another_uroman_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact.uroman_code, "__version__", "1.4")
    with pytest.raises(ConfigError, match=r"uroman 1\.3\.1\.1 is needed, found 1\.4"):
        load_uroman()


def test_a_guard_is_always_romanized_alike(plain: uroman.Uroman, memory: Memory) -> None:
    tables = Tables(memory.source, None)
    found = SplitPoints(tables, plain.romanize_string, memory.count)
    assert found["कत"] != PLAIN and found["бв"] == PLAIN and found["一百"] is None
    guarded = {cut.after_left for cut in (found["कत"], found["কত"], found["ကတ"], found["កត"], found["కత"]) if cut}
    assert len(guarded) == 5
    for guard in guarded:
        latin = plain.romanize_string(guard)
        script = [c for c in map(chr, range(ord(guard) // 128 * 128, ord(guard) // 128 * 128 + 128)) if c.isalpha()]
        for letter in script:
            assert plain.romanize_string(guard + letter).startswith(latin)
            assert plain.romanize_string(letter + guard).endswith(latin)


AS_INSTALLED = """
import sys, uroman
romanizer = uroman.Uroman()
for line in sys.stdin.buffer.read().decode().split("\\n"):
    try:
        latin = romanizer.romanize_string(line)
    except Exception as error:
        latin = type(error).__name__
    sys.stdout.buffer.write(latin.encode() + b"\\n")
"""


def test_uroman_in_a_process_without_our_code_gives_the_same(plain: uroman.Uroman, fuzz: Fuzz) -> None:
    """Importing `exact` gives uroman other functions for compiled patterns, in the whole process."""
    texts = [*(text for of_one in COUNTEREXAMPLES.values() for text in of_one), *fuzz.texts(200)]
    texts = [text for text in texts if "\n" not in text and text.isprintable()]
    command = [sys.executable, "-c", AS_INSTALLED]
    run = subprocess.run(command, input="\n".join(texts).encode(), capture_output=True, check=True)
    expected = run.stdout.decode().split("\n")[:-1]
    assert len(expected) == len(texts) > 400
    for text, latin in zip(texts, expected, strict=True):
        found = outcome(plain.romanize_string, text)
        assert found == latin or (found.startswith("\0") and latin in found), text


# ------------------------------------------------------------------------------------------------- Romanizer


def test_white_space_is_that_of_clean_sentences(romanizer: Romanizer, plain: uroman.Uroman, fuzz: Fuzz) -> None:
    for text in map(clean, fuzz.texts(200)):
        expected = outcome(plain.romanize_string, text)
        if not expected.startswith("\0"):
            assert romanizer(text, "und_Zyyy") == (text if text.isascii() else " ".join(expected.split()), False)
    assert romanizer("ь", "ukr_Cyrl") == ("", False)


def test_language_codes_only_when_asked_for(romanizer: Romanizer, plain: uroman.Uroman) -> None:
    by_language = Romanizer("by_language")
    sentence = "гиЇи"
    assert plain.romanize_string(sentence, "ukr") != plain.romanize_string(sentence)
    assert romanizer(sentence, "ukr_Cyrl")[0] == plain.romanize_string(sentence)
    assert by_language(sentence, "ukr_Cyrl")[0] == plain.romanize_string(sentence, "ukr")
    assert by_language(sentence, "bul_Cyrl")[0] == plain.romanize_string(sentence, "bul")
    persian = "و هو"  # uroman keeps the rules of Iranian Persian (pes) under fas
    assert plain.romanize_string(persian, "pes") != plain.romanize_string(persian, "fas")
    assert by_language(persian, "pes_Arab")[0] == plain.romanize_string(persian, "fas")


def test_languages_without_rules_share_a_memo(romanizer: Romanizer) -> None:
    assert romanizer.exact("hin") is romanizer.exact(None) is romanizer.exact("xyz")
    assert romanizer.exact("pes") is romanizer.exact("fas") is not romanizer.exact(None)


def test_a_failure_of_uroman_gets_a_recorded_fallback(romanizer: Romanizer, plain: uroman.Uroman) -> None:
    crashing = "一分之微"
    with pytest.raises(AttributeError):
        plain.romanize_string(crashing)
    latin, is_fallback = romanizer(f"дім {crashing} x", "zho_Hani")
    assert is_fallback
    words = latin.split(" ")
    assert (words[0], words[-1]) == (plain.romanize_string("дім"), "x")
    assert words[1] == "".join(plain.romanize_string(c) for c in crashing)
    digits = "1" * 5000
    assert romanizer(f"{digits}é", "fra_Latn") == (f"{digits}e", True)


def test_provenance_names_everything_the_output_depends_on() -> None:
    provenance = Romanizer("by_language").provenance()
    assert provenance["version"] == "1.3.1.1"
    assert provenance["unicode"] == unicodedata.unidata_version
    assert provenance["lcode"] == "by_language"


# --------------------------------------------------------------------------------------------------- command


@pytest.fixture(autouse=True)
def no_loading(monkeypatch: pytest.MonkeyPatch, memory: Memory) -> None:
    """The tables are loaded once for all tests."""
    monkeypatch.setattr("translit_scale.romanize.romanizer.load_uroman", lambda: memory.source)


def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], data: bytes, *args: str) -> tuple:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["romanize", *args]) == 0
    return tuple(capsysbinary.readouterr())


def test_command_writes_a_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], plain: uroman.Uroman
) -> None:
    lines = ["::lcode rus е", "好。", "", " 『x ", "é\r", "é\x85é\u2028é\x0c", "कमल"]
    out, err = run(monkeypatch, capsysbinary, "\n".join(lines).encode())
    assert out.decode().split("\n") == [*map(plain.romanize_string, lines), ""]
    assert err == b""


def test_command_counts_what_is_not_text_and_what_uroman_fails_on(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    out, err = run(monkeypatch, capsysbinary, b"ab\xffc\xd0\n" + "一分之微\n".encode())
    assert out.decode().split("\n")[0] == "ab\ufffdc\ufffd"
    assert b"2 bytes that are not UTF-8" in err and b"1 lines on which uroman fails" in err


def test_command_takes_a_language_code(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], plain: uroman.Uroman
) -> None:
    out, _ = run(monkeypatch, capsysbinary, "гиЇи\n".encode(), "--language", "uk")
    assert out.decode() == plain.romanize_string("гиЇи", "ukr") + "\n"
    _, err = run(monkeypatch, capsysbinary, b"\n", "--language", "ace")
    assert b"uroman has no rules for 'ace_Latn'" in err
