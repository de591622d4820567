"""A small corpus for tests of `prepare`: invented sentences, with everything that may be wrong with a line."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from translit_scale.corpus.clean import fold
from translit_scale.corpus.shards import ShardSet
from translit_scale.prepare.run import prepare

ROOT = Path(__file__).resolve().parents[2]
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
shard_blocks: 2
"""


def invent(alphabet: str, count: int, words: int = 6) -> list[str]:
    """Distinct invented sentences."""
    generator = random.Random(alphabet)
    return [
        " ".join("".join(generator.choices(alphabet, k=generator.randint(2, 7))) for _ in range(words)) + f" {number}"
        for number in range(count)
    ]


def write_corpus(folder: Path) -> Path:
    """60 Polish lines, of which 50 are good and distinct, and 40 Ukrainian rows."""
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
    """Replaces a string in the recipe."""
    path = data / "recipe.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def contents(out: Path) -> dict[str, bytes]:
    """All files of a set. What is hidden is no part of it: the lock, remembered checksums and unfinished work."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if not path.name.startswith(".")}


def run(data: Path, out: Path, workers: int = 1, force: bool = False) -> ShardSet:
    """Prepares the set in this process."""
    prepare(data / "recipe.yaml", data, out, workers, force)
    assert {path.name for path in out.glob(".*")} == {".lock", ".inputs.json"}
    return ShardSet.open(out)


def command(data: Path, out: Path, *options: object, workers: int = 2) -> list[str]:
    """The command line that prepares the set."""
    program = [sys.executable, "-m", "translit_scale.cli", "prepare", str(data / "recipe.yaml")]
    return [*program, "--out", str(out), "--workers", str(workers), *map(str, options)]


def environment(**variables: str) -> dict[str, str]:
    """For processes that import this translit_scale."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | variables
