"""Models and noise whose values a test gives, for closed forms and reference vectors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation
from vaelab.models import likelihoods, networks
from vaelab.models.codes import Codes
from vaelab.models.posteriors import diagonal
from vaelab.models.priors import normal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.system.noise import Noise


class GivenNoise(Noise):
    """Returns the numbers that it was made with, one draw after the other."""

    def __init__(self, *draws: Tensor) -> None:
        self._draws = list(draws)

    def normal(self, count: int, *shape: int) -> Tensor:
        """The next draw."""
        drawn = self._draws.pop(0)
        assert (count, *shape) == drawn.shape
        return drawn

    def uniform(self, count: int, *shape: int) -> Tensor:
        """The next draw."""
        return self.normal(count, *shape)


class GivenEncoder(networks.Encoder):
    """Returns the diagonal posteriors that it was made with, for any images."""

    def __init__(self, mean: Tensor, log_var: Tensor) -> None:
        super().__init__()
        self.mean, self.log_var = mean.clone().requires_grad_(), log_var.clone().requires_grad_()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Means and log-variances side by side."""
        return torch.cat([self.mean, self.log_var], 1)


class GivenDecoder(networks.Decoder):
    """A function of the code."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Its value."""
        return self._function(z)


class GivenLikelihood(likelihoods.Likelihood):
    """A function of what the decoder returned."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, decoded: Tensor) -> Any:
        """Its value."""
        return self._function(decoded)


def given_vae(
    encoder: GivenEncoder,
    decoder: Callable[[Tensor], Tensor],
    likelihood: Callable[[Tensor], Any],
    image_shape: tuple[int, int, int] = (1, 1, 1),
    num_images: int = 100,
) -> VAE:
    """A model with these parts, a diagonal posterior and the prior N(0, I)."""
    spec = Spec(image_shape, encoder.mean.shape[1], num_images)
    return VAE(
        spec,
        encoder,
        diagonal.Posterior(spec),
        normal.Prior(spec),
        GivenDecoder(decoder),
        GivenLikelihood(likelihood),
    )


def given_evaluation(
    means: NDArray[Any],
    log_vars: NDArray[Any] | float = 0.0,
    factors: NDArray[np.int64] | None = None,
    factor_names: tuple[str, ...] = (),
) -> Evaluation:
    """An evaluation of black images with these codes and factors."""
    pixels = np.zeros((len(means), 8, 8, 1), np.uint8)
    images = Images(pixels, factors=factors, factor_names=factor_names)
    codes = Codes(np.array(means, float), np.zeros(np.shape(means)) + log_vars)
    nothing = torch.zeros(1, codes.mean.shape[1])
    vae = given_vae(GivenEncoder(nothing, nothing), torch.nn.Identity(), torch.nn.Identity(), (1, 8, 8))
    return Evaluation(vae, images, encode=lambda _: codes)


def linear_vae(
    encoder: Tensor,
    log_var: float,
    decoder: Tensor,
    likelihood: likelihoods.Likelihood,
    image_shape: tuple[int, int, int],
) -> VAE:
    """A model of two matrices without biases, ``[latent, pixel]`` and ``[pixel, latent]``."""
    spec = Spec(image_shape, len(encoder), num_images=100, posterior_parameters=2 * len(encoder))
    return VAE(
        spec,
        LinearEncoder(encoder, log_var),
        diagonal.Posterior(spec),
        normal.Prior(spec),
        GivenDecoder(lambda z: (z @ decoder.to(z.dtype).T).view(-1, *image_shape)),
        likelihood,
    )


class LinearEncoder(networks.Encoder):
    """Means linear in the image, the same log-variance for all."""

    def __init__(self, weight: Tensor, log_var: float) -> None:
        super().__init__()
        self.weight, self.log_var = torch.nn.Parameter(weight), log_var

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Means and log-variances side by side."""
        mean = x.flatten(1) @ self.weight.T
        return torch.cat([mean, torch.full_like(mean, self.log_var)], 1)


def factor_grid(*sizes: int) -> NDArray[np.int64]:
    """All combinations of the values of factors of these sizes, ``[combination, factor]``."""
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))


def mixed_codes(seed: int, count: int = 80) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Codes of three latents that mix three factors, with noise and a fourth latent of noise; and the factors."""
    random = np.random.default_rng(seed)
    factors = random.integers(0, [3, 4, 2], (count, 3))
    codes = factors @ random.standard_normal((3, 4)) * [1, 1, 1, 0] + random.standard_normal((count, 4))
    return codes, factors


class FlatPixels:
    """A feature extractor that returns pixels unchanged."""

    kind = name = "pixels"
    cannot_see = "nothing"

    def features(self, images: Tensor) -> NDArray[np.float64]:
        """The pixels, float64."""
        flat: NDArray[np.float64] = images.double().flatten(1).numpy()
        return flat
