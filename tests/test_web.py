"""HTML, URLs and e-mail addresses in sentences: counted in every set, removed where the recipe says so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translit_scale.cli import main
from translit_scale.corpus.clean import clean
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.web import KINDS, found_in, remove
from translit_scale.errors import DataError
from translit_scale.prepare.run import prepare
from translit_scale.prepare.source_check import compare_with_source


@pytest.mark.parametrize(
    ("text", "kinds", "without"),
    [
        # tags and entities
        ("<p>Dobry <i>wie</i>czór</p>", "html", "Dobry wieczór"),
        ("raz<br/>dwa</td><td>trzy", "html", "raz dwa trzy"),
        ("CO<sub>2</sub> to gaz", "html", "CO2 to gaz"),
        ("<img src='a.png' alt=x>Rys. 1 <!-- stopka -->", "html", "Rys. 1"),
        ('zobacz <a class="w', "html", "zobacz"),
        ("Marks &amp; Spencer, 5&nbsp;z&#322; &#x20AC;", "html", "Marks & Spencer, 5 zł €"),
        ("&amp;amp;quot;tak&amp;quot; &lt;b&gt;nie&lt;/b&gt;", "html", '"tak" nie'),
        ("nic &#0; tu &#xD800;nie ma", "html", "nic tu nie ma"),
        # URLs
        ("Więcej: https://pl.example.org/wiki/Żółw_(gad)?x=1#y.", "url", "Więcej:."),
        ("Strona (http://a.example/b) działa", "url", "Strona działa"),
        ("詳しくはhttps://example.jp/ページ", "url", "詳しくはページ"),
        ("देखें https://उदाहरण.भारत/पन्ना।", "url", "देखें।"),
        ("Www.example.com, a potem", "url", ", a potem"),
        # e-mail addresses
        ("Pisz do jan.nowak+x@poczta.example.pl!", "email", "Pisz do!"),
        ("Лист: олена@приклад.укр <o@x.ua>", "email", "Лист:"),
        ("お問い合わせはinfo@example.jpまで", "email", "お問い合わせはまで"),
        ("mailto:a@b.museum", "email", ""),
        # several
        ('<a href="mailto:a@b.pl">a@b.pl</a> &lt;www.b.pl&gt;', "html url email", ""),
        ("http://x.pl/?od=a@b.pl", "url email", ""),
    ],
)
def test_what_is_found_and_removed(text: str, kinds: str, without: str) -> None:
    assert set(found_in(text)) == set(kinds.split())
    assert clean(remove(text, KINDS)) == without
    assert not found_in(clean(remove(text, KINDS)))
    assert remove(text, ()) == text


@pytest.mark.parametrize(
    "text",
    [
        "R&D; AT&T, Q & A, a &notanentity; b",
        "<kot> miau, <anna@dom> i <3, x<y and y>z, a<b and c>d",
        "piszę @anna o 12@ za kg, me@localhost, 3@4.5",
        "http:// i www. i awww.nie.pl, raz://dwa",
    ],
)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert not found_in(text)
    assert remove(text, KINDS) == text


@given(st.text(st.characters(exclude_characters="<&@w/"), max_size=50))
def test_plain_text_stays(text: str) -> None:
    assert not found_in(text) and remove(text, KINDS) == text


@pytest.mark.parametrize("part", ["a@", "< ", "[ @", "<a ", "&amp;", "http://", "(www.", "a@b.c1.", "mailto:@", "  ("])
def test_no_line_takes_long(part: str) -> None:
    start = time.process_time()
    for text in (part * 1000 + "@ ://", part * 10**6):
        found_in(text[:2000])
        remove(text, KINDS)
    assert time.process_time() - start < 5


LINES = {
    "pol_Latn": [
        "<p>To jest zdanie.</p>", "Adres: <kot@dom.pl> tutaj", "https://a.pl/b", "Bez niczego", "A&nbsp;&amp;&nbsp;B",
        "Zdanie testowe http://c.pl", "i trzecie",
    ],
    "ukr_Cyrl": ["Пиши на b@c.ua", "Без нічого &gt;"],
}  # fmt: skip


def make(folder: Path, settings: str) -> ShardSet:
    for language, lines in LINES.items():
        (folder / f"{language}.txt").write_text("\n".join(lines) + "\n")
    (folder / "own.csv").write_text("text,latin\n<b>дім</b> x@y.zz,<b>dim</b> x@y.zz\n")
    (folder / "held.txt").write_text("Zdanie testowe http://d.pl/inny\n")
    (folder / "recipe.yaml").write_text(
        "name: x\nexclude: [held.txt]\nlanguages:\n  pol_Latn: [pol_Latn.txt]\n"
        f"  ukr_Cyrl: [ukr_Cyrl.txt, {{path: own.csv, column: text, transliteration: latin}}]\n{settings}"
    )
    prepare(folder / "recipe.yaml", folder, folder / "set", 1)
    return ShardSet.open(folder / "set")


def texts(shards: ShardSet, language: str) -> set[str]:
    return {orig for orig, _ in shards.pairs(language)}


def test_without_the_setting_they_are_counted_and_stay(tmp_path: Path) -> None:
    shards = make(tmp_path, "")
    polish, ukrainian = (shards.manifest.languages[code] for code in ("pol_Latn", "ukr_Cyrl"))
    assert polish.contains == {"html": 2, "url": 2, "email": 1} and polish.rows == 7
    assert ukrainian.contains == {"html": 2, "email": 2} and not ukrainian.cleaned
    assert "clean" not in shards.manifest.provenance["recipe"]  # manifests of older recipes stay as they were


def test_with_the_setting_they_go_and_what_is_empty_is_counted(tmp_path: Path) -> None:
    shards = make(tmp_path, "clean: [email, html, url]\n")
    polish = shards.manifest.languages["pol_Latn"]
    assert texts(shards, "pol_Latn") == {"To jest zdanie.", "Adres: tutaj", "Bez niczego", "A & B", "i trzecie"}
    assert polish.cleaned == {"html": 2, "url": 2, "email": 1} and not polish.contains
    assert polish.dropped["empty"] == 1 and polish.read == polish.rows + sum(polish.dropped.values())
    assert polish.dropped["held_out"] == 1  # it equals the held-out sentence without its URL
    assert ("дім", "dim") in set(shards.pairs("ukr_Cyrl"))
    rows = compare_with_source(tmp_path / "set", tmp_path)
    assert {code: (of.same, of.changed, of.problems) for code, of in rows.items()} == {
        "pol_Latn": (2, 3, []),
        "ukr_Cyrl": (0, 3, []),
    }


def test_languages_may_differ(tmp_path: Path) -> None:
    shards = make(tmp_path, "clean: [email]\nper_language: {pol_Latn: {clean: []}, ukr_Cyrl: {max_chars: 99}}\n")
    assert "Adres: <kot@dom.pl> tutaj" in texts(shards, "pol_Latn")
    assert texts(shards, "ukr_Cyrl") == {"Пиши на", "Без нічого &gt;", "<b>дім</b>"}


def test_a_finished_set_with_another_setting_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "clean: [email, url]\n")
    make(tmp_path, "clean: [url, email]\n")  # the same
    with pytest.raises(DataError, match=r"something else: recipe\.clean differ"):
        make(tmp_path, "clean: [url]\n")


def test_the_end_of_prepare_names_the_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(settings: str) -> str:
        prepared = ["prepare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "set"), "--workers", "1"]
        make(tmp_path, settings)
        assert main(prepared) == 0
        return capsys.readouterr().out

    out = printed("clean: [url]\n")
    assert "3 pairs contain e-mail addresses: ukr_Cyrl 2, pol_Latn 1\n" in out
    assert "4 pairs contain HTML tags or entities: pol_Latn 2, ukr_Cyrl 2\n" in out
    assert "`clean: [html, email]` in the recipe" in out
    assert "removed from sentences of the input: URLs from 2\n" in out
    assert "pairs contain URLs" not in out


def test_a_few_urls_are_not_worth_a_note_but_an_address_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"zdanie {number}" for number in range(1500)] + ["na www.x.pl", "<b>x</b>"]
    recipe, out = tmp_path / "recipe.yaml", str(tmp_path / "set")
    recipe.write_text("name: x\nlanguages: {pol_Latn: [a.txt]}\n")
    for more, is_noted in (([], False), (["do a@b.pl"], True)):
        (tmp_path / "a.txt").write_text("\n".join(lines + more) + "\n")
        assert main(["prepare", str(recipe), "--out", out, "--workers", "1", "--force"]) == 0
        assert ("contain" in capsys.readouterr().out) == is_noted
        assert ShardSet.open(Path(out)).manifest.languages["pol_Latn"].contains.items() >= {"html": 1, "url": 1}.items()
