"""Standard output and error that never end the work: closed, full, a broken pipe, or not UTF-8."""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any

SIGNS = {"✓": "+", "✗": "x", "×": "x", "−": "-", "±": "+-", "≤": "<=", "→": "->", "β": "beta", "σ": "sigma", "²": "^2"}
"""Characters of vaelab's own messages, for encodings that have none of them; others are escaped (``\\u2026``)."""
IS_UNHEARD = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)
"""Errors of a pipe that nobody reads any more, as after ``| head``."""


class Sink(io.RawIOBase):
    """The bytes of a standard stream; once writing has failed, the rest is dropped and ``error`` says why."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def writable(self) -> bool:
        """True, as for every output."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._raw.isatty())

    def fileno(self) -> int:
        """The file descriptor."""
        return int(self._raw.fileno())

    def write(self, content: Any, /) -> int:
        """Write some bytes; all of them count as written once writing has failed."""
        while self.error is None:
            try:
                written = self._raw.write(content)
            except OSError as error:
                self.error = error
            else:
                if written is not None:
                    return int(written)
                select.select([], [self], [])  # a pipe that does not block is full
        return len(memoryview(content).cast("B"))


def protect() -> None:
    """Replace this process's standard output and error by streams that never raise.

    Nothing happens to streams that were replaced already, as by a test.
    """
    for name in ("escape", "escape-visibly"):
        codecs.register_error(f"vaelab.{name}", _escape if name == "escape" else _escape_visibly)
    _open_closed()
    for name, errors in (("stdout", "vaelab.escape"), ("stderr", "vaelab.escape-visibly")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (as long as the process lives)
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper) and not _sink_of(stream):
            protected = _wrap(stream, errors)
            setattr(sys, name, protected)
            setattr(sys, f"__{name}__", protected)


def failure() -> str:
    """Why output was lost; empty where none was, or where nobody reads it any more."""
    sys.stdout.flush()
    sink = _sink_of(sys.stdout)
    if sink is None or sink.error is None or sink.error.errno in IS_UNHEARD:
        return ""
    return sink.error.strerror or str(sink.error)


def _sink_of(stream: Any) -> Sink | None:
    """The sink that a protected stream writes to; None for any other stream."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, Sink) else None


def _open_closed() -> None:
    """Open the null device at descriptors 0, 1 and 2 that are closed, or the next file would be taken for output."""
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


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Halves of characters, which stand for bytes of a file name, as these bytes; signs in ASCII; others escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if 0xDC80 <= ord(character) <= 0xDCFF and os.name == "posix":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _escape_visibly(error)


def _escape_visibly(error: UnicodeError) -> tuple[str | bytes, int]:
    """Signs in ASCII, others escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    escaped = character.encode("ascii", "backslashreplace").decode()
    return SIGNS.get(character, escaped), error.start + 1
