"""Images moved along the directions of attributes, or to the mean codes of classes, one per row."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from vaelab.data.images import Images
from vaelab.data.tensors import to_uint8
from vaelab.figures import Arrays, number_names
from vaelab.figures._sheet import sheet_figure
from vaelab.models.codes import Method, encode_images, find_direction
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.system.messages import count_of

TITLE = "Edits"
ORDER = 58
SECTION = "latent space"
SPLIT = "train"
ROWS = 10
STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Steps along the direction of an attribute."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the way to the mean code of a class."""
ENOUGH = 5000
"""Number of training images from which directions are computed."""
FEWEST = 4
"""Smallest number of images with an attribute, and without it, for a direction."""
NEIGHBOURS, MAJORITY = 30, 2 / 3
"""Number of training codes near an edited image, and the share of them that must be of the class it was moved to."""

Codes = Float[np.ndarray, "_ latent"]


@dataclass(frozen=True)
class Edit:
    """A way to move codes: along the direction of an attribute, or to the mean code of a class."""

    name: str
    has: Bool[np.ndarray, " n"]
    """Whether each training image has the attribute or is of the class."""
    direction: Float[np.ndarray, " latent"]
    target: Float[np.ndarray, " latent"] | None = None
    """Mean code of the class; None for an attribute."""

    def move(self, codes: Codes, step: float) -> Codes:
        """Return codes ``step`` directions further, or this share of the way to the class."""
        return codes + step * (self.direction if self.target is None else self.target - codes)

    def describe(self, step: float) -> str:
        """Say what a step does, in a few words."""
        if self.target is None:
            return f"{self.name} {step_word(step)}"
        return f"to {self.name}" if step == 1 else f"{step_word(step)} to {self.name}"

    def succeeds(self, known: Codes, before: Codes, after: Codes, step: float) -> Bool[np.ndarray, " images"]:
        """Return for each image whether its edit changes what it is meant to change, as the model sees it.

        ``known``: codes of the training images. ``before``, ``after``: the codes of reconstructions and of edited
        images, which were decoded and encoded again. Along a direction, they must differ by at least half of the step.
        At the mean of a class, ``MAJORITY`` of the nearest training codes must be of the class.
        """
        if self.target is None:
            moved = (after - before) @ self.direction / (self.direction @ self.direction)
            return np.asarray(moved * np.sign(step) >= 0.5 * abs(step))
        distances = ((after[:, None] - known[None].astype(np.float64)) ** 2).sum(2)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(NEIGHBOURS, int(self.has.sum()))]
        return np.asarray(self.has[nearest].mean(1) >= MAJORITY)


def make_edit(
    codes: Codes, has: Bool[np.ndarray, " n"], name: str, *, is_class: bool, method: Method = "means"
) -> Edit:
    """Return the edit by an attribute, or by a class; with the method "probe", a class is an attribute like others."""
    target = codes[has].astype(np.float64).mean(0) if is_class and method == "means" else None
    return Edit(name.replace("_", " "), has, find_direction(codes, has, method), target)


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays | None:
    """Move a random image along each of the attributes that separate images best, or without attributes to each class.

    The image lacks the attribute or is of another class. Edits that the model does not see are left out. Return None
    if none is left.
    """
    some = images.subsample(ENOUGH, generator)
    columns, names = some.binary_attributes()
    means, conditions = encode_images(model, some).mean, condition_of(model.spec, some)
    counts = np.minimum(columns.sum(0), (~columns).sum(0))
    enough = [int(j) for j in np.flatnonzero(counts >= FEWEST)]
    attributes = [j for j in enough if j < len(some.attribute_names)]
    distances = {j: separation(means, columns[:, j]) for j in attributes or enough}
    best = [j for j in sorted(distances, key=lambda j: -distances[j]) if not attributes or distances[j] > 0]
    rows, left_out, steps = list[tuple[int, int, np.ndarray]](), list[str](), STEPS if attributes else SHARES
    for j in best:
        edit = make_edit(means, columns[:, j], names[j], is_class=not attributes)
        without = np.flatnonzero(~edit.has)
        i = int(without[int(torch.randint(len(without), (1,), generator=generator))])
        given = None if conditions is None else conditions[i].expand(len(steps), -1)
        codes = np.concatenate([edit.move(means[[i]].astype(np.float64), step) for step in steps])
        decoded, again = decode_and_encode(model, codes, given)
        if edit.succeeds(means, again[[steps.index(0.0)]], again[[-1]], steps[-1])[0]:
            rows.append((j, i, decoded))
        else:
            left_out.append(edit.name)
        if len(rows) == ROWS:
            break
    if not rows:
        return None
    rows = rows if attributes else sorted(rows)
    numbers = list(range(len(names))) if some.labels is None or attributes else np.unique(some.labels).tolist()
    in_words = {numbers[j - len(names)]: names[j].replace("_", " ") for j, _, _ in rows}
    shown, remark = number_names(in_words, "attributes" if attributes else "classes")
    words = ["reconstruction" if step == 0 else step_word(step) if attributes else f"{step:.0%}" for step in steps]
    return {
        "originals": some.eight_bits[np.array([i for _, i, _ in rows])][:, None],
        "edited": np.stack([decoded for _, _, decoded in rows]),
        "rows": [
            f"{name}\n{distances[j]:.1f} σ" if attributes else name
            for name, (j, _, _) in zip(shown.values(), rows, strict=True)
        ],
        "columns": [["original"], words],
        "images": len(some),
        "left_out": left_out,
        "are_classes": not attributes,
        "remark": remark,
    }


def decode_and_encode(
    model: VAE, codes: Codes, conditions: Tensor | None
) -> tuple[np.ndarray, Float[np.ndarray, "_ latent"]]:
    """Return the images of codes, uint8 ``[n, height, width, channel]``, and the codes of these images, float64."""
    decoded = to_uint8(model.decode(torch.from_numpy(codes), conditions))
    return decoded, model.encode(decoded, conditions).mean.numpy().astype(np.float64)


def step_word(step: float) -> str:
    """Format a step with its sign."""
    return f"{step:+g}".replace("-", "−")


def separation(codes: Float[np.ndarray, "n latent"], has: Bool[np.ndarray, " n"]) -> float:
    """Return the distance of images with and without an attribute along its direction, in pooled standard deviations.

    The direction comes from one half of the images, the distance from the other, so 4 images of each kind are needed.
    −∞ if codes do not vary.
    """
    half = np.zeros(len(has), bool)
    for group in (has, ~has):
        half[np.flatnonzero(group)[::2]] = True
    along = codes[~half] @ find_direction(codes[half], has[half])
    groups = along[has[~half]], along[~has[~half]]
    pooled = np.sqrt(np.mean([group.var() for group in groups]))
    return float((groups[0].mean() - groups[1].mean()) / pooled) if pooled > 0 else -np.inf


def draw(arrays: Arrays) -> Figure:
    """Draw the originals and their edits, one attribute or class per row."""
    return sheet_figure([arrays["originals"], arrays["edited"]], arrays["rows"], arrays["columns"])


def caption(arrays: Arrays) -> str:
    """Explain the steps, and say what was left out."""
    images = f"{arrays['images']:,} training images"
    if arrays["are_classes"]:
        text = (
            "Each row moves a random training image of another class along a straight line to the mean code of the "
            f"class, over {images}; 100% is that mean."
        )
        reason = "training images with similar codes belong to other classes"
    else:
        text = (
            "Each row moves a random training image without the attribute along the attribute's direction. A step of 1 "
            f"is the difference between the mean codes with and without it, over {images}. The number is the distance "
            "between the two groups in pooled standard deviations, on images that did not define the direction."
        )
        reason = "the code of the edited image moved by less than half of the step"
    return f"{text}{arrays['remark']}{describe_left_out(arrays['left_out'], reason)}"


def describe_left_out(names: Sequence[str], reason: str) -> str:
    """Return a sentence about edits that are not shown; empty if all are."""
    if not names:
        return ""
    named = f": {', '.join(names)}" if len(names) <= ROWS else ""
    return f" {count_of(len(names), 'row')} left out{named} ({reason})."
