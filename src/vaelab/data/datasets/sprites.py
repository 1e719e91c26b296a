"""Sprites: 737,280 white squares, ellipses and hearts on black, drawn by vaelab on the factor grid of dSprites."""

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
from vaelab.data.datasets import Dataset, DatasetInfo
from vaelab.data.datasets._factor_files import SYMMETRY
from vaelab.data.images import Images

VERSION = 1
"""Version of the drawing; part of the cache's key."""
SHAPES = ("square", "ellipse", "heart")
FACTORS = ("shape", "scale", "orientation", "x", "y")
SCALES = 6
IMAGE_SIDE, SPRITE_SIDE = 64, 33
"""Pixels. A sprite rotates around the middle pixel of its own square and never leaves it."""
POSITIONS = IMAGE_SIDE - SPRITE_SIDE + 1
"""Positions along each axis, one pixel apart; at the outermost ones the sprite's square touches the edge."""
SUBPIXELS = 8
"""Sample points along each side of a pixel."""
AREA = 22.0**2
"""Area of every shape at scale 1, in pixels, so that brightness does not reveal the shape."""
SEMI_MAJOR_AXIS = 15.5
"""Semi-major axis of the ellipse at scale 1, in pixels."""

INFO = DatasetInfo(
    title="Sprites: squares, ellipses and hearts on the factor grid of dSprites",
    image_shape=(1, IMAGE_SIDE, IMAGE_SIDE),
    splits={"train": len(SHAPES) * SCALES * 40 * POSITIONS**2},
    licence="MIT",
    source="drawn by vaelab; its factors are those of L. Matthey, I. Higgins, D. Hassabis, A. Lerchner, dSprites, 2017",
)
NOTES = (
    "drawn by vaelab on the factor grid of dSprites; numbers on sprites are not results on dSprites",
    SYMMETRY,
    "images set aside are on the same grid as the training images, one step of one factor away from them",
)


def load(
    data_dir: Path | None,
    split: str,
    *,
    orientations: Annotated[int, Ge(2), Le(360)] = 40,
    positions: Annotated[int, Ge(2), Le(POSITIONS)] = POSITIONS,
) -> Images:
    """Load every combination of shape (3), scale (6), orientation, x and y once; the last factor changes fastest.

    The defaults are the grid of dSprites. Drawn once, it takes 3.0 GB in the cache.

    orientations: number of angles from 0 to 2π, both included.
    positions: number of positions along each axis, evenly spread and rounded to a pixel.
    """
    INFO.check_split(split, len(SHAPES) * SCALES * orientations * positions**2)
    key = {"data": "sprites", "drawing": VERSION, "orientations": orientations, "positions": positions}
    images = cache_blocks("sprites", key, lambda: nullcontext(_source(orientations, positions)))
    return replace(images, source="drawn by vaelab", notes=NOTES)


def _source(orientations: int, positions: int) -> PixelBlocks:
    sizes = (len(SHAPES), SCALES, orientations, positions, positions)
    factors = np.indices(sizes).reshape(len(sizes), -1).T.astype(np.int64)
    return PixelBlocks((len(factors), IMAGE_SIDE, IMAGE_SIDE, 1), _blocks(orientations, positions), factors, FACTORS)


def _blocks(orientations: int, positions: int) -> Iterator[NDArray[np.uint8]]:
    """The images of one sprite after the other, at all positions."""
    for shape in SHAPES:
        for scale in scales():
            for angle in angles(orientations):
                yield place_sprite(draw_sprite(shape, scale, angle), positions).reshape(-1, IMAGE_SIDE, IMAGE_SIDE, 1)


def scales() -> list[float]:
    """The scales: 0.5, 0.6 … 1."""
    return [float(scale) for scale in np.linspace(0.5, 1, SCALES)]


def angles(count: int) -> list[float]:
    """Orientations from 0 to 2π, both included."""
    return [float(angle) for angle in np.linspace(0, 2 * np.pi, count)]


def draw_sprite(shape: str, scale: float, angle: float) -> UInt8[np.ndarray, "33 33"]:
    """A shape rotated anticlockwise about its centre of mass: 255 where at least half of a pixel is inside, else 0."""
    side = SPRITE_SIDE * SUBPIXELS
    axis = (np.arange(side) + 0.5) / SUBPIXELS - SPRITE_SIDE / 2
    right, up = axis[None, :] / scale, -axis[:, None] / scale
    cos, sin = np.cos(angle), np.sin(angle)
    inside = _is_inside(shape, cos * right + sin * up, cos * up - sin * right)
    covered = inside.reshape(SPRITE_SIDE, SUBPIXELS, SPRITE_SIDE, SUBPIXELS).mean((1, 3))
    return np.where(covered >= 0.5, np.uint8(255), np.uint8(0))


def _is_inside(
    shape: str, right: Float[np.ndarray, "side side"], up: Float[np.ndarray, "side side"]
) -> Bool[np.ndarray, "side side"]:
    """Whether points, in pixels from the centre of mass of an upright shape of scale 1, are in it."""
    inside: NDArray[np.bool_]
    if shape == "square":
        inside = np.maximum(abs(right), abs(up)) < AREA**0.5 / 2
        return inside
    if shape == "ellipse":
        short = AREA / (np.pi * SEMI_MAJOR_AXIS)
        inside = (right / SEMI_MAJOR_AXIS) ** 2 + (up / short) ** 2 < 1
        return inside
    unit = (180 * np.pi / AREA) ** 0.5  # the outline encloses 180π and has its centre of mass at v = 5/6
    t = np.arcsin(np.minimum(np.cbrt(abs(right) * unit / 16), 1))  # |u| = 16 sin³ t; π/2 beside the heart
    v = up * unit + 5 / 6
    inside = (_heart(np.pi - t) < v) & (v < _heart(t))
    return inside


def _heart(t: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
    """Height of a heart's outline over u = 16 sin³ t: the upper part for t ≤ π/2, the lower part above."""
    height: NDArray[np.float64] = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return height


def place_sprite(sprite: UInt8[np.ndarray, "33 33"], positions: int) -> UInt8[np.ndarray, "x y 64 64"]:
    """A sprite at ``positions`` positions along each axis, from left to right (x) and from top to bottom (y)."""
    around = np.pad(sprite, POSITIONS - 1)
    views = np.lib.stride_tricks.sliding_window_view(around, (IMAGE_SIDE, IMAGE_SIDE))
    starts = POSITIONS - 1 - np.linspace(0, POSITIONS - 1, positions).round().astype(np.int64)
    return views[starts[None, :], starts[:, None]]


DATASET = Dataset(INFO, load)
