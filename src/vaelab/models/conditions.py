"""Conditions of a conditional VAE: labels or attributes as vectors, given or drawn from the training set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vaelab.data.images import Images, spread_rows
from vaelab.models.spec import Spec
from vaelab.system.registry import unknown

MAX_ROWS = 10_000
"""Training images whose conditions a model keeps, to draw from."""


def condition_names(kind: str, images: Images) -> tuple[str, ...]:
    """Names of the classes or attributes of ``images``; ValueError where there are none to condition on."""
    if kind == "none":
        return ()
    if kind == "label":
        if images.labels is None:
            raise ValueError(f'network.condition = "label": the images of {images.source} have no labels')
        count = max(int(images.labels.max()) + 1, len(images.label_names))
        return tuple(images.label_name(i) for i in range(count))
    if not images.attribute_names:
        raise ValueError(f'network.condition = "attributes": the images of {images.source} have no attributes')
    return images.attribute_names


def _word(spec: Spec) -> str:
    return "labels" if spec.condition == "label" else "attributes"


def with_condition(
    spec: Spec, images: Images, given: Any, rows: UInt8[Tensor, "row condition"], generator: torch.Generator
) -> Images:
    """Images with the condition that a person gave, in place of their own; see ``parse_condition``."""
    if given is None:
        return images
    vectors = parse_condition(spec, given, len(images), rows, generator)
    assert vectors is not None
    if spec.condition == "label":
        return replace(images, labels=vectors.argmax(1).numpy(), label_names=spec.condition_names)
    return replace(images, attributes=vectors.bool().numpy(), attribute_names=spec.condition_names)


def condition_columns(
    spec: Spec, labels: Tensor | None, attributes: Tensor | None
) -> Float[Tensor, "batch condition"] | None:
    """Condition vectors of images with these labels ``[B]`` or attributes ``[B, A]``; None for an unconditional model.

    A label becomes a one-hot vector, an attribute 0 or 1. ValueError where the images lack what the model needs.
    """
    if spec.condition == "none":
        return None
    given = labels if spec.condition == "label" else attributes
    if given is None:
        raise ValueError(
            f"this model is conditioned on {_word(spec)}, which these images lack: "
            "give --class, or --with and --without"
        )
    if spec.condition == "label":
        return torch.nn.functional.one_hot(given.long(), spec.condition_dim).float()
    return given.float()


def check_condition(spec: Spec, images: Images) -> None:
    """ValueError if labels or attributes of images are others than those that the model was trained on."""
    if spec.condition == "label" and images.labels is not None:
        outside = np.unique(images.labels[(images.labels < 0) | (images.labels >= spec.condition_dim)])
        if len(outside):
            raise ValueError(
                f"{images.source}: label {outside[0]} is none of the {spec.condition_dim} that the model was trained on"
            )
    has_attributes = spec.condition == "attributes" and images.attributes is not None
    if has_attributes and images.attribute_names != spec.condition_names:
        raise ValueError(
            f"{images.source}: the attributes are not those that the model was trained on: "
            f"{', '.join(spec.condition_names)}"
        )


def condition_of(spec: Spec, images: Images) -> Float[Tensor, "n condition"] | None:
    """Condition vectors of images; None for an unconditional model. ValueError where they do not suit the model."""
    check_condition(spec, images)
    labels = None if images.labels is None else torch.from_numpy(np.asarray(images.labels))
    attributes = None if images.attributes is None else torch.from_numpy(np.asarray(images.attributes))
    return condition_columns(spec, labels, attributes)


def parse_condition(
    spec: Spec, given: Any, count: int, rows: UInt8[Tensor, "row condition"], generator: torch.Generator | None = None
) -> Float[Tensor, "count condition"] | None:
    """Condition vectors for ``count`` codes from what a person gave.

    ``given``: None (drawn from the training set's own, ``rows``); a class by name or number; a sequence of classes, one
    per code; for attributes a mapping from name to True or False, the others drawn from training images that agree with
    it; or vectors ``[count, K]``. ValueError for anything else, and for a condition given to an unconditional model.
    """
    if spec.condition == "none":
        if given is not None:
            raise ValueError("this model is unconditional: it takes no class and no attributes")
        return None
    if given is None:
        return _draw_rows(rows, count, generator)
    if isinstance(given, Mapping):
        return _from_mapping(spec, given, count, rows, generator)
    if isinstance(given, Tensor | np.ndarray):
        if given.ndim == 2:
            vectors = torch.as_tensor(given).float()
            if tuple(vectors.shape) != (count, spec.condition_dim):
                raise ValueError(f"condition of shape {list(vectors.shape)}: give [{count}, {spec.condition_dim}]")
            return vectors
        given = given.tolist()
    if spec.condition != "label":
        raise ValueError('this model is conditioned on attributes: give a mapping such as {"Smiling": True}')
    if not isinstance(given, str | int | np.integer | Sequence):
        raise ValueError(f"condition {given!r}: give a class by name or number, or one for each code")
    classes = [given] * count if isinstance(given, str | int | np.integer) else list(given)
    if len(classes) != count:
        raise ValueError(f"{len(classes)} classes for {count} codes")
    numbers = torch.tensor([_class_number(spec, each) for each in classes], dtype=torch.int64)
    return torch.nn.functional.one_hot(numbers, spec.condition_dim).float()


def _class_number(spec: Spec, given: Any) -> int:
    if str(given) in spec.condition_names:
        return spec.condition_names.index(str(given))
    if str(given).isdecimal() and int(given) < spec.condition_dim:
        return int(given)
    raise unknown("class", given, spec.condition_names)


def _from_mapping(
    spec: Spec, given: Mapping[Any, Any], count: int, rows: Tensor, generator: torch.Generator | None
) -> Tensor:
    if spec.condition == "label":
        raise ValueError("this model is conditioned on labels: give a class by name or number")
    columns = []
    for name in given:
        if name not in spec.condition_names:
            raise unknown("attribute", name, spec.condition_names)
        columns.append(spec.condition_names.index(name))
    wanted = torch.tensor([float(bool(value)) for value in given.values()])
    agreeing = rows[(rows[:, columns].float() == wanted).all(1)] if columns else rows
    vectors = _draw_rows(agreeing if len(agreeing) else rows, count, generator)
    vectors[:, columns] = wanted
    return vectors


def _draw_rows(rows: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    if not len(rows):
        raise ValueError("this model is conditional: give a class or attributes")
    return rows[torch.randint(len(rows), (count,), generator=generator)].float()


def training_rows(spec: Spec, images: Images) -> UInt8[Tensor, "row condition"]:
    """The conditions of at most MAX_ROWS training images, spread evenly over the set, for a model to draw from."""
    if spec.condition == "none":
        return torch.empty(0, 0, dtype=torch.uint8)
    vectors = condition_of(spec, images.take(spread_rows(len(images), MAX_ROWS)))
    assert vectors is not None
    return vectors.to(torch.uint8)
