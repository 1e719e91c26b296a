"""The β-TCVAE objective: the KL taken apart by estimates from one batch, each part with a weight of its own."""

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vaelab.data.images import Batch
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob

Estimator = Literal["mss", "mss_balanced", "mws"]


class Parts(NamedTuple):
    """Batch means of what the KL consists of, nats per image; their sum is that of ln q(z|x) − ln p(z)."""

    mutual_information: Float[Tensor, ""]
    """ln q(z|x) − ln q(z): what a code tells of which image it came from."""
    total_correlation: Float[Tensor, ""]
    """ln q(z) − Σ_j ln q(z_j): how far the latents are from independent."""
    dimension_wise_kl: Float[Tensor, ""]
    """Σ_j ln q(z_j) − ln p(z_j): how far each latent alone is from the prior."""


def pairwise_log_densities(
    z: Float[Tensor, "batch latent"], mean: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"]
) -> Float[Tensor, "batch batch latent"]:
    """ln q(z_ik | x_j) at ``[i, j, k]``: latent k of sample i under the posterior of image j, nats.

    B²·d numbers, some four times over until the gradient is taken: 1 GiB for 1024 images of 64 latents in float32.
    """
    return DiagonalNormal(mean, log_var).log_prob_per_latent(z[:, None])


def log_weights(
    batch: int, num_images: int, estimator: Estimator, like: Float[Tensor, "..."]
) -> Float[Tensor, "batch batch"]:
    """ln of the weight that image j's posterior has in the estimate of q(z_i), at ``[i, j]``: B images of N.

    "mss", minibatch stratified sampling (Chen et al. 2018, 1802.04942, appendix C.2): 1/N for the image's own and, with
    M = B − 1 others, (N − M)/(N·M) for the next one of the batch, after the last the first, and 1/M for the rest; the
    paper leaves open which one is singled out. "mss_balanced": (N − 1)/(N·M) for every other, the mean over all ways to
    single one out; it varies least and is exact for B = N. Both estimate q(z_i) without bias from batches drawn without
    replacement. "mws", minibatch weighted sampling (section 4.1): 1/(N·B) throughout, which gives about q(z_i)/N.

    With "mss" and "mss_balanced" a lone image stands for the whole: weight 1, so that nothing is shared or correlates.
    The matrix has the dtype and the device of ``like``.
    """
    assert 1 <= batch <= num_images
    if estimator == "mws":
        return like.new_full((batch, batch), -math.log(num_images * batch))
    others = batch - 1
    if not others:
        return like.new_zeros(1, 1)
    position = torch.arange(batch, device=like.device)
    distance = (position - position[:, None]) % batch
    balanced = math.log((num_images - 1) / (num_images * others))
    weights = like.new_full((batch, batch), balanced if estimator == "mss_balanced" else -math.log(others))
    if estimator == "mss":
        weights = weights.masked_fill(distance == 1, math.log((num_images - others) / (num_images * others)))
    return weights.masked_fill(distance == 0, -math.log(num_images))


def log_aggregate(
    log_densities: Float[Tensor, "batch batch latent"], log_weights: Float[Tensor, "batch batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch latent"]]:
    """Estimates of ln q(z_i), and of ln q(z_ik) of every latent alone, nats.

    The weights count once in the sum over images of each: for the whole code beside Σ_k, never within it.
    """
    joint = torch.logsumexp(log_densities.sum(2) + log_weights, dim=1)
    single = torch.logsumexp(log_densities + log_weights[:, :, None], dim=1)
    return joint, single


def decompose(
    z: Float[Tensor, "batch latent"],
    mean: Float[Tensor, "batch latent"],
    log_var: Float[Tensor, "batch latent"],
    log_weights: Float[Tensor, "batch batch"],
) -> Parts:
    """Mutual information, total correlation and dimension-wise KL as one batch estimates them (1802.04942, equation 2).

    ``z[i]`` is a sample of q(z|x_i). Gradients flow through the samples and the densities of all images.
    """
    log_densities = pairwise_log_densities(z, mean, log_var)
    log_qz, log_qz_per_latent = log_aggregate(log_densities, log_weights)
    log_qz_given_x = log_densities.diagonal().sum(0)
    log_qz_product = log_qz_per_latent.sum(1)
    log_pz = StandardNormal(z.shape[1]).log_prob(z)
    return Parts((log_qz_given_x - log_qz).mean(), (log_qz - log_qz_product).mean(), (log_qz_product - log_pz).mean())


class Objective(objectives.Objective):
    """reconstruction + α·MI + β·TC + γ·dimension-wise KL (Chen et al. 2018, 1802.04942, equation 4).

    As α = β = γ = 1 makes the sum of the parts a sample of the KL, whatever the estimator, ``analytic`` takes that out:
    reconstruction + KL + (α − 1)·MI + (β − 1)·TC + (γ − 1)·dimension-wise KL, with the KL in closed form. Equal in
    expectation, less noise, and with α = γ = 1 only the total correlation is left to estimate. ``analytic`` = false is
    the paper's form.

    The estimates count a batch as one of as many images as the training set has; a larger batch, as a validation may
    have, counts as the whole. In training they make the gradient; the numbers to quote are those of the metric
    ``decomposition``. Those of "mws" are off by multiples of ln N.
    """

    needs: ClassVar = frozenset({"diagonal_posterior", "standard_normal_prior"})
    terms = tuple(Term(name, name.replace("_", " ")) for name in Parts._fields)
    kl_knob: ClassVar = Knob("objective.beta", raises_kl=False)

    def __init__(
        self,
        spec: Spec,
        *,
        alpha: Annotated[float, Ge(0)] = 1.0,
        beta: Annotated[float, Ge(0)] = 6.0,
        gamma: Annotated[float, Ge(0)] = 1.0,
        estimator: Estimator = "mss",
        analytic: bool = True,
    ) -> None:
        super().__init__()
        self.weights = alpha, beta, gamma
        self.num_images = spec.num_images
        self.estimator: Estimator = estimator
        self.analytic = analytic

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Loss and terms, nats per image; the three parts are estimates of this batch: biased, noisy, at times < 0."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        q, z = out.q, out.z[0]
        z, mean, log_var = context.gather(torch.stack([z, q.mean, q.log_var], 1)).unbind(1)
        shares = log_weights(len(z), max(self.num_images, len(z)), self.estimator, like=z)
        parts = decompose(z, mean, log_var, shares)
        known = 1.0 if self.analytic else 0.0  # how much of every part the closed form accounts for
        weighed = ((weight - known) * part for weight, part in zip(self.weights, parts, strict=True))
        loss = sum(weighed, start=reconstruction + known * kl)
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, **parts._asdict()}
