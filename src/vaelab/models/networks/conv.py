"""Strided convolutions, mirrored by transposed convolutions."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.models import networks
from vaelab.models.networks import append_condition
from vaelab.models.spec import Auto, Spec
from vaelab.system.errors import RecipeError
from vaelab.system.messages import count_of

Positive = Annotated[int, Ge(1)]
Layers = Annotated[list[Positive], Len(1)]
Widths = list[Positive]

Kernel = Annotated[int, Ge(2), Le(11)]
Slope = Annotated[float, Ge(0), Le(1)]

SMALLEST, NARROWEST, WIDEST = 4, 32, 256
"""Shortest side at the bottleneck, and channels of the first and the widest layer, of an "auto" network."""


def choose_strides(spec: Spec) -> list[int]:
    """Return strides of 2 until the shorter side has 4 to 7 pixels."""
    depth, side = 0, min(spec.image_shape[1:])
    while side >= 2 * SMALLEST:
        depth, side = depth + 1, -(-side // 2)
    return [2] * depth


def choose_channels(spec: Spec) -> list[int]:
    """Return the channels of as many layers: 32 in the first, doubled from layer to layer up to 256."""
    return [min(NARROWEST << i, WIDEST) for i in range(len(choose_strides(spec)))]


Channels = Annotated[Layers, Auto(choose_channels)]
Strides = Annotated[Layers, Auto(choose_strides)]


def feature_sizes(size: int, strides: list[int], kernel: int = 3) -> list[int]:
    """Return the side length before the first and after every convolution: ⌈size / stride⌉ for an odd kernel."""
    sizes = [size]
    for stride in strides:
        sizes.append((sizes[-1] + 2 * _padding(kernel) - kernel) // stride + 1)
    if min(sizes) < 1:
        message = f"a side of {size} pixels is too short for strides {strides} with network.kernel = {kernel}"
        raise RecipeError(f"network.strides: {message}; give fewer layers", subject="network.strides", value=strides)
    return sizes


def _padding(kernel: int) -> int:
    return (kernel - 1) // 2


class UpConvolution(nn.Module):
    """A transposed convolution from one exact image size to another.

    The bias is added outside the convolution, because oneDNN has only a slow reference kernel for the fused operation.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: int,
        stride: int,
        sizes: tuple[tuple[int, int], tuple[int, int]],
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, _padding(kernel)
        small, large = sizes
        self.output_padding = [
            after - ((before - 1) * stride - 2 * self.padding + kernel)
            for before, after in zip(small, large, strict=True)
        ]
        self.weight = nn.Parameter(torch.empty(*channels, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(channels[1]))

    def forward(
        self, h: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out_channel bottom right"]:
        h = F.conv_transpose2d(h, self.weight, None, self.stride, self.padding, self.output_padding)
        return h.add_(self.bias.to(h.dtype)[:, None, None])


def _check_layers(channels: list[int], strides: list[int]) -> None:
    if len(channels) != len(strides):
        counts = f"network.channels has {count_of(len(channels), 'layer')} and network.strides {len(strides)}"
        message = f"{counts}; give as many of each"
        raise RecipeError(message, subject="network.channels", value=channels)


def _make_relu(negative_slope: float) -> Callable[..., Tensor]:
    return partial(F.leaky_relu, negative_slope=negative_slope) if negative_slope else F.relu


def _make_last(channels: int, decoder_channels: int, kernel: int) -> nn.Conv2d:
    """Return the convolution that keeps the size of an image; RecipeError for an even kernel, which cannot."""
    if kernel % 2 == 0:
        message = f"network.last_convolution needs an odd kernel; network.kernel is {kernel}"
        raise RecipeError(message, subject="network.kernel", value=kernel)
    return nn.Conv2d(channels, decoder_channels, kernel, padding=_padding(kernel))


def _linear_layers(widths: list[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))


class Encoder(networks.Encoder):
    """Convolutions with ReLU between them, ``hidden`` linear layers with ReLU, and a linear layer.

    ReLU multiplies negative values by ``negative_slope``. ``activate_last`` adds a ReLU after the last convolution. A
    condition is appended to the features after the convolutions.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        channels: Channels,
        strides: Strides,
        kernel: Kernel = 3,
        hidden: Widths = [],  # noqa: B006 (read only)
        negative_slope: Slope = 0.0,
        activate_last: bool = False,
    ) -> None:
        super().__init__()
        _check_layers(channels, strides)
        self.activate = _make_relu(negative_slope)
        widths = [spec.image_shape[0], *channels]
        height, width = (feature_sizes(side, strides, kernel)[-1] for side in spec.image_shape[1:])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], kernel, stride, _padding(kernel)) for i, stride in enumerate(strides)
        )
        self.activate_last = activate_last or bool(hidden)
        depths = [channels[-1] * height * width + spec.condition_dim, *hidden]
        self.hidden = _linear_layers(depths)
        self.head = nn.Linear(depths[-1], spec.posterior_parameters)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch parameter"]:
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if self.activate_last or i < len(self.convolutions) - 1:
                x = self.activate(x, inplace=True)
        h = append_condition(x.flatten(1), condition)
        for layer in self.hidden:
            h = self.activate(layer(h), inplace=True)
        parameters: Tensor = self.head(h)
        return parameters


class Decoder(networks.Decoder):
    """The encoder's layers in reverse: linear layers, then transposed convolutions with ReLU between them.

    With ``last_convolution``, the last transposed convolution returns as many channels as the encoder's first one, and
    a ReLU and a convolution follow. A condition is appended to the code.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        channels: Channels,
        strides: Strides,
        kernel: Kernel = 3,
        hidden: Widths = [],  # noqa: B006
        negative_slope: Slope = 0.0,
        last_convolution: bool = False,
    ) -> None:
        super().__init__()
        _check_layers(channels, strides)
        self.activate = _make_relu(negative_slope)
        heights, widths = (feature_sizes(side, strides, kernel)[::-1] for side in spec.image_shape[1:])
        depth = [*channels[::-1], channels[0] if last_convolution else spec.decoder_channels]
        self.shape = (channels[-1], heights[0], widths[0])
        depths = [spec.latent_dim + spec.condition_dim, *hidden[::-1]]
        self.hidden = _linear_layers(depths)
        self.stem = nn.Linear(depths[-1], channels[-1] * heights[0] * widths[0])
        self.up_convolutions = nn.ModuleList(
            UpConvolution(
                (depth[i], depth[i + 1]), kernel, stride, ((heights[i], widths[i]), (heights[i + 1], widths[i + 1]))
            )
            for i, stride in enumerate(strides[::-1])
        )
        self.last = _make_last(channels[0], spec.decoder_channels, kernel) if last_convolution else None

    def forward(
        self, z: Float[Tensor, "batch latent"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        h = append_condition(z, condition)
        for layer in self.hidden:
            h = self.activate(layer(h), inplace=True)
        h = self.stem(h)
        if self.hidden:
            h = self.activate(h, inplace=True)
        h = h.view(-1, *self.shape).contiguous(memory_format=torch.channels_last)
        for i, convolution in enumerate(self.up_convolutions):
            h = convolution(self.activate(h, inplace=True) if i else h)
        return h if self.last is None else self.last(self.activate(h, inplace=True))
