"""How a person's pictures are framed: as is asked for, and where that is "auto" as it suits them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Len
from pydantic import BaseModel

from vaelab.data.containers import (
    UnavailablePicture,
    UnreadablePicture,
    UnreadablePictures,
    printable,
    read_item,
    shown,
)
from vaelab.data.decode import Background, Fit, Look, ResizePolicy, look
from vaelab.data.depths import Range, robust_range
from vaelab.data.images import SMALLEST_SIDE, spread_rows
from vaelab.data.memos import memoise
from vaelab.data.opening import MAX_PIXELS
from vaelab.data.scan import Entry, digest
from vaelab.system.errors import UsageError
from vaelab.system.progress import progress

Side = Annotated[int, Ge(SMALLEST_SIDE), Le(1024)]
Size = Side | Annotated[list[Side], Len(2, 2)] | Literal["auto"]
Channels = Literal["auto", "grey", "rgb"]
BackgroundChoice = Literal["auto", "white", "black"]
ValueRange = Annotated[list[float], Len(2, 2)] | Literal["full", "auto"]
MaxPixels = Annotated[int, Ge(1), Le(2_000_000_000)]

USUAL_SIDE = 64
LOOKED_AT = 64
"""Pictures from which everything that is "auto" is decided."""


@dataclass(frozen=True)
class Wishes:
    """What is asked for, as the options of the data set."""

    size: Size = "auto"
    channels: Channels = "auto"
    fit: Fit = "crop"
    background: BackgroundChoice = "auto"
    range: ValueRange = "full"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not isinstance(self.range, str) and not self.range[0] < self.range[1]:
            raise UsageError(f"data.range = [{self.range[0]:g}, {self.range[1]:g}]: give the smaller value first")

    @property
    def values(self) -> Range:
        """The range as decoding takes it; each picture's own where it is still to be found out."""
        if isinstance(self.range, str):
            return "own" if self.range == "auto" else "full"
        return float(self.range[0]), float(self.range[1])


class Suits(BaseModel):
    """What suits some pictures."""

    size: tuple[Side, Side]
    """Height and width."""
    is_grey: bool
    """Whether every one of them is grey."""
    background: Background
    num_hidden: int
    """Pictures that would be of one colour on the other background."""
    range: tuple[float, float] | None
    """None where there are no pictures with more than 8 bits, or all of their values are one."""
    num_looked_at: int


@dataclass(frozen=True)
class Decision:
    """A framing, what the options that were "auto" became, and a sentence about each that is not obvious."""

    policy: ResizePolicy
    resolved: dict[str, Any]
    sentences: tuple[str, ...] = ()


def decide_resize_policy(entries: Sequence[Entry], wishes: Wishes) -> Decision:
    """The framing of a set of pictures. UnreadablePictures if something is "auto" and not one picture can be read."""
    suits = None
    if "auto" in (wishes.size, wishes.channels, wishes.background, wishes.range):
        key = {"data": "folder", "files": digest(list(entries)), "max_pixels": wishes.max_pixels}
        suits = memoise({**key, "values": wishes.values}, Suits, lambda: _look_at_some(entries, wishes))
    size, channels, background, values = wishes.size, wishes.channels, wishes.background, wishes.values
    sentences = []
    if size == "auto":
        assert suits is not None
        size = list(suits.size)
    if channels == "auto":
        assert suits is not None
        channels = "grey" if suits.is_grey else "rgb"
    if background == "auto":
        assert suits is not None
        background = suits.background
        if background != "white":
            hidden = f"{suits.num_hidden:,} of {suits.num_looked_at:,} pictures looked at"
            sentences.append(f"the background is black: on white, {hidden} would be one flat colour (data.background)")
    if values == "own":
        assert suits is not None
        values = suits.range or "full"
        sentences.append(_describe_range(suits))
    height, width = (size, size) if isinstance(size, int) else size
    policy = ResizePolicy(
        height,
        width,
        1 if channels == "grey" else 3,
        wishes.fit,
        background,
        max_pixels=wishes.max_pixels,
        values=values,
    )
    became = {
        "size": [height, width],
        "channels": channels,
        "background": background,
        "range": values if isinstance(values, str) else list(values),
    }
    resolved = {name: value for name, value in became.items() if getattr(wishes, name) == "auto"}
    return Decision(policy, resolved, tuple(sentences))


def _describe_range(suits: Suits) -> str:
    if suits.range is None:
        return "data.range=auto: no picture looked at has values of more than 8 bits, so all are taken as they are"
    low, high = suits.range
    return (
        f"values from {low:,.6g} to {high:,.6g} become black to white in every picture (data.range=auto: a thousandth "
        f"of the values of {suits.num_looked_at:,} pictures lie below, and above)"
    )


def _look_at_some(entries: Sequence[Entry], wishes: Wishes) -> tuple[Suits, bool]:
    """What suits some pictures spread over all, and whether all of these were handed over by the system.

    If none of those can be read, the first that can counts. UnreadablePictures if not one picture can.
    """
    chosen = spread_rows(len(entries), LOOKED_AT)
    with progress("looking at pictures", len(chosen)) as bar:
        looks = []
        for i in chosen:
            looks.append(look_at(entries[i], wishes))
            bar.advance(1)
    is_final = not any(isinstance(found, UnavailablePicture) for found in looks)
    seen = [found for found in looks if isinstance(found, Look)] or [_first_readable(entries, wishes)]
    samples = [found.source.sample for found in seen if found.source.sample is not None]
    hidden = {colour: sum(colour in found.flat_on for found in seen) for colour in ("white", "black")}
    suits = Suits(
        size=_size_for([found.size for found in seen]),
        is_grey=all(found.is_grey for found in seen),
        background="black" if hidden["white"] > hidden["black"] else "white",
        num_hidden=max(hidden.values()),
        range=robust_range(samples),
        num_looked_at=len(seen),
    )
    return suits, is_final


def _first_readable(entries: Sequence[Entry], wishes: Wishes) -> Look:
    failures = []
    for entry in entries:
        found = look_at(entry, wishes)
        if isinstance(found, Look):
            return found
        failures.append((shown(entry.item), printable(str(found))))
    raise UnreadablePictures(failures, len(entries))


def look_at(entry: Entry, wishes: Wishes) -> Look | UnreadablePicture:
    """What one picture is like, or why it cannot be read."""
    try:
        page = entry.item[2] if len(entry.item) == 3 else 0
        return look(read_item(entry.item), page, wishes.max_pixels, wishes.values)
    except UnreadablePicture as error:
        return error


def _size_for(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """64×64; pictures that are all smaller keep their size where it is one, else the nearest of 32, 16 and 8 below."""
    if len(set(sizes)) == 1 and min(sizes[0]) >= SMALLEST_SIDE and max(sizes[0]) <= USUAL_SIDE:
        return sizes[0]
    short = float(np.median([min(size) for size in sizes]))
    side = next((side for side in (USUAL_SIDE, 32, 16) if side <= short), SMALLEST_SIDE)
    return side, side
