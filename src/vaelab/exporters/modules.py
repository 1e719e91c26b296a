"""The modules of the page: which of them import which."""

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

STATIC = Path(__file__).parents[1] / "explorer" / "static"
NAMED = re.compile(r'"\./([\w.-]+\.js)"')
"""How a module names another one: import … from "./x.js", import("./x.js"), new URL("./x.js", import.meta.url)."""


def read_modules(first: str = "main.js", folder: Path = STATIC) -> dict[str, str]:
    """File name → text of ``first`` and of all that it needs, each after those that it names.

    Every ``"./x.js"`` in a module counts. ValueError where modules name each other in a circle, FileNotFoundError where
    there is none of that name.
    """
    texts: dict[str, str] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name not in texts:
            texts[name] = (folder / name).read_text(encoding="utf-8")
            waiting += named_in(texts[name])
    return {name: texts[name] for name in _in_order(texts)}


def named_in(text: str) -> list[str]:
    """The modules that a module names."""
    return sorted(set(NAMED.findall(text)))


def _in_order(texts: Mapping[str, str]) -> list[str]:
    try:
        return list(TopologicalSorter({name: named_in(texts[name]) for name in sorted(texts)}).static_order())
    except CycleError as error:
        raise ValueError(f"modules that import each other: {' → '.join(error.args[1])}") from None
