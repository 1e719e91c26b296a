"""The 256 grey levels of 8-bit pixels, with the probabilities that a logistic distribution gives them."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.models.spec import Spec

LEVEL = 1 / 255
"""From one level to the next."""
LOG_SCALE_RANGE = (-9.0, 4.0)
"""At the lower end one level can have nearly all probability (1 − 3·10⁻⁷), at the upper all have nearly the same."""


def guard_log_scale(log_scale: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``log_scale`` held within LOG_SCALE_RANGE: unchanged inside; outside the gradient still passes."""
    return log_scale.clamp(*LOG_SCALE_RANGE).detach() + (log_scale - log_scale.detach())


@dataclass(frozen=True)
class LevelPixels:
    """Independent pixels on the levels k/255: a logistic variable, rounded to the nearest; its ends to black and white.

    ``location`` may lie outside [0, 1], so that black and white can be as certain as any level between them.
    """

    location: Float[Tensor, "*batch channel height width"]
    log_scale: Float[Tensor, "*#batch channel height width"] | Float[Tensor, ""]

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:
        """Expected level.

        It is Σ P(x ≥ k/255)/255 over k = 1 … 255, summed as an integral with its first correction (Euler and
        Maclaurin): exact to 10⁻⁶ where the scale is at least one level, to half a level everywhere.
        """
        scale = torch.exp(self.log_scale)
        from_black, from_white = self.location / scale, (self.location - 1) / scale
        slopes = [torch.sigmoid(a) * torch.sigmoid(-a) for a in (from_white, from_black)]
        integral = scale * (F.softplus(from_black) - F.softplus(from_white))
        return (integral + LEVEL**2 / 24 * (slopes[0] - slopes[1]) / scale).clamp(0, 1)

    def reconstruction_loss(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """−ln p(x|z), nats per image; never below 0."""
        return -self.log_prob(x)

    def log_prob(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """ln p(x|z), nats per image: the probability of [x − 1/510, x + 1/510], of black and white without outer end.

        As σ(a) − σ(b) = σ(a)·σ(−b)·(1 − eᵇ⁻ᵃ), it is finite for every location, and so is its gradient.
        """
        scale = torch.exp(self.log_scale)
        above = F.logsigmoid((x + LEVEL / 2 - self.location) / scale)
        below = F.logsigmoid((self.location - x + LEVEL / 2) / scale)
        between = torch.log(-torch.expm1(-LEVEL / scale))
        is_black, is_white = x < LEVEL / 2, x > 1 - LEVEL / 2
        inner = torch.where(is_black, above, torch.where(is_white, below, above + below + between))
        return inner.sum((-3, -2, -1))

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch channel height width"]:
        """Random levels."""
        uniform = torch.rand(self.location.shape, generator=generator, dtype=self.location.dtype)
        noise = torch.logit(uniform).to(self.location.device)
        levels = ((self.location + torch.exp(self.log_scale) * noise) / LEVEL).round()
        return levels.clamp(0, 255) * LEVEL


class Likelihood(nn.Module):
    """Discretised logistic likelihood (Kingma et al. 2016, 1606.04934, section 6; black and white with open ends as in
    Salimans et al. 2017, 1701.05517, section 2.1).

    The location is ½ + a quarter of the decoder's output, which is the sigmoid's slope at 0. ``scale`` "shared": one
    for all pixels, learned like a weight; "pixel": from a second channel of the decoder. Both begin at
    ``initial_scale``, on the range of grey levels from 0 to 1.
    """

    is_discrete = True
    """Its log_prob is a probability, from which bits per dimension follow."""

    def __init__(
        self,
        spec: Spec,
        *,
        scale: Literal["shared", "pixel"] = "shared",
        initial_scale: Annotated[float, Gt(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.channels_per_pixel = 2 if scale == "pixel" else 1
        self.initial_log_scale = math.log(initial_scale)
        self.log_scale = nn.Parameter(torch.tensor(self.initial_log_scale)) if scale == "shared" else None

    def forward(self, decoded: Float[Tensor, "*batch channel height width"]) -> LevelPixels:
        """The distribution of the pixels, given what the decoder returned."""
        if self.log_scale is not None:
            return LevelPixels(0.5 + decoded / 4, guard_log_scale(self.log_scale))
        location, log_scale = decoded.chunk(2, -3)
        return LevelPixels(0.5 + location / 4, guard_log_scale(self.initial_log_scale + log_scale))
