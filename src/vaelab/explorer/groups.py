"""Annotations of the points on the map: groups of classes that colour them, and attributes that have a direction."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.explorer import projections

MAX_VALUES = 254
"""Values of a group; the page uses 255 for points without a class."""
MAX_ATTRIBUTES = 40
FACTOR_VALUES = range(2, 21)
"""Numbers of values of a factor that colours can distinguish."""


class Group(NamedTuple):
    """A classification of every point into named values."""

    name: str
    values: list[str]
    members: UInt8[np.ndarray, " n"]
    """Index in ``values`` of each point."""


class Attribute(NamedTuple):
    """The direction in latent space from images without an attribute to those with it."""

    name: str
    direction: Float[np.ndarray, " latent"]
    """Mean code of the images with it minus that of the images without it."""
    without: Float[np.ndarray, " latent"]
    """Mean code of the images without it."""
    score: float
    """Balanced accuracy of the threshold half-way between the two means: chance ½, perfect 1."""

    @property
    def vector(self) -> Float[np.ndarray, " latent"]:
        """Unit vector along the direction."""
        unit: NDArray[np.float64] = self.direction / np.linalg.norm(self.direction)
        return unit


def make_groups(images: Images, best: Sequence[Attribute] = ()) -> list[Group]:
    """Return the labels, the factors of few values and the attributes of images; all have at least two values.

    The attributes among ``best`` come before the others, in that order.
    """
    groups = []
    if images.labels is not None:
        groups.append(_make_group("label", images.labels, images.label_name))
    if images.factors is not None:
        names = images.factor_names or [f"factor {j + 1}" for j in range(images.factors.shape[1])]
        factors = [_make_group(_with_spaces(name), images.factors[:, j], str) for j, name in enumerate(names)]
        groups += [factor for factor in factors if len(factor.values) in FACTOR_VALUES]
    if images.attributes is not None:
        has = np.asarray(images.attributes)
        names, members = [_with_spaces(name) for name in images.attribute_names], has.astype(np.uint8)
        rank = {attribute.name: i for i, attribute in enumerate(best)}
        varying = sorted(np.flatnonzero(has.any(0) & ~has.all(0)), key=lambda j: rank.get(names[j], len(rank)))
        groups += [Group(names[j], ["without", "with"], members[:, j]) for j in varying[:MAX_ATTRIBUTES]]
    return [group for group in groups if 2 <= len(group.values) <= MAX_VALUES]


def _make_group(name: str, column: Int[np.ndarray, " n"], name_of: Callable[[int], str]) -> Group:
    values, members = np.unique(column, return_inverse=True)
    return Group(name, [name_of(int(value)) for value in values], members.astype(np.uint8))


def make_attributes(codes: projections.CodeArray, images: Images) -> list[Attribute]:
    """Return the attributes and classes that the codes separate best, at most MAX_ATTRIBUTES, best first.

    Labels of more than MAX_VALUES classes are left out.
    """
    if images.labels is not None and len(np.unique(images.labels)) > MAX_VALUES:
        images = replace(images, labels=None)
    has, names = images.binary_attributes()
    varying = np.flatnonzero(has.any(0) & ~has.all(0))
    has = has[:, varying]
    with_, without = projections.compute_group_means(codes, has)
    scores = projections.compute_balanced_accuracy(codes, has, with_, without)
    directions = with_ - without
    return [
        Attribute(_with_spaces(names[varying[j]]), directions[j], without[j], float(scores[j]))
        for j in np.argsort(-scores, kind="stable")
        if np.linalg.norm(directions[j]) > projections.VARIANCE_FLOOR
    ][:MAX_ATTRIBUTES]


def _with_spaces(name: str) -> str:
    return name.replace("_", " ")
