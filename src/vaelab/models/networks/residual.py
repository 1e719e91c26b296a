"""Residual convolutional networks, with latents for the whole image or for every position of a grid."""

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.models import networks
from vaelab.models.networks import append_condition
from vaelab.models.networks.conv import Layers, Strides, choose_strides
from vaelab.models.spec import Auto, Spec
from vaelab.system.errors import RecipeError

NARROWEST, WIDEST = 32, 128
"""Channels of the first and the widest level of an "auto" network."""
CHANNELS_PER_GROUP = 8
"""Channels that are normalised together."""
CHANNELS_PER_HEAD = 32
"""Channels of one head of attention."""

Latents = Literal["dense", "spatial"]
Feature = Float[Tensor, "batch channel height width"]


def choose_channels(spec: Spec) -> list[int]:
    """Return the channels of as many levels as ``choose_strides`` has: 32 in the first, doubled up to 128."""
    return [min(NARROWEST << i, WIDEST) for i in range(len(choose_strides(spec)))]


Channels = Annotated[Layers, Auto(choose_channels)]


def level_sizes(spec: Spec, strides: list[int]) -> list[tuple[int, int]]:
    """Return height and width of the image and after every level, rounded up."""
    sizes = [spec.image_shape[1:]]
    for stride in strides:
        height, width = sizes[-1]
        sizes.append((-(-height // stride), -(-width // stride)))
    return sizes


def _check_levels(channels: list[int], strides: list[int]) -> None:
    if len(channels) != len(strides):
        counts = f"network.channels has {len(channels)} numbers and network.strides {len(strides)}"
        raise RecipeError(f"{counts}; give as many of each", subject="network.channels", value=channels)


def _latents_per_position(spec: Spec, size: tuple[int, int]) -> int:
    """Number of latents at each position of a grid."""
    positions = size[0] * size[1]
    each, rest = divmod(spec.latent_dim, positions)
    if rest or not each:
        grid = f"network.latents = spatial has a grid of {size[0]}×{size[1]}"
        message = f"network.latent_dim = {spec.latent_dim}: {grid}; give a multiple of {positions}"
        raise RecipeError(message, subject="network.latent_dim", value=spec.latent_dim)
    return each


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // CHANNELS_PER_GROUP) if channels % CHANNELS_PER_GROUP == 0 else 1, channels)


class Block(nn.Module):
    """x + two convolutions, each after a normalisation of groups of channels and SiLU (He et al. 2016, 1603.05027)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_norm(channels) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Feature) -> Feature:
        """Return the features with those of the block added."""
        h = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = convolution(F.silu(norm(h)))
        return x + h


class Attention(nn.Module):
    """x + attention of every position to all, after a normalisation (1706.03762; Wang et al. 2018, 1711.07971)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // CHANNELS_PER_HEAD) if channels % CHANNELS_PER_HEAD == 0 else 1
        self.norm = _norm(channels)
        self.inputs, self.output = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Feature) -> Feature:
        """Return the features with those attended to added."""
        channels, height, width = x.shape[1:]
        parts = self.inputs(self.norm(x)).reshape(-1, 3, self.heads, channels // self.heads, height * width)
        query, key, value = parts.unbind(1)
        # fused attention does not repeat bit for bit on CUDA
        weights = torch.softmax(query.mT @ key / math.sqrt(channels // self.heads), -1)
        attended: Tensor = self.output((value @ weights.mT).reshape(-1, channels, height, width))
        return x + attended


def _make_blocks(channels: int, count: int, size: tuple[int, int], attention: int) -> nn.Sequential:
    """Return the blocks of a level, with attention if its longer side is at most ``attention``."""
    last = [Attention(channels)] if max(size) <= attention else []
    return nn.Sequential(*(Block(channels) for _ in range(count)), *last)


class Encoder(networks.Encoder):
    """At each level a strided convolution and ``blocks`` residual blocks, then one layer to the latents.

    Levels with sides of at most ``attention`` features end with self-attention.

    ``latents`` "dense": a linear layer on all features, to which a condition is appended. "spatial": a 1×1 convolution,
    so that each position of the last level has its own latents; a condition is a plane for each class.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        channels: Channels,
        strides: Strides,
        blocks: Annotated[int, Ge(1)] = 1,
        attention: Annotated[int, Ge(0)] = 0,
        latents: Latents = "dense",
    ) -> None:
        super().__init__()
        _check_levels(channels, strides)
        self.is_spatial, sizes = latents == "spatial", level_sizes(spec, strides)
        widths = [spec.image_shape[0] + (spec.condition_dim if self.is_spatial else 0), *channels]
        self.down = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride, padding=1) for i, stride in enumerate(strides)
        )
        self.blocks = nn.ModuleList(
            _make_blocks(width, blocks, size, attention) for width, size in zip(channels, sizes[1:], strict=True)
        )
        self.norm = _norm(channels[-1])
        self.head: nn.Module
        if not self.is_spatial:
            self.head = nn.Linear(
                channels[-1] * sizes[-1][0] * sizes[-1][1] + spec.condition_dim, spec.posterior_parameters
            )
            return
        self.parameters_per_latent, rest = divmod(spec.posterior_parameters, spec.latent_dim)
        if rest:
            message = "network.latents = spatial needs a posterior with as many parameters for every latent"
            raise RecipeError(message, subject="network.latents", value=latents)
        self.head = nn.Conv2d(channels[-1], self.parameters_per_latent * _latents_per_position(spec, sizes[-1]), 1)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch condition"] | None = None,
    ) -> Float[Tensor, "batch parameter"]:
        """Return the parameters of the posteriors."""
        if self.is_spatial and condition is not None:
            x = torch.cat([x, condition.to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        for down, blocks in zip(self.down, self.blocks, strict=True):
            x = blocks(down(x))
        h = F.silu(self.norm(x))
        if not self.is_spatial:
            dense: Tensor = self.head(append_condition(h.flatten(1), condition))
            return dense
        grid: Tensor = self.head(h)
        return torch.cat([part.permute(0, 2, 3, 1).flatten(1) for part in grid.chunk(self.parameters_per_latent, 1)], 1)


class Decoder(networks.Decoder):
    """One layer from the latents, then at each level ``blocks`` residual blocks, upsampling and a convolution.

    Features are upsampled by repetition, which avoids checkerboard artefacts. A condition is appended to the code, or
    to the latents of every position.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        channels: Channels,
        strides: Strides,
        blocks: Annotated[int, Ge(1)] = 1,
        attention: Annotated[int, Ge(0)] = 0,
        latents: Latents = "dense",
    ) -> None:
        super().__init__()
        _check_levels(channels, strides)
        self.is_spatial, self.sizes = latents == "spatial", level_sizes(spec, strides)[::-1]
        self.width = channels[-1]
        height, width = self.sizes[0]
        if self.is_spatial:
            self.stem = nn.Linear(_latents_per_position(spec, self.sizes[0]) + spec.condition_dim, self.width)
        else:
            self.stem = nn.Linear(spec.latent_dim + spec.condition_dim, self.width * height * width)
        widths = [*channels[::-1], channels[0]]
        self.blocks = nn.ModuleList(
            _make_blocks(width, blocks, size, attention)
            for width, size in zip(widths[:-1], self.sizes[:-1], strict=True)
        )
        self.up = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 3, padding=1) for i in range(len(channels)))
        self.norm = _norm(channels[0])
        self.head = nn.Conv2d(channels[0], spec.decoder_channels, 3, padding=1)

    def forward(
        self, z: Float[Tensor, "batch latent"], condition: Float[Tensor, "batch condition"] | None = None
    ) -> Float[Tensor, "batch channel height width"]:
        """Return the decoded channels."""
        height, width = self.sizes[0]
        if self.is_spatial:
            positions = z.reshape(-1, z.shape[1] // (height * width))  # no sizes of the batch: they cannot be exported
            if condition is not None:
                condition = condition.repeat_interleave(height * width, 0)
            h = (
                self.stem(append_condition(positions, condition))
                .view(-1, height, width, self.width)
                .permute(0, 3, 1, 2)
            )
        else:
            h = self.stem(append_condition(z, condition)).view(-1, self.width, height, width)
        h = h.contiguous(memory_format=torch.channels_last)
        for blocks, up, size in zip(self.blocks, self.up, self.sizes[1:], strict=True):
            h = up(F.interpolate(blocks(h), size))
        decoded: Tensor = self.head(F.silu(self.norm(h)))
        return decoded
