"""Standard output and error that never raise: closed, full, a broken pipe, or an encoding that lacks characters."""

import codecs
import errno
import io
import os
import select
import sys
from functools import partial
from typing import Any

SIGNS = {"✓": "+", "✗": "x", "×": "x", "−": "-", "±": "+-", "≤": "<=", "→": "->", "β": "beta", "σ": "sigma", "²": "^2"}
"""Replacements for encodings that lack these characters; other characters are escaped (``\\u2026``)."""
READER_LEFT = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)
"""Errors of a pipe whose reader has ended, as after ``| head``."""


class Sink(io.RawIOBase):
    """The bytes of a standard stream. After writing has failed once, the rest is dropped and ``error`` is set."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        """Return the file descriptor."""
        return int(self._raw.fileno())

    def write(self, content: Any, /) -> int:
        """Write bytes and return their number, which counts dropped bytes too."""
        while self.error is None:
            try:
                written = self._raw.write(content)
            except OSError as error:
                self.error = error
            else:
                if written is not None:
                    return int(written)
                select.select([], [self], [])  # a non-blocking pipe is full
        return len(memoryview(content).cast("B"))


def protect() -> None:
    """Replace standard output and error by streams that never raise; streams replaced by others are left alone."""
    _open_closed()
    for name in ("stdout", "stderr"):
        # stdout keeps the bytes of file names that are not UTF-8, for shells; stderr escapes them, for people
        codecs.register_error(f"vaelab.{name}", partial(_escape, keeps_bytes=name == "stdout" and os.name == "posix"))
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper) and not _sink_of(stream):
            protected = _wrap(stream, f"vaelab.{name}")
            setattr(sys, name, protected)
            setattr(sys, f"__{name}__", protected)


def failure() -> str:
    """Return why output was lost; empty if none was lost or its reader has ended."""
    sys.stdout.flush()
    sink = _sink_of(sys.stdout)
    if sink is None or sink.error is None or sink.error.errno in READER_LEFT:
        return ""
    return sink.error.strerror or str(sink.error)


def _sink_of(stream: Any) -> Sink | None:
    """Return the sink of a protected stream; None for any other stream."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Sink) else None


def _open_closed() -> None:
    """Open the null device at closed descriptors 0, 1 and 2; otherwise the next opened file would receive output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _wrap(stream: io.TextIOWrapper, errors: str) -> io.TextIOWrapper:
    encoding, is_by_line, is_unbuffered = stream.encoding, stream.line_buffering, stream.write_through
    below = stream.detach()
    raw = below.detach() if isinstance(below, io.BufferedWriter) else below
    return io.TextIOWrapper(
        io.BufferedWriter(Sink(raw)),
        encoding,
        errors,
        line_buffering=is_by_line or is_unbuffered,
        write_through=is_unbuffered,
    )


def _escape(error: UnicodeError, keeps_bytes: bool) -> tuple[str | bytes, int]:
    """Replace a character that an encoding lacks; surrogates stand for bytes of file names, which may be kept."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if keeps_bytes and 0xDC80 <= ord(character) <= 0xDCFF:
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return SIGNS.get(character, character.encode("ascii", "backslashreplace").decode()), error.start + 1
