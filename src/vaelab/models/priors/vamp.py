"""The VampPrior: a mixture of the posteriors of learned pseudo-inputs."""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models import priors
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.spec import Spec
from vaelab.system.device import disable_tf32, no_autocast, widest_float
from vaelab.system.errors import RecipeError
from vaelab.system.noise import Noise


class PosteriorMixture(priors.Density):
    """1/K Σ_k q(z|u_k)."""

    def __init__(
        self,
        model: priors.InferenceModel,
        inputs: Float[Tensor, "component channel height width"],
        conditions: Float[Tensor, "component condition"] | None,
    ) -> None:
        self.model, self.inputs, self.conditions = model, inputs, conditions
        self.components = model.encode_batch(inputs, conditions)

    def log_prob(self, z: Float[Tensor, "*samples latent"]) -> Float[Tensor, "*samples"]:
        """ln 1/K Σ_k q(z|u_k), nats."""
        q = self.components
        # 0 * q.mean in place of expand: sizes of the batch cannot be exported
        each = _log_normals(z, q) if isinstance(q, DiagonalNormal) else q.log_prob(z[..., None, :] + 0 * q.mean)
        return torch.logsumexp(each, -1) - math.log(len(self.inputs))

    def sample(self, count: int, noise: Noise) -> Float[Tensor, "count latent"]:
        """Draw component k = ⌊K Φ(ε)⌋ for each code, then a sample of q(z|u_k)."""
        draws = noise.normal(count, 1)[:, 0]
        uniform = torch.special.ndtr(draws.to(widest_float(draws.device)))
        chosen = (uniform * len(self.inputs)).long().clamp(max=len(self.inputs) - 1)
        conditions = None if self.conditions is None else self.conditions[chosen]
        return self.model.encode_batch(self.inputs[chosen], conditions).draw(noise).z[0]


def _log_normals(z: Float[Tensor, "*samples latent"], q: DiagonalNormal) -> Float[Tensor, "*samples component"]:
    """Return ln q_k(z) of every component by matrix products, without an array ``[*samples, K, d]``.

    It is computed in the wider dtype of both.
    """
    dtype = torch.promote_types(z.dtype, q.mean.dtype)
    z, mean, log_var = z.to(dtype), q.mean.to(dtype), q.log_var.to(dtype)
    precision = torch.exp(-log_var)
    with no_autocast(z.device), disable_tf32():
        squares = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(-1)
    return -0.5 * (squares + log_var.sum(-1) + z.shape[-1] * math.log(2 * math.pi))


class Prior(priors.Prior):
    """p(z) = 1/K Σ_k q(z|u_k) with learned pseudo-inputs u_k (Tomczak & Welling 2018, 1705.07120, equation 8).

    Pseudo-inputs are clamped to [0, 1]; they start at samples of N(``start_mean``, ``start_std``²). A pixel outside
    [0, 1] has no gradient and stays there, so most of the samples should lie inside. In a conditional model each
    pseudo-input has a learned condition.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        components: Annotated[int, Ge(1)] = 500,
        start_mean: float = 0.5,
        start_std: Annotated[float, Gt(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.start_mean, self.start_std = start_mean, start_std
        self.inputs = nn.Parameter(torch.zeros(components, *spec.image_shape))
        self.conditions = nn.Parameter(torch.zeros(components, spec.condition_dim)) if spec.condition_dim else None
        self.is_label = spec.condition == "label"

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the pseudo-inputs; RecipeError for a mean outside (0, 1), where most of them could not learn."""
        if not 0 < self.start_mean < 1:
            message = "pixels outside [0, 1] cannot learn; give a mean between 0 and 1"
            message = f"prior.start_mean = {self.start_mean:g}: {message}"
            raise RecipeError(message, subject="prior.start_mean", value=self.start_mean)
        self.inputs.normal_(self.start_mean, self.start_std, generator=generator)

    def forward(self, model: priors.InferenceModel) -> PosteriorMixture:
        """Return the mixture at the current pseudo-inputs and encoder."""
        conditions: Tensor | None = None
        if self.conditions is not None:
            conditions = self.conditions.softmax(1) if self.is_label else self.conditions.sigmoid()
        return PosteriorMixture(model, self.inputs.clamp(0, 1), conditions)
