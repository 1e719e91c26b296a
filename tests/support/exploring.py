"""Small payloads of the explorer, and what its tests compute themselves."""

from typing import Any

import numpy as np
from small import make_images, make_recipe

from vaelab.build import build
from vaelab.data.images import Images
from vaelab.explorer.payload import Payload, make_payload
from vaelab.models.codes import Codes, encode_images
from vaelab.models.samplers import make_sampler
from vaelab.models.vae import VAE
from vaelab.recipe import signature_schema
from vaelab.system import registry

FEW = {"steps": 20, "hidden": 16, "width": 16, "layers": 1}
"""Options of samplers that are trained."""


def make_annotated(count: int = 60, **without: None) -> Images:
    """Images with labels, factors and attributes; ``labels=None`` and so on leaves some of them out."""
    random = np.random.default_rng(1)
    known: dict[str, Any] = {
        "labels": random.integers(0, 4, count),
        "label_names": ("nought", "one", "two", "three", "nobody"),
        "factors": np.stack([random.integers(0, size, count) for size in (1, 3, 40)], axis=1),
        "factor_names": ("alone", "few", "many"),
        "factor_sizes": (1, 3, 40),
        "attributes": np.stack([random.random(count) < share for share in (0.3, 2, 0.6)], axis=1),
        "attribute_names": ("Pale_Skin", "Human", "Smiling"),
    }
    for kind in without:
        known = {key: value for key, value in known.items() if key.rstrip("s").split("_")[0] != kind.rstrip("s")}
    return Images(make_images(count).pixels, **known)


def make_small_payload(
    images: Images, codes: Codes | None = None, sampler: str = "prior", **overrides: Any
) -> tuple[Payload, VAE]:
    """A small model and its payload on ``images``, with the given codes or those of the model."""
    recipe = make_recipe(**overrides)
    vae, _ = build(recipe.resolve(images.image_shape, len(images)))
    vae.eval()
    codes = codes or encode_images(vae, images)
    known = signature_schema(registry.load("samplers", sampler).Sampler)
    fitted = make_sampler(sampler, vae, lambda: images, **{key: FEW[key] for key in FEW if key in known})
    return make_payload("small", recipe, vae, codes, images, 100, "digest", fitted), vae


def make_codes(means: np.ndarray, log_var: float = -4.0) -> Codes:
    return Codes(means.astype(np.float32), np.full(means.shape, log_var, np.float32))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
