"""Private words of this machine and of a run, removed from what is published: paths, user names and host names."""

import getpass
import io
import platform
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vaelab.run import Run
from vaelab.system.errors import InputError

REMOVED = "…"
QUOTED = re.compile(r"""(["'])(?:~|/|file:|[A-Za-z]:[\\/]|\\\\).*?\1""")
ABSOLUTE = re.compile(
    r"""(?<!\w)file:[^\s"'<>]+ | \\\\[^\s"'<>]+ | (?<![\w/.:…])[A-Za-z]:[\\/](?!/)[^\s"'<>]*
    | (?<![\w/.:…)\]%])~?/[\w.~][^\s"'<>]* | (?<![\w/])~[\w.-]*/[^\s"'<>]*""",
    re.VERBOSE,
)
"""Absolute paths of POSIX and Windows, shares and file URLs; ranges such as nats/image and web addresses are none."""
USER_FOLDER = re.compile(r"(?:/home|/Users|[\\/]Users)[\\/]([^\\/\s\"']+)")
OF_EVERYBODY = frozenset({"admin", "localhost", "localdomain", "root", "user", "ubuntu", "runner", "jovyan"})
MIN_NAME = 3
"""Length of the shortest name that is removed."""
PICTURE_TEXTS = ("Software", "Title", "Description")
"""Text entries of a figure that are kept, cleaned."""


def hide_folders(text: str) -> str:
    """Return a text with an ellipsis in place of the folders of absolute paths; the last name of each stays."""

    def shorten(found: re.Match[str]) -> str:
        quote = found[0][0] if found[0][0] in "'\"" else ""
        name = re.split(r"[\\/]", found[0].strip(quote).rstrip("\\/"))[-1]
        return f"{quote}{REMOVED}/{name}{quote}"

    return ABSOLUTE.sub(shorten, QUOTED.sub(shorten, text))


class Privacy:
    """Cleans texts, values and pictures of a run, and checks files for paths that were missed.

    ``public`` are names that may stay, such as the one under which the model is published.
    """

    def __init__(self, run: Run, public: Collection[str] = ()) -> None:
        selected = [selection.get("place", "") for selection in run.selections.values()]
        machine = [text for text in _texts([*run.machine.values(), *selected]) if text]
        places = {run.path.absolute(), run.path.resolve(), Path.cwd(), Path("~").expanduser()}
        places |= {Path(text) for text in machine if Path(text).is_absolute()}
        self._paths = sorted({str(p) for p in places if len(p.parts) > 2}, key=len, reverse=True)
        known = {*_own_names(), *(name for text in (*machine, *self._paths) for name in USER_FOLDER.findall(text))}
        allowed = {name.casefold() for name in public} | OF_EVERYBODY
        names = {name for name in known if len(name) >= MIN_NAME and name.casefold() not in allowed}
        words = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        self._names = re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])", re.IGNORECASE) if words else None

    def clean(self, text: str) -> str:
        """Return a text with every private word replaced by an ellipsis."""
        for path in self._paths:  # they may contain spaces
            text = re.sub(rf"{re.escape(path)}[^\s\"'<>]*", REMOVED, text)
        text = ABSOLUTE.sub(REMOVED, QUOTED.sub(rf"\g<1>{REMOVED}\g<1>", text))
        return self._names.sub(REMOVED, text) if self._names else text

    def clean_values(self, value: Any) -> Any:
        """Return JSON values with every text in them cleaned."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, dict):
            return {self.clean(str(key)): self.clean_values(entry) for key, entry in value.items()}
        return [self.clean_values(entry) for entry in value] if isinstance(value, list | tuple) else value

    def clean_picture(self, png: bytes) -> bytes:
        """Return a PNG file with the same pixels and only its title and description, cleaned."""
        buffer, texts = io.BytesIO(), PngInfo()
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            picture.load()
            for key in PICTURE_TEXTS:
                if key in picture.info:
                    texts.add_itxt(key, self.clean(str(picture.info[key])))
            dpi = picture.info.get("dpi")
            picture.info.clear()
            picture.save(buffer, "PNG", pnginfo=texts, **({"dpi": dpi} if dpi else {}))
        return buffer.getvalue()

    def check(self, files: dict[str, bytes]) -> None:
        """Raise InputError if a file still holds a path of this machine or of the run."""
        for name, content in files.items():
            for path in self._paths:
                if any(
                    form.encode("utf-8", "surrogateescape") in content for form in (path, path.replace("\\", "\\\\"))
                ):
                    raise InputError(f"{name} would publish the path {path}; nothing was uploaded", subject=name)


def _own_names() -> Iterator[str]:
    """Yield the names of this user and of this machine."""
    with suppress(OSError, KeyError, ImportError):  # a user without a name
        yield getpass.getuser()
    with suppress(RuntimeError):  # or without a home
        yield Path.home().name
    host = platform.node()
    yield from (host, host.partition(".")[0])


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from (key, *_texts(entry))
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
