"""`shards verify` lists everything that is wrong with a set, with shard and block, and asks the romanizer too."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.support.tiny import sentences
from tests.test_shards import SPAN, block, damage, make_set
from translit_scale.cli import main
from translit_scale.corpus.blocks import Block
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.verify import ROMANIZED_ROWS, verify
from translit_scale.romanize.romanizer import Romanizer
from translit_scale.romanize.transliterator import SOURCES, source


def problems(directory: Path, deep: bool = True) -> list[str]:
    return verify(directory, deep, lambda done: None)


def keys(found: list[str]) -> list[str]:
    """What stands before the explanation: the file, or shard and block."""
    return [problem.rpartition("/")[2].split(": ")[0].split(" is ")[0].strip("'") for problem in found]


def test_an_intact_set_has_no_problems(tmp_path: Path) -> None:
    make_set(tmp_path)
    (tmp_path / "README.md").write_text("not a shard")
    done: list[int] = []
    assert verify(tmp_path, True, done.append) == []
    assert sum(done) == sum(path.stat().st_size for path in tmp_path.glob("*.tar"))


def test_every_flipped_bit_of_a_shard_is_noticed(tmp_path: Path) -> None:
    make_set(tmp_path)
    path = tmp_path / "pol_Latn-00001.tar"
    intact = path.read_bytes()
    for position in range(0, len(intact), 37):
        damage(path, position, mask=4)
        found = problems(tmp_path)
        assert "sha256" in found[0]
        blocks = [f"{path.name}:pol_Latn-00001-000{position // SPAN}"] if position < 2 * SPAN else []
        assert keys(found) == [path.name, *blocks]
        path.write_bytes(intact)


@pytest.mark.parametrize(
    ("size", "blocks"),
    [
        (2 * SPAN, []),  # only the end of the archive is missing
        (SPAN + 1024, [1]),  # between two members: plain webdataset sees no error
        (SPAN, [1]),  # between two samples
        (SPAN + 700, [1]),
        (600, [0, 1]),
        (0, [0, 1]),
    ],
)
def test_truncation_is_found_and_located(tmp_path: Path, size: int, blocks: list[int]) -> None:
    make_set(tmp_path)
    path = tmp_path / "ukr_Cyrl-00000.tar"
    path.write_bytes(path.read_bytes()[:size])
    found = problems(tmp_path)
    assert keys(found) == [path.name, *(f"{path.name}:ukr_Cyrl-00000-000{number}" for number in blocks)]
    assert f"expected {2 * SPAN + 1024:,} bytes, found {size:,}" in found[0]


def foreign_language(directory: Path) -> None:
    shutil.copy(directory / "ukr_Cyrl-00000.tar", directory / "pol_Latn-00000.tar")


def foreign_number(directory: Path) -> None:
    shutil.copy(directory / "pol_Latn-00001.tar", directory / "pol_Latn-00000.tar")


def foreign_set(directory: Path) -> None:
    other = directory / "other"
    make_set(other, lambda language: [block(language, number) for number in (7, 8)])
    shutil.copy(other / "pol_Latn-00000.tar", directory)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (foreign_language, "plain file pol_Latn-00000-0000.lengths.npy, found b'ukr_Cyrl-00000-0000.lengths.npy'"),
        (foreign_number, "plain file pol_Latn-00000-0000.lengths.npy, found b'pol_Latn-00001-0000.lengths.npy'"),
        (foreign_set, "of the text"),
    ],
)
def test_a_foreign_shard_is_found(tmp_path: Path, change: Callable[[Path], None], expected: str) -> None:
    make_set(tmp_path)
    change(tmp_path)
    found = problems(tmp_path)
    name = "pol_Latn-00000"
    assert keys(found)[0] == f"{name}.tar" and set(keys(found)[1:]) <= {f"{name}.tar:{name}-000{n}" for n in (0, 1)}
    assert any(expected in problem for problem in found)


def test_all_problems_are_listed_not_only_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(tmp_path)
    damage(tmp_path / "ukr_Cyrl-00000.tar", SPAN + 520)
    damage(tmp_path / "ukr_Cyrl-00001.tar", 520)
    damage(tmp_path / "ukr_Cyrl-00001.tar", SPAN + 520)
    (tmp_path / "pol_Latn-00000.tar").rename(tmp_path / "pol_Latn-00007.tar")
    (tmp_path / "a\n\x1b[31m\udcff.tar").write_bytes(b"")
    assert keys(problems(tmp_path)) == [
        r"a\n\x1b[31m\udcff.tar", "pol_Latn-00007.tar", "pol_Latn-00000.tar",
        "ukr_Cyrl-00000.tar", "ukr_Cyrl-00000.tar:ukr_Cyrl-00000-0001",
        "ukr_Cyrl-00001.tar", "ukr_Cyrl-00001.tar:ukr_Cyrl-00001-0000", "ukr_Cyrl-00001.tar:ukr_Cyrl-00001-0001",
    ]  # fmt: skip
    assert sum(":ukr_Cyrl-" in problem for problem in problems(tmp_path)) == 3
    assert [problem for problem in problems(tmp_path) if ":ukr_Cyrl-" not in problem] == problems(tmp_path, deep=False)
    assert main(["shards", "verify", "--deep", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert out.count("\n") == 8 and "error: 8 problems in" in err


# ------------------------------------------------------------------------------------ sets that were made wrong


ONE_OF_EACH = cache(Romanizer)
ROMANIZER = ONE_OF_EACH("none")


@pytest.fixture(autouse=True)
def _tables_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "uroman", ONE_OF_EACH)
    source.cache_clear()


def romanized(seed: int, rows: int = 60) -> Block:
    """Invented sentences, each another, with their real transliterations."""
    orig = [f"{sentence} {row}" for row, sentence in enumerate(sentences(rows, seed))]
    return Block(tuple(orig), tuple(ROMANIZER(sentence, "ukr_Cyrl")[0] for sentence in orig))


def with_bad_block(directory: Path, change: Callable[[list[str], Block], list[str]]) -> None:
    """A set all of whose checksums fit; the transliterations of block 1 are changed."""
    blocks = [romanized(seed) for seed in range(4)]
    blocks[1] = Block(blocks[1].orig, tuple(change(list(blocks[1].latn), blocks[2])))
    make_set(directory, lambda language: blocks, ("ukr_Cyrl",), {"romanizer": ROMANIZER.provenance()})


@pytest.mark.parametrize(
    "change",
    [
        lambda latn, other: [*latn[1:], latn[0]],
        lambda latn, other: [latn[-1], *latn[:-1]],
        lambda latn, other: latn[::-1],
        lambda latn, other: [latn[row ^ 1] for row in range(len(latn))],
        lambda latn, other: list(other.latn),
        lambda latn, other: [*latn[:30], *other.latn[30:]],
    ],
    ids=["up", "down", "reversed", "neighbours swapped", "another block's", "half of another block"],
)
def test_misaligned_lines_are_found_though_all_checksums_fit(
    tmp_path: Path, change: Callable[[list[str], Block], list[str]]
) -> None:
    with_bad_block(tmp_path, change)
    assert problems(tmp_path, deep=False) == []
    found = problems(tmp_path)
    assert keys(found) == ["ukr_Cyrl-00000.tar:ukr_Cyrl-00000-0001"]
    assert "rows looked at are not transliterations of their originals" in found[0]


def test_aligned_lines_are_not_complained_about_whatever_the_romanizer_makes_of_them(tmp_path: Path) -> None:
    odd = ("一分之微", "plain", "№ ½", "‘ขอให้’ ។", "x" * 99)
    blocks = [Block(odd, tuple(ROMANIZER(sentence, "zho_Hani")[0] for sentence in odd))]
    make_set(tmp_path, lambda language: blocks, ("zho_Hani",), {"romanizer": ROMANIZER.provenance()})
    assert problems(tmp_path) == []


def test_of_ascii_sentences_every_row_is_compared(tmp_path: Path) -> None:
    orig = [f"sentence {row}" for row in range(400)]
    swapped = [*orig[:200], orig[201], orig[200], *orig[202:]]
    blocks = [Block(tuple(orig), tuple(swapped))]
    make_set(tmp_path, lambda language: blocks, ("eng_Latn",), {"romanizer": ROMANIZER.provenance()})
    assert "2 of 400 rows" in problems(tmp_path)[0] and "row 201" in problems(tmp_path)[0]


def test_few_rows_are_romanized_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_bad_block(tmp_path, lambda latn, other: latn)
    asked: list[str] = []
    call = Romanizer.__call__
    monkeypatch.setattr(
        Romanizer, "__call__", lambda self, text, language: (asked.append(text), call(self, text, language))[1]
    )
    assert problems(tmp_path) == []
    first, asked[:] = list(asked), []
    assert problems(tmp_path) == [] and asked == first
    assert 3 * 4 <= len(asked) <= ROMANIZED_ROWS * 4
    shard_set = ShardSet.open(tmp_path)
    for number in range(4):
        orig = shard_set.read_block("ukr_Cyrl", number).orig
        assert orig[0] in asked and orig[-1] in asked


@pytest.mark.parametrize(
    ("romanizer", "expected"),
    [
        ({"version": "1.2.8"}, "another romanizer (version '1.2.8', here "),
        ({"unicode": "13.0.0"}, "another romanizer (unicode '13.0.0', here "),
        ({"lcode": ["x"]}, "another romanizer (lcode ['x'], here 'none'"),
        ({"extra": 1}, "another romanizer (extra 1, here None)"),
        (None, "the manifest names no romanizer"),
    ],
)
def test_another_romanizer_is_named_once_and_is_no_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], romanizer: dict[str, object] | None, expected: str
) -> None:
    said = ROMANIZER.provenance() | romanizer if romanizer else "uroman"
    make_set(tmp_path, provenance={"romanizer": said, "recipe": {"romanize": {"by": ["x"]}}})
    assert main(["shards", "verify", "--deep", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err.count("alignment is not checked") == 1 and expected in err
    assert "agree with the manifest" in out
    assert main(["shards", "verify", str(tmp_path)]) == 0
    assert "alignment" not in capsys.readouterr().err


def test_the_language_code_policy_is_the_one_of_the_set(tmp_path: Path) -> None:
    by_language = ONE_OF_EACH("by_language")
    orig = ("щастя", "її", "г")
    latn = tuple(by_language(sentence, "ukr_Cyrl")[0] for sentence in orig)
    assert latn != tuple(ROMANIZER(sentence, "ukr_Cyrl")[0] for sentence in orig)
    blocks = [Block(orig, latn)]
    make_set(tmp_path, lambda language: blocks, ("ukr_Cyrl",), {"romanizer": by_language.provenance()})
    assert problems(tmp_path) == []
    make_set(tmp_path, lambda language: blocks, ("ukr_Cyrl",), {"romanizer": ROMANIZER.provenance()})
    assert keys(problems(tmp_path)) == ["ukr_Cyrl-00000.tar:ukr_Cyrl-00000-0000"]
