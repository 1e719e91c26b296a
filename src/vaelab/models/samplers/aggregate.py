"""The aggregate posterior of training images as a sampler."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models import samplers
from vaelab.models.codes import CodeSamples, as_finite
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors import Density
from vaelab.models.spec import Spec

PAIRS_AT_ONCE = 1 << 18
"""Pairs of a code and a component whose density is computed at a time: 2 MB, few enough for the processor's cache."""


class Sampler(samplers.Sampler):
    """1/N Σ_n q(z|x_n) over training images, at most 20,000 (Hoffman & Johnson 2016; Ghosh et al. 2020, 1903.12436).

    It draws a training image and a sample of its posterior, so that decoded images resemble training images: it
    memorises. For a conditional model it ignores the condition.
    """

    needs_codes: ClassVar = True
    keeps_codes: ClassVar = True
    needs: ClassVar = frozenset({"diagonal_posterior"})
    mean: Tensor
    log_var: Tensor
    num_codes: Tensor

    def __init__(self, spec: Spec, density: Density, device: torch.device = samplers.CPU) -> None:
        super().__init__(spec, density, device)
        for name in ("mean", "log_var"):
            self.register_buffer(name, torch.zeros(samplers.MAX_CODES, spec.latent_dim, dtype=torch.float64))
        self.register_buffer("num_codes", torch.zeros((), dtype=torch.int64))

    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Keep the posteriors; InputError if they are not finite."""
        n = len(codes.mean)
        for buffer, values in ((self.mean, codes.mean), (self.log_var, codes.log_var)):
            buffer[:n] = torch.from_numpy(as_finite(values, "codes"))
        self.num_codes.fill_(n)

    @property
    def components(self) -> DiagonalNormal:
        """Posteriors of the training images."""
        n = int(self.num_codes)
        return DiagonalNormal(self.mean[:n], self.log_var[:n])

    @property
    def protocol(self) -> dict[str, Any]:
        """Number of posteriors."""
        memorises = "samples are variations of training images"
        return {**super().protocol, "codes": int(self.num_codes), "fitted_to": "posteriors", "memorises": memorises}

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Draw a training image for each code, then a sample of its posterior."""
        q = self.components
        chosen = torch.randint(len(q.mean), (count,), generator=generator)
        epsilon = torch.randn(count, self.spec.latent_dim, generator=generator, dtype=torch.float64)
        return (q.mean[chosen] + q.std[chosen] * epsilon).float()

    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """ln 1/N Σ_n q(z|x_n), nats, float64."""
        q = self.components
        precision = torch.exp(-q.log_var)
        constant = (q.mean.square() * precision + q.log_var).sum(1) + q.mean.shape[1] * math.log(2 * math.pi)
        parts = []
        for x in torch.split(z.detach().cpu().double(), max(1, PAIRS_AT_ONCE // len(q.mean))):
            each = -0.5 * (x.square() @ precision.T - 2 * x @ (q.mean * precision).T + constant)
            parts.append(torch.logsumexp(each, 1) - math.log(len(q.mean)))
        return torch.cat(parts)
