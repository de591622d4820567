"""From a study to its steps: each is one command of translit-scale, with the steps that it needs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from translit_scale.config import load_config
from translit_scale.files import read_json, write_json
from translit_scale.shipped_files import find_file
from translit_scale.study.settings import Corpus, Measurement, Scale, Study
from translit_scale.submit import training_is_finished


@dataclass(frozen=True)
class Step:
    """One command of a study."""

    name: str
    """Such as `train/pol-ukr/model3-seed0`; what stands before the first `/` is its kind."""
    words: tuple[str, ...]
    """Its arguments, after `translit-scale`."""
    after: tuple[str, ...]
    """Names of the steps whose files it reads."""
    is_training: bool = False

    @property
    def kind(self) -> str:
        """Steps of one kind take about the same time."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Run:
    """One training of a study."""

    corpus: str
    variant: str
    seed: int

    @property
    def label(self) -> str:
        """Its name in results: runs of one corpus are compared, so that it names variant and seed only."""
        return f"{self.variant}-seed{self.seed}"


@dataclass(frozen=True)
class Place:
    """Where a study reads and writes."""

    study: Path
    """Folder of everything that it makes."""
    text: Path | None
    """Folder of the user's text."""
    tests: Path | None
    """Folder of the user's test sets."""

    def run(self, run: Run) -> Path:
        """Folder of a training."""
        return self.study / "runs" / run.corpus / run.label

    def marker(self, step: Step) -> Path:
        """The file that is written when a step has ended well."""
        return self.study / "steps" / f"{step.name}.json"

    def log(self, step: Step) -> Path:
        """What a step prints."""
        return self.study / "logs" / f"{step.name}.log"


def runs_of(study: Study, scale: Scale) -> list[Run]:
    """All trainings, the most important ones first: one of every variant, then the central comparison's other seeds."""
    central = study.comparisons[0]
    runs = [
        (number > 0, number > 0 and variant not in central, number, Run(corpus, variant, seed))
        for corpus in scale.corpora or study.corpora
        for variant, seeds in scale.seeds.items()
        for number, seed in enumerate(seeds)
    ]
    return [run for *_, run in sorted(runs, key=lambda run: run[:3])]


def steps_of(study: Study, scale: Scale, place: Place) -> list[Step]:
    """All steps in an order in which each stands after those that it needs."""
    names = scale.corpora or list(study.corpora)
    made = place.study / "text"
    steps = [Step("text", ("demo-text", "--out", str(made)), ())] if scale.text == "demo" else []
    text = made / "text" if scale.text == "demo" else place.text
    first = tuple(step.name for step in steps)
    for name in names:
        recipe = scale.recipes.get(name, study.corpora[name].recipe)
        shards, tokenizer = place.study / "shards" / name, place.study / "tokenizers" / name
        prepare = ["prepare", recipe, "--data", str(text), "--out", str(shards)]
        pieces = ["tokenizer", "--shards", str(shards), "--out", str(tokenizer), "--vocab-size", str(scale.vocabulary)]
        steps.append(Step(f"prepare/{name}", tuple(prepare), first))
        steps.append(Step(f"tokenizer/{name}", tuple(pieces), (f"prepare/{name}",)))
    runs = runs_of(study, scale)
    waiting = [
        step
        for name in names
        for step in _measurements(study.corpora[name], name, scale, place, [run for run in runs if run.corpus == name])
    ]
    for run in runs:
        steps.append(_training(study, scale, place, run))
        if run.variant in study.starts_from.values() and run == _first_run(scale, run.corpus, run.variant):
            words = ("export", "--run", str(place.run(run)), "--force")
            steps.append(Step(f"export/{run.corpus}/{run.label}", words, (steps[-1].name,)))
    return _in_order(steps, waiting)


def _in_order(steps: Sequence[Step], waiting: Sequence[Step]) -> list[Step]:
    """Puts each measurement behind the last step that it needs, so that results are there early."""
    ordered: list[Step] = []
    left, names = list(waiting), set[str]()
    for step in steps:
        ordered.append(step)
        names.add(step.name)
        while ready := [other for other in left if names.issuperset(other.after)]:
            ordered += ready
            names.update(other.name for other in ready)
            left = [other for other in left if other not in ready]
    return ordered


def _training(study: Study, scale: Scale, place: Place, run: Run) -> Step:
    words = [*study.variants[run.variant], *scale.variant_settings.get(run.variant, [])]
    files = [*study.corpora[run.corpus].experiment, *(word for word in words if "=" not in word)]
    settings = [
        f"data.shards={place.study / 'shards' / run.corpus}",
        f"model.tokenizer={place.study / 'tokenizers' / run.corpus}",
        f"run.dir={place.study / 'runs'}",
        f"run.name={run.corpus}/{run.label}",
        f"train.seed={run.seed}",
    ]
    needed = f"tokenizer/{run.corpus}"
    if run.variant in study.starts_from:
        start = _first_run(scale, run.corpus, study.starts_from[run.variant])
        settings.append(f"model.pretrained={place.run(start) / 'export'}")
        needed = f"export/{run.corpus}/{start.label}"
    if scale.needs_tests and place.tests:
        settings.append(f"selection.data={place.tests}")
    settings += [*scale.settings, *(word for word in words if "=" in word)]
    command = ("train", "--ds_config", scale.ds_config, "--config", *files, *settings)
    return Step(f"train/{run.corpus}/{run.label}", command, (needed,), is_training=True)


def _first_run(scale: Scale, corpus: str, variant: str) -> Run:
    """The training with the first seed of a variant."""
    return Run(corpus, variant, scale.seeds[variant][0])


def _measurements(corpus: Corpus, name: str, scale: Scale, place: Place, runs: Sequence[Run]) -> list[Step]:
    first = {variant: seeds[0] for variant, seeds in scale.seeds.items()}
    steps: list[Step] = []
    for kind, measurement in scale.measurements.items():
        some = [run for run in runs if measurement.seeds == "all" or run.seed == first[run.variant]]
        if measurement.each:
            steps += [
                _measurement(f"{kind}/{name}/{run.label}", measurement, corpus, name, place, [run]) for run in some
            ]
            continue
        step = _measurement(f"{kind}/{name}", measurement, corpus, name, place, some)
        if kind == list(scale.measurements)[-1]:
            step = replace(step, after=(*step.after, *(other.name for other in steps)))
        steps.append(step)
    return steps


def _measurement(
    step: str, measurement: Measurement, corpus: Corpus, name: str, place: Place, runs: Sequence[Run]
) -> Step:
    folders = {run.label: shlex.quote(str(place.run(run))) for run in runs}
    command = measurement.command.format(
        models=" ".join(f"--model {label}={folder}" for label, folder in folders.items()),
        run_options=" ".join(f"--run {label}={folder}" for label, folder in folders.items()),
        runs=" ".join(folders.values()),
        tests=shlex.quote(str(place.tests)),
        languages=",".join(corpus.languages),
        sources=" ".join(f"--source {code}" for code in corpus.languages),
        pair=",".join(corpus.pair or corpus.languages[:2]),
        shards=shlex.quote(str(place.study / "shards" / name)),
        tokenizer=shlex.quote(str(place.study / "tokenizers" / name)),
        study=shlex.quote(str(place.study)),
        group=name,
    )
    reads_runs = any(f"{{{word}}}" in measurement.command for word in ("models", "runs", "run_options"))
    after = tuple(f"train/{run.corpus}/{run.label}" for run in runs) if reads_runs else (f"tokenizer/{name}",)
    return Step(step, tuple(shlex.split(command)), after)


def evidence(step: Step, place: Place) -> dict[str, Any] | None:
    """What shows that a step is done with this command; None if it is not.

    A training says so itself (`STATUS.json`); of the others there is a marker, which names the command.
    """
    marker = place.marker(step)
    found: dict[str, Any] = read_json(marker, "marker of a step") if marker.is_file() else {}
    if step.is_training:
        words = [word for word in step.words[step.words.index("--config") + 1 :] if not word.startswith("--")]
        files = [find_file("configs", word) for word in words if "=" not in word]
        config = load_config(files, [word for word in words if "=" in word])
        return found if training_is_finished(config) else None
    return found if found.get("command") == list(step.words) else None


def done_steps(steps: Sequence[Step], place: Place) -> dict[str, dict[str, Any]]:
    """Name → evidence of the steps that are done, and that no step has been repeated for since."""
    done: dict[str, dict[str, Any]] = {}
    for step in steps:
        found = evidence(step, place)
        if found is None or any(name not in done for name in step.after):
            continue
        ended = [done[name].get("ended", 0.0) for name in step.after]
        if step.is_training or found.get("ended", 0.0) >= max(ended, default=0.0):
            done[step.name] = found
    return done


def write_marker(step: Step, place: Place, seconds: float, ended: float) -> None:
    """Records that a step has ended well."""
    write_json(
        place.marker(step), {"command": list(step.words), "seconds": round(seconds, 1), "ended": round(ended, 3)}
    )
