"""Checks that commands and recipe keys in the docs exist, without running them."""

import re
import shlex
from collections.abc import Iterator

import typer

from vaelab import recipe
from vaelab.cli import app
from vaelab.recipe import SECTIONS, Training, signature_schema
from vaelab.recipe.schema import member_schema
from vaelab.system import registry

SHELL = re.compile(r"^```bash\n(.*?)^```$", re.S | re.M)
KEY = re.compile(rf"`(?:--set )?((?:{'|'.join(SECTIONS)}|training)\.(\w+))\b[^`]*`")
NOT_KEYS = frozenset({"toml", "py", "csv", "json", "yaml", "html", "onnx", "safetensors"})
"""Endings of file names, which look like keys."""


def find_commands(page: str) -> Iterator[list[str]]:
    """The words after ``vaelab`` of every command in the shell blocks of a page."""
    for block in SHELL.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "vaelab" in words and words[0] not in ("pip", "make"):
                yield words[words.index("vaelab") + 1 :]


def find_mistake(words: list[str]) -> str | None:
    """The error of the parser or the recipe for a command; None if it is valid."""
    group = typer.main.get_command(app)
    try:
        with group.make_context("vaelab", [*words], resilient_parsing=True) as context:
            name, command, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
            if hasattr(command, "resolve_command"):
                name, command, rest = command.resolve_command(context, rest)
            parsed = command.make_context(name, rest, parent=context).params
        if parsed.get("recipe") in recipe.presets():
            recipe.load(parsed["recipe"], dict(map(recipe.parse_override, parsed.get("overrides") or [])))
    except Exception as error:
        return getattr(error, "format_message", lambda: str(error))()
    return None


def known_keys() -> set[str]:
    """Every key that some recipe may have."""
    found = {f"training.{key}" for key in signature_schema(Training)}
    for section, info in SECTIONS.items():
        found |= {f"{section}.name", *(f"{section}.{key}" for key in info.common)}
        for name in registry.names(info.folder):
            found |= {f"{section}.{key}" for key in member_schema(section, name)}
    return found


def find_unknown_keys(page: str, known: set[str]) -> list[str]:
    """Keys in backticks that no recipe knows."""
    return [key for key, last in KEY.findall(page) if key not in known and last not in NOT_KEYS]
