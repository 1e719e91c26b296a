"""``vaelab score``: how unusual each of many images is to a model, and how well that tells two sets apart."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.api.inputs import InputImages, load_inputs
from vaelab.api.output_paths import choose_file
from vaelab.data.images import Images, binarize, to_uint8
from vaelab.evaluation.anomaly import separations
from vaelab.exporters.tables import ENDINGS, write_columns
from vaelab.figures import render
from vaelab.figures import scores as figure
from vaelab.models.bounds import elbo, iwae_bound, log_weights
from vaelab.models.chunks import chunk_length
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.files import write_atomic
from vaelab.system.progress import progress
from vaelab.system.seeds import GeneratorNoise, generator

HELD_OUT = "held-out"
"""Names the run's own held-out images where a set is asked for."""


@dataclass(frozen=True)
class Scores:
    """What is known of each of some images; nats per image."""

    elbo: Float[np.ndarray, " n"]
    """Mean over samples of ln p(x|z), less the KL in closed form."""
    iwae: Float[np.ndarray, " n"]
    """The importance-weighted bound of the same samples (Burda et al. 2016, 1509.00519, equation 8)."""
    reconstruction: Float[np.ndarray, " n"]
    """What the objective counts as error, mean over samples."""
    kl: Float[np.ndarray, " n"]

    @property
    def unusualness(self) -> dict[str, Float[np.ndarray, " n"]]:
        """Scores that are larger the more unusual an image."""
        return {"-ELBO": -self.elbo, "-IWAE": -self.iwae, "reconstruction": self.reconstruction}


@dataclass(frozen=True)
class Scored:
    """What ``score`` has written and found."""

    table: Path
    sheet: Path
    summary: Path | None
    """``separations`` as JSON; None where no normal images were named."""
    num_images: int
    separations: dict[str, Any] | None
    """How well each score tells the images from the normal ones; None where none were named."""


@torch.no_grad()
def score_images(model: VAE, images: Images, samples: int) -> Scores:
    """Scores of every image from ``samples`` codes each, float64; the same for the same images, model and samples."""
    found = np.empty((4, len(images)))
    length = max(1, chunk_length(images.image_shape) // samples)
    noise = GeneratorNoise(generator(0, "score"), model.device)
    with progress("scoring", len(images)) as bar:
        for start in range(0, len(images), length):
            batch = images.batch(start, start + length, model.device)
            out = model(batch, noise, samples)
            log_likelihood, kl = out.p_x.log_prob(batch.x).double(), out.kl.double().sum(1)
            weights = log_weights(log_likelihood, out.log_p.double(), out.log_q.double())
            part = slice(start, start + len(batch.x))
            found[0, part] = elbo(log_likelihood, kl).cpu().numpy()
            found[1, part] = iwae_bound(weights).cpu().numpy()
            found[2, part] = out.reconstruction.double().mean(0).cpu().numpy()
            found[3, part] = kl.cpu().numpy()
            bar.advance(len(batch.x))
    return Scores(*found)


def score(
    run_path: AnyPath,
    images: str | Path | None = None,
    *,
    normal: str | Path | None = None,
    samples: int = 16,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    device: str = "auto",
) -> Scored:
    """ELBO, importance-weighted bound, reconstruction and KL of every image, the most unusual first, to a .csv,
    .parquet or .npz; beside it a .png with both ends.

    ``images``: pictures (None: the run's held-out images). ``normal``: others, or "held-out", against which it is
    measured how well each score tells the images apart; the numbers, thresholds included, go to a .json beside the
    table. They are binarised as the run's held-out images are. Pictures that cannot be read are left out with
    a warning; with ``strict``, or where none can be read, they raise ValueError.
    """
    run, samples = Run.open(run_path), check_whole(samples, "samples", 1)
    table = choose_file(out, f"{run.name}-scores.csv", ENDINGS, overwrite=overwrite)
    sheet = choose_file(table.with_suffix(".png"), "", (".png",), overwrite=overwrite)
    summary = None if normal is None else choose_file(table.with_suffix(".json"), "", (".json",), overwrite=overwrite)
    model, given = _images_of(run, images, data, strict)
    model.to(resolve_device(device))
    with disable_tf32():
        scores = _scores_of(model, given, samples)
        others = None
        if normal is not None:
            normals = _images_of(run, normal, data, strict)[1]
            others = _scores_of(model, normals, samples)
            normals.warn_skipped()
        rows = given.readable_rows()
        arrays = _ends(model, given.images, rows, scores)
    order = np.argsort(scores.elbo, kind="stable")
    columns: dict[str, NDArray[Any] | list[str]] = {"image": [given.names[row] for row in rows[order].tolist()]}
    if given.images.labels is not None:
        labels = given.images.labels[rows[order]]
        columns["label"] = labels
        if given.images.has_class_names:
            columns["class"] = [given.images.label_name(label) for label in labels.tolist()]
    write_columns(table, {**columns, **{name: values[order] for name, values in vars(scores).items()}})
    write_atomic(sheet, render(figure.draw(arrays), {"Title": figure.TITLE, "Description": figure.caption(arrays)}))
    apart = None if others is None else separations(others.unusualness, scores.unusualness)
    if summary is not None:
        write_atomic(summary, json.dumps(apart, indent=2, ensure_ascii=False) + "\n")
    given.warn_skipped()
    return Scored(table, sheet, summary, len(rows), apart)


def _images_of(run: Run, where: str | Path | None, data: str | Path | None, strict: bool) -> tuple[VAE, InputImages]:
    """The model of a run, and the images at ``where`` as it is measured on them."""
    is_own = where is None or str(where) == HELD_OUT
    model, given = load_inputs(run.path, None if is_own else where, data, strict=strict)
    images = given.images if is_own else binarize(given.images, run.recipe.data["binarize"])
    return model, replace(given, images=images)


def _scores_of(model: VAE, given: InputImages, samples: int) -> Scores:
    """The scores of the images that can be read; ValueError if there are none."""
    scores = score_images(model, given.images, samples)
    rows = given.readable_rows()
    given.check_any_readable(len(rows))
    return Scores(**{name: values[rows] for name, values in vars(scores).items()})


def _ends(model: VAE, images: Images, rows: NDArray[np.int64], scores: Scores) -> dict[str, Any]:
    """Arrays of the sheet: the most unusual and the most usual images; ``rows``: those that were scored."""
    chosen = figure.ends(scores.elbo)
    originals, conditions = [], condition_of(model.spec, images)
    rebuilt = []
    for some in chosen:
        ascending = np.sort(rows[some])
        originals.append(np.asarray(images.pixels[ascending])[np.searchsorted(ascending, rows[some])])
        own = None if conditions is None else conditions[rows[some]]
        rebuilt.append(to_uint8(model.reconstruct(torch.from_numpy(originals[-1]), own)))
    return figure.arrays_of(np.stack(originals), np.stack(rebuilt), np.stack([scores.elbo[some] for some in chosen]))
