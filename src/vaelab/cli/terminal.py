"""Results on the terminal: tables, JSON, notes and warnings."""

import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vaelab.system.messages import VaelabWarning
from vaelab.system.terminal import make_console, print_text

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
"""Spaces between two columns of a table."""


def print_json(content: Any) -> None:
    """Print content as JSON, escaped if the encoding of the output lacks a character."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content, indent=2, default=str)
    print(text)


def print_note(text: str) -> None:
    """Print a note on stderr: one line, wrapped between words on a terminal."""
    print_text(text, to_stderr=True)


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


NUMBER = re.compile(r"[-−]?[\d.,]+( ± [\d.,]+| [kM])?|auto|–|")
"""A cell in a column of numbers."""


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, tab-separated lines elsewhere.

    Cells are wrapped between words. If the words do not fit side by side, there are several tables, one below the
    other, which all have the first column.
    """
    console = make_console()
    if not console.is_terminal:
        for row in (headers, *rows):
            print("\t".join(row))
        return
    columns = list(zip(headers, *rows, strict=True))
    rest = list(range(1, len(columns)))
    while True:
        shown, room = [columns[0]], console.width - _min_width(columns[0])
        while rest and (len(shown) == 1 or room >= _min_width(columns[rest[0]]) + GAP):
            room -= _min_width(columns[rest[0]]) + GAP
            shown.append(columns[rest.pop(0)])
        _print_columns(console, shown)
        if not rest:
            return
        print()


def _min_width(column: Sequence[str]) -> int:
    """Return the length of the longest word of a column."""
    return max(len(word) for cell in column for word in cell.split() or [""])


def _print_columns(console: "Console", columns: Sequence[Sequence[str]]) -> None:
    """Print columns side by side: headers give way until all fit, then the widest cells, words only at last."""
    from rich.table import Table

    widths = [max(map(len, column)) for column in columns]
    least = [_min_width(column) for column in columns]
    room = max(console.width, 2 * len(columns) * GAP) - GAP * (len(columns) - 1)
    if sum(widths) > room:
        widths = [max(_min_width(column[:1]), *map(len, column[1:])) for column in columns]
    while sum(widths) > room:
        may_shrink = [i for i in range(len(columns)) if widths[i] > least[i]] or range(len(columns))
        widths[max(may_shrink, key=widths.__getitem__)] -= 1
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for (header, *cells), width in zip(columns, widths, strict=True):
        is_numeric = all(map(NUMBER.fullmatch, cells))
        table.add_column(header, overflow="fold", width=width, justify="right" if is_numeric else "left")
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*row)
    console.print(table)
