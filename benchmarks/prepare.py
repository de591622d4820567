"""Measures speed and memory of preparation: every stage of `prepare` in one process, with a cold and a warm romanizer.

    python benchmarks/prepare.py FILE... [--lines 40000]

FILE is a text file with one sentence per line, named after its language (hin_Deva.txt). The first `--lines` different
lines of each file are used. Every second line is prepared as one shard set with an empty cache in the romanizer (its
tables are loaded before), then the other lines as another. *Warm* means that the romanizer has seen as many lines of
the same languages and kind, but none of these. Times are CPU times of the process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from report import heading

from translit_scale.corpus.shards import encode_shard
from translit_scale.corpus.text import Columns, read_clean
from translit_scale.files import sha256_file, write_bytes
from translit_scale.prepare import tasks
from translit_scale.prepare.inputs import InputFile, Stamp
from translit_scale.prepare.recipe import Recipe
from translit_scale.prepare.tasks import SelectTask, ShardTask, run_select, run_shard
from translit_scale.romanize.exact import load_uroman

STAGES = ("checksum", "read and clean", "hash, sort, write", "romanize", "pack", "write shard")
DEFAULTS = Recipe(name="benchmark", languages={"eng_Latn": ["text.txt"]})


class Stages(defaultdict[str, float]):
    """CPU seconds of each stage, number of sentences (`pairs`), bytes of text (`text`) and of shards (`shards`)."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the time of its body to a stage."""
        begin = time.process_time()
        yield
        self[stage] += time.process_time() - begin

    def watching(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def watched(*arguments: Any) -> Any:
            with self.timed(stage):
                return function(*arguments)

        return watched

    @property
    def seconds(self) -> float:
        """CPU time of all stages."""
        return sum(self[stage] for stage in STAGES)


def halves(path: Path, lines: int, folder: Path) -> tuple[Path, Path]:
    """Splits the first `lines` different lines alternately into two files."""
    with path.open("rb") as file:
        chosen = list(islice(dict.fromkeys(file), lines))
    for start, name in enumerate(("cold", "warm")):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / path.name).write_bytes(b"".join(chosen[start::2]))
    return folder / "cold" / path.name, folder / "warm" / path.name


def prepare(path: Path, work_dir: Path, stages: Stages) -> None:
    """Runs all tasks of one language with the default settings of a recipe."""
    language = path.stem
    stages["text"] += path.stat().st_size
    with stages.timed("checksum"):
        digest = sha256_file(path)
    with stages.timed("read and clean"):  # in addition to `prepare`, to know its part of the selection
        for _ in read_clean(path, Columns(), DEFAULTS.max_chars, Counter(), lambda done: None):
            pass
    select_task = SelectTask(
        language=language, recipe=DEFAULTS, data_dir=path.parent,
        files=(InputFile(path.name, Columns(), digest, Stamp.of(path)),), excluded=(),
        work_dir=work_dir, run_dir=work_dir,
    )  # fmt: skip
    with stages.timed("select"):
        run_select(select_task, lambda done: None)
    stages["hash, sort, write"] = stages["select"] - stages["read and clean"]
    for number, part in enumerate(select_task.result().parts):
        task = ShardTask(
            language=language, number=number, romanize=DEFAULTS.romanize, columns=(), text=select_task.result().text,
            part=part, block_rows=DEFAULTS.block_rows, work_dir=work_dir, run_dir=work_dir,
        )  # fmt: skip
        with stages.timed("shard"):
            run_shard(task, lambda done: None)
        stages["pairs"] += task.result().counts["rows"]
        stages["shards"] += task.shard.stat().st_size
    stages["romanize"] = stages["shard"] - stages["pack"] - stages["write shard"]


def measure(paths: Sequence[Path], work_dir: Path) -> dict[str, Stages]:
    """Measures the stages of every language, one after the other."""
    work_dir.mkdir()
    results = {}
    for path in paths:
        stages = results[path.stem] = Stages(float)
        packing = mock.patch.object(tasks, "encode_shard", stages.watching("pack", encode_shard))
        with packing, mock.patch.object(tasks, "write_bytes", stages.watching("write shard", write_bytes)):
            prepare(path, work_dir, stages)
    return results


def total(of_each: Iterable[Stages]) -> Stages:
    """The sum of the stages of all languages."""
    whole = Stages(float)
    for stages in of_each:
        for name, amount in stages.items():
            whole[name] += amount
    return whole


def per_pair(stage: str, stages: Stages) -> str:
    """Microseconds of a stage for each pair."""
    return f"{1e6 * stages[stage] / stages['pairs']:.1f}"


def report(by_language: dict[str, dict[str, Stages]]) -> str:
    """The table: microseconds per pair for each stage, totals, and pairs/s/core by language."""
    results = {name: total(of_each.values()) for name, of_each in by_language.items()}
    lines = [f"| | {' | '.join(results)} |", "|---|" + "---:|" * len(results)]

    def row(name: str, value: Callable[[Stages], str]) -> None:
        lines.append(f"| {name} | {' | '.join(map(value, results.values()))} |")

    row("pairs", lambda stages: f"{stages['pairs']:,.0f}")
    for stage in STAGES:
        row(f"{stage}, µs per pair", partial(per_pair, stage))
    row("all stages, µs per pair", lambda stages: f"{1e6 * stages.seconds / stages['pairs']:.1f}")
    row("**pairs/s/core**", lambda stages: f"**{stages['pairs'] / stages.seconds:,.0f}**")
    row("MB/s of text", lambda stages: f"{stages['text'] / stages.seconds / 1e6:.1f}")
    row("selection, lines/s", lambda stages: f"{stages['pairs'] / stages['select']:,.0f}")
    row("bytes of shards per pair", lambda stages: f"{stages['shards'] / stages['pairs']:.0f}")
    for language in next(iter(by_language.values())):
        speeds = (of_each[language]["pairs"] / of_each[language].seconds for of_each in by_language.values())
        lines.append(f"| {language}, pairs/s/core | {' | '.join(f'{speed:,.0f}' for speed in speeds)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints Markdown: command, machine, table, memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--lines", type=int, default=40_000, metavar="N", help="lines per file (default: %(default)s)")
    args = parser.parse_args()
    load_uroman()
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold, warm = zip(*(halves(path, args.lines, folder) for path in args.files), strict=True)
        by_language = {"cold": measure(cold, folder / "cold-set"), "warm": measure(warm, folder / "warm-set")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{heading('Preparation in one process', ('uroman', 'numpy'))}\n{report(by_language)}\n")
    print(f"Peak memory: {peak / 1024:,.0f} MB; {loaded / 1024:,.0f} MB of it are Python and uroman's tables.")


if __name__ == "__main__":
    main()
