"""The JavaScript modules of the page, in the order of their imports."""

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from vaelab.explorer.server import STATIC

NAMED = re.compile(r'"\./([\w.-]+\.js)"')
"""A module's name for another one: import … from "./x.js", import("./x.js"), new URL("./x.js", import.meta.url)."""


def read_modules(first: str = "main.js", folder: Path = STATIC) -> dict[str, str]:
    """Return file name → text of ``first`` and all modules that it needs, each after those that it names.

    Raises ValueError if modules name each other in a circle, and FileNotFoundError for a missing module.
    """
    texts: dict[str, str] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name not in texts:
            texts[name] = (folder / name).read_text(encoding="utf-8")
            waiting += find_named(texts[name])
    try:
        order = TopologicalSorter({name: find_named(texts[name]) for name in sorted(texts)}).static_order()
        return {name: texts[name] for name in order}
    except CycleError as error:
        raise ValueError(f"modules that import each other: {' → '.join(error.args[1])}") from None


def find_named(text: str) -> list[str]:
    """Return the names of other modules in a module's text."""
    return sorted(set(NAMED.findall(text)))
