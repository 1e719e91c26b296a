"""``vaelab score``: how unusual images are to a model, and how well that separates two sets."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vaelab.api.inputs import InputImages, load_inputs
from vaelab.api.output_paths import choose_file
from vaelab.data.images import Images, binarize
from vaelab.data.memory import is_in_memory
from vaelab.data.tensors import to_uint8
from vaelab.evaluation.anomaly import separations
from vaelab.exporters.tables import EXTENSIONS, CodeTable, write_columns
from vaelab.figures import render
from vaelab.figures import scores as figure
from vaelab.models.bounds import elbo, iwae_bound, log_weights
from vaelab.models.chunks import chunk_length
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_whole
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.files import to_json, write_atomic
from vaelab.system.noise import GeneratorNoise, generator
from vaelab.system.picture import Picture
from vaelab.system.progress import progress

HELD_OUT = "held-out"
"""Stands for the run's own held-out images in place of a path."""


@dataclass(frozen=True)
class Scores:
    """Scores of images in nats per image."""

    elbo: Float[np.ndarray, " n"]
    """Mean over samples of ln p(x|z), minus the KL in closed form."""
    iwae: Float[np.ndarray, " n"]
    """Importance-weighted bound from the same samples (Burda et al. 2016, 1509.00519, equation 8)."""
    reconstruction: Float[np.ndarray, " n"]
    """Reconstruction loss of the objective, mean over samples."""
    kl: Float[np.ndarray, " n"]

    @property
    def unusualness(self) -> dict[str, Float[np.ndarray, " n"]]:
        """Scores that are larger for more unusual images."""
        return {"-ELBO": -self.elbo, "-IWAE": -self.iwae, "reconstruction": self.reconstruction}


@dataclass(frozen=True)
class Scored:
    """Files and numbers that ``score`` returns."""

    table: Path | None
    """The table; None if nothing was written, and so for the other files."""
    sheet: Picture | None
    """Both ends of the list; shows itself in a notebook."""
    summary: Path | None
    """``separations`` as JSON; None without normal images."""
    num_images: int
    separations: dict[str, Any] | None
    """Separation of the images from the normal ones by each score; None without normal images."""
    columns: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Column → one value for each image, the most unusual first: those of the table."""

    def to_pandas(self) -> Any:
        """Return the table as a DataFrame, the most unusual image first."""
        import pandas

        return pandas.DataFrame(dict(self.columns))


@torch.no_grad()
def score_images(model: VAE, images: Images, samples: int) -> Scores:
    """Return scores of every image from ``samples`` codes each, float64; repeatable."""
    found = np.empty((4, len(images)))
    length = max(1, chunk_length(images.image_shape) // samples)
    noise = GeneratorNoise(generator(0, "score"), model.device)
    with progress("scoring", len(images)) as bar:
        for start in range(0, len(images), length):
            batch = images.batch(start, start + length, model.device)
            out = model(batch, noise, samples)
            log_likelihood, kl = out.p_x.log_prob(batch.x).cpu().double(), out.kl.cpu().double().sum(1)
            weights = log_weights(log_likelihood, out.log_p.cpu().double(), out.log_q.cpu().double())
            reconstruction = out.reconstruction.cpu().double().mean(0)
            scores = torch.stack([elbo(log_likelihood, kl), iwae_bound(weights), reconstruction, kl])
            found[:, start : start + len(batch.x)] = scores.numpy()
            bar.advance(len(batch.x))
    return Scores(*found)


def score(
    run_path: AnyPath,
    images: Any = None,
    *,
    normal: Any = None,
    samples: int = 16,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    device: str = "auto",
) -> Scored:
    """Return ELBO, importance-weighted bound, reconstruction and KL of every image, the most unusual image first.

    ``images``: an image, folder or array file, or images from memory as for ``train`` (default: the held-out images),
    binarised like the held-out images. ``normal``: normal images, or "held-out"; ``separations`` state how well each
    score separates the images from them. ``out``: a .csv, .parquet or .npz for the table, with a .png of both ends and
    a .json of the separations next to it. Images that cannot be read are skipped with a warning; with ``strict``, or if
    none can be read, InputError is raised.
    """
    run, samples = Run(run_path), check_whole(samples, "samples", 1)
    table, sheet, summary = _choose_files(out, run, overwrite=overwrite, has_normal=normal is not None)
    model, given = _load_images(run, images, data, strict)
    model.to(resolve_device(device))
    found = None
    with disable_tf32():
        scores = _score_readable(model, given, samples)
        if normal is not None:
            others = _load_images(run, normal, data, strict)[1]
            found = separations(_score_readable(model, others, samples).unusualness, scores.unusualness)
            others.warn_noted()
        rows = given.readable_rows()
        arrays = None if sheet is None else _ends(model, given.images.take(rows), scores)
    order = np.argsort(scores.elbo, kind="stable")
    class_names = given.images.label_names if given.images.has_class_names else ()
    known = CodeTable(given.names, given.images.labels, model.spec.latent_dim, class_names).columns
    columns = {name: values_of(rows[order]) for name, values_of in known.items()}
    columns |= {name: values[order] for name, values in vars(scores).items()}
    if table is not None and sheet is not None and arrays is not None:
        write_columns(table, columns)
        write_atomic(sheet, render(figure.draw(arrays), {"Title": figure.TITLE, "Description": figure.caption(arrays)}))
    if summary is not None:
        write_atomic(summary, to_json(found))
    given.warn_noted()
    return Scored(table, None if sheet is None else Picture(sheet), summary, len(rows), found, columns)


def _choose_files(
    out: str | Path | None, run: Run, *, overwrite: bool, has_normal: bool
) -> tuple[Path | None, Path | None, Path | None]:
    """Return the table, the sheet and the summary to write; None for what is not written."""
    if out is None:
        return None, None, None
    table = choose_file(out, f"{run.name}-scores.csv", EXTENSIONS, overwrite=overwrite)
    sheet = choose_file(table.with_suffix(".png"), "", (".png",), overwrite=overwrite)
    summary = choose_file(table.with_suffix(".json"), "", (".json",), overwrite=overwrite) if has_normal else None
    return table, sheet, summary


def _load_images(run: Run, place: Any, data: str | Path | None, strict: bool) -> tuple[VAE, InputImages]:
    """Return the model of a run, and the images at ``place``, binarised as the run's held-out images are."""
    is_own = place is None or (not is_in_memory(place) and str(place) == HELD_OUT)
    model, given = load_inputs(run.path, None if is_own else place, data, strict=strict)
    images = given.images if is_own else binarize(given.images, run.recipe.data["binarize"])
    return model, replace(given, images=images)


def _score_readable(model: VAE, given: InputImages, samples: int) -> Scores:
    """Return the scores of the images that can be read; InputError if there are none."""
    scores = score_images(model, given.images, samples)
    rows = given.readable_rows()
    given.check_any_readable(len(rows))
    return Scores(**{name: values[rows] for name, values in vars(scores).items()})


def _ends(model: VAE, images: Images, scores: Scores) -> dict[str, Any]:
    """Return the arrays of the figure of the most and least unusual images."""
    chosen = figure.ends(scores.elbo)
    ends = [images.take(rows) for rows in chosen]
    rebuilt = [to_uint8(torch.from_numpy(model.reconstruct(some))) for some in ends]
    originals = np.stack([some.eight_bits[:] for some in ends])
    return figure.arrays_of(originals, np.stack(rebuilt), np.stack([scores.elbo[rows] for rows in chosen]))
