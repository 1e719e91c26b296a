"""Black-or-white pixels, probability from a sigmoid."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        """Cross entropy Σ softplus(l) − x·l, nats per image; finite for every logit."""
        given, logits = torch.broadcast_tensors(x, self.logits)  # type: ignore[no-untyped-call]
        return F.binary_cross_entropy_with_logits(logits, given, reduction="none").sum((-3, -2, -1))

    def log_prob(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """ln p(x|z), nats per image.

        A likelihood for binary x only. On grey x it is the expectation of ln p(b|z) over b ~ Bernoulli(x), bounded by
        the pixels' entropies, and must not be compared with a likelihood (1907.06845).
        """
        return -self.reconstruction_loss(x)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch channel height width"]:
        """Black-or-white images."""
        return torch.bernoulli(self.mean.cpu(), generator=generator).to(self.logits.device)


class Likelihood(nn.Module):
    """Bernoulli likelihood on logits. Meant for ``data.binarize`` = "dynamic" or "threshold"."""

    channels_per_pixel = 1
    wants_binary = True
    """On grey images its log_prob is no likelihood."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> BernoulliPixels:
        """The distribution of the pixels, given what the decoder returned."""
        return BernoulliPixels(decoded)
