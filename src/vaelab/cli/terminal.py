"""Text on the terminal: consoles, tables, JSON, notes and warnings."""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vaelab.system.messages import VaelabWarning

if TYPE_CHECKING:
    from rich.console import Console


def make_console(*, to_stderr: bool = False) -> "Console":
    """Return a console that prints text as it is: names may contain what rich reads as markup."""
    from rich.console import Console

    return Console(stderr=to_stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_json(content: Any) -> None:
    """Print content as JSON, escaped if the encoding of the output lacks a character."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content, indent=2, default=str)
    print(text)


def print_note(text: str) -> None:
    """Print a note as one line on stderr."""
    print(text, file=sys.stderr)


def print_warning(text: str) -> None:
    """Print a warning as one line on stderr."""
    print_note(f"vaelab: warning: {text}")


@contextmanager
def print_warnings() -> Iterator[None]:
    """Print each VaelabWarning as one line on stderr; leave other warnings to Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", VaelabWarning)
        show = warnings.showwarning

        def print_or_show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, VaelabWarning):
                print_warning(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = print_or_show
        yield


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere."""
    console = make_console()
    if not console.is_terminal:
        for row in (headers, *rows):
            print("\t".join(row))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
