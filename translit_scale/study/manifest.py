"""From a study to its steps: each is one command of translit-scale, with the steps that it needs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from translit_scale.study.settings import Measurement, Scale, Study
from translit_scale.study.steps import Place, Run, Step


def runs_of(study: Study, scale: Scale) -> list[Run]:
    """All trainings, the most important ones first: one of every variant, then the central comparison's other seeds.

    A pretrained model stands among them as a run that needs no training.
    """
    central = study.comparisons[0]
    runs = [
        (number > 0, number > 0 and variant not in central, number, Run(corpus, variant, seed))
        for corpus in scale.corpora or study.corpora
        for variant, seeds in scale.seeds.items()
        for number, seed in enumerate(seeds)
    ]
    return [run for *_, run in sorted(runs, key=lambda run: run[:3])]


def first_run(corpus: str, variant: str, scale: Scale) -> Run:
    """The training with the first seed of a variant."""
    return Run(corpus, variant, scale.seeds[variant][0])


def steps_of(study: Study, scale: Scale, place: Place) -> list[Step]:
    """All steps in an order in which each stands after those that it needs."""
    manifest = _Manifest(study, scale, place)
    waiting = [step for name in scale.corpora or study.corpora for step in manifest.measurements(name)]
    return _in_order([*manifest.preparations(), *manifest.trainings()], waiting)


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


@dataclass(frozen=True)
class _Manifest:
    study: Study
    scale: Scale
    place: Place

    def preparations(self) -> Iterator[Step]:
        """Text, shards and tokenizers; a pretrained model has a tokenizer."""
        text, first = self.place.text, list[str]()
        if self.scale.text == "demo":
            yield Step("text", ("demo-text", "--out", str(self.place.study / "text")), ())
            text, first = self.place.study / "text" / "text", ["text"]
        for name in self.scale.corpora or self.study.corpora:
            recipe = self.scale.recipes.get(name, self.study.corpora[name].recipe)
            shards, pieces = self._shards(name), str(self.scale.vocabulary)
            prepare = ("prepare", recipe, "--data", str(text), "--out", shards)
            yield Step(f"prepare/{name}", prepare, tuple(first))
            for folder, options in self._tokenizers(name).items():
                words = ("tokenizer", "--shards", shards, "--out", str(self._tokenizer_folder(folder)))
                yield Step(f"tokenizer/{folder}", (*words, "--vocab-size", pieces, *options), (f"prepare/{name}",))

    def trainings(self) -> Iterator[Step]:
        """Trainings, and the exports that others start from."""
        for run in runs_of(self.study, self.scale):
            if run.variant in self.scale.pretrained:
                continue
            yield self._training(run)
            if run.variant in self.study.starts_from.values() and run == first_run(run.corpus, run.variant, self.scale):
                words = ("export", "--run", str(self.place.run(run)), "--force")
                yield Step(f"export/{run.corpus}/{run.label}", words, (f"train/{run.corpus}/{run.label}",))

    def measurements(self, name: str) -> Iterator[Step]:
        """All measurements of one corpus; reports wait for those before them, because they read what these wrote."""
        runs = [run for run in runs_of(self.study, self.scale) if run.corpus == name]
        steps: list[Step] = []
        for kind, measurement in self.scale.measurements.items():
            some = [
                run for run in runs if measurement.seeds == "all" or run == first_run(name, run.variant, self.scale)
            ]
            if measurement.each:
                steps += [self._measurement(f"{kind}/{name}/{run.label}", measurement, name, [run]) for run in some]
                continue
            step = self._measurement(f"{kind}/{name}", measurement, name, some)
            if measurement.command.startswith("report "):
                step = replace(step, after=(*step.after, *(other.name for other in steps)))
            steps.append(step)
        yield from steps

    def _training(self, run: Run) -> Step:
        words = [*self.scale.settings, *self.study.variants[run.variant]]
        words += self.scale.variant_settings.get(run.variant, [])
        files = [*self.study.corpora[run.corpus].experiment, *(word for word in words if "=" not in word)]
        settings = [f"data.shards={self._shards(run.corpus)}"]
        needed = f"prepare/{run.corpus}"
        if not self.scale.pretrained:
            folder = self._named(run.corpus, self.study.tokenizer_of.get(run.variant))
            settings.append(f"model.tokenizer={self._tokenizer_folder(folder)}")
            needed = f"tokenizer/{folder}"
        settings += [
            f"run.dir={self.place.study / 'runs'}",
            f"run.name={run.corpus}/{run.label}",
            f"train.seed={run.seed}",
        ]
        start = self.study.starts_from.get(run.variant)
        if start in self.scale.seeds:
            first = first_run(run.corpus, start, self.scale)
            settings.append(f"model.pretrained={self._pretrained(start) or self.place.run(first) / 'export'}")
            needed = needed if start in self.scale.pretrained else f"export/{run.corpus}/{first.label}"
        if self.scale.checkpoint == "best":
            settings.append(f"selection.data={self.place.tests}")
        settings += [word for word in words if "=" in word]
        command = ("train", "--ds_config", self.scale.ds_config, "--config", *files, *settings)
        return Step(f"train/{run.corpus}/{run.label}", command, (needed,), is_training=True)

    def _measurement(self, step: str, measurement: Measurement, name: str, runs: Sequence[Run]) -> Step:
        corpus = self.study.corpora[name]
        sources = corpus.sources or corpus.languages
        folders = {run.label: str(self.place.run(run)) for run in runs if run.variant not in self.scale.pretrained}
        at = "@best" if self.scale.checkpoint == "best" else ""
        models = {run.label: self._pretrained(run.variant) or f"{folders[run.label]}{at}" for run in runs}
        command = measurement.command.format(
            models=" ".join(shlex.join(["--model", f"{label}={model}"]) for label, model in models.items()),
            rows=" ".join(f"--model {run.label}={run.label}" for run in runs),
            run_options=" ".join(shlex.join(["--run", f"{label}={folder}"]) for label, folder in folders.items()),
            runs=shlex.join(folders.values()),
            tests=shlex.quote(str(self.place.tests)),
            languages=",".join(measurement.languages.get(name, corpus.languages)),
            sources=" ".join(f"--source {code}" for code in measurement.sources.get(name, sources)),
            pair=",".join(corpus.pair or corpus.languages[:2]),
            families=shlex.join(["--families", str(self.place.families)]) if self.place.families else "",
            shards=shlex.quote(self._shards(name)),
            tokenizer=shlex.quote(self._tokenizer(name)),
            study=shlex.quote(str(self.place.study)),
            group=name,
        )
        reads_runs = any(f"{{{word}}}" in measurement.command for word in ("models", "runs", "run_options"))
        after = tuple(f"train/{name}/{label}" for label in folders) if reads_runs else ()
        prepared = tuple(f"tokenizer/{folder}" for folder in self._tokenizers(name)) or (f"prepare/{name}",)
        return Step(step, tuple(shlex.split(command)), after or prepared)

    def _shards(self, corpus: str) -> str:
        return str(self.place.study / "shards" / corpus)

    def _tokenizer(self, corpus: str) -> str:
        """That of a corpus: its own, or the pretrained model's."""
        models = (self._pretrained(variant) for variant in self.scale.pretrained)
        return next(models, None) or str(self._tokenizer_folder(corpus))

    def _tokenizers(self, corpus: str) -> dict[str, Sequence[str]]:
        """Name → options of the tokenizers that the trainings on a corpus have; a pretrained model brings its own."""
        if self.scale.pretrained:
            return {}
        used = {self.study.tokenizer_of.get(variant) for variant in self.scale.seeds}
        others = {self._named(corpus, name): words for name, words in self.study.tokenizers.items() if name in used}
        return {corpus: (), **others}

    def _named(self, corpus: str, tokenizer: str | None) -> str:
        return f"{corpus}-{tokenizer}" if tokenizer else corpus

    def _tokenizer_folder(self, name: str) -> Path:
        return self.place.study / "tokenizers" / name

    def _pretrained(self, variant: str) -> str | None:
        """The model of a variant that is not trained; None for others."""
        model = self.scale.pretrained.get(variant)
        return self.place.pretrained or model if model else None
