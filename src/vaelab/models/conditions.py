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
from vaelab.system.errors import InputError, RecipeError
from vaelab.system.messages import count_of
from vaelab.system.registry import unknown

MAX_ROWS = 10_000
"""Most training images whose conditions a model keeps, to draw from."""


def condition_names(kind: str, images: Images) -> tuple[str, ...]:
    """Return the names of the classes or attributes of ``images``; RecipeError if there are none to condition on."""
    if kind == "none":
        return ()
    if kind == "label":
        if images.labels is None:
            raise _no_condition(kind, images, "labels")
        count = max(int(images.labels.max()) + 1, len(images.label_names))
        return tuple(images.label_name(i) for i in range(count))
    if not images.attribute_names:
        raise _no_condition(kind, images, "attributes")
    return images.attribute_names


def _no_condition(kind: str, images: Images, missing: str) -> RecipeError:
    message = f'network.condition = "{kind}": the images of {images.source} have no {missing}'
    return RecipeError(message, subject="network.condition", value=kind)


def with_condition(
    spec: Spec, images: Images, given: Any, rows: UInt8[Tensor, "row condition"], generator: torch.Generator
) -> Images:
    """Return the images with a given condition in place of their own; see ``parse_condition``."""
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
    """Return the condition vectors of labels ``[B]`` or attributes ``[B, A]``; None for an unconditional model.

    A label becomes a one-hot vector, an attribute 0 or 1. Raises InputError if the images lack what the model needs.
    """
    if spec.condition == "none":
        return None
    given = labels if spec.condition == "label" else attributes
    if given is None:
        what = "labels" if spec.condition == "label" else "attributes"
        message = f"the model is conditioned on {what}, which these images lack: give --class, or --with and --without"
        raise InputError(message, subject="condition")
    if spec.condition == "label":
        return torch.nn.functional.one_hot(given.long(), spec.condition_dim).float()
    return given.float()


def check_condition(spec: Spec, images: Images) -> None:
    """Raise InputError if the images have labels or attributes that the model was not trained on."""
    if spec.condition == "label" and images.labels is not None:
        outside = np.unique(images.labels[(images.labels < 0) | (images.labels >= spec.condition_dim)])
        if len(outside):
            message = f"{images.source}: label {outside[0]} is not one of the {spec.condition_dim} training labels"
            raise InputError(message, subject=images.source, value=int(outside[0]), choices=spec.condition_names)
    has_attributes = spec.condition == "attributes" and images.attributes is not None
    if has_attributes and images.attribute_names != spec.condition_names:
        message = f"{images.source}: the attributes must be those of training: {', '.join(spec.condition_names)}"
        names = images.attribute_names
        raise InputError(message, subject=images.source, value=names, choices=spec.condition_names)


def condition_of(spec: Spec, images: Images) -> Float[Tensor, "n condition"] | None:
    """Return the condition vectors of images; None for an unconditional model. InputError if they do not fit it."""
    check_condition(spec, images)
    labels = None if images.labels is None else torch.from_numpy(np.asarray(images.labels))
    attributes = None if images.attributes is None else torch.from_numpy(np.asarray(images.attributes))
    return condition_columns(spec, labels, attributes)


def parse_condition(
    spec: Spec, given: Any, count: int, rows: UInt8[Tensor, "row condition"], generator: torch.Generator | None = None
) -> Float[Tensor, "count condition"] | None:
    """Return condition vectors for ``count`` codes; None for an unconditional model.

    ``given`` may be a class by name or number, a sequence of one class per code, or vectors ``[count, K]``. For
    attributes it is a mapping from names to True or False; other attributes are drawn from training images that agree
    with it. None draws from the conditions of training images, ``rows``. Raises InputError for anything else, and for a
    condition given to an unconditional model.
    """
    if spec.condition == "none":
        if given is not None:
            raise InputError("this model is unconditional: it takes no class and no attributes", value=given)
        return None
    if given is None:
        return _draw_rows(rows, count, generator)
    if isinstance(given, Mapping):
        return _from_mapping(spec, given, count, rows, generator)
    if isinstance(given, Tensor | np.ndarray):
        if given.ndim == 2:
            vectors = torch.as_tensor(given).float()
            if tuple(vectors.shape) != (count, spec.condition_dim):
                raise InputError(f"condition of shape {list(vectors.shape)}: give [{count}, {spec.condition_dim}]")
            return vectors
        given = given.tolist()
    if spec.condition != "label":
        message = 'this model is conditioned on attributes: give a mapping such as {"Smiling": True}'
        raise InputError(message, value=given, choices=spec.condition_names)
    if not isinstance(given, str | int | np.integer | Sequence):
        raise InputError(f"condition {given!r}: give a class by name or number, or one per code", value=given)
    classes = [given] * count if isinstance(given, str | int | np.integer) else list(given)
    if len(classes) != count:
        raise InputError(f"{count_of(len(classes), 'class', 'classes')} for {count_of(count, 'code')}", value=classes)
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
        message = "this model is conditioned on labels: give a class by name or number"
        raise InputError(message, value=given, choices=spec.condition_names)
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
        raise InputError("this model is conditional: give a class or attributes", subject="condition")
    return rows[torch.randint(len(rows), (count,), generator=generator)].float()


def training_rows(spec: Spec, images: Images) -> UInt8[Tensor, "row condition"]:
    """Return the conditions of at most MAX_ROWS training images, spread evenly over the set, to draw from."""
    if spec.condition == "none":
        return torch.empty(0, 0, dtype=torch.uint8)
    vectors = condition_of(spec, images.take(spread_rows(len(images), MAX_ROWS)))
    assert vectors is not None
    return vectors.to(torch.uint8)
