"""A scene: what the page is told of a run before anybody moves, and the arrays that it may ask for afterwards."""

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
from vaelab.data.images import Images, subsample
from vaelab.explorer import axes
from vaelab.explorer.groups import Attribute, Group, make_attributes, make_groups
from vaelab.explorer.inference import InferenceWorker, measure_losses
from vaelab.explorer.maps import Column, make_columns, make_maps
from vaelab.models.codes import ACTIVE_KL, Codes
from vaelab.models.conditions import condition_of
from vaelab.models.samplers import Sampler
from vaelab.models.vae import VAE
from vaelab.recipe import Recipe
from vaelab.system.seeds import generator

FORMAT = 1
SAMPLES = 512
"""Codes that the page may show on \"Sample\" where it cannot draw them itself."""
MEASURED = 2_000
"""Images whose losses are measured."""
NEAREST, CANDIDATES, ROWS = 5, 32, 1024
"""Points that are named, that are looked at in float64, and that are looked at at once, in a processor's cache."""


@dataclass(frozen=True, eq=False)
class Payload:
    """One run for the page: ``manifest`` is what JSON can hold, the rest is asked for by index."""

    manifest: dict[str, Any]
    means: Float[np.ndarray, "n latent"]
    """Posterior means of the points, float32."""
    pixels: PixelArray
    """Images of the points as the model sees them, uint8 ``[N, H, W, C]``."""
    lines: Sequence[Column]
    classes: Sequence[Group]
    samples: Float[np.ndarray, "draw latent"]
    """Codes drawn from the sampler, float32, for a page that cannot draw them itself; none for N(0, I)."""
    conditions: UInt8[np.ndarray, "n condition"] | None = None
    """Conditions of the points; None for an unconditional model."""

    @cached_property
    def json(self) -> bytes:
        """The manifest as it travels."""
        return json.dumps(self.manifest, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    def column(self, index: int) -> Int16[np.ndarray, " n"]:
        """Every point along one column: −32768 at its ``low``, 32767 at its ``high``."""
        low, high = (self.manifest["columns"][index][key] for key in ("low", "high"))
        scale = 65535 / (high - low) if high > low else 0.0
        along: NDArray[np.float64] = self.lines[index].along(self.means)
        steps: NDArray[np.int16] = (np.rint((along - low) * scale).clip(0, 65535) - 32768).astype(np.int16)
        return steps

    def group(self, index: int) -> UInt8[np.ndarray, " n"]:
        """Every point's class in one group."""
        members: NDArray[np.uint8] = self.classes[index].members
        return members

    def codes(self, indices: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some latent"]:
        """Posterior means of points, float32."""
        means: NDArray[np.float32] = self.means[indices]
        return means

    def images(self, indices: Int[np.ndarray, " some"]) -> UInt8[np.ndarray, "some height width channel"]:
        """Images of points as the model sees them."""
        pixels: NDArray[np.uint8] = np.asarray(self.pixels[indices.astype(np.int64)])
        return pixels

    def nearest(
        self, code: Float[np.ndarray, " latent"]
    ) -> tuple[Int[np.ndarray, " some"], Float[np.ndarray, " some"]]:
        """The five points whose posterior means are nearest a code, nearest first, and how far away they are."""
        squares = np.concatenate([_squares(self.means[i : i + ROWS] - code) for i in range(0, len(self.means), ROWS)])
        near = np.arange(len(squares))
        if len(squares) > CANDIDATES:
            near = np.argpartition(squares, CANDIDATES)[:CANDIDATES]
        exact = _squares(self.means[near].astype(np.float64) - code)
        best = np.lexsort((near, exact))[:NEAREST]
        return near[best], np.sqrt(exact[best])


class ServedRun(NamedTuple):
    """One run as the page meets it."""

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
    """The scene of a run: its points are ``images``, as the model sees them, and their ``codes``.

    ``total``: how many training images there are; ``images_sha256``: by what two runs know that they have the same
    points; ``sampler``: where "Sample" takes its codes from. ValueError for a model with one latent, and for one whose
    codes are not numbers.
    """
    if codes.mean.shape[1] < 2:
        raise ValueError(f"{name} has one latent, and a map needs two; vaelab figures shows what it does")
    if not (np.isfinite(codes.mean).all() and np.isfinite(codes.log_var).all()):
        raise ValueError(f"{name}: some of its codes are not finite, so there is no map of them; try vaelab doctor")
    kl, covariance = _latent_kl(codes), axes.covariance(codes.mean)
    order = [int(latent) for latent in np.argsort(-kl, kind="stable")]
    attributes = make_attributes(codes.mean, images)
    groups = make_groups(images, attributes)
    labels = next((group.members for group in groups if group.name == "label"), None)
    columns = make_columns(codes, covariance, labels, attributes)
    height, width, channels = (int(side) for side in images.pixels.shape[1:])
    is_normal = sampler.name == "prior" and "standard_normal_prior" in model.provides
    samples = np.empty((0, len(kl)), np.float32)
    if not is_normal:
        samples = sampler.sample(SAMPLES, generator(0, "explorer draws")).float().numpy()
    conditions = condition_of(model.spec, images)
    manifest = {
        "format": FORMAT,
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
        **_losses(model, codes, images),
        "kl": _rounded(kl),
        "order": order,
        "active": int((kl > ACTIVE_KL).sum()),
        "mean": _exact(codes.mean.mean(0, dtype=np.float64)),
        "std": _exact(np.sqrt(np.diag(covariance))),
        "columns": _describe_columns(columns, codes.mean),
        "maps": make_maps(codes, covariance, labels, columns, order),
        "groups": [{"name": group.name, "values": group.values} for group in groups],
        "attributes": [_describe_attribute(attribute) for attribute in attributes],
        "sizes": {
            "column": 2 * len(codes.mean),
            "group": len(codes.mean),
            "codes": codes.mean.nbytes,
            "image": height * width * channels,
        },
    }
    rows = None if conditions is None else conditions.numpy().astype(np.uint8)
    return Payload(manifest, codes.mean, images.pixels, columns, groups, samples, rows)


def _describe_condition(model: VAE) -> dict[str, Any] | None:
    """Kind and names of a model's conditions, and the most common one as a row of 0 and 1."""
    row, _ = model.typical_condition()
    if row is None:
        return None
    spec = model.spec
    return {"kind": spec.condition, "names": list(spec.condition_names), "typical": [int(v) for v in row[0]]}


def _describe_attribute(attribute: Attribute) -> dict[str, Any]:
    vectors = {"direction": _exact(attribute.direction), "without": _exact(attribute.without)}
    return {"name": attribute.name, **vectors, "score": _rounded(attribute.score)}


def _latent_kl(codes: Codes) -> Float[np.ndarray, " latent"]:
    """``codes.latent_kl``, from a few thousand codes at a time."""
    parts = [codes.take(where).latent_kl * len(part) for where, part in axes.blocks(codes.mean)]
    mean: NDArray[np.float64] = np.sum(parts, 0) / len(codes.mean)
    return mean


def _describe_columns(columns: Sequence[Column], means: axes.Codes) -> list[dict[str, Any]]:
    """Every column with the range of the points along it."""
    vectors = np.stack([column.vector for column in columns], axis=1)
    along = (part @ vectors for _, part in axes.blocks(means))
    ends = np.stack([(part.min(0), part.max(0)) for part in along])
    lows, highs = ends[:, 0].min(0), ends[:, 1].max(0)
    described = []
    for column, low, high in zip(columns, lows, highs, strict=True):
        what = {"vector": _exact(column.vector)} if column.latent is None else {"latent": column.latent}
        described.append({"name": column.name, "kind": column.kind, **what, "low": float(low), "high": float(high)})
    return described


def _losses(model: VAE, codes: Codes, images: Images) -> dict[str, Any]:
    """Quantiles of the terms of the ELBO over the points, read at the posterior mean, and its constant; nats."""
    some = subsample(len(images), MEASURED, generator(0, "losses"))
    reconstruction, rest = measure_losses(model, images.take(some), codes.mean[some])
    kl = codes.take(some).kl_of_images().sum(1)
    terms = {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
    shares = np.linspace(0, 1, 101)
    return {
        "constant": _rounded(float(rest.mean())),
        "quantiles": {name: _rounded(np.quantile(values, shares)) for name, values in terms.items()},
    }


def _squares(differences: Float[np.ndarray, "n latent"]) -> Float[np.ndarray, " n"]:
    squares: NDArray[Any] = np.einsum("ij,ij->i", differences, differences)
    return squares


def _rounded(numbers: Any) -> Any:
    """Numbers to seven significant digits, as many as float32 is sure of."""
    return float(f"{numbers:.7g}") if np.ndim(numbers) == 0 else [_rounded(number) for number in numbers]


def _exact(numbers: Float[np.ndarray, " n"]) -> list[float]:
    """Numbers from which float32 gets each bit back."""
    return [float(f"{number:.9g}") for number in numbers]
