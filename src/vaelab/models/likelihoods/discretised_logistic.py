"""8-bit pixels with the probabilities of a discretised logistic distribution."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.models import likelihoods
from vaelab.models.gradients import clamp_straight_through
from vaelab.models.spec import Spec

LEVEL = 1 / 255
"""Distance between neighbouring grey levels."""
LOG_SCALE_RANGE = (-9.0, 4.0)
"""At the lower end one level can have a probability of 1 − 3·10⁻⁷; at the upper end all levels are nearly equal."""


@dataclass(frozen=True)
class LevelPixels:
    """Independent pixels on the levels k/255: a logistic variable rounded to the nearest level.

    ``location`` may lie outside [0, 1], so that black and white can be as certain as any level between them.
    """

    location: Float[Tensor, "*batch channel height width"]
    log_scale: Float[Tensor, "*#batch channel height width"] | Float[Tensor, ""]

    @property
    def mean(self) -> Float[Tensor, "*batch channel height width"]:
        """Expected level, Σ P(x ≥ k/255)/255 over k = 1 … 255.

        The sum is approximated by its integral with the first correction of the Euler–Maclaurin formula. The error is
        at most 10⁻⁶ if the scale is at least one level, and half a level otherwise.
        """
        scale = torch.exp(self.log_scale)
        from_black, from_white = self.location / scale, (self.location - 1) / scale
        slopes = [torch.sigmoid(a) * torch.sigmoid(-a) for a in (from_white, from_black)]
        integral = scale * (F.softplus(from_black) - F.softplus(from_white))
        return (integral + LEVEL**2 / 24 * (slopes[0] - slopes[1]) / scale).clamp(0, 1)

    def reconstruction_loss(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """−ln p(x|z), nats per image; at least 0."""
        return -self.log_prob(x)

    def log_prob(self, x: Float[Tensor, "*#batch channel height width"]) -> Float[Tensor, "*batch"]:
        """ln p(x|z), nats per image: the probability of [x − 1/510, x + 1/510], open-ended for black and white.

        It is computed from σ(a) − σ(b) = σ(a)·σ(−b)·(1 − eᵇ⁻ᵃ), so value and gradient are finite for every location.
        """
        scale = torch.exp(self.log_scale)
        above = F.logsigmoid((x + LEVEL / 2 - self.location) / scale)
        below = F.logsigmoid((self.location - x + LEVEL / 2) / scale)
        between = torch.log(-torch.expm1(-LEVEL / scale))
        is_black, is_white = x < LEVEL / 2, x > 1 - LEVEL / 2
        inner = torch.where(is_black, above, torch.where(is_white, below, above + below + between))
        return inner.sum((-3, -2, -1))

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*batch channel height width"]:
        """Draw levels."""
        uniform = torch.rand(self.location.shape, generator=generator, dtype=self.location.dtype)
        noise = torch.logit(uniform).to(self.location.device)
        levels = ((self.location + torch.exp(self.log_scale) * noise) / LEVEL).round()
        return levels.clamp(0, 255) * LEVEL


class Likelihood(likelihoods.Likelihood):
    """Discretised logistic likelihood (Kingma et al. 2016, 1606.04934, section 6).

    Black and white have open-ended intervals (Salimans et al. 2017, 1701.05517, section 2.1). The location is ½ plus a
    quarter of the decoder's output; a quarter is the slope of the sigmoid at 0. With ``scale`` "shared", one scale is
    learned for all pixels; with "pixel", a second channel of the decoder gives one for each. Both begin at
    ``initial_scale``, for pixels in [0, 1].
    """

    is_discrete = True

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
        """Return the distribution with location and scale from ``decoded``."""
        if self.log_scale is not None:
            return LevelPixels(0.5 + decoded / 4, clamp_straight_through(self.log_scale, *LOG_SCALE_RANGE))
        location, log_scale = decoded.chunk(2, -3)
        log_scale = clamp_straight_through(self.initial_log_scale + log_scale, *LOG_SCALE_RANGE)
        return LevelPixels(0.5 + location / 4, log_scale)
