"""A normalising flow fitted to the codes of a trained model."""

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vaelab.models import samplers
from vaelab.models.codes import CodeSamples
from vaelab.models.flows import AutoregressiveFlow, Univariate
from vaelab.models.initialisation import initialise
from vaelab.models.priors import Density
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.samplers._training import Standardiser, train
from vaelab.models.spec import Spec


class Sampler(samplers.Sampler):
    """A masked autoregressive flow on standardised codes (Durkan et al. 2019, 1906.04032), by maximum likelihood.

    It is fitted to samples of the posteriors. One code in ten is held out to choose the best weights. For a conditional
    model it ignores the condition. Needs the extra ``flows``.
    """

    needs_codes: ClassVar = True

    def __init__(
        self,
        spec: Spec,
        density: Density,
        device: torch.device = samplers.CPU,
        *,
        univariate: Univariate = "spline",
        transforms: Annotated[int, Ge(1)] = 3,
        hidden: Annotated[int, Ge(1)] = 128,
        steps: Annotated[int, Ge(1)] = 3000,
    ) -> None:
        super().__init__(spec, density, device)
        self.steps = steps
        self.standardise = Standardiser(spec.latent_dim)
        self.flow = AutoregressiveFlow(
            spec.latent_dim, transforms=transforms, hidden=[hidden, hidden], univariate=univariate
        )
        self.base = StandardNormal(spec.latent_dim)
        self.register_buffer("num_codes", torch.zeros((), dtype=torch.int64))

    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Train the flow; InputError for codes that are not finite."""
        initialise(self.flow, generator)
        x = self.standardise.fit(codes.z)
        self.get_buffer("num_codes").fill_(len(x))
        train(self.flow, lambda batch, _: -self._log_prob(batch).mean(), x, generator, self.steps)

    @property
    def protocol(self) -> dict[str, Any]:
        """Numbers of transforms, steps and training codes."""
        fitted_to = "one posterior sample per training image"
        counts = {"transforms": len(self.flow.transforms), "steps": self.steps}
        return {**super().protocol, **counts, "codes": int(self.get_buffer("num_codes")), "fitted_to": fitted_to}

    def _log_prob(self, x: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        u, log_determinant = self.flow(x)
        log_prob: Tensor = self.base.log_prob(u) + log_determinant
        return log_prob

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Return the inverse of standard normal noise."""
        epsilon = torch.randn(count, self.spec.latent_dim, generator=generator)
        return self.standardise.inverse(self.flow.inverse(epsilon))

    @torch.no_grad()
    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """ln q(z), nats."""
        return self._log_prob(self.standardise(z.detach().cpu().float())) + self.standardise.log_determinant
