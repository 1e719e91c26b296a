"""Codes of the training set as points, coloured by class."""

import matplotlib.patheffects as effects
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vaelab.data.images import Images
from vaelab.figures import (
    BLUE,
    FAINT,
    INK,
    MOST_NAMED,
    Arrays,
    class_colormap,
    clean_text,
    house_style,
    latent_name,
    number_names,
)
from vaelab.models.codes import encode_images, principal_axes
from vaelab.models.vae import VAE
from vaelab.system.messages import count_of

TITLE = "Latent space"
ORDER = 20
SECTION = "overview"
SHOWS_IMAGES = False
SPLIT = "train"
CELLS = 14
MOST = 60_000
"""Largest number of points, the size of MNIST."""


def compute(model: VAE, images: Images, generator: torch.Generator) -> Arrays:
    """Return posterior means of at most ``MOST`` images, on two principal axes if there are more than two latents."""
    total = len(images)
    images = images.subsample(MOST, generator)
    means = encode_images(model, images).mean
    arrays: Arrays = {"latent_dim": means.shape[1], "labels": images.labels, "total": total}
    arrays["names"], arrays["remark"] = _choose_names(images)
    if means.shape[1] == 1:
        return {**arrays, "points": np.concatenate([means, np.zeros_like(means)], axis=1), "share": None}
    if means.shape[1] == 2:
        return {**arrays, "points": means, "share": None}
    points, share = principal_axes(means)
    return {**arrays, "points": points, "share": share}


def draw(arrays: Arrays) -> Figure:
    """Draw a scatter plot with equal scales and a label on each class."""
    with house_style():
        figure = Figure(figsize=(6.4, 6.4))
        axes = figure.subplots()
        points, labels = arrays["points"], arrays["labels"]
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(points))
        size = float(np.clip(120_000 / len(points), 2, 16))
        alpha = float(np.clip(30_000 / len(points), 0.5, 0.8))
        if labels is None:
            axes.scatter(points[order, 0], points[order, 1], s=size, c=BLUE, alpha=alpha, linewidths=0, rasterized=True)
        else:
            colours = class_colormap(int(labels.max()) + 1)(labels[order])
            axes.scatter(
                points[order, 0], points[order, 1], s=size, c=colours, alpha=alpha, linewidths=0, rasterized=True
            )
            _name_classes(axes, arrays)
        _frame(axes, arrays)
    return figure


def caption(arrays: Arrays) -> str:
    """Explain the points."""
    count, total = len(arrays["points"]), arrays.get("total", len(arrays["points"]))
    of = f" of {total:,}" if total > count else ""
    what = f"Posterior means of {count:,}{of} training images"
    if arrays["share"] is None:
        return f"{what}. Circles are the prior's 1, 2 and 3 standard deviations.{arrays['remark']}"
    where = f"on their first two principal axes, a linear view of all {arrays['latent_dim']} latents"
    return f"{what} {where}.{arrays['remark']}"


def _choose_names(images: Images) -> tuple[dict[int, str], str]:
    """Return label → text of the largest classes, and what the caption says about the texts."""
    if images.labels is None:
        return {}, ""
    classes, counts = np.unique(images.labels, return_counts=True)
    largest = classes[np.argsort(-counts, kind="stable")][:MOST_NAMED]
    names, remark = number_names({int(label): images.label_name(int(label)) for label in largest}, "classes")
    if len(classes) > MOST_NAMED:
        remark = f" The {MOST_NAMED} largest of {len(classes)} classes are named.{remark}"
    return names, remark


def _name_classes(axes: Axes, arrays: Arrays) -> None:
    """Label the classes where most of their points lie, so that the figure can be read without colours."""
    points, labels, names = arrays["points"], arrays["labels"], arrays["names"]
    for label, centre in _places(points, labels).items():
        if label not in names:
            continue
        text = axes.text(
            float(centre[0]),
            float(centre[1]),
            clean_text(names[label]),
            fontsize=15 if all(len(name) <= 2 for name in names.values()) else 12,
            fontweight="bold",
            color=INK,
            ha="center",
            va="center",
        )
        text.set_path_effects([effects.withStroke(linewidth=4, foreground="white"), effects.Normal()])


def _places(points: Float[np.ndarray, "n 2"], labels: Int[np.ndarray, " n"]) -> dict[int, NDArray[np.float32]]:
    """Return a place for each class label: the grid cell that holds most of the class and least of the others."""
    low, high = np.quantile(points, 0.001, axis=0), np.quantile(points, 0.999, axis=0)
    scaled = (points - low) / np.maximum(high - low, 1e-9) * CELLS
    cells = np.clip(scaled, 0, CELLS - 1).astype(int) @ [1, CELLS]
    everything = np.bincount(cells, minlength=CELLS**2)
    places: dict[int, NDArray[np.float32]] = {}
    taken = np.zeros(CELLS**2, bool)
    for label in np.unique(labels):
        own = np.bincount(cells[labels == label], minlength=CELLS**2)
        free = own * ~taken if (own * ~taken).any() else own
        best = int((free**2 / np.maximum(everything, 1)).argmax())
        taken[best] = True
        places[int(label)] = points[(labels == label) & (cells == best)].mean(0)
    return places


def _frame(axes: Axes, arrays: Arrays) -> None:
    reach = float(np.quantile(np.abs(arrays["points"]), 0.9995)) * 1.08 + 1e-6
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    if arrays["share"] is None:
        angle = np.linspace(0, 2 * np.pi, 200)
        for radius in (1, 2, 3):
            axes.plot(radius * np.cos(angle), radius * np.sin(angle), color=FAINT, linewidth=0.8, linestyle=(0, (4, 4)))
        axes.set_xlabel(latent_name(0))
        axes.set_ylabel(latent_name(1) if arrays["latent_dim"] > 1 else "")
        axes.set_title("Codes of the training set (posterior means)")
    else:
        shares = [f"{100 * share:.0f} % of the variance" for share in arrays["share"]]
        axes.set_xlabel(f"principal axis 1 ({shares[0]})")
        axes.set_ylabel(f"principal axis 2 ({shares[1]})")
        axes.set_title(f"Codes of the training set (posterior means, {arrays['latent_dim']} latents)")
    outside = int((np.abs(arrays["points"]) > reach).any(1).sum())
    if outside:
        text = f"{count_of(outside, 'point')} outside"
        axes.annotate(text, (0.01, 0.01), xycoords="axes fraction", fontsize=9, color=FAINT)
