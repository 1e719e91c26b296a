"""What is known of the points besides their codes: classes that colour them, attributes that have a direction."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.explorer import axes

MOST_VALUES, NONE = 254, 255
"""Values of a group, and the number of a point that would have none of them."""
MOST_ATTRIBUTES = 40
FACTOR_VALUES = range(2, 21)
"""How many values a factor has that colours can tell apart."""


class Group(NamedTuple):
    """A class for every point, 0 to below the number of ``values``."""

    name: str
    values: list[str]
    members: UInt8[np.ndarray, " n"]


class Attribute(NamedTuple):
    """A step in the space of codes from the images without something to those with it."""

    name: str
    direction: Float[np.ndarray, " latent"]
    """Mean code with it less mean code without."""
    without: Float[np.ndarray, " latent"]
    """Mean code without it."""
    score: float
    """How often half-way between the two means tells which images have it: chance ½, perfect 1."""

    @property
    def vector(self) -> Float[np.ndarray, " latent"]:
        """Of length 1 along the direction."""
        unit: NDArray[np.float64] = self.direction / np.linalg.norm(self.direction)
        return unit


def make_groups(images: Images, best: Sequence[Attribute] = ()) -> list[Group]:
    """Labels, factors of few values, attributes that some images have; without those of which all have the same.

    Of the attributes those among ``best`` come first, in their order.
    """
    groups = []
    if images.labels is not None:
        groups.append(_group("label", images.labels, images.label_name))
    if images.factors is not None:
        names = images.factor_names or [f"factor {j + 1}" for j in range(images.factors.shape[1])]
        factors = [_group(_plain(name), images.factors[:, j], str) for j, name in enumerate(names)]
        groups += [factor for factor in factors if len(factor.values) in FACTOR_VALUES]
    if images.attributes is not None:
        has = np.asarray(images.attributes)
        names, members = [_plain(name) for name in images.attribute_names], has.astype(np.uint8)
        rank = {attribute.name: place for place, attribute in enumerate(best)}
        some = sorted(np.flatnonzero(has.any(0) & ~has.all(0)), key=lambda j: rank.get(names[j], len(rank)))
        groups += [Group(names[j], ["without", "with"], members[:, j]) for j in some[:MOST_ATTRIBUTES]]
    return [group for group in groups if 2 <= len(group.values) <= MOST_VALUES]


def _group(name: str, column: Int[np.ndarray, " n"], name_of: Callable[[int], str]) -> Group:
    """The classes that there are in a column of whole numbers."""
    values, members = np.unique(column, return_inverse=True)
    return Group(name, [name_of(int(value)) for value in values], members.astype(np.uint8))


def make_attributes(codes: axes.Codes, images: Images) -> list[Attribute]:
    """Attributes, then classes, that some but not all images have: at most 40, those that codes tell apart best first.

    Of more classes than a group may have, none.
    """
    if images.labels is not None and len(np.unique(images.labels)) > MOST_VALUES:
        images = replace(images, labels=None)
    has, names = images.binary_attributes()
    some = np.flatnonzero(has.any(0) & ~has.all(0))
    has = has[:, some]
    with_, without = axes.means_with_and_without(codes, has)
    scores = axes.balanced_accuracy(codes, has, with_, without)
    directions = with_ - without
    return [
        Attribute(_plain(names[some[j]]), directions[j], without[j], float(scores[j]))
        for j in np.argsort(-scores, kind="stable")
        if np.linalg.norm(directions[j]) > axes.FLOOR
    ][:MOST_ATTRIBUTES]


def _plain(name: str) -> str:
    """A name as people read it."""
    return name.replace("_", " ")
