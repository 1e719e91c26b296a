"""A second VAE on the codes of a trained model."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models import samplers
from vaelab.models.bounds import iwae_bound, log_weights
from vaelab.models.codes import CodeSamples
from vaelab.models.gradients import clamp_straight_through
from vaelab.models.initialisation import initialise
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE, DiagonalNormal
from vaelab.models.priors import Density
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.samplers._training import Standardiser, train
from vaelab.models.spec import Spec
from vaelab.system.noise import GeneratorNoise

SAMPLES, CHUNK = 64, 512
"""Samples of the importance-weighted bound, and codes that are measured at a time."""


def _make_network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before, after in pairwise([inputs, hidden, hidden]):
        parts += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*parts, nn.Linear(hidden, outputs))


class Sampler(samplers.Sampler):
    """A VAE with as many latents on standardised codes, whose own codes fill its prior (Dai & Wipf 2019, 1903.05789).

    Its decoder has a learned variance for each latent. It is fitted to samples of the posteriors, one code in ten held
    out to choose the best weights. The density is the importance-weighted bound with 64 samples. For a conditional
    model it ignores the condition.
    """

    needs_codes: ClassVar = True
    is_bound: ClassVar = True

    def __init__(
        self,
        spec: Spec,
        density: Density,
        device: torch.device = samplers.CPU,
        *,
        hidden: Annotated[int, Ge(1)] = 256,
        steps: Annotated[int, Ge(1)] = 5000,
    ) -> None:
        super().__init__(spec, density, device)
        d, self.steps = spec.latent_dim, steps
        self.standardise = Standardiser(d)
        self.model = nn.ModuleDict(
            {
                "encoder": _make_network(d, hidden, 2 * d),
                "decoder": _make_network(d, hidden, d),
                "noise": _LogVariances(d),
            }
        )
        self.prior = StandardNormal(d)
        self.register_buffer("num_codes", torch.zeros((), dtype=torch.int64))

    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Train by the ELBO; InputError for codes that are not finite."""
        initialise(self.model, generator)
        x = self.standardise.fit(codes.z)
        self.get_buffer("num_codes").fill_(len(x))
        train(self.model, self._negative_elbo, x, generator, self.steps)

    @property
    def protocol(self) -> dict[str, Any]:
        """Number of steps and of training codes."""
        fitted_to = "one posterior sample per training image"
        counts = {"steps": self.steps, "codes": int(self.get_buffer("num_codes")), "fitted_to": fitted_to}
        return {**super().protocol, **counts, "bound": f"importance-weighted, {SAMPLES} samples"}

    def _encode(self, x: Float[Tensor, "n latent"]) -> DiagonalNormal:
        mean, log_var = self.model["encoder"](x).chunk(2, dim=-1)
        return DiagonalNormal(mean, clamp_straight_through(log_var, *LOG_VAR_RANGE))

    def _decode(self, u: Float[Tensor, "*n latent"]) -> DiagonalNormal:
        mean: Tensor = self.model["decoder"](u)
        return DiagonalNormal(mean, self.model["noise"]().expand_as(mean))

    def _negative_elbo(self, x: Float[Tensor, "n latent"], generator: torch.Generator) -> Float[Tensor, ""]:
        q = self._encode(x)
        u = q.draw(GeneratorNoise(generator, samplers.CPU)).z[0]
        return (q.kl_to_standard_normal().sum(1) - self._decode(u).log_prob(x)).mean()

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Draw a code of the second model, then a code of the first around what it decodes to."""
        u, epsilon = (torch.randn(count, self.spec.latent_dim, generator=generator) for _ in range(2))
        return self.standardise.inverse(self._decode(u).rsample(epsilon))

    @torch.no_grad()
    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """Return the importance-weighted bound of ln q(z), nats; the same for the same codes."""
        noise = GeneratorNoise(torch.Generator().manual_seed(0), samplers.CPU)
        parts = []
        for x in torch.split(self.standardise(z.detach().cpu().float()), CHUNK):
            q = self._encode(x)
            u = q.draw(noise, SAMPLES).z
            parts.append(iwae_bound(log_weights(self._decode(u).log_prob(x), self.prior.log_prob(u), q.log_prob(u))))
        return torch.cat(parts) + self.standardise.log_determinant


class _LogVariances(nn.Module):
    """Log-variances of the second decoder, learned."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(latent_dim))

    def forward(self) -> Float[Tensor, " latent"]:
        """Return them within the range of those of a posterior."""
        return clamp_straight_through(self.log_var, *LOG_VAR_RANGE)
