"""Strided 3×3 convolutions, mirrored by transposed convolutions."""

from typing import Annotated

import torch
from annotated_types import Ge, Len
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.facts import Facts

Positive = Annotated[int, Ge(1)]
Layers = Annotated[list[Positive], Len(1)]

KERNEL, PADDING = 3, 1


def feature_sizes(size: int, strides: list[int]) -> list[int]:
    """Side length before the first and after every convolution: ⌈size / stride⌉ each time."""
    sizes = [size]
    for stride in strides:
        sizes.append((sizes[-1] + 2 * PADDING - KERNEL) // stride + 1)
    return sizes


class UpConvolution(nn.Module):
    """A transposed 3×3 convolution from one exact image size to another.

    The bias is added outside the convolution: oneDNN falls to a slow reference kernel when it is fused.
    """

    def __init__(self, channels: tuple[int, int], stride: int, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
        super().__init__()
        self.stride = stride
        small, large = sizes
        self.output_padding = [
            after - ((before - 1) * stride - 2 * PADDING + KERNEL) for before, after in zip(small, large, strict=True)
        ]
        self.weight = nn.Parameter(torch.empty(*channels, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.empty(channels[1]))

    def forward(
        self, h: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out_channel bottom right"]:
        h = F.conv_transpose2d(h, self.weight, None, self.stride, PADDING, self.output_padding)
        return h + self.bias[:, None, None]


def _check(channels: list[int], strides: list[int]) -> None:
    if len(channels) != len(strides):
        raise ValueError(
            f"network.channels has {len(channels)} layers and network.strides {len(strides)}; give as many of each"
        )


class Encoder(nn.Module):
    """Convolutions with ReLU between them, then one linear layer to mean and log-variance."""

    def __init__(
        self,
        facts: Facts,
        *,
        channels: Layers = [32, 64, 64, 64],  # noqa: B006 (read only)
        strides: Layers = [1, 2, 2, 1],  # noqa: B006
        activate_last: bool = False,
    ) -> None:
        super().__init__()
        _check(channels, strides)
        widths = [facts.image_shape[0], *channels]
        height, width = (feature_sizes(side, strides)[-1] for side in facts.image_shape[1:])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], KERNEL, stride, PADDING) for i, stride in enumerate(strides)
        )
        self.activate_last = activate_last
        self.head = nn.Linear(channels[-1] * height * width, 2 * facts.latent_dim)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if self.activate_last or i < len(self.convolutions) - 1:
                x = F.relu(x)
        mean, log_var = self.head(x.flatten(1)).chunk(2, dim=1)
        return mean, log_var


class Decoder(nn.Module):
    """The encoder mirrored: a linear layer, then transposed convolutions with ReLU between them."""

    def __init__(
        self,
        facts: Facts,
        *,
        channels: Layers = [32, 64, 64, 64],  # noqa: B006
        strides: Layers = [1, 2, 2, 1],  # noqa: B006
    ) -> None:
        super().__init__()
        _check(channels, strides)
        heights, widths = (feature_sizes(side, strides)[::-1] for side in facts.image_shape[1:])
        depth = [*channels[::-1], facts.decoder_channels]
        self.shape = (channels[-1], heights[0], widths[0])
        self.stem = nn.Linear(facts.latent_dim, channels[-1] * heights[0] * widths[0])
        self.up_convolutions = nn.ModuleList(
            UpConvolution((depth[i], depth[i + 1]), stride, ((heights[i], widths[i]), (heights[i + 1], widths[i + 1])))
            for i, stride in enumerate(strides[::-1])
        )

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch channel height width"]:
        h: Tensor = self.stem(z)
        h = h.view(-1, *self.shape).contiguous(memory_format=torch.channels_last)
        for i, convolution in enumerate(self.up_convolutions):
            h = convolution(F.relu(h) if i else h)
        return h
