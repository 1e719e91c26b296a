"""Sheets of pictures in rows and columns, in exact pixels, with labels beside, above and below them."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from vaelab.data.images import drawable
from vaelab.figures import DPI, FAINT, INK, clean_text, house_style, missing_letters

WORDS, SMALL = 12, 10
"""Font sizes in points: beside and above pictures, and below them."""
WIDE, MOST = 2100, 2400
"""Width in pixels to which a sheet of small pictures is enlarged, and to which one of large pictures is reduced."""
CELL = 192
"""Default of the largest width in pixels to which one picture is enlarged."""
PAD = 12
MOST_LETTERS = 28
"""Longest line of a row label, in letters."""

Pictures = UInt8[np.ndarray, "_ _ _ _ _"]
"""``[rows, columns, H, W, C]``."""


def sheet_figure(
    blocks: Sequence[Pictures],
    row_words: Sequence[str] = (),
    column_words: Sequence[Sequence[str]] = (),
    under: Sequence[str] = (),
    cell: int = CELL,
    group: int = 1,
) -> Figure:
    """Draw blocks of pictures side by side; small pictures are enlarged by a whole factor to at most ``cell`` pixels.

    ``row_words``: labels at the left; all lines but the first are small. ``column_words``: labels above, for each block
    one per column or one for the block. ``under``: labels below the pictures of the first block, row by row. ``group``:
    number of rows that belong together, with a wider gap after them.
    """
    row_words, under = [clean_text(word) for word in row_words], [clean_text(word) for word in under]
    column_words = [[clean_text(word) for word in words] for words in column_words]
    with house_style():
        return _draw_sheet(_fit(blocks, cell), row_words, column_words, under, group)


def _draw_sheet(
    blocks: Sequence[Pictures],
    row_words: Sequence[str],
    column_words: Sequence[Sequence[str]],
    under: Sequence[str],
    group: int,
) -> Figure:
    """Draw blocks that have their final size, with their labels."""
    rows, _, height, width, _ = blocks[0].shape
    gap = max(3, width // 40)
    beside = [_beside(word) for word in row_words]
    size = _size_above(column_words, width)
    above = [
        [_wrap(word, size, width if len(words) > 1 else block.shape[1] * (width + gap)) for word in words]
        for block, words in zip(blocks, column_words, strict=False)
    ]
    below = [_shorten(words, SMALL, width + gap) for words in under]
    left = PAD + max((_width(line, size) + PAD for lines in beside for line, size in lines if line), default=0)
    top = PAD + _tall([word for words in above for word in words], size)
    pitch = height + gap + (_tall(below, SMALL) + gap if any(below) else 0)
    starts = [left]
    for block in blocks:
        starts.append(starts[-1] + block.shape[1] * (width + gap) + 3 * gap)
    tops = [top + i * pitch + (i // group) * (3 * gap if group > 1 else 0) for i in range(rows)]
    sheet = np.full((tops[-1] + pitch - gap + PAD, starts[-1] - 4 * gap + PAD, 3), 255, np.uint8)
    for block, start in zip(blocks, starts, strict=False):
        for i, j in np.ndindex(*block.shape[:2]):
            y, x = tops[i], start + j * (width + gap)
            sheet[y : y + height, x : x + width] = block[i, j]
    page = _Page(sheet)
    for i, lines in enumerate(beside):
        y = tops[i] + height / 2 - sum(_line(size) for _, size in lines) / 2
        for line, size in lines:
            y += _line(size)
            colour = INK if size == WORDS else FAINT
            page.write(left - PAD, y - 0.3 * _line(size), line, ha="right", va="baseline", fontsize=size, color=colour)
    for block, start, words in zip(blocks, starts, above, strict=False):
        span = (1 if len(words) > 1 else block.shape[1]) * (width + gap) - gap
        for j, word in enumerate(words):
            x = start + j * (width + gap) + span / 2
            page.write(x, top - 6, word, ha="center", va="bottom", fontsize=size)
    for i, word in enumerate(below):
        row, column = divmod(i, blocks[0].shape[1])
        x, y = starts[0] + column * (width + gap) + width / 2, tops[row] + height
        for line in word.split("\n"):
            y += _line(SMALL)
            page.write(x, y, line, ha="center", va="baseline", fontsize=SMALL, color=FAINT)
    return page.figure


class _Page:
    """A figure filled by one picture, with texts placed in pixels from its top left."""

    def __init__(self, sheet: UInt8[np.ndarray, "height width 3"]) -> None:
        self._height, self._width = sheet.shape[:2]
        self.figure = Figure(figsize=(self._width / DPI, self._height / DPI))
        self.figure.set_layout_engine("none")
        self.figure.figimage(sheet)

    def write(self, x: float, y: float, word: str, **style: Any) -> None:
        """Draw a text; ``style`` overrides the font settings."""
        settings = {"fontsize": WORDS, "color": INK, "linespacing": 1.15, **style}
        self.figure.text(x / self._width, 1 - y / self._height, word, **settings)


def _fit(blocks: Sequence[Pictures], cell: int) -> list[Pictures]:
    """Return the blocks as RGB, all enlarged or reduced by the same whole factor."""
    width, across = blocks[0].shape[3], sum(block.shape[1] for block in blocks)
    larger, smaller = max(1, min(WIDE // across, cell) // width), -(-across * width // MOST)
    fitted = []
    for block in blocks:
        block = np.broadcast_to(drawable(block), (*block.shape[:4], 3))
        if smaller > 1:
            height, width = (side // smaller for side in block.shape[2:4])
            cut = block[:, :, : height * smaller, : width * smaller].reshape(
                *block.shape[:2], height, smaller, width, smaller, 3
            )
            block = cut.mean(axis=(3, 5)).round().astype(np.uint8)
        fitted.append(block.repeat(larger, 2).repeat(larger, 3))
    return fitted


def _beside(words: str) -> list[tuple[str, float]]:
    """Return the lines of a row label with their font sizes."""
    first, *others = words.split("\n")
    lines = [(line, WORDS) for line in textwrap.wrap(first, MOST_LETTERS)]
    return [*lines, *((line, SMALL) for other in others for line in textwrap.wrap(other, MOST_LETTERS))]


def _line(size: float) -> float:
    """Return the line height in pixels."""
    return 1.3 * size * DPI / 72


def _width(words: str, size: float) -> int:
    """Return the width of the longest line in pixels."""
    lines = [line for line in words.split("\n") if line.strip()]
    with missing_letters():
        inches = [TextPath((0, 0), line, size=size).get_extents().width / 72 for line in lines]
    return round(max(inches, default=0) * DPI)


def _tall(words: Sequence[str], size: float) -> int:
    """Return the height of the tallest label in pixels, with a margin."""
    lines = max((word.count("\n") + 1 for word in words if word), default=0)
    return round(lines * _line(size)) + (4 if lines else 0)


def _size_above(column_words: Sequence[Sequence[str]], width: int) -> float:
    """Return the font size at which the longest single word fits above one column."""
    single = [part for words in column_words if len(words) > 1 for word in words for part in word.split()]
    return max(6.0, min(WORDS, 0.92 * WORDS * width / max((_width(part, WORDS) for part in single), default=1)))


def _wrap(words: str, size: float, width: int) -> str:
    """Wrap a text to ``width`` pixels."""
    letters = max(3, int(len(words) * width / max(_width(words, size), 1)))
    return textwrap.fill(words, letters, break_long_words=False, break_on_hyphens=False)


def _shorten(words: str, size: float, width: int) -> str:
    """Cut off each line that is wider than ``width`` pixels, with an ellipsis."""
    lines = []
    for line in words.split("\n"):
        while _width(line, size) > width and len(line) > 2:
            line = f"{line.removesuffix('…')[:-1].rstrip()}…"
        lines.append(line)
    return "\n".join(lines)
