"""Binary pixels, with the probability of white from a sigmoid."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vaelab.models import likelihoods
from vaelab.models.spec import Spec


@dataclass(frozen=True)
class BernoulliPixels:
    """Independent Bernoulli pixels, given by their logits."""

    logits: Float[Tensor, "*batch channel height width"]

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:
        """Probability of a white pixel."""
        return torch.sigmoid(self.logits)

    def reconstruction_loss(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """Cross-entropy Σ softplus(l) − x·l, nats per image; finite for every logit."""
        given, logits = torch.broadcast_tensors(x, self.logits)  # type: ignore[no-untyped-call]
        return F.binary_cross_entropy_with_logits(logits, given, reduction="none").sum((-3, -2, -1))

    def log_prob(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """ln p(x|z), nats per image.

        It is a likelihood of binary x only. For grey x it is the expectation of ln p(b|z) over b ~ Bernoulli(x), which
        is not comparable with a likelihood (1907.06845).
        """
        return -self.reconstruction_loss(x)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch channel height width"]:
        """Draw binary images."""
        return torch.bernoulli(self.mean.cpu(), generator=generator).to(self.logits.device)


class Likelihood(likelihoods.Likelihood):
    """Bernoulli likelihood of binary images, on logits; use it with ``data.binarize`` = "dynamic" or "threshold".

    On grey images it is a cross-entropy and not a likelihood (1907.06845).
    """

    wants_binary = True

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> BernoulliPixels:
        """Return the distribution with these logits."""
        return BernoulliPixels(decoded)
