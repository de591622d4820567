"""The contents of compressed files, read in small pieces: few bytes may stand for gigabytes."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from functools import partial
from typing import IO, Any

from translit_scale.errors import ConfigError
from translit_scale.extras import install_command

COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zst": "zstd"}
"""Suffixes, and the programs that write such files."""

_PIECE = 1024
"""Bytes of compressed input that are decompressed at once: zstd can make 32 MiB of them, gzip 1 MiB."""
_XZ_MEMORY = 2**29
"""`xz -9` needs 65 MB; the header of a file could ask for gigabytes."""
_ZSTD_WINDOW = 2**31
"""`zstd --long=31`, the longest window that the program writes."""


def decompressed(raw: io.BufferedReader, suffix: str) -> io.BufferedReader:
    """The file itself, or what is compressed in it.

    Raises:
        ConfigError: the package for the compression is not installed.
    """
    if suffix == ".gz":
        return io.BufferedReader(_Decompressed(raw, partial(zlib.decompressobj, wbits=31), zlib.error))
    if suffix == ".bz2":
        return io.BufferedReader(_Decompressed(raw, bz2.BZ2Decompressor, OSError))
    if suffix == ".xz":
        xz = partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY)
        return io.BufferedReader(_Decompressed(raw, xz, lzma.LZMAError))
    if suffix != ".zst":
        return raw
    try:
        import zstandard
    except ImportError:
        raise ConfigError("reading .zst needs a package", install_command("zstd")) from None
    return io.BufferedReader(
        _Decompressed(raw, zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj, zstandard.ZstdError)
    )


class _Decompressed(io.RawIOBase):
    """The contents of a compressed file. (zstandard's own reader accepts a truncated file as complete.)"""

    def __init__(self, raw: IO[bytes], decompressor: Callable[[], Any], error: type[Exception]) -> None:
        """
        Args:
            decompressor: makes a decompressor for the next stream, as `zlib.decompressobj` does.
            error: the exception that the decompressor raises.
        """
        self._raw, self._new, self._error = raw, decompressor, error
        self._decompressor: Any = None  # None between two streams
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """As in `io.RawIOBase`; raises EOFError where a stream ends early, and OSError where it is damaged."""
        while not self._output and (self._input or self._fill()):
            try:
                self._decompressor = self._decompressor or self._new()
                self._output = memoryview(self._decompressor.decompress(self._input))
            except self._error as error:
                raise OSError(str(error)) from None
            self._input = self._decompressor.unused_data
            if self._decompressor.eof:
                self._decompressor = None
                self._input = self._input.lstrip(b"\0")  # padding between streams
        size = min(len(buffer), len(self._output))
        buffer[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _fill(self) -> bytes:
        self._input = self._raw.read(_PIECE)
        if self._decompressor is None:
            self._input = self._input.lstrip(b"\0")
        elif not self._input:
            raise EOFError("the compressed stream ends early")
        return self._input
