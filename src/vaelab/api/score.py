"""``vaelab score``: how unusual each of many images is to a model, and how well that tells two sets apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from vaelab.api.outputs import load_with_images, output_path
from vaelab.data.images import Images, binarize, to_uint8
from vaelab.evaluation.metrics.anomaly import separations
from vaelab.evaluation.metrics.nll import iwae_bound
from vaelab.exporters.tables import ENDINGS, write_columns
from vaelab.figures import render
from vaelab.figures import scores as figure
from vaelab.models.vae import VAE, chunk_length
from vaelab.run import Run
from vaelab.system import registry as catalog
from vaelab.system.device import GeneratorNoise, disable_tf32, generator, progress, resolve_device
from vaelab.system.files import write_atomic

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
            log_weights = log_likelihood + out.log_p.double() - out.log_q.double()
            part = slice(start, start + len(batch.x))
            found[0, part] = (log_likelihood.mean(0) - kl).cpu().numpy()
            found[1, part] = iwae_bound(log_weights.cpu().numpy())
            found[2, part] = out.reconstruction.double().mean(0).cpu().numpy()
            found[3, part] = kl.cpu().numpy()
            bar.advance(len(batch.x))
    return Scores(*found)


def score(
    run_path: str | Path,
    images: str | Path | None = None,
    *,
    normal: str | Path | None = None,
    samples: int = 16,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Scored:
    """ELBO, importance-weighted bound, reconstruction and KL of every image, the most unusual first, to a .csv,
    .parquet or .npz; beside it a .png with both ends.

    ``images``: pictures (None: the run's held-out images). ``normal``: others, or "held-out", against which it is
    measured how well each score tells the images apart. They are binarised as the run's held-out images are.
    """
    run = Run.open(run_path)
    table = output_path(out, f"{run.name}-scores.csv", overwrite=overwrite)
    if table.suffix not in ENDINGS:
        raise catalog.unknown("ending of --out", table.suffix or table.name, ENDINGS)
    sheet = output_path(table.with_suffix(".png"), "", overwrite=overwrite)
    model, given, names = _images_of(run, images, data)
    model.to(resolve_device(device))
    with disable_tf32():
        scores = score_images(model, given, samples)
        others = None if normal is None else score_images(model, _images_of(run, normal, data)[1], samples)
        arrays = _ends(model, given, scores)
    order = np.argsort(scores.elbo, kind="stable")
    columns: dict[str, NDArray[Any] | list[str]] = {"image": [names[i] for i in order.tolist()]}
    if given.labels is not None:
        columns["label"] = given.labels[order]
    write_columns(table, {**columns, **{name: values[order] for name, values in vars(scores).items()}})
    write_atomic(sheet, render(figure.draw(arrays), {"Title": figure.TITLE, "Description": figure.caption(arrays)}))
    apart = None if others is None else separations(others.unusualness, scores.unusualness)
    return Scored(table, sheet, len(given), apart)


def _images_of(run: Run, where: str | Path | None, data: str | Path | None) -> tuple[VAE, Images, Sequence[str]]:
    """The model of a run, the images at ``where`` as it is measured on them, their names."""
    model, given, names = load_with_images(run.path, None if str(where) == HELD_OUT else where, data)
    is_own = where is None or str(where) == HELD_OUT
    return model, given if is_own else binarize(given, run.recipe.data["binarize"]), names


def _ends(model: VAE, images: Images, scores: Scores) -> dict[str, Any]:
    """Arrays of the sheet: the most unusual and the most usual images."""
    chosen = figure.ends(scores.elbo)
    originals = [np.asarray(images.pixels[np.sort(some)])[np.argsort(np.argsort(some))] for some in chosen]
    rebuilt = [to_uint8(model.reconstruct(torch.from_numpy(pixels))) for pixels in originals]
    return figure.arrays_of(np.stack(originals), np.stack(rebuilt), np.stack([scores.elbo[some] for some in chosen]))
