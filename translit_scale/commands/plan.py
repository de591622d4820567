"""`translit-scale plan`: memory, traffic, time and disk of a training before it starts."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands.arguments import add_command, positive
from translit_scale.commands.train import add_settings
from translit_scale.cores import cores
from translit_scale.errors import ConfigError
from translit_scale.model.devices import DEVICES
from translit_scale.shipped_files import find_file, names_of, shipped_folder

if TYPE_CHECKING:
    from translit_scale.config import Config
    from translit_scale.plan.inputs import Corpus, Inputs
    from translit_scale.plan.machine import Machine
    from translit_scale.plan.page import Plan


NOT_GLOT500 = {"demo", "many-languages"}
"""Shipped recipes for other text, whose amount Glot500-c's counts do not tell."""


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "plan",
        "predict memory, traffic, time and disk of a training",
        "Predicts what a training needs before it starts: steps, the micro-batch that fits, memory, traffic, time, "
        "GPU-hours, checkpoints, preparation, and where more GPUs stop helping. Every input is printed with its "
        "source. Nothing needs to exist yet but the experiment; shards and tokenizer make the plan more exact. "
        "translit-scale docs planning says how exact it is.",
        "translit-scale plan --config paper_a/pol-ukr paper_a/model5 --nodes 2 --gpu h100",
    )
    add_settings(parser, "experiment; several files are merged, and later ones win (default: demo)", ["demo"])
    group = parser.add_argument_group("machines")
    group.add_argument("--gpu", choices=[*DEVICES, "cpu"], default="h100", metavar="GPU",
        help=f"{', '.join(DEVICES)}, or cpu for CPU ranks on this machine, which is measured (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--nodes", type=positive, default=1, metavar="N", help="number of nodes (default: 1)")
    group.add_argument("--gpus-per-node", type=positive, default=8, metavar="G", help="or CPU ranks (default: 8)")
    group.add_argument("--cores", type=positive, default=cores(), metavar="N",
        help="with --gpu cpu: cores of a node (default: all, here %(default)s)",
    )  # fmt: skip
    group.add_argument("--network", type=positive, metavar="GBIT",
        help="Gbit/s from a node to the others, all its links together (default: the GPU maker's reference system)",
    )  # fmt: skip
    group = parser.add_argument_group("text that does not exist yet")
    group.add_argument("--recipe", metavar="RECIPE",
        help="recipe of the shards; Glot500-c's counts of its languages are used (default: the name of the shards)",
    )  # fmt: skip
    group.add_argument("--pairs", type=positive, metavar="N", help="number of pairs (default: from shards or recipe)")
    group.add_argument("--tokens", type=float, nargs=2, metavar=("ORIG", "LATN"),
        help="mean tokens of sentences and transliterations (default: measured on the shards, or assumed)",
    )  # fmt: skip
    group.add_argument("--vocabulary", type=positive, metavar="N", help="entries of the tokenizer (default: its own)")
    group = parser.add_argument_group("measurements and results")
    group.add_argument("--calibrate", type=Path, metavar="RUN",
        help="run directory: predict this run, print the errors, and plan with what it measured (default: none)",
    )  # fmt: skip
    group.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to FILE (default: do not)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    files = [find_file("configs", word) for word in args.config]
    ds_config = find_file("ds_configs", args.ds_config)
    from translit_scale.config import load_config
    from translit_scale.files import write_json
    from translit_scale.plan.numbers import as_json
    from translit_scale.plan.page import page

    plan = _plan(args, load_config(files, args.settings), ds_config)
    print(page(plan))
    if args.json:
        write_json(args.json, as_json(plan))


def _plan(args: argparse.Namespace, config: Config, ds_config: Path) -> Plan:
    from translit_scale.batch.order import check_mixtures, total_steps
    from translit_scale.plan.assumptions import describe_rates
    from translit_scale.plan.calibrate import Run, calibrated, compare, copy_rate, scaled
    from translit_scale.plan.inputs import Inputs, model_shape, open_corpus, sample_pairs
    from translit_scale.plan.page import Plan
    from translit_scale.plan.training import COPY_RATE
    from translit_scale.plan.workload import PairTokens, Workload

    inputs, stated = Inputs(), tuple(args.tokens) if args.tokens else None
    corpus = None if args.pairs or args.recipe else open_corpus(config, inputs)
    if corpus:
        check_mixtures(config.data, config.train, corpus.pairs)
    corpus = corpus or _planned_corpus(args, config, inputs)
    shape, positions = model_shape(config, args.vocabulary, inputs)
    steps = total_steps(config.train, corpus.total)
    sample = sample_pairs(config, corpus, steps, stated, inputs)
    tokens, kept = (PairTokens.of(sample, config, shape.window, keep) for keep in (False, True))
    longest = PairTokens.of(sample.longest, config, shape.window)
    machines = Machines(args, is_timed=not shape.is_modern)
    machine, comparisons, copied = machines.of(args.gpu, args.gpus_per_node), [], COPY_RATE
    if args.calibrate:
        run = Run.read(args.calibrate)
        of_corpus = sample_pairs(
            run.own_config, open_corpus(run.config, Inputs()) or corpus, run.steps, stated, Inputs()
        )
        expected = PairTokens.of(of_corpus, run.own_config, run.shape[0].window)
        of_run = machines.of(run.device, args.gpus_per_node if run.device != "cpu" else run.ranks)
        comparisons = compare(run, expected, of_run)
        tokens, kept, longest = (
            scaled(each, each.tokens * run.tokens / expected.tokens) for each in (tokens, kept, longest)
        )
        inputs.add("tokens per pair", f"{tokens.tokens:.1f}", f"measured, {run.folder}")
        if run.device == machine.name:
            machine = calibrated(run, expected, of_run, machine)
            copied = copy_rate(run, expected)
        else:
            inputs.add("speed", "as without --calibrate", f"{run.folder} ran on {run.device}")
    gpu = DEVICES.get(machine.name)
    if longest != tokens:
        inputs.add("… of the longest mixture", f"{longest.tokens:.1f}", "as above; this decides the memory")
    w = Workload.of(config, ds_config, gpu, shape, positions, len(corpus.pairs), tokens, longest)
    ranks = args.nodes * args.gpus_per_node
    w.layout(ranks)
    describe_rates(machine, w, ranks, copied, inputs)
    return Plan(config, inputs, corpus, w, kept, machine, ranks, steps, copied, comparisons)


class Machines:
    """Machines that the command line describes; this CPU is measured once, if it is needed."""

    def __init__(self, args: argparse.Namespace, is_timed: bool) -> None:
        self.args, self.is_timed = args, is_timed
        self.rates: tuple[float, float] | None = None

    def of(self, name: str, per_node: int) -> Machine:
        """A node of GPUs or CPU ranks."""
        from translit_scale.plan.machine import cpu_machine, gpu_machine, measure_cpu

        network = self.args.network * 1e9 / 8 if self.args.network else None
        if name != "cpu":
            return gpu_machine(name, per_node, network, self.is_timed)
        self.rates = self.rates or measure_cpu(min(self.args.cores, cores()))
        return cpu_machine(per_node, self.args.cores, self.rates, network)


def _planned_corpus(args: argparse.Namespace, config: Config, inputs: Inputs) -> Corpus:
    """The corpus of --pairs, or of a recipe.

    Raises:
        ConfigError: there is neither, or the recipe has no counts.
    """
    from translit_scale.plan.inputs import planned_corpus

    if args.pairs:
        languages = config.data.languages or ["all"]
        each = math.ceil(args.pairs / len(languages))
        return planned_corpus(config, dict.fromkeys(languages, (each, each)), "--pairs", inputs)
    name = args.recipe or config.data.shards.name
    if not args.recipe and (name not in names_of("shards", shipped_folder("shards")) or name in NOT_GLOT500):
        raise ConfigError(
            f"there is no {config.data.shards / 'manifest.json'}, and {name!r} is no recipe for Glot500-c",
            "say how much text there will be: --pairs N, or --recipe RECIPE of languages that Glot500-c has",
        )
    path = find_file("shards", name)
    counts = _recipe_counts(path)
    if not counts:
        raise ConfigError(f"Glot500-c has none of the languages of {path}", "say how much text there is: --pairs N")
    source = f"assumption: sample of {path.stem}, Glot500-c's counts, nothing left out"
    return planned_corpus(config, counts, source, inputs)


def _recipe_counts(path: Path) -> Mapping[str, tuple[int, int]]:
    """Lines that Glot500-c has of each language of a recipe, and pairs that are sampled of them."""
    from translit_scale.languages import inventory, language_set
    from translit_scale.prepare.recipe import load_recipe

    recipe = load_recipe(path)
    languages = set(recipe.languages)
    if recipe.language_set and recipe.language_set.of != "found":
        languages |= set(language_set(recipe.language_set.of))
    counts = {}
    for language in sorted(languages & inventory().keys()):
        lines, sample = inventory()[language], recipe.of(language).sample
        counts[language] = (lines, max(math.ceil(sample.fraction * lines), min(lines, sample.minimum)))
    return counts
