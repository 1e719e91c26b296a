"""The β-TCVAE objective: three parts of the KL, estimated from each batch, with a weight for each."""

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.posteriors.diagonal import DiagonalNormal
from vaelab.models.priors.normal import StandardNormal
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context, Knob

Estimator = Literal["mss", "mss_balanced", "mws"]


class Parts(NamedTuple):
    """Batch means of the three parts of the KL, nats per image; their sum is the mean of ln q(z|x) − ln p(z)."""

    mutual_information: Float[Tensor, ""]
    """ln q(z|x) − ln q(z): information of a code about its image."""
    total_correlation: Float[Tensor, ""]
    """ln q(z) − Σ_j ln q(z_j): dependence between the latents."""
    dimension_wise_kl: Float[Tensor, ""]
    """Σ_j ln q(z_j) − ln p(z_j): distance of each latent from the prior."""


def pairwise_log_densities(
    z: Float[Tensor, "batch latent"], mean: Float[Tensor, "batch latent"], log_var: Float[Tensor, "batch latent"]
) -> Float[Tensor, "batch batch latent"]:
    """Return ln q(z_ik | x_j) at ``[i, j, k]``: latent k of sample i under the posterior of image j, nats.

    With gradients it needs about 16·B²·d bytes in float32: 1 GiB for 1024 images with 64 latents.
    """
    return DiagonalNormal(mean, log_var).log_prob_per_latent(z[:, None])


def log_weights(
    batch: int, num_images: int, estimator: Estimator, like: Float[Tensor, "..."]
) -> Float[Tensor, "batch batch"]:
    """Return ln of the weight of image j's posterior in the estimate of q(z_i) at ``[i, j]``, for B images of N.

    "mss": minibatch stratified sampling (Chen et al. 2018, 1802.04942, appendix C.2). With M = B − 1, the weight is 1/N
    for image i, (N − M)/(N·M) for the next image of the batch (cyclically), and 1/M for the others. The paper does not
    say which image gets the second weight. "mss_balanced": (N − 1)/(N·M) for every other image, the mean over all
    choices of that image. It has the least variance and is exact for B = N. Both are unbiased for q(z_i) if batches are
    drawn without replacement. "mws": minibatch weighted sampling (section 4.1), 1/(N·B) for all, about q(z_i)/N.

    With "mss" and "mss_balanced" the weight of a batch of one image is 1, so mutual information and total correlation
    are 0. The matrix has the dtype and the device of ``like``.
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
    """Return estimates of ln q(z_i), and of ln q(z_ik) of every single latent, nats.

    In the estimate of ln q(z_i) the weights are added once to the sum over latents, not once per latent.
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
    """Estimate mutual information, total correlation and dimension-wise KL from a batch (1802.04942, equation 2).

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

    For every estimator the three parts add up to a sample of the KL. With ``analytic``, the loss is written with the
    closed form of the KL: reconstruction + KL + (α − 1)·MI + (β − 1)·TC + (γ − 1)·dimension-wise KL. Its expectation is
    the same and its variance lower; with α = γ = 1 only the total correlation is estimated. ``analytic`` = false is the
    form of the paper.

    The estimates are biased and noisy, and those of "mws" are off by multiples of ln N: quote the metric
    ``decomposition`` instead.
    """

    needs: ClassVar = frozenset({"diagonal_posterior", "standard_normal_prior"})
    terms = (
        Term("mutual_information", "mutual information"),
        Term("total_correlation", "total correlation"),
        Term("dimension_wise_kl", "dimension-wise KL"),
    )
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
        """Return the loss and its terms, nats per image; the three parts are estimates and may be negative."""
        reconstruction, kl = out.mean_reconstruction, out.mean_kl
        q, z = out.q, out.z[0]
        z, mean, log_var = context.gather(torch.stack([z, q.mean, q.log_var], 1)).unbind(1)
        shares = log_weights(len(z), max(self.num_images, len(z)), self.estimator, like=z)
        parts = decompose(z, mean, log_var, shares)
        known = 1.0 if self.analytic else 0.0  # how much of every part the closed form accounts for
        weighed = ((weight - known) * part for weight, part in zip(self.weights, parts, strict=True))
        loss = sum(weighed, start=reconstruction + known * kl)
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, **parts._asdict()}
