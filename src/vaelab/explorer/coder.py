"""A model under a person's hand: codes to images and back, one request after the other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vaelab.data.images import Images, as_tensor, to_float, to_uint8
from vaelab.models.codes import chunk_spans
from vaelab.models.vae import VAE
from vaelab.system.device import disable_tf32, progress

TURN = 1 << 18
"""Values of the images that are decoded in one go; between two goes other requests have their turn."""

Result = TypeVar("Result")


class Reading(NamedTuple):
    """What a model makes of one image."""

    mean: Float[np.ndarray, " latent"]
    log_var: Float[np.ndarray, " latent"]
    reconstruction: float
    """The likelihood's error at the posterior mean, nats."""


class Coder:
    """Decodes and reads for many requests at once: one thread does the work, first come, first served."""

    def __init__(self, model: VAE) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, "coder")

    def decode(self, codes: Float[np.ndarray, "n latent"]) -> UInt8[np.ndarray, "n height width channel"]:
        """Mean images of codes."""
        length = max(1, TURN // self._model.spec.num_pixels)
        parts = [codes[start : start + length] for start in range(0, len(codes), length)]
        return np.concatenate([self._in_turn(partial(self._decode, part)) for part in parts])

    def read(self, pixels: UInt8[np.ndarray, "height width channel"]) -> Reading:
        """Posterior of one image and its reconstruction's error."""
        return self._in_turn(partial(self._read, pixels))

    def _in_turn(self, work: Callable[[], Result]) -> Result:
        def run() -> Result:
            with torch.inference_mode(), disable_tf32():
                return work()

        return self._thread.submit(run).result()

    def _decode(self, codes: Float[np.ndarray, "n latent"]) -> UInt8[np.ndarray, "n height width channel"]:
        return to_uint8(self._model.decode(as_tensor(codes)))

    def _read(self, pixels: UInt8[np.ndarray, "height width channel"]) -> Reading:
        x = to_float(as_tensor(pixels[None]).to(self._model.device))
        posterior = self._model.posterior(x)
        error = self._model.pixels(posterior.mean).reconstruction_loss(x)
        return Reading(posterior.mean[0].cpu().numpy(), posterior.log_var[0].cpu().numpy(), float(error))


@torch.inference_mode()
def measure_errors(
    model: VAE, images: Images, codes: Float[np.ndarray, "n latent"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """For each image the likelihood's error at its code, and what −ln p(x|z) has besides; nats, float64."""
    errors, rests = np.empty(len(images)), np.empty(len(images))
    with disable_tf32(), progress("reading", len(images)) as bar:
        for start, stop in chunk_spans(len(images), model.spec.image_shape):
            x = images.floats(start, stop, model.device)
            pixels = model.pixels(torch.from_numpy(codes[start:stop]).to(model.device))
            error = pixels.reconstruction_loss(x).double()
            errors[start:stop] = error.cpu().numpy()
            rests[start:stop] = (-pixels.log_prob(x).double() - error).cpu().numpy()
            bar.advance(stop - start)
    return errors, rests
