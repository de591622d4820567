"""Memory of the two kinds of task: bounded for a selection, a multiple of its text for a shard. In fresh processes."""

import subprocess
import sys

import pytest

from tests.support.small_corpus import environment

pytestmark = pytest.mark.slow

_PEAK = """
from pathlib import Path

def peak():  # not of getrusage, which begins with the peak of the process that this one was started by
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
"""

_SELECT = """
import sys, tempfile
from collections import Counter
from pathlib import Path
from translit_scale.corpus.text import Sentence
from translit_scale.prepare.recipe import Sample
from translit_scale.prepare.select import Spool, select

lines, length, repeated, own = map(int, sys.argv[1:])
texts = (f"{0 if n < repeated else n:0{length}}" for n in range(lines))
sentences = (Sentence(text, f"{n:0{length}}" if own else None) for n, text in enumerate(texts))
before = peak()
with tempfile.TemporaryDirectory() as folder:
    chosen = select(sentences, Counter(), set(), 0, Sample(), Spool(Path(folder), lines * (length + 1) * (1 + own)))
    found = sum(1 for _ in chosen)
print(found, peak() - before)
"""

_SHARD = """
import hashlib, random, sys, tempfile
from collections import Counter
from pathlib import Path
from translit_scale.prepare.recipe import Romanize
from translit_scale.prepare.tasks import ShardTask, TextPart, run_shard
from translit_scale.romanize.transliterator import source

letters, rows = int(sys.argv[1]), 100_000
source("uroman", "none").transliterate(["ж"], "ukr_Cyrl", Counter())  # loads the tables
generator = random.Random(0)
words = ["".join(generator.choices("абвгдежз", k=6)) for _ in range(2000)]
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "text"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(rows):
            line = (" ".join(generator.choices(words, k=letters // 7)) + "\\n").encode()
            digest.update(line), file.write(line)
    size = path.stat().st_size
    before = peak()
    part = TextPart(rows, 0, size, digest.hexdigest())
    run_shard(ShardTask("ukr_Cyrl", 0, Romanize(), (), path, part, 1000, Path(folder), Path(folder)), lambda done: None)
print(size // 2**20, peak() - before)
"""


def measured(program: str, *arguments: int) -> tuple[int, int]:
    words = [sys.executable, "-c", _PEAK + program, *map(str, arguments)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)
    first, mebibytes = map(int, done.stdout.split())
    print(*arguments, first, mebibytes)
    return first, mebibytes


@pytest.mark.parametrize(
    ("lines", "length", "repeated", "own", "limit"),
    [
        (2_000_000, 130, 0, 0, 200),
        (2_000_000, 130, 1_500_000, 0, 200),  # three quarters are one sentence: all in one bucket
        (3_000_000, 20, 0, 0, 300),
        (2_000_000, 20, 1_500_000, 1, 300),  # one sentence with 1.5 million transliterations of its own
    ],
)
def test_selecting_does_not_need_more_for_more_text(
    lines: int, length: int, repeated: int, own: int, limit: int
) -> None:
    found, mebibytes = measured(_SELECT, lines, length, repeated, own)
    assert found == lines - max(repeated - 1, 0)
    assert mebibytes < limit


@pytest.mark.parametrize("letters", [130, 400])
def test_a_shard_needs_a_multiple_of_its_text(letters: int) -> None:
    text, mebibytes = measured(_SHARD, letters)
    assert 2 * text < mebibytes < 8 * text
