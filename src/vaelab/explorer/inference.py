"""A model under a person's hand: codes to images and back, one request after the other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vaelab.data.images import Images, as_tensor, to_float, to_uint8
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import condition_of
from vaelab.models.vae import VAE
from vaelab.system.device import disable_tf32
from vaelab.system.progress import progress
from vaelab.system.seeds import GeneratorNoise, generator

TURN = 1 << 18
"""Values of the images that are decoded in one go; between two goes other requests have their turn."""

KL_SAMPLES = 64
"""Samples for the KL of one image, where it has no closed form."""
Condition = Float[np.ndarray, " condition"]

Result = TypeVar("Result")


class EncodedImage(NamedTuple):
    """What a model makes of one image."""

    mean: Float[np.ndarray, " latent"]
    log_var: Float[np.ndarray, " latent"]
    reconstruction: float
    """The reconstruction loss at the posterior mean, nats."""
    kl: float
    """KL to the prior, nats."""


class InferenceWorker:
    """Decodes and reads for many requests at once: one thread does the work, first come, first served."""

    def __init__(self, model: VAE) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, "coder")

    def decode(
        self, codes: Float[np.ndarray, "n latent"], condition: Condition | None = None
    ) -> UInt8[np.ndarray, "n height width channel"]:
        """Mean images of codes, under one condition."""
        length = max(1, TURN // self._model.spec.num_pixels)
        parts = [codes[start : start + length] for start in range(0, len(codes), length)]
        return np.concatenate([self._in_turn(partial(self._decode, part, condition)) for part in parts])

    def encode(
        self, pixels: UInt8[np.ndarray, "height width channel"], condition: Condition | None = None
    ) -> EncodedImage:
        """Posterior of one image under a condition, its KL, and the loss of its reconstruction."""
        return self._in_turn(partial(self._encode, pixels, condition))

    def _in_turn(self, work: Callable[[], Result]) -> Result:
        def run() -> Result:
            with torch.inference_mode(), disable_tf32():
                return work()

        return self._thread.submit(run).result()

    def _decode(
        self, codes: Float[np.ndarray, "n latent"], condition: Condition | None
    ) -> UInt8[np.ndarray, "n height width channel"]:
        given = None if condition is None else np.repeat(condition[None], len(codes), 0)
        return to_uint8(self._model.decode(as_tensor(codes), given))

    def _encode(self, pixels: UInt8[np.ndarray, "height width channel"], condition: Condition | None) -> EncodedImage:
        model = self._model
        x = to_float(as_tensor(pixels[None]).to(model.device))
        given = None if condition is None else as_tensor(condition[None]).to(model.device)
        q = model.encode_batch(x, given)
        loss = model.decode_batch(q.mean, given).reconstruction_loss(x)
        draw = q.draw(GeneratorNoise(generator(0, "reading"), model.device), KL_SAMPLES)
        kl = model.density().kl(q, draw).sum()
        return EncodedImage(q.mean[0].cpu().numpy(), q.log_var[0].cpu().numpy(), float(loss), float(kl))


@torch.inference_mode()
def measure_losses(
    model: VAE, images: Images, codes: Float[np.ndarray, "n latent"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """For each image the likelihood's error at its code, and what −ln p(x|z) has besides; nats, float64."""
    errors, rests = np.empty(len(images)), np.empty(len(images))
    conditions = condition_of(model.spec, images)
    with disable_tf32(), progress("reading", len(images)) as bar:
        for start, stop in chunk_spans(len(images), model.spec.image_shape):
            x = images.floats(start, stop, model.device)
            given = None if conditions is None else conditions[start:stop].to(model.device)
            pixels = model.decode_batch(torch.from_numpy(codes[start:stop]).to(model.device), given)
            error = pixels.reconstruction_loss(x).double()
            errors[start:stop] = error.cpu().numpy()
            rests[start:stop] = (-pixels.log_prob(x).double() - error).cpu().numpy()
            bar.advance(stop - start)
    return errors, rests
