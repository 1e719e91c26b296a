"""Size, colour and range of a user's pictures: as the options say, or suited to the pictures where they are "auto"."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Len
from pydantic import BaseModel

from vaelab.data.containers import (
    UnavailablePicture,
    UnreadablePicture,
    UnreadablePictures,
    page_number,
    printable,
    read_item,
    shown,
)
from vaelab.data.decode import Background, Fit, Look, ResizePolicy, look, look_at_values
from vaelab.data.depths import Range, robust_range
from vaelab.data.images import SMALLEST_SIDE, spread_rows
from vaelab.data.memos import memoise
from vaelab.data.opening import MAX_PIXELS
from vaelab.data.scan import Entry, digest
from vaelab.data.values import NPY
from vaelab.system.errors import UsageError
from vaelab.system.progress import progress

MAX_SIDE = 1024
"""Largest side to which pictures are resized."""
Side = Annotated[int, Ge(SMALLEST_SIDE), Le(MAX_SIDE)]
Size = Side | Annotated[list[Side], Len(2, 2)] | Literal["auto"]
Channels = Literal["auto", "grey", "rgb"] | Annotated[int, Ge(1), Le(1024)]
Depth = Literal[8, 16, 32]
"""Bits of a pixel; 32 are float32."""
DTYPES: Mapping[Depth, Literal["uint8", "uint16", "float32"]] = {8: "uint8", 16: "uint16", 32: "float32"}
PageChoice = Literal["first", "all", "channels"]
BackgroundChoice = Literal["auto", "white", "black"]
ValueRange = Annotated[list[float], Len(2, 2)] | Literal["full", "auto"]
MaxPixels = Annotated[int, Ge(1), Le(2_000_000_000)]

DEFAULT_SIDE = 64
SAMPLE_SIZE = 64
"""Pictures from which the values of "auto" options are found."""
AUTO_OPTIONS = ("size", "channels", "background", "range")


@dataclass(frozen=True)
class ResizeOptions:
    """Options of the data set that shape a picture; "auto" ones are found from a sample of the pictures."""

    size: Size = "auto"
    channels: Channels = "auto"
    fit: Fit = "crop"
    background: BackgroundChoice = "auto"
    range: ValueRange = "full"
    max_pixels: int = MAX_PIXELS
    depth: Depth = 8
    pages: PageChoice = "first"

    def __post_init__(self) -> None:
        if not isinstance(self.range, str) and not self.range[0] < self.range[1]:
            message = f"data.range = [{self.range[0]:g}, {self.range[1]:g}]: give the smaller value first"
            raise UsageError(message, subject="data.range", value=self.range)

    @property
    def values(self) -> Range:
        """The range as the decoder takes it; each picture's own while "auto" is not resolved."""
        if isinstance(self.range, str):
            return "own" if self.range == "auto" else "full"
        return float(self.range[0]), float(self.range[1])

    @property
    def keeps_values(self) -> bool:
        """Whether pictures are decoded to their own channels or to more than 8 bits."""
        return self.depth != 8 or self.pages == "channels" or isinstance(self.channels, int)

    def as_policy(self, size: tuple[int, int] | None = None, channels: int | None = None) -> ResizePolicy:
        """The resize policy, with ``size`` and ``channels`` of a model in place of the options' if given."""
        if size is None:
            assert self.size != "auto"
            size = (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])
        background: Background = "white" if self.background == "auto" else self.background
        values: Range = "full" if self.values == "own" else self.values
        own = self.channels if isinstance(self.channels, int) else 1 if self.channels == "grey" else 3
        return ResizePolicy(
            *size,
            channels or own,
            self.fit,
            background,
            max_pixels=self.max_pixels,
            values=values,
            keeps_values=self.keeps_values,
            dtype=DTYPES[self.depth],
            stacks_pages=self.pages == "channels",
        )


class SampleSummary(BaseModel):
    """Properties of a sample of the pictures."""

    size: tuple[Side, Side]
    """Suitable height and width."""
    is_grey: bool
    """Whether all of them are grey."""
    background: Background
    num_hidden: int
    """Pictures that would be of one colour on the other background."""
    range: tuple[float, float] | None
    """None if no picture has more than 8 bits, or all values are equal."""
    num_pictures: int
    num_channels: int = 0
    """Channels of pictures whose values are kept; 0 for others."""

    def as_options(self) -> dict[str, Any]:
        """Values of the "auto" options."""
        return {
            "size": list(self.size),
            "channels": self.num_channels or ("grey" if self.is_grey else "rgb"),
            "background": self.background,
            "range": list(self.range) if self.range else "full",
        }


def resolve(entries: Sequence[Entry], options: ResizeOptions) -> tuple[ResizePolicy, dict[str, Any], list[str]]:
    """The resize policy of a set of pictures, the values of its "auto" options, and notes about surprising ones.

    Raises CannotRead if an option is "auto" and no picture can be read.
    """
    auto = [name for name in AUTO_OPTIONS if getattr(options, name) == "auto"]
    if not auto:
        return options.as_policy(), {}, []
    key = {"data": "folder", "files": digest(list(entries)), "max_pixels": options.max_pixels, "values": options.values}
    key |= {"depth": options.depth, "pages": options.pages} if options.keeps_values else {}
    sample = memoise(key, SampleSummary, lambda: _summarise_sample(entries, options))
    resolved = {name: value for name, value in sample.as_options().items() if name in auto}
    notes = []
    if resolved.get("background") == "black":
        hidden = f"{sample.num_hidden:,} of {sample.num_pictures:,} images of a sample"
        notes.append(f"the background is black: on white, {hidden} would be one flat colour (data.background)")
    if "range" in resolved and sample.range is None:
        notes.append("data.range=auto: no image of a sample has values of more than 8 bits, so values stay unchanged")
    elif "range" in resolved and sample.range:
        low, high = sample.range
        notes.append(
            f"values from {low:,.6g} to {high:,.6g} become black to white in every image (data.range=auto: 0.1 % of "
            f"the values of {sample.num_pictures:,} images are below, and 0.1 % above)"
        )
    return replace(options, **resolved).as_policy(), resolved, notes


def _summarise_sample(entries: Sequence[Entry], options: ResizeOptions) -> tuple[SampleSummary, bool]:
    """Properties of some pictures spread over all, and whether the system could deliver all of them.

    If none of them can be read, the first picture that can is the sample. Raises CannotRead if there is none.
    """
    rows = spread_rows(len(entries), SAMPLE_SIZE)
    with progress("sampling images", len(rows)) as bar:
        looks = []
        for row in rows:
            looks.append(look_at(entries[row], options))
            bar.advance(1)
    is_final = not any(isinstance(found, UnavailablePicture) for found in looks)
    seen = [found for found in looks if isinstance(found, Look)] or [_find_first_readable(entries, options)]
    hidden = {colour: sum(colour in found.flat_on for found in seen) for colour in ("white", "black")}
    summary = SampleSummary(
        size=choose_size([found.size for found in seen]),
        is_grey=all(found.is_grey for found in seen),
        background="black" if hidden["white"] > hidden["black"] else "white",
        num_hidden=max(hidden.values()),
        range=robust_range([found.source.sample for found in seen if found.source.sample is not None]),
        num_pictures=len(seen),
        num_channels=max(found.num_channels for found in seen),
    )
    return summary, is_final


def _find_first_readable(entries: Sequence[Entry], options: ResizeOptions) -> Look:
    failures = []
    for entry in entries:
        found = look_at(entry, options)
        if isinstance(found, Look):
            return found
        failures.append((shown(entry.item), printable(str(found))))
    raise UnreadablePictures(failures, len(entries))


def look_at(entry: Entry, options: ResizeOptions) -> Look | UnreadablePicture:
    """Properties of one picture, or the reason why it cannot be read."""
    try:
        content, page = read_item(entry.item), page_number(entry.item)
        if options.keeps_values or content[:6] == NPY:
            policy = replace(options.as_policy((DEFAULT_SIDE, DEFAULT_SIDE)), values=options.values)
            return look_at_values(content, page, policy)
        return look(content, page, options.max_pixels, options.values)
    except UnreadablePicture as error:
        return error


def choose_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return height and width for pictures of these sizes: 64×64, or less if they are smaller.

    Smaller pictures keep a size that they share, else get the largest of 32, 16 and 8 below their median.
    """
    if len(set(sizes)) == 1 and min(sizes[0]) >= SMALLEST_SIDE and max(sizes[0]) <= DEFAULT_SIDE:
        return sizes[0]
    short = float(np.median([min(size) for size in sizes]))
    side = next((side for side in (DEFAULT_SIDE, 32, 16) if side <= short), SMALLEST_SIDE)
    return side, side
