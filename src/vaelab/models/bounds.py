"""The evidence lower bound, importance weights and the importance-weighted bound, in nats."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def elbo(log_likelihood: Float[Tensor, "sample batch"], kl: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """E_q[ln p(x|z)] − KL(q ‖ p) of each image, the expectation a mean over samples (1312.6114, equation 3)."""
    return log_likelihood.mean(0) - kl


def log_weights(
    log_likelihood: Float[Tensor, "sample batch"],
    log_p: Float[Tensor, "sample batch"],
    log_q: Float[Tensor, "sample batch"],
) -> Float[Tensor, "sample batch"]:
    """ln w = ln p(x|z) + ln p(z) − ln q(z|x) at samples z of q(z|x) (Burda et al. 2016, 1509.00519, equation 8)."""
    return log_p - log_q + log_likelihood


def iwae_bound(log_weights: Float[Tensor, "sample batch"]) -> Float[Tensor, " batch"]:
    """ln (1/K) Σ_k w_k of each image (1509.00519, equation 8); a weight of 0, ln w = −∞, adds 0.

    Its expectation is at most ln p(x) and grows towards it with the number of samples K. For K = 1 it is the ELBO.
    """
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))


def effective_samples(log_weights: Float[Tensor, "sample batch"]) -> Float[Tensor, " batch"]:
    """(Σ_k w_k)² / Σ_k w_k² of each image: K if all weights are equal, 1 if a single one dominates."""
    return 1 / torch.softmax(log_weights, 0).square().sum(0)
