"""Runs, results and similarities of invented numbers, for tests of the report page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pycountry

from translit_scale.charts import Row, comma_separated
from translit_scale.config import load_config
from translit_scale.evaluate.results import header, write_arrays
from translit_scale.files import write_bytes, write_json
from translit_scale.languages import inventory
from translit_scale.shipped_files import find_file
from translit_scale.train.checkpointing.checkpoint import COMPLETE, FORMAT, CheckpointInfo, EngineCounts

ITEMS = 40
_MORE = (f"{language.alpha_3}_Latn" for language in pycountry.languages)
CODES = tuple(dict.fromkeys([*inventory(), *_MORE]))[:1155]


def make_run(
    path: Path, languages: Sequence[str] = CODES, records: int = 400, tcm: float = 1.0, host: str = "n1"
) -> Path:
    """A finished run directory with `records` training records and a score of validation for every 50th."""
    name = f"run.name={path.name}"
    config = load_config(
        [find_file("configs", "demo")], [name, f"run.dir={path.parent}", f"objectives.tcm.weight={tcm}"]
    )
    write_bytes(path / "config.yaml", config.to_yaml().encode())
    write_json(path / "ds_config.json", {"zero_optimization": {"stage": 2}})
    hosts = [{"host": host, "ranks": [0, 1], "devices": {"cpu": 2}}]
    packages = {"packages": {"torch": "2.9"}, "commit": "0123abc", "device": "cpu", "precision": "fp32"}
    write_json(path / "environment.json", {**packages, "world_size": 2, "hosts": hosts})
    write_json(path / "STATUS.json", {"state": "finished", "step": records})
    lines: list[dict[str, Any]] = []
    for step in range(1, records + 1):
        lines.append({"step": step, "train/loss_mlm_orig": 9 / step, "train/loss": 20 / step, "train/lr": 0.001})
        if step % 50 == 0:
            lines.append({"step": step, "validation/sr_b/mean": 1 - 1 / step})
    write_bytes(path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    info = CheckpointInfo(records, 2, 2, config.science(), "s", "t", dict.fromkeys(languages, 60))
    counts = EngineCounts(records, 0, {})
    record = {"format": FORMAT, **asdict(info), "counts": asdict(counts), "files": {}}
    write_json(path / "checkpoints" / f"step_{records:06d}" / COMPLETE, record)
    return path


def write_retrieval(folder: Path, label: str, skill: float, path: str, languages: Sequence[str] = CODES) -> None:
    """Retrieval from English with invented ranks, which are lower the higher the skill is (0 to 1)."""
    random = np.random.default_rng(0)
    tests, arrays = [], {}
    for code in (code for code in languages if code != "eng_Latn"):
        name, difficulty = f"eng_Latn->{code}", random.uniform(0, 1, ITEMS)
        rank = np.where(difficulty < skill, 1, 20)
        arrays |= {f"ids:{name}": np.array([str(i) for i in range(ITEMS)]), f"rank:{name}": rank}
        share = float((rank == 1).mean())
        scores = {f"top{k}": share for k in (1, 5, 10)}
        interval = {f"top{k}": [max(0, share - 0.1), min(1, share + 0.1)] for k in (1, 5, 10)}
        of_text = {"hf_subset": name, "n": ITEMS, "text_sha256": "0"}
        tests.append({"query": "eng_Latn", "candidates": code, **scores, "ci95": interval, **of_text})
    model = {"label": label, "path": path, "weights_sha256": label, "tokenizer_sha256": "t"}
    content = {**header("sr_b", "retrieval"), "model": model, "settings": {}, "scores": {"test": tests}}
    write_json(folder / "sr_b" / f"{label}.json", content)
    write_arrays(folder / "sr_b" / f"{label}.items.npz", arrays)


def write_transfer(folder: Path, label: str, skill: float, path: str, languages: Sequence[str] = CODES[:200]) -> None:
    """SIB200 from English with two seeds, without items."""
    for seed in (42, 43):
        random = np.random.default_rng(seed)
        tests = [
            {"language": code, "paper": {"macro_f1": skill * random.uniform(0.5, 1)}, "strict": {"macro_f1": 0.5},
             "main_score": 0.5, "n": 204, "text_sha256": "0"}
            for code in languages
        ]  # fmt: skip
        model = {"label": label, "path": path, "weights_sha256": label, "tokenizer_sha256": "t"}
        settings = {"source": ["eng_Latn"], "seed": seed}
        content = {
            **header("sib200", "classification"),
            "model": model,
            "settings": settings,
            "scores": {"test": tests},
        }
        write_json(folder / "sib200" / f"{label}.eng_Latn.seed{seed}.json", content)


def write_similarity(folder: Path, label: str, gap: float, path: str) -> None:
    """Similarities of two language pairs."""
    names = ("translation", "transliteration", "transliteration_translation", "transliteration_transliteration")
    score = {"matched": 0.4 + gap, "random": 0.4, "gap": gap} | dict.fromkeys(
        ("matched_se", "random_se", "gap_se"), 0.01
    )
    tests = [
        {"hf_subset": f"{s}-{t}", "s": s, "t": t, "n": 50, **{name: {**score, "separability": 0.9} for name in names}}
        for s, t in (("ukr_Cyrl", "pol_Latn"), ("urd_Arab", "hin_Deva"))
    ]
    model = {"label": label, "path": path, "weights_sha256": label, "tokenizer_sha256": "t"}
    content = {**header("flores", "similarity"), "model": model, "settings": {}, "scores": {"test": tests}}
    write_json(folder / "flores" / f"{label}.similarity.json", content)


def write_words(folder: Path, label: str, f1: float, path: str, languages: Sequence[str]) -> None:
    """Word alignment of some languages, the last of which has no sentence."""
    score = {"words": 90, "f1": f1, "ci95": {"f1": [f1 - 0.1, f1 + 0.1]}, "chance": {"f1": 0.05}}
    changed = {"words": 0}
    tests = [{"hf_subset": code, "n": 30, "all": score, "changed": changed} for code in languages[:-1]]
    tests.append({"hf_subset": languages[-1], "n": 0, "left_out": {"long": 3}})
    model = {"label": label, "path": path, "weights_sha256": label, "tokenizer_sha256": "t"}
    content = {**header("words", "words"), "model": model, "settings": {}, "scores": {"test": tests}}
    write_json(folder / "words" / f"{label}.words.json", content)


def make_page_world(folder: Path, languages: Sequence[str] = CODES) -> list[Path]:
    """Two runs, results of both and of a base model in `results` beside them, and similarities; returns the runs."""
    runs = [make_run(folder / "runs" / name, languages, tcm=tcm) for name, tcm in (("mlm", 0), ("tcm", 1))]
    results = folder / "runs" / "results"
    for label, skill in (("base", 0.3), ("mlm", 0.4), ("tcm", 0.7)):
        path = "base-model" if label == "base" else str(folder / "runs" / label / "export")
        write_retrieval(results, label, skill, path, languages)
        write_transfer(results, label, skill, path, [code for code in languages if code != "eng_Latn"][:200])
        write_similarity(folder / "runs" / "analysis", label, skill, path)
        write_words(folder / "runs" / "analysis", label, skill, path, languages[:9])
    bins: list[Row] = [
        {
            "panel": "tcm | sim(s, t): gap 0.700", "pairs": pairs, "low": low / 10, "high": (low + 1) / 10,
            "percent": 10 * (low < 9),
        }
        for pairs in ("matched pairs", "random pairs") for low in range(10)
    ]  # fmt: skip
    means: list[Row] = [{"panel": row["panel"], "pairs": row["pairs"], "mean": 0.4} for row in (bins[0], bins[-1])]
    path = folder / "runs" / "analysis" / "flores" / "similarity.ukr_Cyrl-pol_Latn.csv"
    write_bytes(path, comma_separated([*bins, *means]).encode())
    return runs
