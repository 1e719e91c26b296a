"""The variational autoencoder: one forward pass for objectives and metrics, and encode, decode, sample for people."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.data.images import Batch, Images, as_model_input, number_tensor
from vaelab.models.conditions import condition_columns, condition_of, parse_condition
from vaelab.models.likelihoods import Calibrated, Likelihood, PixelDistribution
from vaelab.models.networks import Decoder, Encoder
from vaelab.models.posteriors import Draw, Posterior, PosteriorDistribution
from vaelab.models.priors import Density, Prior
from vaelab.models.spec import Spec
from vaelab.system.arguments import check_whole, describe
from vaelab.system.device import disable_tf32
from vaelab.system.distributed import current_group
from vaelab.system.progress import progress
from vaelab.system.seeds import GeneratorNoise, Noise

EVAL_BATCH_SIZE = 512
"""Images per chunk when a person encodes or decodes many."""
EVAL_BATCH_BYTES = 1 << 26
"""Bytes per chunk in float32; larger images go in smaller chunks."""
REQUIREMENTS = {
    "diagonal_posterior": 'a diagonal posterior (posterior.name = "diagonal")',
    "standard_normal_prior": 'the prior N(0, I) (prior.name = "normal")',
}
"""What an objective or a metric may need of a model, in words."""


def chunk_length(image_shape: tuple[int, int, int]) -> int:
    """Images of this shape per chunk when a person encodes or decodes many."""
    return max(1, min(EVAL_BATCH_SIZE, EVAL_BATCH_BYTES // (4 * math.prod(image_shape))))


ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[Any], Tensor)


@dataclass(frozen=True)
class VAEOutput:
    """One batch through the whole model: S samples of the posterior of B images, G groups of latents.

    G is the number of latents where the KL is a sum over them (diagonal posterior, factorised prior), otherwise 1.
    """

    q: PosteriorDistribution
    """q(z|x)."""
    prior: Density
    """p(z)."""
    draw: Draw
    p_x: PixelDistribution
    """p(x|z) of every sample."""
    reconstruction: Float[Tensor, "sample batch"]
    """The likelihood's reconstruction loss, nats per image."""
    kl: Float[Tensor, "batch group"]
    """KL(q ‖ p), nats: in closed form where there is one, else the mean over samples of ln q(z|x) − ln p(z)."""
    losses: Mapping[str, Tensor]
    """Named terms that the posterior adds to the loss."""

    @property
    def z(self) -> Float[Tensor, "sample batch latent"]:
        """Samples of q(z|x)."""
        return self.draw.z

    @cached_property
    def log_q(self) -> Float[Tensor, "sample batch"]:
        """ln q(z|x), nats; computed on first use."""
        return self.q.log_prob(self.z) if self.draw.log_q is None else self.draw.log_q

    @cached_property
    def log_p(self) -> Float[Tensor, "sample batch"]:
        """ln p(z), nats; computed on first use."""
        return self.prior.log_prob(self.z)

    @property
    def mean_reconstruction(self) -> Float[Tensor, ""]:
        """Mean over samples and images, nats per image."""
        return self.reconstruction.mean()

    @property
    def mean_kl(self) -> Float[Tensor, ""]:
        """Mean over images, nats per image."""
        return self.kl.sum(1).mean()


class VAE(nn.Module):
    """A variational autoencoder (Kingma & Welling 2014, 1312.6114), conditional if its spec has condition names."""

    condition_rows: Tensor

    def __init__(
        self,
        spec: Spec,
        encoder: Encoder,
        posterior: Posterior,
        prior: Prior,
        decoder: Decoder,
        likelihood: Likelihood,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.posterior = posterior
        self.prior = prior
        rows = torch.empty(0, spec.condition_dim, dtype=torch.uint8)
        self.register_buffer("condition_rows", rows, persistent=False)  # the model file keeps them under another name

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def num_parameters(self) -> dict[str, int]:
        """Trainable parameters of each part."""
        names = ("encoder", "decoder", "likelihood", "posterior", "prior")
        return {name: sum(p.numel() for p in getattr(self, name).parameters()) for name in names}

    @property
    def provides(self) -> frozenset[str]:
        """Which of REQUIREMENTS the posterior and the prior meet."""
        return self.posterior.provides | self.prior.provides

    @property
    def has_latent_kl(self) -> bool:
        """Whether the KL is a sum over latents, in closed form."""
        return {"diagonal_posterior", "standard_normal_prior"} <= self.provides

    def typical_condition(self) -> tuple[Tensor | None, str]:
        """The condition of most training images ``[1, K]``, and its name; (None, "") for an unconditional model."""
        if self.spec.condition == "none":
            return None, ""
        rows, counts = torch.unique(self.condition_rows.cpu(), dim=0, return_counts=True)
        row = rows[counts.argmax()].float()
        names = [name for name, value in zip(self.spec.condition_names, row.tolist(), strict=True) if value]
        return row[None], ", ".join(names) or "none of the attributes"

    # -- for objectives, metrics and figures: tensors on the device, gradients flow --

    def encode_batch(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> PosteriorDistribution:
        """q(z|x); in ``dtype`` from the encoder's output on (default: that of ``x``)."""
        q: PosteriorDistribution = self.posterior(self.encoder(x, condition).to(dtype or x.dtype))
        return q

    def decode_batch(
        self,
        z: Float[Tensor, "*samples batch latent"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> PixelDistribution:
        """p(x|z)."""
        pixels: PixelDistribution = self.likelihood(self._decoded(z, condition))
        return pixels

    def density(self) -> Density:
        """p(z)."""
        density: Density = self.prior(self.encode_batch)
        return density

    def forward(self, batch: Batch, noise: Noise, samples: int = 1) -> VAEOutput:
        """Encode, draw ``samples`` codes of each posterior, decode, and measure both terms of the ELBO.

        In training, a likelihood that is calibrated is calibrated to the whole batch first.
        """
        condition = condition_columns(self.spec, batch.labels, batch.attributes)
        q, prior = self.encode_batch(batch.x, condition), self.density()
        draw = q.draw(noise, samples)
        decoded = self._decoded(draw.z, condition)
        if isinstance(self.likelihood, Calibrated) and self.training and torch.is_grad_enabled():
            statistics = self.likelihood.calibration_statistic(decoded, batch.x).mean(0)
            self.likelihood.calibrate(current_group().all_gather(statistics, noise.shard))
        p_x: PixelDistribution = self.likelihood(decoded)
        return VAEOutput(q, prior, draw, p_x, p_x.reconstruction_loss(batch.x), prior.kl(q, draw), q.losses())

    def _decoded(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """What the decoder returns for codes ``[*samples, B, d]``, in their type and with their leading axes."""
        flat = z.flatten(0, -2)
        if condition is not None:
            condition = condition.expand(*z.shape[:-1], -1).flatten(0, -2)
        decoded: Tensor = self.decoder(flat, condition).to(z.dtype)
        return decoded if z.ndim == 2 else decoded.view(*z.shape[:-1], *decoded.shape[1:])

    @torch.no_grad()
    def calibrate_likelihood(self, images: Images, generator: torch.Generator) -> None:
        """Calibrate the likelihood to all of ``images``, on this process alone; others are left alone.

        Uses one sample of each posterior, as the ELBO does, in float32.
        """
        if not isinstance(self.likelihood, Calibrated):
            return
        was_training, statistics = self.training, []
        self.eval()
        noise, length = GeneratorNoise(generator, self.device), chunk_length(self.spec.image_shape)
        with disable_tf32(), progress("calibrating the likelihood", len(images)) as bar:
            for start in range(0, len(images), length):
                batch = images.batch(start, start + length, self.device)
                condition = condition_columns(self.spec, batch.labels, batch.attributes)
                z = self.encode_batch(batch.x, condition).draw(noise).z[0]
                statistics.append(self.likelihood.calibration_statistic(self._decoded(z, condition), batch.x))
                bar.advance(len(batch.x))
        self.likelihood.calibrate(torch.cat(statistics))
        self.train(was_training)

    # -- for people: arrays or tensors of any batch size, no gradients --

    @torch.no_grad()
    def encode(self, images: Any, condition: Any = None) -> PosteriorDistribution:
        """q(z|x) of images: ``mean`` and ``log_var`` ``[N, latent_dim]`` on the CPU.

        ``images``: uint8 in 0 … 255 or float in [0, 1]; channels first or last (none for grey); one or many; array,
        tensor or ``Images``. ``condition``: the classes or attributes of the images, for a conditional model; those of
        ``Images`` are known. ValueError when the shape does not fit, for no images, for numbers that are not finite or
        outside [0, 1], and where the condition is missing; TypeError for what is no array.
        """
        x, _ = as_model_input(images, self.spec.image_shape)
        if len(x) == 0:
            raise ValueError("no images to encode: the first axis is empty")
        vectors = self._conditions(images, condition, len(x))
        length, parts = chunk_length(self.spec.image_shape), []
        for start in range(0, len(x), length):
            given = None if vectors is None else vectors[start : start + length].to(self.device)
            parts.append(self.encoder(x[start : start + length].to(self.device), given).float().cpu())
        q: PosteriorDistribution = self.posterior(torch.cat(parts).to(self.device))
        return q.to(torch.device("cpu"))

    @torch.no_grad()
    def decode(self, z: ArrayOrTensor, condition: Any = None) -> ArrayOrTensor:
        """Expected images ``[N, C, H, W]`` in [0, 1] of codes ``[N, latent_dim]``, or of one; array in, array out.

        ``condition``: for a conditional model, a class, a mapping of attributes, or one per code. ValueError for codes
        of another shape, none, or some that are not finite in float32; TypeError for no numbers.
        """
        codes = self._as_codes(z)
        if self.spec.condition != "none" and condition is None:
            raise ValueError("this model is conditional: give the condition of the codes")
        vectors = self._conditions(None, condition, len(codes))
        length, parts = chunk_length(self.spec.image_shape), []
        for start in range(0, len(codes), length):
            given = None if vectors is None else vectors[start : start + length].to(self.device)
            parts.append(self.decode_batch(codes[start : start + length].to(self.device), given).mean.cpu())
        images = torch.cat(parts)
        return images if isinstance(z, Tensor) else images.numpy()

    def _as_codes(self, z: Any) -> Float[Tensor, "n latent"]:
        """Codes in float32, checked."""
        wanted = f"numbers [N, {self.spec.latent_dim}]"
        if isinstance(z, PosteriorDistribution):
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

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | int | None = None, condition: Any = None
    ) -> Float[Tensor, "n channel height width"]:
        """``n`` expected images ``[n, C, H, W]`` of codes drawn from the prior; ``generator`` may be a seed.

        ``condition``: a class or a mapping of attributes; None draws conditions from the training set. ValueError for
        ``n`` below 1, TypeError for what is no whole number, seed or CPU generator of torch.
        """
        n = check_whole(n, "n", 1)
        if generator is not None and not isinstance(generator, torch.Generator):
            if not isinstance(generator, int | np.integer) or isinstance(generator, bool):
                raise TypeError(f"generator must be a seed or a torch.Generator; got {describe(generator)}")
            seed = check_whole(generator, "a seed", -(1 << 63), (1 << 63) - 1)
            generator = torch.Generator().manual_seed(seed)
        codes = self.density().sample(n, GeneratorNoise(generator, self.device)).cpu()
        return self.decode(codes, parse_condition(self.spec, condition, n, self.condition_rows.cpu(), generator))

    def reconstruct(self, images: Any, condition: Any = None) -> Any:
        """Expected images ``[N, C, H, W]`` in [0, 1] of the posterior means of ``images``; array in, array out."""
        x, is_array = as_model_input(images, self.spec.image_shape)
        vectors = self._conditions(images, condition, len(x))
        reconstructions = self.decode(self.encode(x, vectors).mean, vectors)
        return reconstructions.numpy() if is_array else reconstructions

    def _conditions(self, images: Any, given: Any, count: int) -> Tensor | None:
        """Condition vectors of images, from what a person gave or from the images' own labels or attributes."""
        if given is None and isinstance(images, Images):
            return condition_of(self.spec, images)
        if given is None and self.spec.condition != "none":
            raise ValueError("this model is conditional: give the condition of the images")
        return parse_condition(self.spec, given, count, self.condition_rows.cpu())


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight and bias from U(−1/√f, 1/√f), f the fan-in of the layer's weight.

    This is torch's default for its layers (He-uniform with a = √5), here from a generator of its own. For transposed
    convolutions f counts the output channels, as torch does. A part with a method ``initialise`` draws its own.
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
        own = getattr(part, "initialise", None)
        if callable(own):
            own(generator)
