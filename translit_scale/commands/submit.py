"""`translit-scale submit`: all stages of an experiment as SLURM jobs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translit_scale.commands import evaluate, export, prepare, report, select, tokenizer
from translit_scale.commands.arguments import add_command, positive
from translit_scale.commands.parser import Parser
from translit_scale.commands.train import add_settings
from translit_scale.errors import ConfigError
from translit_scale.shipped_files import find_file
from translit_scale.testsets.registry import default_tasks, transfer_tasks

if TYPE_CHECKING:
    from translit_scale.config import Config
    from translit_scale.submit import Chain, Stage

NAMES = (
    "prepare", "finalize", "tokenizer", "train", "select", "export", "finetune", "evaluate", "report",
)  # fmt: skip
"""Stages, as --sbatch names them."""


HARDWARE_DEFAULTS: dict[str, Any] = {
    "nodes": 1, "gpus_per_node": 0, "ntasks_per_node": None, "time": None, "partition": None, "account": None,
    "sbatch": [],
}  # fmt: skip
"""What jobs ask for if nothing is said; None: what the batch scripts say."""


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(
        commands,
        "submit",
        "submit all stages of an experiment to SLURM, each after the one before",
        "Submits prepare, tokenizer, train, select, export, evaluate and report as SLURM jobs, each of which starts "
        "when the one before has succeeded. Train and export are always part of it, the others if their option is "
        "given: their arguments in quotes, without the shards, run and model, which are known. Stages whose files show "
        "that they are done are skipped, so that after a failure the same command submits the rest.",
        "translit-scale submit --config paper_b/mediterranean paper_b/mlm_seq_tlm run.name=med \\\n"
        "    selection.data=TESTS --ds_config zero2 --nodes 1 --gpus-per-node 8 --time 12:00:00 \\\n"
        "    --partition gpu --sbatch prepare,finalize,export,report:--partition=cpu \\\n"
        "    --prepare 'mediterranean --data GLOT500C_DIR' \\\n"
        "    --evaluate '--data TESTS --limit sr_b=500 --source eng_Latn' \\\n"
        "    --report '--table b2 --model Ours=med'",
    )
    add_settings(parser, "experiment; several files are merged, and later ones win (default: demo)", ["demo"])
    group = parser.add_argument_group("arguments of the stages, in quotes")
    for name, example in (
        ("prepare", "'RECIPE --data DIR'; needed if the shards do not exist"),
        ("tokenizer", "'--vocab-size 30000'; needed if model.tokenizer does not exist"),
        ("select", "'--task sr_b --data DIR --languages pol_Latn,ukr_Cyrl'; export then takes the best checkpoint"),
        ("export", "'--license apache-2.0'"),
        ("evaluate", "'--data DIR --source eng_Latn', of `evaluate all`"),
        ("report", "'--table b2', of `report tables`, or 'page', of `report page`"),
    ):
        group.add_argument(f"--{name}", metavar="ARGUMENTS", help=f"such as {example} (default: none)")
    group = add_hardware(parser, NAMES)
    group.add_argument(
        "--stage", metavar="DIR",
        help="copy the shards to this folder of every node before training; '/scratch/$SLURM_JOB_ID' in single quotes "
        "has variables of the job (default: read them where they are)",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands as a shell script, and submit nothing"
    )
    parser.set_defaults(run=_run)


def add_hardware(parser: argparse.ArgumentParser, names: Sequence[str]) -> argparse._ArgumentGroup:
    """Declares what jobs ask for.

    Args:
        names: of the stages that --sbatch knows.
    """
    group = parser.add_argument_group("hardware (other values stand in the batch scripts: translit-scale configs)")
    group.add_argument("--nodes", type=positive, metavar="N", help="nodes of training (default: 1)")
    group.add_argument(
        "--gpus-per-node", type=int, metavar="N", help="GPUs of each of them, with a rank each (default: 0)"
    )
    group.add_argument(
        "--ntasks-per-node",
        type=positive,
        metavar="N",
        help="ranks of each node (default: its GPUs, or 1 without GPUs)",
    )
    group.add_argument(
        "--time", metavar="TIME", help="time limit of a training job, which is then queued again (default: 12 hours)"
    )
    group.add_argument("--partition", metavar="NAME", help="partition of all jobs (default: SLURM's)")
    group.add_argument("--account", metavar="NAME", help="account of all jobs (default: SLURM's)")
    group.add_argument(
        "--sbatch", action="append", metavar="[STAGE[,STAGE]:]OPTION",
        help="another option of sbatch, for all jobs or those of some stages, and stronger than the ones above: "
        f"--sbatch=--qos=low, --sbatch prepare:--array=0-31; stages: {', '.join(names)}; repeat for several",
    )  # fmt: skip
    parser.set_defaults(**HARDWARE_DEFAULTS)
    return group


def hardware_given(args: argparse.Namespace) -> list[str]:
    """Options of `add_hardware` that have another value than their default."""
    return [
        f"--{name.replace('_', '-')}" for name, default in HARDWARE_DEFAULTS.items() if getattr(args, name) != default
    ]


def _run(args: argparse.Namespace) -> None:
    from translit_scale.config import load_config
    from translit_scale.submit import Chain, split_done

    config = load_config([find_file("configs", word) for word in args.config], args.settings)
    find_file("ds_configs", args.ds_config)
    _check_test_sets(config)
    done, remaining = split_done(_stages(args, config))
    chain = Chain(config.run.path, remaining)
    if args.dry_run:
        print("\n".join([*(f"# {name} is done: {evidence}" for name, evidence in done.items()), chain.script()]))
        return
    for name, evidence in done.items():
        print(f"{name:9} is done: {evidence}")
    if not remaining:
        return
    submit_chain(chain)


def _check_test_sets(config: Config) -> None:
    """Raises a ConfigError if training would not find a test set, hours later."""
    for section, settings in (("selection", config.selection), ("monitor", config.monitor)):
        if settings and not settings.data.exists():
            raise ConfigError(
                f"{section}.data: there is no folder {settings.data}",
                f"set {section}.data=DIR to that of the test set ({settings.task}), or {section}=null",
            )


def submit_chain(chain: Chain) -> None:
    """Submits the jobs of a chain and says how to watch them.

    Raises:
        ConfigError: some of them are in the queue already.
        UserError: as `Chain.submit`.
    """
    if queued := chain.queued():
        listed = ", ".join(f"{job} ({name})" for job, name in queued.items())
        raise ConfigError(
            f"jobs of this run are in the queue already: {listed}",
            f"wait for them, or cancel them: scancel {' '.join(dict.fromkeys(queued))}",
        )
    jobs = chain.submit()
    for name, job in jobs.items():
        print(f"{name:9} job {job}")
    print(
        f"\nwatch:   squeue --me;  tail -n 3 {chain.logs}/*.log\n"
        f"cancel:  scancel {' '.join(jobs.values())}\n"
        "resume:  the same command again; it skips what is done"
    )


def _stages(args: argparse.Namespace, config: Config) -> list[Stage]:
    """All stages of the command line in their order."""
    stages = [*_data_stages(args, config), _training(args, config), *_model_stages(args, config)]
    for stage in stages:
        stage.options = [*stage.options, *sbatch_options(args, stage.name, NAMES)]
    return stages


def _data_stages(args: argparse.Namespace, config: Config) -> list[Stage]:
    from translit_scale.submit import Stage, exists

    shards, stages = config.data.shards, []
    manifest = exists(shards / "manifest.json")
    if args.prepare is not None:
        words = ["--out", str(shards), *shlex.split(args.prepare)]
        if _parsed(prepare, ["prepare", *words]).out != shards:
            raise ConfigError(f"--prepare: --out differs from data.shards, {shards}", "leave --out away")
        stages += [
            Stage("prepare", "prepare_array", words, done=manifest),
            Stage("finalize", "prepare_finalize", words, done=manifest),
        ]
    elif not manifest():
        raise ConfigError(f"the shards {shards} do not exist", "make them as part of the chain: --prepare 'RECIPE …'")
    if args.tokenizer is not None:
        if config.model.tokenizer is None:
            raise ConfigError("--tokenizer: the experiment has no model.tokenizer", "name its folder there")
        folder = Path(config.model.tokenizer)
        words = ["tokenizer", "--shards", str(shards), "--out", str(folder), *shlex.split(args.tokenizer)]
        _parsed(tokenizer, words)
        stages.append(Stage("tokenizer", "command", words, done=exists(folder / "tokenizer.json")))
    return stages


def _training(args: argparse.Namespace, config: Config) -> Stage:
    from translit_scale.submit import Stage, training_is_finished

    words = ["--ds_config", args.ds_config, "--config", *args.config, *args.settings]
    variables = {"STAGE": args.stage, "SHARDS": str(config.data.shards)} if args.stage else {}
    return Stage("train", "train", words, training_options(args), lambda: training_is_finished(config), variables)


def training_options(args: argparse.Namespace) -> list[str]:
    """Options of sbatch for a training: nodes, ranks, GPUs and time limit."""
    ranks = args.ntasks_per_node or args.gpus_per_node or 1
    options = [f"--nodes={args.nodes}", f"--ntasks-per-node={ranks}"]
    options += [f"--gpus-per-node={args.gpus_per_node}"] if args.gpus_per_node else []
    return options + ([f"--time={args.time}"] if args.time else [])


def _model_stages(args: argparse.Namespace, config: Config) -> list[Stage]:
    from translit_scale.submit import Stage, evaluation_is_complete, exists

    run = config.run.path
    gpu, stages = ["--gpus=1"] if args.gpus_per_node else [], []
    if args.select is not None:
        words = ["select", "--run", str(run), *shlex.split(args.select)]
        _parsed(select, words)
        stages.append(Stage("select", "command", words, gpu, exists(run / "best.json")))
    best = ["--step", "best"] if args.select is not None or config.selection else []
    words = ["export", "--run", str(run), *best, "--force", *shlex.split(args.export or "")]
    model = _parsed(export, words).out or run / "export"
    stages.append(Stage("export", "command", words, done=exists(model / "config.json")))
    if args.evaluate is None:
        if args.report is not None:
            raise ConfigError("--report needs results", "add --evaluate '--data DIR --source CODE'")
        return stages
    words = [*shlex.split(args.evaluate), "--model", f"{run.name}={model}"]
    parsed = _parsed(evaluate, ["evaluate", "all", *words])
    complete = evaluation_is_complete(parsed.out / "evaluation.txt")
    if set(parsed.task or default_tasks()) & set(transfer_tasks()):
        stages.append(Stage("finetune", "evaluate_array", words, gpu, complete, may_fail=True))
    stages.append(Stage("evaluate", "command", ["evaluate", "all", *words], gpu, complete, may_fail=True))
    if args.report is not None and shlex.split(args.report)[:1] == ["page"]:
        words = ["report", "page", str(run), "--results", str(parsed.out), *shlex.split(args.report)[1:]]
        page = _parsed(report, words).out or run / "report.html"
        stages.append(Stage("report", "command", words, done=exists(page)))
    elif args.report is not None:
        results = ["--results", str(parsed.out), "--out", str(parsed.out / "tables")]
        words = ["report", "tables", *results, *shlex.split(args.report)]
        tables = _parsed(report, words).out
        written = lambda: str(tables) if tables.is_dir() and any(tables.iterdir()) else ""  # noqa: E731
        stages.append(Stage("report", "command", words, done=written))
    return stages


def _parsed(command: Any, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of another command, so that mistakes in them are found before anything is submitted.

    Raises:
        ConfigError: they are wrong.
    """
    parser = Parser(prog="translit-scale")
    command.add(parser.add_subparsers())
    parsed: argparse.Namespace = parser.parse_args(list(words))
    data = getattr(parsed, "data", None)
    if data and not data.exists():
        raise ConfigError(f"--{words[0]}: there is no folder {data}", "name an existing one behind --data")
    return parsed


def sbatch_options(args: argparse.Namespace, kind: str, names: Sequence[str]) -> list[str]:
    """Options of sbatch for a stage: the partition and account of all jobs, then those of --sbatch that are for it.

    Raises:
        ConfigError: an option of --sbatch has another form.
    """
    words = [f"--{name}={value}" for name in ("partition", "account") if (value := getattr(args, name))]
    for option in args.sbatch:
        name, colon, rest = option.partition(":")
        if option.startswith("-"):
            words.append(option)
        elif not colon or not set(name.split(",")) <= set(names) or not rest.startswith("-"):
            raise ConfigError(
                f"--sbatch {option}: expected [STAGE[,STAGE]:]OPTION", f"the stages are {', '.join(names)}"
            )
        elif kind in name.split(","):
            words.append(rest)
    return words
