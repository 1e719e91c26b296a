"""The variational autoencoder: the forward pass of objectives and metrics, and functions on arrays for users."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.data.images import Images
from vaelab.data.tensors import Batch, as_model_input, number_tensor
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import condition_columns, condition_of, parse_condition
from vaelab.models.likelihoods import Calibrated, Likelihood, PixelDistribution
from vaelab.models.networks import Decoder, Encoder
from vaelab.models.posteriors import Draw, Gather, Posterior, PosteriorDistribution
from vaelab.models.priors import Density, Prior
from vaelab.models.spec import Spec
from vaelab.system import html
from vaelab.system.arguments import check_whole, describe
from vaelab.system.device import disable_tf32
from vaelab.system.errors import InputError
from vaelab.system.noise import GeneratorNoise, Noise
from vaelab.system.progress import progress

REQUIREMENTS = {
    "continuous_posterior": 'a posterior with a density (posterior.name = "diagonal", for example)',
    "quantised_posterior": "a posterior with discrete codes",
    "diagonal_posterior": 'a diagonal posterior (posterior.name = "diagonal")',
    "standard_normal_prior": 'the prior N(0, I) (prior.name = "normal")',
}
"""Properties of a model that its prior, an objective or a metric may need, in words."""

ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[Any], Tensor)


@dataclass(frozen=True)
class VAEOutput:
    """The forward pass of a batch: S samples of the posteriors of B images, G groups of latents.

    G is the number of latents if the KL is a sum over latents (diagonal posterior and prior N(0, I)), mostly 1 if not.
    """

    q: PosteriorDistribution
    """q(z|x)."""
    prior: Density
    """p(z)."""
    draw: Draw
    p_x: PixelDistribution
    """p(x|z) of every sample."""
    reconstruction: Float[Tensor, "sample batch"]
    """Reconstruction loss of the likelihood, nats per image."""
    kl: Float[Tensor, "batch group"]
    """KL(q ‖ p), nats: the closed form if there is one, else the mean over samples of ln q(z|x) − ln p(z)."""
    losses: Mapping[str, Float[Tensor, ""]]
    """Terms that the posterior adds to the loss."""
    statistics: Mapping[str, Float[Tensor, ""]]
    """Quantities of the posterior that are logged only."""

    @property
    def z(self) -> Float[Tensor, "sample batch latent"]:
        """Samples of q(z|x)."""
        return self.draw.z

    @cached_property
    def log_q(self) -> Float[Tensor, "sample batch"]:
        """ln q(z|x), nats; computed on first use."""
        return self.q.log_prob_of(self.draw)

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


def _identity(rows: Tensor) -> Tensor:
    return rows


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

    def extra_repr(self) -> str:
        """Return what the module's representation begins with: shapes and numbers of parameters."""
        channels, height, width = self.spec.image_shape
        counts = ", ".join(f"{part} {count:,}" for part, count in self.num_parameters.items() if count)
        condition = "" if self.spec.condition == "none" else f", given {self.spec.condition}"
        return f"images {channels}×{height}×{width}, {self.spec.latent_dim} latents{condition}\nparameters: {counts}"

    def _repr_html_(self) -> str:
        """Return a summary for a notebook, with the modules one click away."""
        shapes, parameters = self.extra_repr().split("\n")
        total = sum(self.num_parameters.values())
        facts = {"parts": parameters.removeprefix("parameters: "), "device": self.device}
        title = f"VAE: {shapes}, {total:,} parameters"
        return html.fragment(title, facts, [html.preformatted(repr(self), "modules")])

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def num_parameters(self) -> dict[str, int]:
        """Number of trainable parameters of each part."""
        parts: dict[str, nn.Module] = {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "likelihood": self.likelihood,
            "posterior": self.posterior,
            "prior": self.prior,
        }
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

    @property
    def provides(self) -> frozenset[str]:
        """Keys of REQUIREMENTS that the posterior and the prior meet."""
        return self.posterior.provides | self.prior.provides

    @property
    def has_latent_kl(self) -> bool:
        """Whether the KL is a sum over latents, in closed form."""
        return {"diagonal_posterior", "standard_normal_prior"} <= self.provides

    def typical_condition(self) -> tuple[Tensor | None, str]:
        """The most frequent condition of training images ``[1, K]`` and its name; (None, "") if unconditional."""
        if self.spec.condition == "none":
            return None, ""
        rows, counts = torch.unique(self.condition_rows.cpu(), dim=0, return_counts=True)
        row = rows[counts.argmax()].float()
        names = [name for name, value in zip(self.spec.condition_names, row.tolist(), strict=True) if value]
        return row[None], ", ".join(names) or "none of the attributes"

    # -- for objectives, metrics and figures: tensors on the device, with gradients ------------------------------------

    def encode_batch(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> PosteriorDistribution:
        """Return q(z|x), in ``dtype`` from the encoder's output on (default: that of ``x``)."""
        q: PosteriorDistribution = self.posterior(self.encoder(x, condition).to(dtype or x.dtype))
        return q

    def decode_batch(
        self,
        z: Float[Tensor, "*samples batch latent"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> PixelDistribution:
        """Return p(x|z)."""
        pixels: PixelDistribution = self.likelihood(self._decoded(z, condition))
        return pixels

    def density(self) -> Density:
        """Return p(z)."""
        density: Density = self.prior(self)
        return density

    def forward(self, batch: Batch, noise: Noise, samples: int = 1, gather: Gather = _identity) -> VAEOutput:
        """Encode, draw ``samples`` codes per image, decode, and measure both terms of the ELBO.

        In training, buffers are then updated from the whole batch: those of the posterior, and the calibrated variance
        of a likelihood. ``gather`` returns rows of the whole batch if several processes share it.
        """
        condition = condition_columns(self.spec, batch.labels, batch.attributes)
        q, prior = self.encode_batch(batch.x, condition), self.density()
        draw = q.draw(noise, samples)
        decoded = self._decoded(draw.z, condition)
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                self.posterior.update(q, noise, gather)
                if isinstance(self.likelihood, Calibrated):
                    statistics = self.likelihood.calibration_statistic(decoded, batch.x).mean(0)
                    self.likelihood.calibrate(gather(statistics))
        p_x: PixelDistribution = self.likelihood(decoded)
        reconstruction, kl = p_x.reconstruction_loss(batch.x), prior.kl(q, draw)
        return VAEOutput(q, prior, draw, p_x, reconstruction, kl, q.losses(), q.statistics(gather))

    def _decoded(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Decoder outputs of codes ``[*samples, B, d]``, in their type and with their leading axes."""
        flat = z.flatten(0, -2)
        if condition is not None:
            condition = condition.expand(*z.shape[:-1], -1).flatten(0, -2)
        decoded: Tensor = self.decoder(flat, condition).to(z.dtype)
        return decoded if z.ndim == 2 else decoded.view(*z.shape[:-1], *decoded.shape[1:])

    @torch.no_grad()
    def calibrate_likelihood(self, images: Images, generator: torch.Generator) -> None:
        """Calibrate the likelihood to all of ``images``, in this process alone; a fixed likelihood is left unchanged.

        Uses one sample of each posterior, as the ELBO does, in float32.
        """
        if not isinstance(self.likelihood, Calibrated):
            return
        was_training, statistics = self.training, []
        self.eval()
        noise = GeneratorNoise(generator, self.device)
        with disable_tf32(), progress("calibrating the likelihood", len(images)) as bar:
            for start, stop in chunk_spans(len(images), self.spec.image_shape):
                batch = images.batch(start, stop, self.device)
                condition = condition_columns(self.spec, batch.labels, batch.attributes)
                z = self.encode_batch(batch.x, condition).draw(noise).z[0]
                statistics.append(self.likelihood.calibration_statistic(self._decoded(z, condition), batch.x))
                bar.advance(len(batch.x))
        self.likelihood.calibrate(torch.cat(statistics))
        self.train(was_training)

    # -- for users: arrays or tensors of any batch size, without gradients ---------------------------------------------

    def encode(self, images: Any, condition: Any = None) -> PosteriorDistribution:
        """Return q(z|x) of images: ``mean`` and ``log_var`` ``[N, latent_dim]`` on the CPU.

        ``images``: an array, a tensor or ``Images`` with one or many images, channels first, last, or none if grey.
        Values are uint8 from 0 to 255, uint16 from 0 to 65,535 or floats in [0, 1]. ``condition``: classes or
        attributes of the images, for a conditional model; those of ``Images`` are known.

        Raises InputError for another shape, no images, invalid values or a missing condition, and TypeError for an
        object that is no array.
        """
        return self.infer(images, condition).to(torch.device("cpu"))

    @torch.no_grad()
    def infer(self, images: Any, condition: Any = None) -> PosteriorDistribution:
        """Return q(z|x) as ``encode`` does, on the device of the model."""
        x, _ = as_model_input(images, self.spec.image_shape)
        if len(x) == 0:
            raise InputError("no images to encode: the first axis is empty")
        vectors = self._conditions(images, condition, len(x))
        parts = [
            self.encoder(x[start:stop].to(self.device), self._slice(vectors, start, stop)).float().cpu()
            for start, stop in chunk_spans(len(x), self.spec.image_shape)
        ]
        q: PosteriorDistribution = self.posterior(torch.cat(parts).to(self.device))
        return q

    @torch.no_grad()
    def decode(self, z: ArrayOrTensor, condition: Any = None) -> ArrayOrTensor:
        """Return the expected images ``[N, C, H, W]`` in [0, 1] of codes ``[N, latent_dim]``; an array for an array.

        ``condition``: for a conditional model, a class, a mapping of attributes, or one condition per code. Raises
        InputError for codes of another shape, no codes and values that are not finite in float32; TypeError for an
        object that is no array.
        """
        codes = self._as_codes(z)
        if self.spec.condition != "none" and condition is None:
            raise InputError("this model is conditional: give the condition of the codes", subject="condition")
        vectors = self._conditions(None, condition, len(codes))
        parts = [
            self.decode_batch(codes[start:stop].to(self.device), self._slice(vectors, start, stop)).mean.cpu()
            for start, stop in chunk_spans(len(codes), self.spec.image_shape)
        ]
        images = torch.cat(parts)
        return images if isinstance(z, Tensor) else images.numpy()

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | int | None = None, condition: Any = None
    ) -> Float[Tensor, "n channel height width"]:
        """Return the expected images ``[n, C, H, W]`` of ``n`` codes drawn from the prior.

        ``generator``: a CPU generator or a seed. ``condition``: a class or a mapping of attributes; None draws
        conditions from the training set. Raises ValueError for ``n`` below 1 and TypeError for other types.
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
        """Return the expected images ``[N, C, H, W]`` in [0, 1] of the posterior means; an array for an array."""
        x, is_array = as_model_input(images, self.spec.image_shape)
        vectors = self._conditions(images, condition, len(x))
        reconstructions = self.decode(self.encode(x, vectors).mean, vectors)
        return reconstructions.numpy() if is_array else reconstructions

    def _as_codes(self, z: Any) -> Float[Tensor, "n latent"]:
        """Codes in float32, checked."""
        wanted = f"numbers [N, {self.spec.latent_dim}]"
        if isinstance(z, PosteriorDistribution):
            raise TypeError(f"codes must be {wanted}; got a posterior: give its mean")
        codes = z if isinstance(z, Tensor) else number_tensor(z, "codes", "iuf", wanted)
        if codes.is_complex() or codes.dtype == torch.bool:
            raise InputError(f"codes must be {wanted}; got {codes.dtype}")
        shape = list(codes.shape)
        codes = codes.float().reshape(1, -1) if codes.ndim == 1 else codes.float()
        if codes.ndim != 2 or codes.shape[1] != self.spec.latent_dim or len(codes) == 0:
            raise InputError(f"codes must be {wanted}, at least one; got shape {shape}", value=shape)
        if not bool(torch.isfinite(codes).all()):
            raise InputError("codes must be finite; some of their values are NaN, infinite or too large for float32")
        return codes

    def _conditions(self, images: Any, given: Any, count: int) -> Tensor | None:
        """Condition vectors of images: those given, or the labels or attributes of ``Images``."""
        if given is None and isinstance(images, Images):
            return condition_of(self.spec, images)
        if given is None and self.spec.condition != "none":
            raise InputError("this model is conditional: give the condition of the images", subject="condition")
        return parse_condition(self.spec, given, count, self.condition_rows.cpu())

    def _slice(self, vectors: Tensor | None, start: int, stop: int) -> Tensor | None:
        return None if vectors is None else vectors[start:stop].to(self.device)
