"""The variational autoencoder: encode, decode, sample, reconstruct, and the one forward pass objectives build on."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.data.images import Images, as_model_input, number_tensor
from vaelab.models.distributions import DiagonalNormal, guard_log_var
from vaelab.models.spec import Spec
from vaelab.system.arguments import check_whole, describe
from vaelab.system.device import Noise, disable_tf32, progress
from vaelab.system.distributed import ranks

CHUNK = 512
"""Images that go through a network at once where a person asks for many."""
CHUNK_BYTES = 1 << 26
"""Of such images in float32; of larger ones fewer go at once."""


def chunk_length(image_shape: tuple[int, int, int]) -> int:
    """How many images of this shape go through a network at once where a person asks for many."""
    return max(1, min(CHUNK, CHUNK_BYTES // (4 * math.prod(image_shape))))


ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[Any], Tensor)


@runtime_checkable
class Pixels(Protocol):
    """A distribution over images, as likelihoods return it."""

    @property
    def mean(self) -> Tensor:
        """Expected image ``[B, C, H, W]``."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Normalised log density or probability, nats per image ``[B]``."""

    def error(self, x: Tensor) -> Tensor:
        """What the objective minimises, nats per image ``[B]``."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Random images ``[B, C, H, W]``."""


@runtime_checkable
class Fitted(Protocol):
    """A likelihood with a part that is set from images and not learned, such as an optimal σ."""

    def statistic(self, decoded: Tensor, x: Tensor) -> Tensor:
        """What ``fit`` must know of each image ``[B]``, from what the decoder returned for it; no gradient."""

    def fit(self, statistics: Tensor) -> None:
        """Set that part, in place, from the statistics of many images ``[N]``; no gradient."""


class Pass(NamedTuple):
    """One image batch through the whole model."""

    posterior: DiagonalNormal
    z: Float[Tensor, "batch latent"]
    pixels: Pixels
    reconstruction: Float[Tensor, " batch"]
    """What the likelihood counts as error, nats per image."""
    kl: Float[Tensor, "batch latent"]
    """KL to the prior, nats per image and latent."""


class VAE(nn.Module):
    """A variational autoencoder with prior N(0, I) (Kingma & Welling 2014, 1312.6114)."""

    def __init__(self, spec: Spec, encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.noise: Noise | None = None
        """Where the forward pass takes its randomness from; training and evaluation set it."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def num_parameters(self) -> dict[str, int]:
        """Trainable parameters of encoder, decoder and likelihood."""
        parts = {"encoder": self.encoder, "decoder": self.decoder, "likelihood": self.likelihood}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

    # -- for objectives, metrics and figures: tensors on the device, gradients flow --

    def posterior(self, x: Float[Tensor, "batch channel height width"]) -> DiagonalNormal:
        """q(z|x)."""
        mean, log_var = self.encoder(x)
        return DiagonalNormal(mean.to(x.dtype), guard_log_var(log_var.to(x.dtype)))

    def pixels(self, z: Float[Tensor, "batch latent"]) -> Pixels:
        """p(x|z)."""
        pixels: Pixels = self.likelihood(self.decoder(z).to(z.dtype))
        return pixels

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Pass:
        """Encode, draw one sample of each posterior, decode, and measure both terms of the ELBO.

        In training, a likelihood that has something to fit is fitted to the whole batch first.
        """
        assert self.noise is not None, "set vae.noise first"
        posterior = self.posterior(x)
        z = posterior.rsample(self.noise.normal(len(x), self.spec.latent_dim))
        decoded = self.decoder(z).to(z.dtype)
        if isinstance(self.likelihood, Fitted) and self.training and torch.is_grad_enabled():
            self.likelihood.fit(self.gather(self.likelihood.statistic(decoded, x)))
        pixels: Pixels = self.likelihood(decoded)
        return Pass(posterior, z, pixels, pixels.reconstruction_loss(x), posterior.kl())

    def gather(self, codes: Float[Tensor, "own ..."]) -> Float[Tensor, "batch ..."]:
        """Codes of the whole batch where several processes share it, for terms that compare images with one another.

        Gradients flow back to the rank that each code came from; every rank computes the same term from all of them.
        """
        return ranks().gather(codes, self.noise.share if self.noise is not None else None)

    @torch.no_grad()
    def fit_likelihood(self, images: Images, generator: torch.Generator) -> None:
        """Fit the likelihood to ``images``, all of them, where it has something to fit; on this process alone.

        From one sample of each posterior, as the ELBO counts reconstructions, in float32.
        """
        if not isinstance(self.likelihood, Fitted):
            return
        was_training, statistics = self.training, []
        self.eval()
        with disable_tf32(), progress("fitting the likelihood", len(images)) as bar:
            length = chunk_length(self.spec.image_shape)
            for start in range(0, len(images), length):
                x = images.floats(start, min(start + length, len(images)), self.device)
                z = self.posterior(x).sample(generator)
                statistics.append(self.likelihood.statistic(self.decoder(z).to(z.dtype), x))
                bar.advance(len(x))
        self.likelihood.fit(torch.cat(statistics))
        self.train(was_training)

    # -- for people: arrays or tensors of any batch size, no gradients --

    @torch.no_grad()
    def encode(self, images: Any) -> DiagonalNormal:
        """q(z|x) of images: mean and log-variance ``[N, latent_dim]`` on the CPU.

        ``images``: uint8 in 0 … 255 or float in [0, 1]; channels first or last (none for grey); one or many; array,
        tensor or ``Images``. ValueError when the shape does not fit, for no images, and for numbers that are not finite
        or outside [0, 1]; TypeError for what is no array.
        """
        x, _ = as_model_input(images, self.spec.image_shape)
        if len(x) == 0:
            raise ValueError("no images to encode: the first axis is empty")
        posteriors = [self.posterior(chunk.to(self.device)) for chunk in self._chunks(x)]
        return DiagonalNormal(
            _join([p.mean for p in posteriors], self.spec.latent_dim),
            _join([p.log_var for p in posteriors], self.spec.latent_dim),
        )

    @torch.no_grad()
    def decode(self, z: ArrayOrTensor) -> ArrayOrTensor:
        """Expected images ``[N, C, H, W]`` in [0, 1] of codes ``[N, latent_dim]``, or of one; array in, array out.

        ValueError for codes of another shape, none, or some that are not finite in float32; TypeError for no numbers.
        """
        codes = self._as_codes(z)
        decoded = [self.pixels(chunk.to(self.device)).mean for chunk in self._chunks(codes)]
        images = _join(decoded, *self.spec.image_shape)
        return images if isinstance(z, Tensor) else images.numpy()

    def _as_codes(self, z: Any) -> Float[Tensor, "n latent"]:
        """Codes in float32, checked."""
        wanted = f"numbers [N, {self.spec.latent_dim}]"
        if isinstance(z, DiagonalNormal):
            raise TypeError(f"codes must be {wanted}; got a posterior, of which .mean is the code")
        codes = z if isinstance(z, Tensor) else number_tensor(z, "codes", "iuf", wanted)
        if codes.is_complex() or codes.dtype == torch.bool:
            raise ValueError(f"codes must be {wanted}; got {codes.dtype}")
        shape = list(codes.shape)
        codes = codes.float().reshape(1, -1) if codes.ndim == 1 else codes.float()
        if codes.ndim != 2 or codes.shape[1] != self.spec.latent_dim:
            raise ValueError(f"codes of shape {shape} do not fit this model: it wants [N, {self.spec.latent_dim}]")
        if len(codes) == 0:
            raise ValueError(f"no codes: got shape {shape}")
        if not bool(torch.isfinite(codes).all()):
            raise ValueError("codes must be finite; some of their values are NaN, infinite or too large for float32")
        return codes

    def sample(self, n: int, generator: torch.Generator | int | None = None) -> Float[Tensor, "n channel height width"]:
        """``n`` expected images ``[n, C, H, W]`` of codes drawn from the prior; ``generator`` may be a seed.

        ValueError for ``n`` below 1, TypeError for what is no whole number, seed or CPU generator of torch.
        """
        n = check_whole(n, "n", 1)
        if generator is not None and not isinstance(generator, torch.Generator):
            if not isinstance(generator, int | np.integer) or isinstance(generator, bool):
                raise TypeError(f"generator must be a seed or a torch.Generator; got {describe(generator)}")
            seed = check_whole(generator, "a seed", -(1 << 63), (1 << 63) - 1)
            generator = torch.Generator().manual_seed(seed)
        return self.decode(torch.randn(n, self.spec.latent_dim, generator=generator))

    def reconstruct(self, images: Any) -> Any:
        """Expected images ``[N, C, H, W]`` in [0, 1] of the posterior means of ``images``; array in, array out."""
        _, is_array = as_model_input(images, self.spec.image_shape)
        reconstructions = self.decode(self.encode(images).mean)
        return reconstructions.numpy() if is_array else reconstructions

    def _chunks(self, x: Tensor) -> Iterator[Tensor]:
        return iter(torch.split(x, chunk_length(self.spec.image_shape))) if len(x) else iter(())


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight and bias from U(−1/√f, 1/√f), f the fan-in of the layer's weight.

    This is what torch's layers do by default (He-uniform with a = √5), here from a generator of its own. For transposed
    convolutions f counts the output channels, as torch does.
    """
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim >= 2:
            bound = 1 / math.sqrt(weight[0].numel())
            bias = getattr(part, "bias", None)
            with torch.no_grad():
                for parameter in (weight, bias):
                    if parameter is not None:
                        parameter.uniform_(-bound, bound, generator=generator)


def _join(parts: list[Tensor], *shape: int) -> Tensor:
    return torch.cat(parts).cpu() if parts else torch.empty(0, *shape)
