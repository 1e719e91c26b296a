"""Text for people on a terminal: consoles, lines that are wrapped between words, counts with their nouns."""

import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def make_console(*, to_stderr: bool = False) -> "Console":
    """Return a console that prints text as it is: names may contain what rich reads as markup."""
    from rich.console import Console

    return Console(stderr=to_stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def wrap(text: str, width: int) -> str:
    """Return text with lines of at most ``width`` characters, broken between words; what continues is indented.

    A single word that is longer, such as a path, keeps its line.
    """
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            width,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        ) or [""]
    return "\n".join(lines)


def print_text(text: str, *, to_stderr: bool = False) -> None:
    """Print text, wrapped between words on a terminal, and as it is elsewhere."""
    console = make_console(to_stderr=to_stderr)
    stream = sys.stderr if to_stderr else sys.stdout
    print(wrap(text, console.width) if console.is_terminal else text, file=stream)
