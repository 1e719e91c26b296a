"""The background of drawings, such as digits: dark or light, and pictures with the opposite background.

The rules are those of the explorer (``drawing-layout.js`` and ``own-image.js``).
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

Ground = Literal["dark", "bright"]
DRAWN, EMPTY = 0.2, 0.1
"""Ink above which a pixel is drawn on, and below which it is empty."""
FAR = 64
"""Grey levels by which the border of a picture may differ from the background of the training images."""


def find_ground(images: UInt8[np.ndarray, "images height width channel"]) -> Ground | None:
    """Return the background of images that are grey, centred ink on an empty background; None for other images."""
    if images.shape[3] != 1:
        return None
    ground: Ground = "dark" if images.mean() < 127.5 else "bright"
    values = images[..., 0].astype(np.float64)
    ink = (values if ground == "dark" else 255 - values) / 255
    drawn = ink[(ink >= DRAWN).any((1, 2))]
    if not len(drawn) or (ink < EMPTY).mean() <= 0.4:
        return None
    spread = min(_spread(_mass_centres(drawn)), _spread(_box_centres(drawn)))
    return ground if spread < 0.08 * min(ink.shape[1:]) else None


def _mass_centres(ink: Float[np.ndarray, "images height width"]) -> Float[np.ndarray, "images 2"]:
    mass = ink.sum((1, 2))
    rows, columns = (np.arange(side) + 0.5 for side in ink.shape[1:])
    return np.stack([ink.sum(2) @ rows / mass, ink.sum(1) @ columns / mass], axis=1)


def _box_centres(ink: Float[np.ndarray, "images height width"]) -> Float[np.ndarray, "images 2"]:
    sides = []
    for axis in (2, 1):
        is_drawn = np.asarray((ink >= DRAWN).any(axis))
        sides.append((is_drawn.argmax(1) + is_drawn.shape[1] - is_drawn[:, ::-1].argmax(1)) / 2)
    return np.stack(sides, axis=1)


def _spread(centres: Float[np.ndarray, "images 2"]) -> float:
    """Return the root mean square distance from the mean."""
    return float(np.sqrt(((centres - centres.mean(0)) ** 2).sum(1).mean()))


def border_mean(picture: UInt8[np.ndarray, "height width channel"]) -> float:
    """Return the mean value of the outermost pixels."""
    inside = np.zeros(picture.shape[:2], bool)
    inside[1:-1, 1:-1] = True
    return float(picture[~inside].mean())
