"""A second, linear VAE on the codes of the first (Dai & Wipf 2019, 1903.05789)."""

import math

import torch
from torch import Tensor, nn

from vaelab.models import samplers
from vaelab.models.bounds import iwae_bound
from vaelab.models.codes import CodeSamples, as_finite
from vaelab.models.initialisation import initialise
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors import Density
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.spec import Spec
from vaelab.system.seeds import GeneratorNoise


class Sampler(samplers.Sampler):
    """Codes of the first model are normal around a linear function of those of the second."""

    needs_codes = True
    needs = frozenset()
    is_bound = True

    def __init__(self, spec: Spec, density: Density, device: torch.device = samplers.CPU, *, steps: int = 300) -> None:
        super().__init__(spec, density, device)
        self.steps = steps
        self.encoder, self.decoder = nn.Linear(spec.latent_dim, spec.latent_dim), nn.Linear(*[spec.latent_dim] * 2)
        self.log_var_q, self.log_var_p = (nn.Parameter(torch.zeros(spec.latent_dim)) for _ in range(2))

    def _log_weights(self, z: Tensor, generator: torch.Generator, samples: int) -> Tensor:
        q = DiagonalNormal(self.encoder(z), self.log_var_q.expand_as(z))
        u = q.draw(GeneratorNoise(generator, samplers.CPU), samples).z
        log_likelihood = DiagonalNormal(self.decoder(u), self.log_var_p.expand_as(u)).log_prob(z.expand_as(u))
        return log_likelihood + StandardNormal(self.spec.latent_dim).log_prob(u) - q.log_prob(u)

    @torch.enable_grad()
    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Train by Adam on batches of 100 codes."""
        initialise(self, generator)
        z = torch.from_numpy(as_finite(codes.z, "codes")).float()
        adam = torch.optim.Adam(self.parameters(), lr=0.02)
        for _ in range(self.steps):
            batch = z[torch.randint(len(z), (100,), generator=generator)]
            adam.zero_grad()
            (-self._log_weights(batch, generator, 1).mean()).backward()
            adam.step()

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw a code of the second model, decode it and add noise."""
        u, epsilon = (torch.randn(count, self.spec.latent_dim, generator=generator) for _ in range(2))
        return self.decoder(u) + torch.exp(self.log_var_p / 2) * epsilon

    @torch.no_grad()
    def log_prob(self, z: Tensor) -> Tensor:
        """Return the importance-weighted bound with 64 samples, nats."""
        assert math.isfinite(float(self.log_var_p.sum()))
        return iwae_bound(self._log_weights(z.cpu().float(), torch.Generator().manual_seed(0), 64))
