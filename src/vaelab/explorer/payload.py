"""The description of a run that the page loads first, and the arrays that it requests later."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int16, UInt8
from numpy.typing import NDArray

from vaelab.build import beta_equivalents
from vaelab.data.arrays import PixelArray
from vaelab.data.images import Images
from vaelab.data.tensors import subsample
from vaelab.explorer import projections
from vaelab.explorer.groups import Group, make_attributes, make_groups
from vaelab.explorer.inference import InferenceWorker, measure_losses
from vaelab.explorer.maps import Column, make_columns, make_maps
from vaelab.models.codes import ACTIVE_KL, Codes
from vaelab.models.conditions import condition_of
from vaelab.models.samplers import Sampler
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe
from vaelab.system.errors import InputError
from vaelab.system.noise import generator

NUM_SAMPLES = 512
"""Codes for "Sample" where the page cannot sample itself."""
NUM_MEASURED = 2_000
"""Images whose losses are measured."""
NUM_NEAREST, NUM_CANDIDATES, SEARCH_ROWS = 5, 32, 1024
"""Neighbours returned, candidates compared in float64, and codes compared at once (they fit into the CPU's cache)."""


@dataclass(frozen=True, eq=False)
class Payload:
    """One run as the page sees it: a JSON manifest, and arrays requested by index."""

    manifest: dict[str, Any]
    means: Float[np.ndarray, "n latent"]
    """Posterior means of the points, float32."""
    pixels: PixelArray
    """Images of the points as the model sees them, uint8 ``[N, H, W, C]``."""
    columns: Sequence[Column]
    groups: Sequence[Group]
    samples: Float[np.ndarray, "sample latent"]
    """Codes drawn from the sampler, float32; none for N(0, I), which the page samples itself."""
    conditions: UInt8[np.ndarray, "n condition"] | None = None
    """Conditions of the points; None for an unconditional model."""

    @cached_property
    def json(self) -> bytes:
        """The manifest, encoded."""
        return json.dumps(self.manifest, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    def quantise_column(self, index: int) -> Int16[np.ndarray, " n"]:
        """Return the coordinate of every point along a column: −32768 at the column's ``low``, 32767 at ``high``."""
        low, high = (self.manifest["columns"][index][key] for key in ("low", "high"))
        scale = 65535 / (high - low) if high > low else 0.0
        along: NDArray[np.float64] = self.columns[index].project(self.means)
        steps: NDArray[np.int16] = (np.rint((along - low) * scale).clip(0, 65535) - 32768).astype(np.int16)
        return steps

    def find_nearest(
        self, code: Float[np.ndarray, " latent"]
    ) -> tuple[Int[np.ndarray, " some"], Float[np.ndarray, " some"]]:
        """Return the points whose posterior means are nearest to a code, nearest first, and their distances."""
        starts = range(0, len(self.means), SEARCH_ROWS)
        squares = np.concatenate([_sum_squares(self.means[i : i + SEARCH_ROWS] - code) for i in starts])
        near = np.arange(len(squares))
        if len(squares) > NUM_CANDIDATES:
            near = np.argpartition(squares, NUM_CANDIDATES)[:NUM_CANDIDATES]
        exact = _sum_squares(self.means[near].astype(np.float64) - code)
        best = np.lexsort((near, exact))[:NUM_NEAREST]
        return near[best], np.sqrt(exact[best])


class ServedRun(NamedTuple):
    """One run behind the server."""

    payload: Payload
    worker: InferenceWorker


def make_payload(
    name: str,
    recipe: Recipe,
    model: VAE,
    codes: Codes,
    images: Images,
    total: int,
    images_sha256: str,
    sampler: Sampler,
) -> Payload:
    """Return the payload of a run whose points are ``images``, as the model sees them, with their ``codes``.

    ``total`` is the number of training images, ``images_sha256`` tells whether two runs have the same points, and
    ``sampler`` supplies the codes of "Sample". Raises InputError for a model with one latent, and for infinite codes.
    """
    if codes.mean.shape[1] < 2:
        raise InputError(
            f"{name} has one latent, and a map needs two; `vaelab figures` shows what it does", subject=name
        )
    if not (np.isfinite(codes.mean).all() and np.isfinite(codes.log_var).all()):
        raise InputError(
            f"{name}: some codes are not finite, so there is no map of them; try `vaelab doctor`", subject=name
        )
    is_quantised = "quantised_posterior" in model.provides
    kl, covariance = _compute_latent_kl(codes), projections.compute_covariance(codes.mean)
    # a code without noise has no KL to N(0, 1); its latents are ranked by how much they vary
    information, least = (np.diag(covariance), projections.VARIANCE_FLOOR) if is_quantised else (kl, ACTIVE_KL)
    order = [int(latent) for latent in np.argsort(-information, kind="stable")]
    is_spread = is_quantised or recipe.network.get("latents") == "spatial"  # a single latent says little of an image
    attributes = make_attributes(codes.mean, images)
    groups = make_groups(images, attributes)
    labels = next((group.members for group in groups if group.name == "label"), None)
    columns = make_columns(codes, covariance, labels, attributes)
    height, width, channels = (int(side) for side in images.pixels.shape[1:])
    is_normal = sampler.name == "prior" and "standard_normal_prior" in model.provides
    samples = np.empty((0, len(kl)), np.float32)
    if not is_normal:
        samples = sampler.sample(NUM_SAMPLES, generator(0, "explorer draws")).float().numpy()
    conditions = condition_of(model.spec, images)
    manifest = {
        "vaelab": version("vaelab"),
        "run": name,
        "title": recipe.title,
        "image": {"height": height, "width": width, "channels": channels},
        "latent_dim": len(kl),
        "count": len(codes.mean),
        "total": total,
        "images_sha256": images_sha256,
        "codes_sha256": hashlib.sha256(np.ascontiguousarray(codes.mean).data).hexdigest(),
        "objective": recipe.objective["name"],
        "beta": beta_equivalents(recipe, model.spec).get("beta"),
        "likelihood": recipe.likelihood["name"],
        "prior": recipe.prior["name"],
        "sampler": sampler.name,
        "is_normal": is_normal,
        "has_latent_kl": model.has_latent_kl,
        "condition": _describe_condition(model),
        "samples": len(samples),
        **_describe_losses(model, codes, images),
        "is_quantised": is_quantised,
        "kl": [] if is_quantised else _round(kl),
        "order": order,
        "active": int((information > least).sum()),
        "mean": _round(codes.mean.mean(0, dtype=np.float64), 9),
        "columns": _describe_columns(columns, codes.mean),
        "maps": make_maps(codes, covariance, labels, columns, [] if is_spread else order),
        "groups": [{"name": group.name, "values": group.values} for group in groups],
        "attributes": [
            {
                "name": a.name,
                "direction": _round(a.direction, 9),
                "without": _round(a.without, 9),
                "score": _round(a.score),
            }
            for a in attributes
        ],
    }
    rows = None if conditions is None else conditions.numpy().astype(np.uint8)
    return Payload(manifest, codes.mean, images.eight_bits, columns, groups, samples, rows)


def _describe_condition(model: VAE) -> dict[str, Any] | None:
    """Return kind and names of a model's conditions, and the most common condition as a row of 0 and 1."""
    row, _ = model.typical_condition()
    if row is None:
        return None
    spec = model.spec
    return {"kind": spec.condition, "names": list(spec.condition_names), "typical": [int(v) for v in row[0]]}


def _compute_latent_kl(codes: Codes) -> Float[np.ndarray, " latent"]:
    """Return ``codes.latent_kl``, computed block by block."""
    blocks = projections.iterate_blocks(codes.mean)
    sums: NDArray[np.float64] = np.sum([codes.take(rows).latent_kl * len(block) for rows, block in blocks], 0)
    return sums / len(codes.mean)


def _describe_columns(columns: Sequence[Column], means: projections.CodeArray) -> list[dict[str, Any]]:
    """Return name, kind, vector and range of every column."""
    vectors = np.stack([column.vector for column in columns], axis=1)
    along = (block @ vectors for _, block in projections.iterate_blocks(means))
    ends = np.stack([(block.min(0), block.max(0)) for block in along])
    described = []
    for column, low, high in zip(columns, ends[:, 0].min(0), ends[:, 1].max(0), strict=True):
        vector = {"vector": _round(column.vector, 9)} if column.latent is None else {"latent": column.latent}
        described.append({"name": column.name, "kind": column.kind, **vector, "low": float(low), "high": float(high)})
    return described


def _describe_losses(model: VAE, codes: Codes, images: Images) -> dict[str, Any]:
    """Return quantiles of the loss terms at the posterior mean over the points, and the likelihood's constant; nats."""
    rows = subsample(len(images), NUM_MEASURED, generator(0, "losses"))
    reconstruction, rest = measure_losses(model, images.take(rows), codes.mean[rows])
    kl = codes.take(rows).kl_of_images().sum(1)
    terms = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
    shares = np.linspace(0, 1, 101)
    return {
        "constant": _round(float(rest.mean())),
        "quantiles": {name: _round(np.quantile(values, shares)) for name, values in terms.items()},
    }


def _sum_squares(differences: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, " n"]:
    squares: NDArray[Any] = np.einsum("ij,ij->i", differences, differences)
    return squares


def _round(numbers: Any, digits: int = 7) -> Any:
    """Return numbers with ``digits`` significant digits; 9 digits determine every bit of a float32."""
    return float(f"{numbers:.{digits}g}") if np.ndim(numbers) == 0 else [_round(number, digits) for number in numbers]
