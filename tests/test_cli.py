"""Every command has complete help, and every program ends with a clear message and exit code."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny import make_shards
from translit_scale import __version__
from translit_scale.cli import build_parser, main, run_guarded
from translit_scale.errors import ConfigError, DataError, NumericError, UserError
from translit_scale.testsets.parallel import read_all

PROGRAM = [sys.executable, "-m", "translit_scale.cli"]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and the parsers of all its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


EVERY = {parser.prog: parser for parser in parsers(build_parser())}
LEAVES = {
    name: parser
    for name, parser in EVERY.items()
    if not any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
}


def test_there_are_the_commands_that_the_documentation_names() -> None:
    assert {name.removeprefix("translit-scale ") for name in LEAVES} == {
        "languages", "configs", "docs", "demo-text", "romanize", "prepare", "plan", "doctor", "train", "shards verify",
        "shards stats", "shards cat", "shards contamination", "shards stage", "tokenizer", "select", "export",
        "evaluate retrieval", "evaluate transfer", "evaluate all", "analyze similarity", "analyze dynamics",
        "analyze vocabulary", "analyze words", "report tables", "report association", "report page", "submit",
        "reproduce", "demo", "vocabulary extend",
    }  # fmt: skip


def test_a_setting_may_stand_behind_the_files_of_an_experiment() -> None:
    """Also one without a dot, as the documentation has it."""
    args = build_parser().parse_args(["train", "--config", "demo", "paper_a/model1", "selection=null", "train.seed=1"])
    assert (args.config, args.settings) == (["demo", "paper_a/model1"], ["selection=null", "train.seed=1"])


@pytest.mark.parametrize("command", EVERY)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split()[1:], "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {command} ")


@pytest.mark.parametrize("command", LEAVES)
def test_help_is_complete(command: str) -> None:
    """Every argument says what it is and its default; the example is a valid command line."""
    parser = LEAVES[command]
    assert parser.description
    for action in parser._actions:
        assert action.help, action
        if action.help == argparse.SUPPRESS:  # for launchers
            continue
        if action.option_strings and not action.required and action.nargs != 0 and not isinstance(action.default, list):
            assert "default" in action.help or action.dest.endswith("_column"), action
    title, _, example = str(parser.epilog).partition("\n")
    first = re.split(r" [<>] |(?<!\\)\n", example)[0]  # without the redirection of the shell
    words = shlex.split(first.replace("\\\n", " "))
    assert title == "example:" and " ".join(words).startswith(f"{command} ")
    assert callable(build_parser().parse_args(words[1:]).run)


def test_help_does_not_wait_for_large_packages() -> None:
    code = "import sys, translit_scale.cli as cli; cli.build_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "translit_scale.commands.analyze" in loaded
    assert not {"torch", "numpy", "transformers", "deepspeed", "vl_convert", "pydantic", "tqdm"} & set(loaded)


def test_reports_do_not_wait_for_torch() -> None:
    """Tables are made again and again, and torch and transformers would take most of the time."""
    code = """
import importlib, pkgutil, sys, translit_scale.report as report
for module in pkgutil.walk_packages(report.__path__, "translit_scale.report."):
    importlib.import_module(module.name)
print(*sys.modules)"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "translit_scale.report.page.build" in loaded
    assert not {"torch", "transformers", "deepspeed"} & set(loaded)


@pytest.mark.parametrize("command", [[], ["shards"], ["evaluate"], ["analyze"]])
def test_without_a_command_help_is_printed(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(" ".join(["usage: translit-scale", *command, "[-h]"])) and captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "complaint", "program", "hint"),
    [
        (["exprot"], "argument COMMAND: invalid choice: 'exprot'", "", "did you mean export? "),
        (["shards", "verfy", "x"], "argument KIND: invalid choice: 'verfy'", " shards", "did you mean verify? "),
        (["shards", "list"], "invalid choice: 'list'", " shards", ""),
        (["demo", "--fast"], "unrecognized arguments: --fast", " demo", ""),
        # Abbreviations are refused, because they break when options are added.
        (["demo", "--rank", "2"], "unrecognized arguments: --rank", " demo", "did you mean --ranks? "),
        (["select", "--rnu", "runs/a"], "unrecognized arguments: --rnu", " select", "did you mean --run? "),  # required
        (["shards", "cat", "x", "--limti=3"], "arguments: --limti=3", " shards cat", "did you mean --limit? "),
        (["report", "tables", "--results", "x", "--format", "csw"], "--format", " report tables", "did you mean csv? "),
        (["demo", "--ranks", "0"], "argument --ranks: expected a number from 1, found '0'", " demo", ""),
        (["export"], "required: --run", " export", ""),
    ],
)
def test_wrong_command_lines(
    arguments: list[str], complaint: str, program: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message shows the usage of the command that was meant, and the word that was probably meant."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    first, usage, *_ = captured.err.split("\n")
    assert first.startswith("error: ") and complaint in first
    assert usage.startswith(f"usage: translit-scale{program} [-h]")
    assert captured.err.endswith(f"\n  → {hint}translit-scale{program} --help\n") and captured.out == ""


def test_languages_are_named_in_any_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_shards(tmp_path / "shards", {"ukr_Cyrl": 3, "bul_Cyrl": 2})
    printed = []
    for language in ("bg", "bul", "Bulgarian", "bul_Cyrl"):
        assert main(["shards", "cat", str(tmp_path / "shards"), "--language", language]) == 0
        printed.append(capsys.readouterr().out)
    assert len(set(printed)) == 1 and printed[0].count("bul_Cyrl\t") == 2
    assert main(["shards", "cat", str(tmp_path / "shards"), "--language", "bgl"]) != 0
    assert "bgl" in capsys.readouterr().err
    arguments = (
        "evaluate all --model m --data d --source hi+ur --source eng --languages pl,zho_Hans,awa --task sr_b --task ner"
    )
    args = build_parser().parse_args(arguments.split())
    assert (args.source, args.languages) == (["hin_Deva+urd_Arab", "eng_Latn"], ["pol_Latn", "zho_Hans", "awa"])
    assert args.task == ["sr_b", "ner"]  # the second one is a language as well
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("x\ny\n")
    (text,) = read_all([[f"German:{tmp_path}/a.txt", f"ell-Grek:{tmp_path}/b.txt"]], [], None, None)
    assert text.name == "deu_Latn-ell_Grek"


@pytest.mark.parametrize("command", LEAVES)
def test_one_word_for_one_thing(command: str) -> None:
    """Written results go to --out, and languages are --language or --languages, joined by commas."""
    options = {option for action in LEAVES[command]._actions for option in action.option_strings}
    assert not options & {"--to", "--output", "--lang", "--lcode", "--checkpoint", "--dir"}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"translit-scale {__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (ConfigError("a contradicts b", "leave out b"), 2, "error: a contradicts b\n  → leave out b\n"),
        (DataError("x.txt:3 is empty"), 3, "error: x.txt:3 is empty\n"),
        (NumericError("loss is nan"), 4, "error: loss is nan\n"),
        (
            PermissionError(13, "Permission denied", "out"),
            3,
            "error: Permission denied: out\n  → choose another place\n",
        ),
        (KeyboardInterrupt(), 130, "\ninterrupted: finished parts are kept; run the same command again to resume\n"),
    ],
)
def test_how_a_program_ends(error: BaseException, code: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise error

    assert run_guarded(fail) == code
    assert capsys.readouterr() == ("", printed)


def test_exit_codes_of_success_and_of_errors_of_ours() -> None:
    assert run_guarded(lambda: None) == 0 and run_guarded(lambda: 75) == 75
    with pytest.raises(ZeroDivisionError):  # not an error of the user, so it needs a traceback
        run_guarded(lambda: 1 // 0)
    assert UserError("x").exit_code == 2


def test_an_error_as_the_user_sees_it(tmp_path: Path) -> None:
    done = subprocess.run([*PROGRAM, "shards", "stats", tmp_path / "nothing"], capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout == ""
    message, hint = done.stderr.rstrip("\n").split("\n")
    assert message.startswith("error: ") and str(tmp_path) in message
    assert hint.startswith("  → ") and "translit-scale prepare" in hint


def test_a_place_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x\ny\n")
    files = [f"pol_Latn:{tmp_path}/a.txt", f"ukr_Cyrl:{tmp_path}/b.txt"]
    assert main(["evaluate", "retrieval", "--model", "m", "--parallel", *files, "--out", files[0][9:]]) == 3
    assert f"error: Not a directory: {tmp_path}/a.txt/retrieval" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["shards", "cat", "SHARDS"]])
def test_a_closed_pipe_is_no_error(arguments: list[str], tiny_world: Path) -> None:
    """The reader has closed the pipe before the first line, as with `translit-scale ... | head`."""
    words = [str(tiny_world / "shards") if word == "SHARDS" else word for word in arguments]
    with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_an_option_means_the_same_in_every_command() -> None:
    """One task, model, language list or seed is given by one name, and numbers of things by `--num-…`."""
    options: dict[str, set[str]] = {}

    def collect(parser: argparse.ArgumentParser, command: str) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, inner in action.choices.items():
                    collect(inner, f"{command} {name}".strip())
            for option in action.option_strings:
                options.setdefault(option, set()).add(command)

    collect(build_parser(), "")
    plural = {option for option in options if option.endswith("s") and option[:-1] in options}
    assert plural == {"--languages"}  # several in one word; --language is one only
    assert {"evaluate all", "evaluate transfer", "evaluate retrieval", "select"} <= options["--languages"] & options[
        "--task"
    ]
    assert {"evaluate all", "evaluate transfer", "report tables"} <= options["--model"]
    assert options["--num-seeds"] == {"evaluate all", "evaluate transfer"}
