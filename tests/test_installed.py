"""The project as a wheel in an environment of its own, used in an empty folder: it needs no checkout."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pytest

from tests.support.ranks import ROOT, free_port
from tests.support.train_script import records
from translit_scale import shipped_files
from translit_scale.cli import main
from translit_scale.commands.configs import TITLES
from translit_scale.errors import ConfigError
from translit_scale.extras import install_command
from translit_scale.shipped_files import FOLDERS, find_file, names_of, shipped_folder


@pytest.mark.parametrize(
    ("folder", "word", "file"),
    [
        ("configs", "paper_b/mlm_tlm", "configs/paper_b/mlm_tlm.yaml"),
        ("ds_configs", "zero3", "ds_configs/zero3.json"),
        ("shards", "hin-urd", "shards/hin-urd.yaml"),
    ],
)
def test_a_file_is_found_by_name(
    folder: str, word: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path wins, then a file of this name in the working directory, then the shipped one."""
    monkeypatch.chdir(tmp_path)
    assert find_file(folder, word) == ROOT / file
    own = Path(file)
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert find_file(folder, word) == own
    path = Path(word)
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    assert find_file(folder, word) == path


@pytest.mark.parametrize(
    ("word", "hint"), [("paper_b/mlm-tlm", "paper_b/mlm_tlm"), ("model4", "paper_a/model4"), ("smal.yaml", "small")]
)
def test_a_name_that_is_wrong(word: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=rf"^{word}: there is no such file(.|\n)*paper_a/hin-urd(.|\n)*→ did you mean {hint}\?$"
    ):
        find_file("configs", word)


def test_configs_lists_all_and_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    listed = {line.split()[0] for line in lines if line}
    assert all(name in listed for folder in TITLES for name in names_of(folder, ROOT / folder))
    assert main(["configs", "paper_a/model4"]) == 0
    assert capsys.readouterr().out == (ROOT / "configs/paper_a/model4.yaml").read_text()
    assert main(["configs", "demo"]) == 2
    assert "'demo' is in configs and in shards\n  → add --kind configs" in capsys.readouterr().err
    assert main(["configs", "demo", "--kind", "shards"]) == 0
    assert capsys.readouterr().out == (ROOT / "shards/demo.yaml").read_text()
    assert main(["configs", "dmo"]) == 2


def test_a_shipped_recipe_writes_into_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for language, line in {"hin_Deva": "यह एक वाक्य है", "urd_Arab": "یہ ایک جملہ ہے"}.items():
        folder = tmp_path / language / "train"
        folder.mkdir(parents=True)
        table = pyarrow.table({"text": [line]})
        with pyarrow.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
    assert main(["prepare", "hin-urd", "--data", ".", "--workers", "1"]) == 0
    assert "written to shards/hin-urd\n" in capsys.readouterr().out
    assert (tmp_path / "shards/hin-urd/manifest.json").is_file()
    assert main(["prepare", "pol-ukr"]) == 3
    assert "pol_Latn/train/*.arrow" in capsys.readouterr().err


def test_hints_name_packages_and_not_our_own_name_on_an_index() -> None:
    """Anyone could register that name."""
    assert install_command("zstd") == "pip install 'zstandard>=0.23'"
    assert install_command("demo") == "pip install babel==2.18.0 django==5.2.19 gflanguages==0.7.11"
    package = Path(shipped_files.__file__).parent
    texts = {path: path.read_text() for path in [*package.rglob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    assert not [path for path, text in texts.items() if "pip install 'translit-scale" in text]


def test_docs_lists_all_pages_and_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    assert {line.split()[0] for line in lines[2:]} == {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert main(["docs", "stream"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs/stream.md").read_text()
    assert main(["docs", "evalution"]) == 2
    assert "there is no page 'evalution'\n  → did you mean evaluation?" in capsys.readouterr().err


def texts_of(path: Path) -> Iterator[str]:
    """The strings of a module that are no docstrings: messages, hints and helps."""
    tree = ast.parse(path.read_text())
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield node.value


def test_messages_name_only_what_an_installed_wheel_has() -> None:
    """Also in comments of settings files. `translit-scale docs` and `translit-scale configs` print what it has."""
    package = Path(shipped_files.__file__).parent
    texts = [(path, text) for path in package.rglob("*.py") for text in texts_of(path)]
    settings = [
        path for folder, suffix in FOLDERS.items() if suffix != ".md" for path in (ROOT / folder).rglob(f"*{suffix}")
    ]
    texts += [(path, path.read_text()) for path in settings]
    of_checkout = re.compile(r"\b(docs/[\w-]+\.md|benchmarks/|scripts/|(ds_)?configs/[\w-]+[./]|shards/[\w-]+\.yaml)")
    own_page = "`python -m translit_scale.config > docs/configuration.md`"  # written in a checkout only
    named = [(path, text) for path, text in texts if of_checkout.search(text) and text not in FOLDERS]
    assert not [(path, text) for path, text in named if own_page not in text]
    pages = {page for _, text in texts for page in re.findall(r"translit-scale docs ([a-z0-9-]+)", text)}
    assert pages and pages <= {path.stem for path in (ROOT / "docs").glob("*.md")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_every_settings_file_once(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if name.endswith((*FOLDERS.values(), ".tsv", ".typed"))]
    shipped = {
        f"translit_scale/{folder}/{name}{suffix}"
        for folder, suffix in FOLDERS.items()
        for name in names_of(folder, shipped_folder(folder))
    }
    assert len(inside) == len(set(inside))
    assert set(inside) == shipped | {
        "translit_scale/languages.tsv", "translit_scale/report/published.yaml", "translit_scale/py.typed",
        "translit_scale/analyze/published_vocabulary.yaml",
    }  # fmt: skip


@pytest.mark.slow
def test_installed_wheel_trains_on_two_ranks_in_an_empty_folder(wheel: Path, tiny_world: Path, tmp_path: Path) -> None:
    """The dependencies come from the environment of the tests; the project itself only from the wheel."""
    (tmp_path / "empty").mkdir()
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}

    def run(*words: object) -> str:
        done = subprocess.run(
            [environment / "bin/python", *map(str, words)],
            cwd=tmp_path / "empty", env=variables, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = run("-c", "import translit_scale; print(translit_scale.__file__)")
    assert where.startswith(str(environment))
    assert "paper_a/pol-ukr" in run("-m", "translit_scale", "configs")
    settings = [
        f"data.shards={tiny_world / 'shards'}", f"model.tokenizer={tiny_world / 'tokenizer'}", "data.workers=0",
        "train.batch_pairs=12", "train.max_steps=2", "run.log_every=1", "run.name=tiny",
    ]  # fmt: skip
    launchers = {
        "torchrun": ["-m", "torch.distributed.run", "--master-port", free_port(), "--nproc-per-node", 2, "-m"],
        "deepspeed": ["-m", "deepspeed.launcher.runner", "--master_port", free_port(), "--num_gpus", 2, "--module"],
    }
    for name, launcher in launchers.items():
        words = ["translit_scale", "train", "--ds_config", "zero1", "--config", "demo", "paper_a/model5", "small"]
        run(*launcher, *words, f"run.dir={name}", *settings)
        assert [record["step"] for record in records(tmp_path / "empty" / name / "tiny")] == [1, 2]
