"""Sprites: a white square, ellipse or heart on black, 737,280 of them on dSprites' grid of factors, drawn by vaelab."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from vaelab.data.array_cache import PixelBlocks, cache_blocks
from vaelab.data.datasets._files import SYMMETRY, check_split
from vaelab.data.images import DatasetInfo, Images

VERSION = 1
"""Of the drawing: a change makes new cache entries."""
SHAPES = ("square", "ellipse", "heart")
FACTORS = ("shape", "scale", "orientation", "x", "y")
SCALES = 6
IMAGE_SIDE, SPRITE_SIDE = 64, 33
"""In pixels. A sprite turns about the middle pixel of its own square, which it never leaves."""
PLACES = IMAGE_SIDE - SPRITE_SIDE + 1
"""Along each axis, a pixel apart: the outermost ones let a sprite's square touch the edge of the image."""
FINENESS = 8
"""Points along each side of a pixel that are asked whether they are inside."""
AREA = 22.0**2
"""Of every shape at scale 1, in pixels: no shape is told by its brightness."""
LONG_HALF_AXIS = 15.5
"""Of the ellipse at scale 1, in pixels."""

INFO = DatasetInfo(
    title="Sprites: squares, ellipses and hearts on the grid of factors of dSprites",
    image_shape=(1, IMAGE_SIDE, IMAGE_SIDE),
    splits={"train": len(SHAPES) * SCALES * 40 * PLACES**2},
    licence="MIT",
    source="drawn by vaelab; its factors are those of L. Matthey, I. Higgins, D. Hassabis, A. Lerchner, dSprites, 2017",
)
NOTES = (
    "drawn by vaelab on dSprites' grid of factors: numbers measured on sprites are no results on dSprites itself",
    SYMMETRY,
    "images set aside lie on the same grid as those trained on, a step of one factor away from them",
)


def load(
    data_dir: Path | None,
    split: str,
    *,
    orientations: Annotated[int, Ge(2), Le(360)] = 40,
    positions: Annotated[int, Ge(2), Le(PLACES)] = PLACES,
) -> Images:
    """Every combination of shape (3), scale (6), orientation, x and y once, the last changing fastest.

    ``orientations``: angles from 0 to 2π, both included. ``positions``: places along each axis, evenly spread and moved
    to the nearest pixel. The defaults are dSprites'; drawn once, they take 3.0 GB in the cache.
    """
    check_split("sprites", split, len(SHAPES) * SCALES * orientations * positions**2)
    key = {"data": "sprites", "drawing": VERSION, "orientations": orientations, "positions": positions}
    cached = cache_blocks("sprites", key, lambda: nullcontext(_source(orientations, positions)))
    return replace(cached, source="drawn by vaelab", notes=NOTES)


def _source(orientations: int, positions: int) -> PixelBlocks:
    sizes = (len(SHAPES), SCALES, orientations, positions, positions)
    factors = np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)
    return PixelBlocks((len(factors), IMAGE_SIDE, IMAGE_SIDE, 1), _blocks(orientations, positions), factors, FACTORS)


def _blocks(orientations: int, positions: int) -> Iterator[NDArray[np.uint8]]:
    """The images of one sprite after the other at all places."""
    for shape in SHAPES:
        for scale in scales():
            for angle in angles(orientations):
                yield place(draw_sprite(shape, scale, angle), positions).reshape(-1, IMAGE_SIDE, IMAGE_SIDE, 1)


def scales() -> list[float]:
    """The scales: 0.5, 0.6 … 1."""
    return [float(scale) for scale in np.linspace(0.5, 1, SCALES)]


def angles(count: int) -> list[float]:
    """So many orientations from 0 to 2π, both included."""
    return [float(angle) for angle in np.linspace(0, 2 * np.pi, count)]


def draw_sprite(shape: str, scale: float, angle: float) -> UInt8[np.ndarray, "33 33"]:
    """A shape turned anticlockwise about its centre of mass: 255 where half of a pixel or more is inside, else 0."""
    side = SPRITE_SIDE * FINENESS
    along = (np.arange(side) + 0.5) / FINENESS - SPRITE_SIDE / 2
    right, up = along[None, :] / scale, -along[:, None] / scale
    cos, sin = np.cos(angle), np.sin(angle)
    inside = _is_inside(shape, cos * right + sin * up, cos * up - sin * right)
    covered = inside.reshape(SPRITE_SIDE, FINENESS, SPRITE_SIDE, FINENESS).mean((1, 3))
    return np.where(covered >= 0.5, np.uint8(255), np.uint8(0))


def _is_inside(
    shape: str, right: Float[np.ndarray, "side side"], up: Float[np.ndarray, "side side"]
) -> Bool[np.ndarray, "side side"]:
    """Which points, in pixels from the centre of mass of an upright shape of scale 1, lie in it."""
    inside: NDArray[np.bool_]
    if shape == "square":
        inside = np.maximum(abs(right), abs(up)) < AREA**0.5 / 2
        return inside
    if shape == "ellipse":
        short = AREA / (np.pi * LONG_HALF_AXIS)
        inside = (right / LONG_HALF_AXIS) ** 2 + (up / short) ** 2 < 1
        return inside
    unit = (180 * np.pi / AREA) ** 0.5  # what lies between the parts encloses 180π, its centre of mass at v = 5/6
    t = np.arcsin(np.minimum(np.cbrt(abs(right) * unit / 16), 1))  # of |u| = 16 sin³ t; π/2 beside the heart
    v = up * unit + 5 / 6
    inside = (_heart(np.pi - t) < v) & (v < _heart(t))
    return inside


def _heart(t: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
    """The height of a heart's outline over u = 16 sin³ t: its upper part for t up to π/2, its lower from there."""
    height: NDArray[np.float64] = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return height


def place(sprite: UInt8[np.ndarray, "33 33"], positions: int) -> UInt8[np.ndarray, "x y 64 64"]:
    """A sprite at ``positions`` places along each axis, from left to right (x) and from top to bottom (y)."""
    around = np.pad(sprite, PLACES - 1)
    views = np.lib.stride_tricks.sliding_window_view(around, (IMAGE_SIDE, IMAGE_SIDE))
    begins = PLACES - 1 - np.linspace(0, PLACES - 1, positions).round().astype(np.int64)
    return views[begins[None, :], begins[:, None]]
