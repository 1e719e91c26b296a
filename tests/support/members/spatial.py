"""A convolutional network whose latents keep their position."""

import torch
from torch import Tensor, nn

from vaelab.models import networks
from vaelab.models.networks import append_condition
from vaelab.models.spec import Spec

STRIDE = 4


def grid_of(spec: Spec) -> tuple[int, int, int]:
    """Return height, width and channels of the latents."""
    height, width = (-(-side // STRIDE) for side in spec.image_shape[1:])
    channels, rest = divmod(spec.latent_dim, height * width)
    if rest or not channels:
        raise ValueError(f"network.latent_dim = {spec.latent_dim}: give a multiple of {height * width}")
    return height, width, channels


class Encoder(networks.Encoder):
    """A strided convolution; the condition is a plane per class."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        height, width, channels = grid_of(spec)
        self.parameters_per_latent, rest = divmod(spec.posterior_parameters, spec.latent_dim)
        if rest:
            raise ValueError("network.name = spatial needs a posterior with a whole number of parameters per latent")
        self.padding = [0, width * STRIDE - spec.image_shape[2], 0, height * STRIDE - spec.image_shape[1]]
        out = self.parameters_per_latent * channels
        self.convolution = nn.Conv2d(spec.image_shape[0] + spec.condition_dim, out, STRIDE, STRIDE)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the parameters with the channels of each position last."""
        if condition is not None:
            x = torch.cat([x, condition[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        h = self.convolution(nn.functional.pad(x, self.padding))
        return h.unflatten(1, (self.parameters_per_latent, -1)).permute(0, 1, 3, 4, 2).flatten(1)


class Decoder(networks.Decoder):
    """A transposed convolution."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.grid, self.size = grid_of(spec), spec.image_shape[1:]
        self.mix = nn.Linear(self.grid[2] + spec.condition_dim, 8)
        self.convolution = nn.ConvTranspose2d(8, spec.decoder_channels, STRIDE, STRIDE)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the pixels."""
        positions = z.unflatten(1, self.grid).flatten(0, 2)
        if condition is not None:
            condition = condition.repeat_interleave(self.grid[0] * self.grid[1], 0)
        h = self.mix(append_condition(positions, condition))
        h = h.view(len(z), *self.grid[:2], -1).permute(0, 3, 1, 2).contiguous()
        return self.convolution(h)[:, :, : self.size[0], : self.size[1]]
