"""Decoding and encoding for the page: requests of several clients take turns on one thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vaelab.data.images import Images
from vaelab.data.tensors import as_tensor, to_float, to_uint8
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import condition_of
from vaelab.models.posteriors import PosteriorDistribution
from vaelab.models.vae import VAE
from vaelab.system.device import disable_tf32
from vaelab.system.noise import GeneratorNoise, Noise, generator
from vaelab.system.progress import progress

DECODE_VALUES = 1 << 18
"""Image values decoded per turn."""
KL_SAMPLES = 64
"""Samples of a KL without a closed form."""

Condition = Float[np.ndarray, " condition"]
Result = TypeVar("Result")


class EncodedImage(NamedTuple):
    """The posterior of an image and the terms of its loss."""

    mean: Float[np.ndarray, " latent"]
    log_var: Float[np.ndarray, " latent"]
    reconstruction: float
    """Reconstruction loss at the posterior mean, nats."""
    kl: float
    """KL to the prior, nats."""


class InferenceWorker:
    """Decodes and encodes with a model on one thread, in the order of the requests."""

    def __init__(self, model: VAE, decode_values: int = DECODE_VALUES) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, "inference")
        self._decode_length = max(1, decode_values // model.spec.num_pixels)

    def decode(
        self, codes: Float[np.ndarray, "n latent"], condition: Condition | None = None
    ) -> UInt8[np.ndarray, "n height width channel"]:
        """Return the mean images of codes under one condition; other requests may run between parts of a batch."""
        parts = [codes[start : start + self._decode_length] for start in range(0, len(codes), self._decode_length)]
        return np.concatenate([self._run(self._decode, part, condition) for part in parts])

    def encode(
        self, pixels: UInt8[np.ndarray, "height width channel"], condition: Condition | None = None
    ) -> EncodedImage:
        """Return the posterior of one image under a condition, and its loss."""
        return self._run(self._encode, pixels, condition)

    def _run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        def run() -> Result:
            with torch.inference_mode(), disable_tf32():
                return work(*arguments)

        return self._thread.submit(run).result()

    def _decode(
        self, codes: Float[np.ndarray, "n latent"], condition: Condition | None
    ) -> UInt8[np.ndarray, "n height width channel"]:
        rows = None if condition is None else np.repeat(condition[None], len(codes), 0)
        return to_uint8(self._model.decode(as_tensor(codes), rows))

    def _encode(self, pixels: UInt8[np.ndarray, "height width channel"], condition: Condition | None) -> EncodedImage:
        model = self._model
        x = to_float(as_tensor(pixels[None]).to(model.device))
        row = None if condition is None else as_tensor(condition[None]).to(model.device)
        q = model.encode_batch(x, row)
        loss = model.decode_batch(q.mean, row).reconstruction_loss(x)
        kl = compute_kl(model, q, kl_noise(model.device))
        return EncodedImage(q.mean[0].cpu().numpy(), q.log_var[0].cpu().numpy(), float(loss), float(kl))


def kl_noise(device: torch.device) -> Noise:
    """Return the noise of the KL of one image, the same for every image."""
    return GeneratorNoise(generator(0, "reading"), device)


def compute_kl(model: VAE, q: PosteriorDistribution, noise: Noise) -> Float[Tensor, " batch"]:
    """Return KL(q ‖ p), nats: in closed form where there is one, else the mean over KL_SAMPLES samples."""
    kl: Tensor = model.density().kl(q, q.draw(noise, KL_SAMPLES)).sum(1)
    return kl


@torch.inference_mode()
def measure_losses(
    model: VAE, images: Images, codes: Float[np.ndarray, "n latent"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the reconstruction loss of each image at its code, and the rest of −ln p(x|z); nats, float64."""
    losses, rests = np.empty(len(images)), np.empty(len(images))
    conditions = condition_of(model.spec, images)
    with disable_tf32(), progress("measuring losses", len(images)) as bar:
        for start, stop in chunk_spans(len(images), model.spec.image_shape):
            x = images.floats(start, stop, model.device)
            rows = None if conditions is None else conditions[start:stop].to(model.device)
            p_x = model.decode_batch(torch.from_numpy(codes[start:stop]).to(model.device), rows)
            loss = p_x.reconstruction_loss(x).cpu().double()
            losses[start:stop] = loss.numpy()
            rests[start:stop] = (-p_x.log_prob(x).cpu().double() - loss).numpy()
            bar.advance(stop - start)
    return losses, rests
