"""What the tests of hostile input share: limits on memory and time, and sets whose shards and manifest lie together."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from translit_scale.corpus.manifest import FORMAT_VERSION

Members = list[tuple[tarfile.TarInfo, bytes]]
KEY = "pol_Latn-00000-0000"
ORIG, LATN = "żółw\nkot\nłoś\n".encode(), b"zolw\nkot\nlos\n"
LENGTHS = [[7, 4], [3, 3], [5, 3]]


@contextmanager
def confined(mebibytes: int, seconds: int = 20) -> Iterator[None]:
    """Limits the additional address space and the time of the block."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)

    def too_long(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + (mebibytes << 20), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def npy(array: Any, **options: Any) -> bytes:
    """An array as a `.npy` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), **options)
    return buffer.getvalue()


def member(suffix: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A member of the block as it should be."""
    info = tarfile.TarInfo(f"{KEY}.{suffix}")
    info.size = len(content)
    return info, content


def members() -> Members:
    """The four members of the only block, as they should be."""
    said = {"language": "pol_Latn", "shard": 0, "block": 0, "rows": 3}
    return [
        member("lengths.npy", npy(np.array(LENGTHS, "<u2"), version=(1, 0))),
        member("orig.txt", ORIG),
        member("latn.txt", LATN),
        member("json", (json.dumps(said) + "\n").encode()),
    ]


def headers(of: Members, format: int = tarfile.USTAR_FORMAT) -> bytes:
    """The span of members: their headers as tarfile writes them in some format, and their padded contents."""
    return b"".join(info.tobuf(format) + content + bytes(-len(content) % 512) for info, content in of)


def with_header(span: bytes, start: int, position: int, field: bytes) -> bytes:
    """A span whose tar header at `start` has other bytes at `position`, and a checksum that fits."""
    header = bytearray(span[start : start + 512])
    header[position : position + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return span[:start] + header + span[start + 512 :]


def write_set(directory: Path, span: bytes, rows: int = 3) -> None:
    """A set of one block of which every size and checksum in the manifest fits."""
    directory.mkdir(exist_ok=True)
    contents = {"lengths.npy": b"", "orig.txt": b"", "latn.txt": b""}
    try:
        with tarfile.open(fileobj=io.BytesIO(span + bytes(1024))) as tar:
            for info in tar:
                suffix = info.name.removeprefix(f"{KEY}.")
                if suffix in contents and (file := tar.extractfile(info)) is not None:
                    contents[suffix] = file.read(1 << 20)
    except (tarfile.TarError, OSError, KeyError, EOFError):
        pass  # what tarfile cannot read gets checksums of nothing
    shard = span + bytes(1024)
    (directory / "pol_Latn-00000.tar").write_bytes(shard)
    lengths, orig, latn = contents.values()
    blocks = [[rows, 0, len(span), zlib.crc32(latn, zlib.crc32(orig)), zlib.crc32(lengths)]]
    write_manifest(directory, rows=rows, bytes=len(shard), sha256=sha256(shard).hexdigest(), blocks=blocks)


def write_manifest(directory: Path, rows: int = 3, **shard: Any) -> None:
    """A manifest of one shard, written without any of the checks of the real one."""
    counts = {
        "read": rows,
        "dropped": {},
        "rows": rows,
        "identical": 0,
        "fallbacks": 0,
        "orig_chars": 9,
        "latn_chars": 9,
    }
    value = {
        "format_version": FORMAT_VERSION,
        "name": "hostile",
        "languages": {"pol_Latn": counts},
        "provenance": {},
        "shards": [{"name": "pol_Latn-00000.tar", **shard}],
    }
    (directory / "manifest.json").write_text(json.dumps(value), encoding="utf-8")
