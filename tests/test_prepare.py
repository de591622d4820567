"""prepare: every line is accounted for, nothing held out gets in, and finished work is not done again."""

import gzip
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.small_corpus import POLISH, contents, edit_recipe, invent, run, write_corpus
from translit_scale.cli import main
from translit_scale.corpus.clean import fold
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.verify import verify
from translit_scale.errors import ConfigError, DataError
from translit_scale.prepare import inputs, tasks
from translit_scale.prepare import run as room
from translit_scale.prepare.run import prepare
from translit_scale.prepare.select import sentence_hash
from translit_scale.progress import Advance
from translit_scale.romanize.romanizer import Romanizer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "data")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often which file is read for what; the first run is interrupted when it begins to romanize."""
    found: Counter[str] = Counter()
    runs = iter((KeyboardInterrupt(),))

    def watch(module: object, name: str, what: str) -> None:
        genuine = getattr(module, name)

        def watched(path: Path, *arguments: object) -> object:
            found[f"{what} {path.name}"] += 1
            return genuine(path, *arguments)

        monkeypatch.setattr(module, name, watched)

    def once_interrupted(task: tasks.ShardTask, advance: Advance) -> None:
        for error in runs:
            raise error
        tasks.run_shard(task, advance)

    watch(inputs, "sha256_file", "checksum")
    watch(tasks, "read_clean", "text")
    monkeypatch.setattr(room, "run_shard", once_interrupted)
    return found


def test_every_line_is_accounted_for(data: Path, tmp_path: Path) -> None:
    shard_set = run(data, tmp_path / "out")
    polish, ukrainian = (shard_set.manifest.languages[code] for code in shard_set.languages)
    assert polish.read == 60 and polish.rows == 50
    assert {reason: n for reason, n in polish.dropped.items() if n} == {
        "undecodable": 3,
        "empty": 2,
        "too_long": 1,
        "held_out": 2,
        "duplicate": 2,
    }
    assert ukrainian.read == 40 and ukrainian.rows == 39 and ukrainian.fallbacks == 1
    assert {reason: n for reason, n in ukrainian.dropped.items() if n} == {"empty_transliteration": 1}
    for counts in (polish, ukrainian):
        assert counts.read == sum(counts.dropped.values()) + counts.rows
    # 16 to a block; the row without a transliteration leaves a gap, and no row moves because of it.
    assert shard_set.block_rows("pol_Latn") == (16, 16, 16, 2)
    short = [16 - rows for rows in shard_set.block_rows("ukr_Cyrl")]
    assert sorted(short) in ([0, 1, 8], [0, 0, 9])


def test_pairs_are_aligned_hashed_in_order_and_none_is_held_out(data: Path, tmp_path: Path) -> None:
    shard_set = run(data, tmp_path / "out")
    romanizer = Romanizer()
    held_out = {fold(cell) for line in (data / "heldout/a-b.tsv").open() for cell in line.split("\t")}
    for language in shard_set.languages:
        pairs = list(shard_set.pairs(language))
        assert [romanizer(orig, language)[0] for orig, _ in pairs] == [latn for _, latn in pairs]
        hashes = [sentence_hash(orig, 0) for orig, _ in pairs]
        assert hashes == sorted(hashes)
        assert not {fold(orig) for orig, _ in pairs} & held_out
    assert {orig for orig, _ in shard_set.pairs("pol_Latn")} == set(invent(POLISH, 50))


def test_manifest_has_no_trace_of_the_machine(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "out")
    text = (tmp_path / "out/manifest.json").read_text()
    assert str(tmp_path) not in text and os.uname().nodename not in text
    provenance = json.loads(text)["provenance"]
    assert set(provenance["inputs"]["ukr_Cyrl"]) == {"ukr.tsv"}
    assert set(provenance["held_out"]) == {"heldout/a-b.tsv"}
    assert provenance["romanizer"]["lcode"] == "none"
    assert sorted(contents(tmp_path / "out")) == [
        "manifest.json", "pol_Latn-00000.tar", "pol_Latn-00001.tar", "ukr_Cyrl-00000.tar", "ukr_Cyrl-00001.tar",
    ]  # fmt: skip


def test_order_of_the_input_and_place_of_the_data_do_not_matter(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "a")
    moved = tmp_path / "elsewhere"
    shutil.move(data, moved)
    run(moved, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    lines = (moved / "pol.txt").read_bytes().split(b"\r\n")
    (moved / "pol.txt").write_bytes(b"\r\n".join(reversed(lines)))
    shuffled = run(moved, tmp_path / "c")
    assert list(shuffled.pairs("pol_Latn")) == list(ShardSet.open(tmp_path / "a").pairs("pol_Latn"))


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(data: Path, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole")
    edit_recipe(data, "max_chars", "sample: {fraction: 0.2, minimum: 12}\nmax_chars")
    part = run(data, tmp_path / "part")
    assert part.rows("pol_Latn") == 12
    assert part.manifest.languages["pol_Latn"].dropped["not_sampled"] == 38
    assert list(part.pairs("pol_Latn")) == list(whole.pairs("pol_Latn"))[:12]


def test_a_finished_set_is_left_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run(data, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name != ".lock"}
    (out / ".work").mkdir()  # as a kill right after the manifest was written leaves it
    for force in (False, True):
        run(data, out, force=force)
        assert not (out / ".work").exists()
        assert "up to date" in capsys.readouterr().err
        assert before == {path: path.stat().st_mtime_ns for path in before}


def test_another_input_or_recipe_is_refused_or_forced(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    edit_recipe(data, "block_rows: 16", "block_rows: 1")
    run(data, out)
    first = contents(out)
    assert "pol_Latn-00002.tar" in first
    edit_recipe(data, "block_rows: 1", "block_rows: 16")
    with (data / "pol.txt").open("a") as file:
        file.write("zupełnie nowe\n")
    with pytest.raises(
        DataError, match=r"something else: inputs\.pol_Latn\.pol\.txt, recipe\.block_rows differ"
    ) as error:
        run(data, out)
    assert "--force" in error.value.hint
    assert contents(out) == first
    assert run(data, out, force=True).rows("pol_Latn") == 51
    run(data, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")  # nothing of the older set is left


def test_a_damaged_finished_set_is_made_again(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "out")
    intact = contents(tmp_path / "out")
    (tmp_path / "out/pol_Latn-00000.tar").unlink()
    run(data, tmp_path / "out")
    assert contents(tmp_path / "out") == intact


def test_finished_tasks_are_not_done_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    calls: list[str] = []
    genuine = Romanizer.__call__

    def counting(self: Romanizer, sentence: str, language: str) -> tuple[str, bool]:
        calls.append(sentence)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return genuine(self, sentence, language)

    monkeypatch.setattr(Romanizer, "__call__", counting)
    with pytest.raises(KeyboardInterrupt):
        run(data, out)
    with pytest.raises(DataError, match="not finished"):
        ShardSet.open(out)
    calls.clear()
    calls.extend([""] * 40)
    run(data, out)
    assert len(calls) - 40 == 90 - 32  # one shard of two blocks was finished
    monkeypatch.undo()
    run(data, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("pol.txt", "", r"pol\.txt is empty"),
        ("pol.txt", "\n \n", r"pol_Latn: no sentence is left of 2 in pol\.txt \(2 empty\)"),
        ("ukr.tsv", "id\tsentence\n1\tx\n", r"ukr\.tsv has no column 'text'"),
        ("ukr.tsv", "id\ttext\n", r"ukr_Cyrl: no sentence is left of 0 in ukr\.tsv \(no lines\)"),
        ("ukr.tsv", "text\nь\n", "ukr_Cyrl: uroman has no Latin form of any of its sentences\n.*leave ukr_Cyrl out"),
        ("heldout/a-b.tsv", "", r"a-b\.tsv is empty"),
    ],
)
def test_unusable_input_is_named(data: Path, tmp_path: Path, path: str, text: str, message: str) -> None:
    (data / path).write_text(text)
    with pytest.raises(DataError, match=message):
        run(data, tmp_path / "out")


def test_all_languages_of_which_nothing_is_left_are_named_at_once(data: Path, tmp_path: Path) -> None:
    (data / "pol.txt").write_text("\n")
    (data / "ukr.tsv").write_text("id\ttext\n1\t \n2\n")
    with pytest.raises(DataError) as error:
        run(data, tmp_path / "out")
    assert error.value.message.split("\n") == [
        "pol_Latn: no sentence is left of 1 in pol.txt (1 empty)",
        "ukr_Cyrl: no sentence is left of 2 in ukr.tsv (1 empty, 1 malformed)",
    ]


def test_blocks_and_shards_of_which_nothing_is_left_are_skipped(data: Path, tmp_path: Path) -> None:
    edit_recipe(data, "block_rows: 16", "block_rows: 1")
    rows = [*("ь" * length for length in range(1, 30)), "жук", "їжак", "кіт"]
    (data / "ukr.tsv").write_text("text\n" + "".join(f"{row}\n" for row in rows))
    shard_set = run(data, tmp_path / "out")
    order = sorted(rows, key=lambda row: sentence_hash(row, 0))
    places = {orig: order.index(orig) for orig in rows[-3:]}
    shards = [shard for shard in shard_set.manifest.shards if shard.language == "ukr_Cyrl"]
    expected = sorted({f"ukr_Cyrl-{place // 2:05d}.tar" for place in places.values()})
    assert [shard.name for shard in shards] == expected and len(expected) < 16
    assert [orig for orig, _ in shard_set.pairs("ukr_Cyrl")] == sorted(places, key=places.__getitem__)
    assert shard_set.manifest.languages["ukr_Cyrl"].dropped["empty_transliteration"] == 29
    assert verify(tmp_path / "out", True, lambda done: None) == []


def test_inputs_that_change_between_runs_are_read_again(data: Path, tmp_path: Path, reads: Counter[str]) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(data, out)
    reads.clear()
    with (data / "pol.txt").open("a") as file:
        file.write("zupełnie nowe\n")
    assert run(data, out).rows("pol_Latn") == 51
    assert reads == {"checksum pol.txt": 1, "text pol.txt": 1}
    run(data, tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_checksums_outlive_the_preparation_but_not_a_new_time(data: Path, tmp_path: Path, reads: Counter[str]) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(data, out)
    run(data, out)
    reads.clear()
    run(data, out)
    assert not reads
    os.utime(data / "pol.txt")
    run(data, out)
    assert reads == {"checksum pol.txt": 1}


def test_text_that_changes_while_it_is_read_is_noticed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = tasks.read_clean

    def appending(path: Path, *arguments: object) -> Iterator[str]:
        yield from genuine(path, *arguments)  # type: ignore[arg-type]
        with path.open("a") as file:
            file.write("1\tнове\n")

    monkeypatch.setattr(tasks, "read_clean", appending)
    with pytest.raises(DataError, match=r"pol\.txt changed while it was read"):
        run(data, tmp_path / "out")
    monkeypatch.undo()
    assert run(data, tmp_path / "out").rows("pol_Latn") == 51


def test_missing_input_and_wrong_place(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write into"):
        run(data, tmp_path / "file")
    with pytest.raises(DataError, match="file not found"):
        prepare(data / "recipe.yaml", tmp_path, tmp_path / "out", 1)
    with pytest.raises(ConfigError, match="file not found"):
        prepare(data / "recip.yaml", data, tmp_path / "out", 1)


def test_too_little_space_is_noticed_before_the_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"needs about 0\.0 GB more, the disk has 0\.0 GB free"):
        run(data, tmp_path / "out")


def test_the_commands(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", str(data / "recipe.yaml"), "--workers", "1"]) == 0
    out = data / "small"  # beside the recipe, called like the set
    table = capsys.readouterr().out.split("\n")
    header = "language read undecodable empty too_long held_out duplicate empty_transliteration pairs identical bytes"
    assert table[0].split() == header.replace("_", " ").split()
    assert table[1].split()[:9] == ["pol_Latn", "60", "3", "2", "1", "2", "2", "0", "50"]
    assert table[3].split()[:2] == ["all", "100"] and table[3].split()[8:] == ["89", "0.0", "%", table[3].split()[-1]]
    assert table[4] == "pol_Latn: 5% of the lines are not UTF-8: pol.txt 3"
    assert "iconv -f ENCODING" in table[5]
    assert table[6] == "1 sentences that could not be romanized as a whole were romanized in parts"

    assert main(["shards", "stats", str(out)]) == 0
    polish = capsys.readouterr().out.split("\n")[1].split()
    size = sum(path.stat().st_size for path in out.glob("pol_Latn-*.tar"))
    assert polish[:5] == ["pol_Latn", "4", "50", f"{size:,}", f"{size / 50:.0f}"]

    assert main(["shards", "cat", str(out), "--limit", "2"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.split("\n")[:-1]]
    shard_set = ShardSet.open(out)
    assert lines == [[code, *pair] for code in shard_set.languages for pair in list(shard_set.pairs(code))[:2]]

    assert main(["shards", "verify", "--deep", str(out)]) == 0
    assert "4 shards with 89 pairs" in capsys.readouterr().out
    with (out / "pol_Latn-00000.tar").open("r+b") as shard:
        shard.seek(600)
        shard.write(b"?")
    assert main(["shards", "verify", "--deep", str(out)]) == 3
    printed = capsys.readouterr()
    assert "pol_Latn-00000.tar:pol_Latn-00000-0000: expected crc32" in printed.out
    assert "2 problems" in printed.err
    assert main(["shards", "cat", str(out), "--language", "hin_Deva"]) == 3


def test_files_with_many_unreadable_lines_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_bytes("".join(f"linia {n}\n" for n in range(50)).encode() + "łąka\n".encode("cp1250"))
    (tmp_path / "b.txt").write_bytes("".join(f"źdźbło {n}\n" for n in range(7)).encode("utf-8") * 3)
    (tmp_path / "c.txt").write_bytes("zażółć\ngęśla\njaźń\n".encode("cp1250"))
    lines = [{"t": f"рядок {n}"} for n in range(9)] + [{"u": "без"}, {"t": None}, {"t": "пів \ud83d"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "recipe.yaml").write_text(
        "name: x\nlanguages:\n  pol_Latn: ['?.txt']\n  ukr_Cyrl: [{path: d.jsonl, column: t}]\n"
    )
    assert main(["prepare", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "set"), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "pol_Latn: 5% of the lines are not UTF-8: c.txt 3, a.txt 1\n" in printed
    assert "ukr_Cyrl: 17% of the lines have no text where the recipe asks for it: d.jsonl 2\n" in printed
    assert "ukr_Cyrl: 8% of the lines have half of a character" in printed
    assert ShardSet.open(tmp_path / "set").manifest.languages["ukr_Cyrl"].unreadable == {
        "lone_surrogate": {"d.jsonl": 1},
        "malformed": {"d.jsonl": 2},
    }


def test_a_damaged_file_does_not_end_the_work_of_other_languages(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (data / f"{name}.txt.gz").write_bytes(gzip.compress(f"{name}: jedno zdanie\n".encode() * 999)[:-9])
    edit_recipe(data, "ukr_Cyrl:", "hin_Deva: [a.txt.gz]\n  urd_Arab: [b.txt.gz]\n  ukr_Cyrl:")
    with pytest.raises(DataError, match="the text has 2 problems") as error:
        run(data, tmp_path / "out")
    lines = error.value.message.split("\n")
    assert lines[1].startswith("hin_Deva: cannot read") and "gzip -t" in lines[2]
    assert lines[3].startswith("urd_Arab: cannot read")
    selected = {path.name.split("-")[1] for path in (tmp_path / "out/.work").glob("select-*.txt")}
    assert selected == {"pol_Latn", "ukr_Cyrl"}


def test_text_in_another_encoding_is_named_with_what_helps(data: Path, tmp_path: Path) -> None:
    (data / "pol.txt").write_bytes("gęś\nżaba\nok\n".encode("cp1250"))
    edit_recipe(data, "[pol.txt]", "[pol.txt]\nmin_script_fraction: 1\nper_language: {pol_Latn: {max_chars: 1}}\nx:")
    edit_recipe(data, "\nx:\n  ukr_Cyrl: [{path: ukr.tsv, column: text}]", "")
    with pytest.raises(DataError, match=r"2 undecodable.*\n  undecodable lines are not UTF-8; .*iconv -f ENCODING"):
        run(data, tmp_path / "out")


def test_damaged_held_out_text_is_named(data: Path, tmp_path: Path) -> None:
    (data / "heldout/c.tsv").write_text("a\tb\n" + "x" * (2**24 + 1) + "\n")
    with pytest.raises(DataError, match=r"exclude: .*c\.tsv:2: a line of more than"):
        run(data, tmp_path / "out")
