"""One rule finds the files of recipes, of held-out text and of evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from translit_scale.corpus.find import find_files, matching_files
from translit_scale.errors import DataError
from translit_scale.prepare.recipe import load_recipe
from translit_scale.prepare.sources import recipe_files
from translit_scale.testsets.layouts import TaskFolder
from translit_scale.testsets.parallel import read_aligned
from translit_scale.testsets.registry import TASKS


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text\nsłowo\n", encoding="utf-8")


def found(pattern: str, folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_files(pattern, folder)]


def test_linked_folders_are_followed_everywhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    touch(data, "wiki/pl/a.txt", "b.txt")
    touch(tmp_path / "elsewhere", "c.txt", "deep/d.txt")
    (data / "books").symlink_to(tmp_path / "elsewhere")
    (data / "wiki" / "e.txt").symlink_to(tmp_path / "elsewhere" / "c.txt")
    everything = ["b.txt", "books/c.txt", "books/deep/d.txt", "wiki/e.txt", "wiki/pl/a.txt"]
    assert found("**/*.txt", data) == found("**/**/*.txt", data) == found("**", data) == everything
    assert found("*/*.txt", data) == ["books/c.txt", "wiki/e.txt"]
    assert found("books/**/*.txt", data) == ["books/c.txt", "books/deep/d.txt"]


def test_recipes_held_out_text_and_evaluation_find_the_same(tmp_path: Path) -> None:
    touch(tmp_path / "data", "held/x.tsv", "text/pl.TXT", ".hidden.txt")
    touch(tmp_path / "scratch", "y.TSV")
    (tmp_path / "data/held/more").symlink_to(tmp_path / "scratch")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text('name: x\nlanguages: {pol_Latn: ["**/*.txt"]}\nexclude: ["held/**/*.tsv"]\n')
    files = recipe_files(load_recipe(recipe), tmp_path / "data")
    assert [name for name, _ in files.held_out] == ["held/more/y.TSV", "held/x.tsv"]
    assert [name for name, _ in files.languages["pol_Latn"]] == ["text/pl.TXT"]
    pattern = f"{tmp_path}/data/held/**/*.tsv"
    assert len(read_aligned(f"pol_Latn:{pattern}", f"ukr_Cyrl:{pattern}")) == 4


def test_test_sets_are_found_through_links_and_in_upper_case(tmp_path: Path) -> None:
    touch(tmp_path / "real", "dev.tsv", "test.TSV")
    (tmp_path / "sib").mkdir()
    (tmp_path / "sib/pol_Latn").symlink_to(tmp_path / "real")
    folder = TaskFolder(tmp_path / "sib", TASKS["sib200"].layouts)
    assert [file.path.name for split in ("dev", "test") for file in folder.files(split)] == ["dev.tsv", "test.TSV"]


@pytest.mark.timeout(20)
def test_cycles_of_links_end(tmp_path: Path) -> None:
    for name in ("p", "q", "r"):
        touch(tmp_path, f"{name}/{name}.txt")
        for other in ("p", "q", "r"):
            (tmp_path / name / f"to_{other}").symlink_to(tmp_path / other)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert found("**/*.txt", tmp_path) == ["p/p.txt", "q/q.txt", "r/r.txt"]
    (tmp_path / "way").symlink_to(tmp_path / "p")
    assert found("way/**/*.txt", tmp_path) == ["way/p.txt", "way/to_q/q.txt", "way/to_r/r.txt"]


def test_what_desktops_leave_behind_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "e/.DS_Store", "e/._a.txt", "e/Thumbs.db", "e/a.txt", "e/.git/b.txt", "e/__MACOSX/c.txt")
    assert found("e/*", tmp_path) == found("**/*", tmp_path) == ["e/a.txt"]
    assert found("e/._a.txt", tmp_path) == ["e/._a.txt"]
    assert found("e/.*.txt", tmp_path) == ["e/._a.txt"]


def test_a_suffix_matches_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "B.TXT", "c.Txt.GZ", "D.Csv")
    assert found("*.txt", tmp_path) == found("*.TXT", tmp_path) == ["B.TXT", "a.txt"]
    assert found("*.txt.gz", tmp_path) == ["c.Txt.GZ"]
    with pytest.raises(DataError, match=r"no file matches .*b\*\.txt"):
        find_files("b*.txt", tmp_path)


def test_what_is_not_found_is_named_with_what_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "texts/a.txt", "texts/b.CSV", "only/folders/x.txt")
    for pattern, message, hint in (
        ("texts", "texts is a folder", "texts/*.txt or texts/*.csv"),
        ("only/", "only is a folder", r"only/**/*"),
        ("texts/A.txt", "file not found: .*A.txt", f"did you mean {tmp_path}/texts/a.txt?"),
        ("text/a.txt", "file not found", f"did you mean {tmp_path}/texts?"),
        ("texts/*.jsonl", r"no file matches .*\*\.jsonl", "texts has a.txt, b.CSV"),
    ):
        with pytest.raises(DataError, match=message) as error:
            find_files(pattern, tmp_path)
        assert hint in error.value.hint, pattern
    assert matching_files("**/*", tmp_path / "absent") == []


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    (tmp_path / "b.txt").symlink_to(tmp_path / "moved")
    with pytest.raises(DataError, match=r"b\.txt is a link to .*moved, which does not exist"):
        find_files("*.txt", tmp_path)
