"""Shards and manifests that somebody else made: never unpickled, never run, never followed, and never a traceback.

Unless a test says otherwise, manifest and shard agree in every size and checksum: they were made to deceive.
"""

import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.hostile import (
    KEY,
    LATN,
    LENGTHS,
    ORIG,
    Members,
    confined,
    headers,
    member,
    members,
    npy,
    with_header,
    write_set,
)
from tests.support.ranks import ROOT
from translit_scale.cli import main
from translit_scale.corpus.shards import ShardSet
from translit_scale.errors import DataError

COMMANDS = (("verify",), ("verify", "--deep"), ("stats",), ("cat",))


class Exploit:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def told(capsys: pytest.CaptureFixture[str], directory: Path | str, *command: str) -> tuple[int, str]:
    """Exit code and everything a `shards` command prints. An exception that is not handled fails the test."""
    with confined(mebibytes=256):
        code = main(["shards", *command, str(directory)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def refused_everywhere(capsys: pytest.CaptureFixture[str], directory: Path, *expected: str) -> None:
    """The reader and `verify --deep` name what is wrong; no command ends in anything but exit code 0 or 3."""
    with confined(mebibytes=256), pytest.raises(DataError) as error:
        shard_set = ShardSet.open(directory)
        shard_set.read_block("pol_Latn", 0)
    for text in (str(error.value), told(capsys, directory, "verify", "--deep")[1]):
        assert all(words in text for words in expected), text
    for command in COMMANDS:
        code, text = told(capsys, directory, *command)
        assert code in (0, 3) and "Traceback" not in text
    assert told(capsys, directory, "verify", "--deep")[0] == told(capsys, directory, "cat")[0] == 3


# -------------------------------------------------------------------------------------------- members of a tar


def test_the_honest_set_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(tmp_path, headers(members()))
    assert told(capsys, tmp_path, "verify", "--deep")[0] == 0
    assert told(capsys, tmp_path, "cat") == (0, "pol_Latn\tżółw\tzolw\npol_Latn\tkot\tkot\npol_Latn\tłoś\tlos\n")


KINDS = {
    "symbolic link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE, "directory": tarfile.DIRTYPE,
    "extended header": tarfile.XHDTYPE, "global header": tarfile.XGLTYPE, "Solaris header": tarfile.SOLARIS_XHDTYPE,
    "GNU long name": tarfile.GNUTYPE_LONGNAME, "GNU long link": tarfile.GNUTYPE_LONGLINK,
    "GNU sparse": tarfile.GNUTYPE_SPARSE, "contiguous": tarfile.CONTTYPE, "old regular file": tarfile.AREGTYPE,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("position", [0, 1])
def test_members_of_other_kinds(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: bytes, position: int) -> None:
    of = members()
    of[position][0].type = kind
    of[position][0].linkname = "/etc/passwd"
    write_set(tmp_path, headers(of))
    refused_everywhere(
        capsys,
        tmp_path,
        f"pol_Latn-00000.tar:{KEY}",
        f"expected the tar header of the plain file {of[position][0].name}",
    )


@pytest.mark.parametrize(
    "name",
    [
        f"../../{KEY}.orig.txt", f"/etc/{KEY}.orig.txt", f"./{KEY}.orig.txt", f"{KEY}.pyd", f"{KEY}.pickle",
        f"{KEY}.orig.txt\n", f"{KEY}.orig.txt.gz", f"{KEY}.latn.txt", f"{KEY}.orig.ṭxt", f"{KEY}.ORIG.txt",
        "pol_Latn-00000-0001.orig.txt", "",
    ],
)  # fmt: skip
def test_members_with_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    of = members()
    of[1][0].name = name
    write_set(tmp_path, headers(of))
    refused_everywhere(capsys, tmp_path, f"plain file {KEY}.orig.txt, found {name.encode()!r}")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["manifest.json", "pol_Latn-00000.tar"]


def test_a_name_that_goes_on_behind_a_null_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    span = headers(members())
    write_set(tmp_path, with_header(span, 1024, len(f"{KEY}.orig.txt"), b"\0/../../x.pyd"))
    refused_everywhere(capsys, tmp_path, r"found b'pol_Latn-00000-0000.orig.txt\x00/../../x.pyd'")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_extended_headers_before_a_member(tmp_path: Path, capsys: pytest.CaptureFixture[str], format: int) -> None:
    of = members()
    of[1][0].name = "x" * 300
    of[1][0].pax_headers = {"path": f"{KEY}.orig.txt", "size": "5"}
    write_set(tmp_path, headers(of[:1]) + headers(of[1:2], format) + headers(of[2:]))
    refused_everywhere(capsys, tmp_path, f"expected the tar header of the plain file {KEY}.orig.txt, found b'././@")


@pytest.mark.parametrize(
    "size",
    [
        b"\x80" + bytes(10) + b"\x10", b"\x80\x00\x00\x00\x7f" + b"\xff" * 7, b"\xff" * 12, b"77777777777\0",
        b"-0000000001\0", b"0x000000010\0", b"        17 \0", b"1_000000000\0", bytes(12), b"\xd9\xa1" * 6,
    ],
    ids=["base 256", "huge base 256", "negative base 256", "huge", "negative", "hex", "spaces", "underscore", "none",
         "Arabic"],
)  # fmt: skip
def test_sizes_that_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str], size: bytes) -> None:
    write_set(tmp_path, with_header(headers(members()), 1024, 124, size))
    refused_everywhere(
        capsys, tmp_path, f"pol_Latn-00000.tar:{KEY}: ", f"{KEY}.orig.txt", "size" if size[0] != 55 else "bytes"
    )


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ([0, 1, 1, 2, 3], "latn.txt, found b'pol_Latn-00000-0000.orig.txt'"),
        ([0, 1, 2, 2, 3], "json, found b'pol_Latn-00000-0000.latn.txt'"),
        ([0, 1, 2, 3, 3], "bytes of members, found"),
        ([0, 1, 2], f"{KEY}.json, found b''"),
        ([1, 2, 3], "lengths.npy, found b'pol_Latn-00000-0000.orig.txt'"),
        ([0, 2, 1, 3], "orig.txt, found b'pol_Latn-00000-0000.latn.txt'"),
        ([3, 2, 1, 0], "lengths.npy, found b'pol_Latn-00000-0000.json'"),
        ([0], f"{KEY}.orig.txt, found b''"),
    ],
    ids=["twice", "twice, later", "twice, at the end", "no json", "no lengths", "swapped", "reversed", "alone"],
)
def test_members_twice_missing_or_in_another_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], order: list[int], found: str
) -> None:
    write_set(tmp_path, headers([members()[index] for index in order]))
    refused_everywhere(capsys, tmp_path, found)


def test_a_stranger_between_the_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled = member("pyd", pickle.dumps(Exploit(tmp_path / "mark")))
    for position in range(5):
        of = members()
        of.insert(position, pickled)
        write_set(tmp_path / "set", headers(of))
        refused_everywhere(capsys, tmp_path / "set", "pyd" if position < 4 else "bytes of members")
    assert not (tmp_path / "mark").exists()


def lying_npy(shape: object, descr: str = "<u2", fortran: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return buffer.getvalue() + np.array(LENGTHS, "<u2").tobytes()


@pytest.mark.parametrize(
    "content",
    [
        lying_npy((10**15, 2)), lying_npy((3, 2), fortran=True), lying_npy((2, 3)), lying_npy((6,)),
        lying_npy((3, 2), ">u2"), lying_npy((-3, 2)), npy(np.array(LENGTHS, "<u4")), npy(np.array(LENGTHS, "<f2")),
        npy(np.array(LENGTHS, "<u2"), version=(2, 0)), npy(np.array(LENGTHS[:2], "<u2")),
        b"\x93NUMPY\x01\x00" + b"\xff" * 200, b"", lying_npy((3, 2)) + b"\0",
        lying_npy((3, 2)).replace(b"'<u2'", b"'|O8'"),
    ],
    ids=["10^15 rows", "Fortran", "transposed", "flat", "big-endian", "negative", "32 bits", "floats", "version 2",
         "short", "endless header", "empty", "longer", "objects"],
)  # fmt: skip
def test_lengths_that_are_another_array(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    write_set(tmp_path, headers([member("lengths.npy", content), *members()[1:]]))
    refused_everywhere(capsys, tmp_path, "lengths.npy is not an array of 3 × 2 numbers of 16 bits")
    with confined(mebibytes=64), pytest.raises(DataError, match=r"lengths\.npy is not"):
        ShardSet.open(tmp_path).read_lengths("pol_Latn", 0)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = npy(np.array([[Exploit(tmp_path / "mark")] * 2] * 3, object), allow_pickle=True)
    write_set(tmp_path / "set", headers([member("lengths.npy", content), *members()[1:]]))
    refused_everywhere(capsys, tmp_path / "set", "lengths.npy is not an array")
    assert not (tmp_path / "mark").exists()


def with_text(orig: bytes = ORIG, latn: bytes = LATN, lengths: list[list[int]] = LENGTHS) -> Members:
    array = npy(np.array(lengths, "<u2"), version=(1, 0))
    return [member("lengths.npy", array), member("orig.txt", orig), member("latn.txt", latn), members()[3]]


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (with_text(orig=b"\xff" * 7 + ORIG[7:]), "orig.txt is not UTF-8: invalid start byte at byte 0"),
        (with_text(latn=b"\xed\xa0\x80x" + LATN[4:]), "latn.txt is not UTF-8"),
        (with_text(orig="a\nb\nc\n".encode("utf-16")), "lines in orig.txt"),
        (with_text(orig=ORIG + b"x\n"), "expected 3 lines in orig.txt, found 4"),
        (with_text(orig=ORIG[:-1]), "expected 3 lines in orig.txt, found 2"),
        (with_text(latn=LATN + b"x"), "expected 3 lines in latn.txt, found 3 and their ends"),
        (with_text(latn=b""), "expected 3 lines in latn.txt, found 0"),
        (with_text(latn=LATN.replace(b"\n", b"\r")), "expected 3 lines in latn.txt, found 0"),
        (with_text(lengths=[[7, 4], [3, 3], [5, 4]]), "lengths.npy has 4 bytes for line 3 of latn.txt, found 3"),
        (with_text(lengths=[[3, 4], [7, 3], [5, 3]]), "lengths.npy has 3 bytes for line 1 of orig.txt, found 7"),
        ([*with_text()[:3], member("json", members()[3][1].replace(b'"block": 0', b'"block": 1'))], "not that of"),
        ([*with_text()[:3], member("json", b"[" * 10**6)], "the json member is not that of"),
    ],
)
def test_text_that_is_not_what_it_should_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], of: Members, expected: str
) -> None:
    write_set(tmp_path, headers(of))
    refused_everywhere(capsys, tmp_path, expected, f"pol_Latn-00000.tar:{KEY}")


# ------------------------------------------------------------------------------ files that are no regular files


def a_directory(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix, tempfile.TemporaryDirectory() as short:
        unix.bind(f"{short}/s")
        Path(f"{short}/s").rename(path)


def a_link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


NO_FILES = [
    a_directory,
    os.mkfifo,
    a_socket,
    a_link_to("/dev/zero"),
    a_link_to("manifest-or-shard"),
    a_link_to("nothing"),
]
IDS = ["directory", "pipe", "socket", "endless device", "link to itself", "dangling link"]


@pytest.mark.parametrize("make", NO_FILES, ids=IDS)
@pytest.mark.parametrize("name", ["pol_Latn-00000.tar", "manifest.json"])
def test_what_is_no_regular_file_is_refused_without_waiting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None], name: str
) -> None:
    write_set(tmp_path, headers(members()))
    (tmp_path / name).unlink()
    (tmp_path / "manifest-or-shard").symlink_to(name)
    make(tmp_path / name)
    refused_everywhere(capsys, tmp_path, str(tmp_path / name))


@pytest.mark.parametrize("make", [a_directory, os.mkfifo], ids=["directory", "pipe"])
def test_a_shard_that_is_replaced_while_it_is_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    write_set(tmp_path, headers(members()))
    shard_set = ShardSet.open(tmp_path)
    (tmp_path / "pol_Latn-00000.tar").unlink()
    make(tmp_path / "pol_Latn-00000.tar")
    with confined(mebibytes=64), pytest.raises(DataError, match=f"{KEY}: not a regular file"):
        shard_set.read_block("pol_Latn", 0)


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root may read everything; in these lines it is nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["pol_Latn-00000.tar", "manifest.json"])
def test_a_file_that_must_not_be_read(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        write_set(Path(directory), headers(members()))
        Path(directory).chmod(0o755)
        (Path(directory) / name).chmod(0)
        with as_somebody_else():
            for command in (("verify",), ("verify", "--deep"), ("cat",)):
                code, text = told(capsys, directory, *command)
                assert code == 3 and "Permission denied" in text and name in text


@pytest.mark.parametrize(
    "shards",
    [
        "pipe:touch mark",
        "pipe:touch${IFS}mark",
        "https://example.org/set",
        "file:///etc",
        "s3://bucket/set",
        "a\0b",
        "x" * 5000,
        "",
    ],
)
def test_names_are_only_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shards: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        ShardSet.open(Path(shards))
    for command in COMMANDS:
        assert told(capsys, shards, *command)[0] == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_as_a_user_would(tmp_path: Path) -> None:
    hostile: dict[str, Callable[[Path], Any]] = {
        "pickle": lambda path: write_set(path, headers([member("pyd", pickle.dumps(Exploit(tmp_path / "mark")))])),
        "json": lambda path: [path.mkdir(), (path / "manifest.json").write_text("[" * 10**6)],
        "pipe": lambda path: [path.mkdir(), os.mkfifo(path / "manifest.json")],
        "rows": lambda path: write_set(path, headers([member("lengths.npy", lying_npy((10**15, 2))), *members()[1:]])),
    }
    for name, make in hostile.items():
        make(tmp_path / name)
        for command in COMMANDS:
            done = subprocess.run(
                [sys.executable, "-m", "translit_scale.cli", "shards", *command, str(tmp_path / name)],
                cwd=ROOT, capture_output=True, text=True, timeout=30,
            )  # fmt: skip
            assert "Traceback" not in done.stderr
            fits = name in ("pickle", "rows") and command in (("verify",), ("stats",))  # which look at checksums only
            assert done.returncode == (0 if fits else 3)
    assert not (tmp_path / "mark").exists()


@pytest.mark.slow
def test_pairs_are_printed_in_utf8_whatever_the_terminal_says(tmp_path: Path) -> None:
    write_set(tmp_path, headers(members()))
    done = subprocess.run(
        [sys.executable, "-m", "translit_scale.cli", "shards", "cat", str(tmp_path)],
        cwd=ROOT, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.decode().startswith("pol_Latn\tżółw\tzolw\n")
