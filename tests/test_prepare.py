"""prepare: every line is accounted for, nothing held out gets in, and no kill or worker count shows."""

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from translit_scale.cli import main
from translit_scale.corpus.clean import fold
from translit_scale.corpus.prepare import prepare
from translit_scale.corpus.romanize import Romanizer
from translit_scale.corpus.select import sentence_hash
from translit_scale.corpus.shards import ShardSet
from translit_scale.corpus.workers import run_tasks
from translit_scale.errors import ConfigError, DataError
from translit_scale.progress import Advance

POLISH, CYRILLIC = "aąbcćdeęłńóśźż", "абвгґдеєжзиіїйклмн"
HELD_OUT = "Ąbc, łęć!"
RECIPE = """
name: small
languages:
  pol_Latn: [pol.txt]
  ukr_Cyrl: [{path: ukr.tsv, column: text}]
exclude: [heldout/*.tsv]
max_chars: 100
block_rows: 16
shard_bytes: 65536
"""


def invent(alphabet: str, count: int, words: int = 6) -> list[str]:
    """Distinct invented sentences."""
    generator = random.Random(alphabet)
    return [
        " ".join("".join(generator.choices(alphabet, k=generator.randint(2, 7))) for _ in range(words)) + f" {number}"
        for number in range(count)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """60 Polish lines, of which 50 are good and distinct, and 40 Ukrainian rows."""
    folder = tmp_path / "data"
    (folder / "heldout").mkdir(parents=True)
    polish = invent(POLISH, 50)
    lines = [*polish, polish[0], f" {polish[1]}\u2028", "", "\ufeff ", "ą" * 101, HELD_OUT, HELD_OUT.upper()]
    bad = "żółw\n".encode("iso8859-2")
    (folder / "pol.txt").write_bytes(bad * 3 + "".join(f"{line}\r\n" for line in lines).encode())
    rows = [*invent(CYRILLIC, 38), "ь", "一分之微"]
    (folder / "ukr.tsv").write_text("id\ttext\n" + "".join(f"{n}\t{row}\n" for n, row in enumerate(rows)))
    (folder / "heldout/a-b.tsv").write_text(f"pol_Latn\tukr_Cyrl\n{fold(HELD_OUT)}\tжодного\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def edit_recipe(data: Path, old: str, new: str) -> None:
    path = data / "recipe.yaml"
    path.write_text(path.read_text().replace(old, new))


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != ".lock"}


def run(data: Path, out: Path, workers: int = 1, force: bool = False) -> ShardSet:
    prepare(data / "recipe.yaml", data, out, workers, force)
    return ShardSet.open(out)


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
        "manifest.json",
        "pol_Latn-00000.tar",
        "ukr_Cyrl-00000.tar",
    ]


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
    edit_recipe(data, "block_rows: 16", "block_rows: 1")  # a tar of 65 536 bytes holds 20 such blocks
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
    assert len(calls) - 40 == 90 - 32  # two blocks of 16 were finished
    monkeypatch.undo()
    run(data, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("step", ["write_shards", "write_manifest"])
def test_packing_can_break_off_anywhere(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    run(data, out)
    with (data / "pol.txt").open("a") as file:
        file.write("zupełnie nowe\n")
    monkeypatch.setattr(f"translit_scale.corpus.prepare.{step}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(data, out, force=True)
    with pytest.raises(DataError, match="not finished"):  # neither the old set nor the new one
        ShardSet.open(out)
    monkeypatch.undo()
    run(data, out)
    run(data, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_one_job_at_a_time(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another prepare is at work"):
            run(data, out)
    run(data, out)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("pol.txt", "", r"pol\.txt is empty"),
        ("pol.txt", "\n \n", r"pol_Latn: no sentence is left of 2 in pol\.txt \(2 empty\)"),
        ("ukr.tsv", "id\tsentence\n1\tx\n", r"ukr\.tsv has no column 'text'"),
        ("ukr.tsv", "id\ttext\n", r"ukr_Cyrl: no sentence is left of 0 in ukr\.tsv \(no lines\)"),
        ("ukr.tsv", "text\nь\n", "ukr_Cyrl: uroman has no Latin form"),
        ("heldout/a-b.tsv", "", r"a-b\.tsv is empty"),
    ],
)
def test_unusable_input_is_named(data: Path, tmp_path: Path, path: str, text: str, message: str) -> None:
    (data / path).write_text(text)
    with pytest.raises(DataError, match=message):
        run(data, tmp_path / "out")


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
    assert table[3] == "pol_Latn: 5% of the lines are not UTF-8; is a file in another encoding?"
    assert table[4] == "1 sentences on which uroman fails were romanized word by word"

    assert main(["shards", "stats", str(out)]) == 0
    polish = capsys.readouterr().out.split("\n")[1].split()
    size = (out / "pol_Latn-00000.tar").stat().st_size
    assert polish[:5] == ["pol_Latn", "4", "50", f"{size:,}", f"{size / 50:.0f}"]

    assert main(["shards", "cat", str(out), "--limit", "2"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.split("\n")[:-1]]
    shard_set = ShardSet.open(out)
    assert lines == [[code, *pair] for code in shard_set.languages for pair in list(shard_set.pairs(code))[:2]]

    assert main(["shards", "verify", "--deep", str(out)]) == 0
    assert "2 shards with 89 pairs" in capsys.readouterr().out
    with (out / "pol_Latn-00000.tar").open("r+b") as shard:
        shard.seek(600)
        shard.write(b"?")
    assert main(["shards", "verify", "--deep", str(out)]) == 3
    printed = capsys.readouterr()
    assert "pol_Latn-00000.tar:pol_Latn-000000: expected crc32" in printed.out
    assert "2 problems" in printed.err
    assert main(["shards", "cat", str(out), "--language", "hin_Deva"]) == 3


# ------------------------------------------------------------------------------------- with processes


def command(data: Path, out: Path, workers: int = 2) -> list[str]:
    program = [sys.executable, "-m", "translit_scale.cli", "prepare", str(data / "recipe.yaml")]
    return [*program, "--out", str(out), "--workers", str(workers)]


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture
def larger(data: Path) -> Path:
    """Some seconds of work, more than a hundred blocks: Thai letters at random, the slowest text to romanize."""
    thai = "".join(map(chr, range(0x0E01, 0x0E30)))
    (data / "pol.txt").write_text("".join(f"{line}\n" for line in invent(thai, 1000, words=12)))
    (data / "ukr.tsv").write_text("text\n" + "".join(f"{line}\n" for line in invent(thai[::-1], 1000, words=12)))
    return data


@pytest.mark.slow
def test_two_workers_and_kills_leave_no_trace(larger: Path, tmp_path: Path) -> None:
    run(larger, tmp_path / "one")
    run(larger, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")

    out = tmp_path / "killed"
    kills = 0
    for blocks in (1, 15):
        process = subprocess.Popen(command(larger, out), stderr=subprocess.PIPE, text=True, start_new_session=True)
        wait_for(lambda blocks=blocks: len(list(out.glob(".work/block-*.json"))) >= blocks, process)
        if process.poll() is None:
            kills += 1
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "manifest.json").exists() or process.returncode == 0
    assert kills == 2
    run(larger, out, workers=2)
    assert contents(out) == contents(tmp_path / "one")


@pytest.mark.slow
def test_ctrl_c_ends_quietly(larger: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(larger, out),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job inherits an ignored Ctrl-C, and tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: any(out.glob(".work/block-*.json")), process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "finished parts are kept" in errors and "Traceback" not in errors
    assert any(out.glob(".work/block-*.json")) and not (out / "manifest.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("full_while", ["selecting", "packing"])
def test_a_full_disk_is_said_and_survived(larger: Path, tmp_path: Path, full_while: str) -> None:
    out = tmp_path / "out"
    edit_recipe(larger, "shard_bytes: 65536", "shard_bytes: 1000000")
    limit = {"selecting": 10_000, "packing": 300_000}[full_while]
    result = subprocess.run(
        command(larger, out),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 3, result.stderr
    assert "no space left on the disk" in result.stderr and "Traceback" not in result.stderr
    assert {"selecting": "/.work/select-", "packing": "/pol_Latn-00000.tar"}[full_while] in result.stderr
    assert not list(out.glob("*.tar")) and not list(out.rglob("*.tmp"))
    run(larger, out)
    run(larger, tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")


def _die(task: int, advance: Advance) -> int:
    advance(1)
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def _fail(task: type[Exception], advance: Advance) -> None:
    raise task("because", "next")


def _square(task: int, advance: Advance) -> int:
    advance(task)
    return task * task


@pytest.mark.slow
def test_workers_results_and_errors() -> None:
    amounts: list[int] = []
    assert run_tasks(_square, range(5), 2, amounts.append) == [0, 1, 4, 9, 16]
    assert sum(amounts) == 10
    with pytest.raises(DataError, match="a worker process was killed during 2"):
        run_tasks(_die, range(4), 2, amounts.append)
    with pytest.raises(DataError, match="because") as error:
        run_tasks(_fail, [DataError] * 3, 2, amounts.append)
    assert error.value.hint == "next"
    with pytest.raises(RuntimeError, match=r"failed\n(.|\n)*ZeroDivisionError: .*because"):
        run_tasks(_fail, [ZeroDivisionError] * 3, 2, amounts.append)
