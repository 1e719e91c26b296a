"""The importance-weighted autoencoder: a tighter bound than the ELBO, with several samples per image."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

from vaelab.data.tensors import Batch
from vaelab.models.bounds import effective_samples, iwae_bound, log_weights
from vaelab.models.spec import Spec
from vaelab.models.terms import Term
from vaelab.models.vae import VAEOutput
from vaelab.training import objectives
from vaelab.training.objectives import Context


class Objective(objectives.Objective):
    """−ln (1/K) Σ_k p(x|z_k) p(z_k) / q(z_k|x), K samples of each posterior (Burda et al. 2016, 1509.00519).

    The constant of the likelihood is left out, as in every objective. K is ``num_samples``; K = 1 is the ELBO with a
    sampled KL. Every image is decoded K times, which multiplies time and memory of the decoder by K.
    """

    terms = (Term("effective_samples", "effective samples", unit=""),)
    kl_weight = 1.0

    def __init__(self, spec: Spec, *, num_samples: Annotated[int, Ge(1)] = 5) -> None:
        super().__init__()
        self.samples = num_samples

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the loss and its terms, nats per image.

        ``reconstruction`` is the mean over samples; with ``kl`` it does not add up to the loss. If
        ``effective_samples`` is near 1 and not near K, a single sample of each image dominates the bound.
        """
        weights = log_weights(-out.reconstruction, out.log_p, out.log_q)
        return {
            "loss": -iwae_bound(weights).mean(),
            "reconstruction": out.mean_reconstruction,
            "kl": out.mean_kl,
            "effective_samples": effective_samples(weights.detach()).mean(),
        }
