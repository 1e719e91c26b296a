"""An autoregressive distribution over the positions of quantised codes, fitted to those of a trained model."""

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.models import samplers
from vaelab.models.codes import CodeSamples, as_finite
from vaelab.models.initialisation import initialise
from vaelab.models.posteriors import QuantisedPosterior
from vaelab.models.priors import Density
from vaelab.models.priors.uniform import UniformCodes
from vaelab.models.samplers._training import train
from vaelab.models.spec import Spec
from vaelab.system.errors import InputError

BATCH_SIZE, LEARNING_RATE = 64, 2e-3
HEAD_WIDTH = 16
"""Features of an attention head."""
MAX_CODES = 1 << 16
"""Entries of the largest codebook: every one has a weight vector."""
CHUNK = 256
"""Codes that are measured or drawn at a time."""

Past = tuple[Float[Tensor, "n head _ feature"], Float[Tensor, "n head _ feature"]]
"""Keys and values of the positions before one."""


class Sampler(samplers.Sampler):
    """p(c) = Π_i p(c_i | c_1 … c_{i−1}) over the entries c of a codebook, by a causal transformer (1706.03762).

    The positions of quantised codes depend on each other, and independent entries decode to noise. Positions are in the
    order of the latents, for a spatial network row by row (as in PixelCNN; van den Oord et al. 2017, 1711.00937,
    section 3.3). The log-probability is exact. One code in ten is held out to choose the best weights. Drawing codes
    takes one pass for each position. For a conditional model it ignores the condition.
    """

    needs_codes: ClassVar = True
    needs: ClassVar = frozenset({"quantised_posterior"})

    def __init__(
        self,
        spec: Spec,
        density: Density,
        device: torch.device = samplers.CPU,
        *,
        width: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        steps: Annotated[int, Ge(1)] = 2000,
    ) -> None:
        super().__init__(spec, density, device)
        self.steps, positions, codes = steps, self._codebook.num_positions, self._codebook.num_codes
        if codes > MAX_CODES:
            message = f"a codebook with {codes:,} entries is too large for the sampler; the limit is {MAX_CODES:,}"
            raise InputError(message, subject="sampler", value=codes)
        self.network = CausalTransformer(positions, codes, width, layers)
        self.register_buffer("num_codes", torch.zeros((), dtype=torch.int64))

    @property
    def _codebook(self) -> QuantisedPosterior:
        assert isinstance(self.density, UniformCodes)
        return self.density.codebook

    def fit(self, codes: CodeSamples, generator: torch.Generator) -> None:
        """Train by maximum likelihood; InputError for codes that are not finite."""
        initialise(self.network, generator)
        indices = self._indices(torch.from_numpy(as_finite(codes.z, "codes")).float())
        self.get_buffer("num_codes").fill_(len(indices))
        train(
            self.network,
            lambda batch, _: -self.network.log_prob(batch).mean(),
            indices,
            generator,
            self.steps,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
        )

    @property
    def protocol(self) -> dict[str, Any]:
        """Numbers of layers, steps and training codes."""
        counts = {"layers": len(self.network.blocks), "steps": self.steps, "codes": int(self.get_buffer("num_codes"))}
        return {**super().protocol, **counts, "fitted_to": "the code of each training image"}

    def _indices(self, z: Float[Tensor, "n latent"]) -> Int[Tensor, "n position"]:
        return self._codebook.indices(z.to(self.device)).cpu()

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count latent"]:
        """Draw one position after the other by inverting its distribution function."""
        uniform = torch.rand(count, self.network.num_positions, generator=generator, dtype=torch.float64)
        indices = torch.cat([self.network.invert(part) for part in torch.split(uniform, CHUNK)])
        return self._codebook.lookup(indices.to(self.device)).float().cpu()

    @torch.no_grad()
    def log_prob(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, " n"]:
        """ln p of the nearest entries, nats."""
        parts = torch.split(self._indices(z.detach().float()), CHUNK)
        return torch.cat([self.network.log_prob(part) for part in parts])


class CausalTransformer(nn.Module):
    """Distributions of each of a sequence of entries, given those before it."""

    def __init__(self, num_positions: int, num_entries: int, width: int, layers: int) -> None:
        super().__init__()
        self.num_positions = num_positions
        self.entry = nn.Embedding(num_entries + 1, width)  # the last one stands before the first position
        self.position = nn.Embedding(num_positions, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_entries)

    def forward(self, before: Int[Tensor, "n given"]) -> Float[Tensor, "n given+1 entry"]:
        """Return the log-probabilities at the positions up to the first that is not given."""
        h = self.entry(F.pad(before, (1, 0), value=self.entry.num_embeddings - 1))
        h = h + self.position.weight[: h.shape[1]]
        for block in self.blocks:
            h, _ = block(h)
        return torch.log_softmax(self.head(self.norm(h)), -1)

    def log_prob(self, indices: Int[Tensor, "n position"]) -> Float[Tensor, " n"]:
        """Return Σ_i ln p(c_i | c_1 … c_{i−1}), nats."""
        log_prob: Tensor = self(indices[:, :-1]).gather(-1, indices[..., None])[..., 0].sum(-1)
        return log_prob

    def invert(self, uniform: Float[Tensor, "n position"]) -> Int[Tensor, "n position"]:
        """Return the entries at which the distribution functions exceed ``uniform``, one position after the other."""
        indices = torch.empty(uniform.shape, dtype=torch.int64)
        entry = torch.full((len(uniform),), self.entry.num_embeddings - 1)
        pasts: list[Past | None] = [None] * len(self.blocks)
        for i in range(self.num_positions):
            h = (self.entry(entry) + self.position.weight[i])[:, None]
            for k, block in enumerate(self.blocks):
                h, pasts[k] = block(h, pasts[k])
            log_probs = torch.log_softmax(self.head(self.norm(h[:, 0])), -1)
            cumulative = log_probs.double().exp().cumsum(-1)
            threshold = uniform[:, i : i + 1] * cumulative[:, -1:]  # rounding leaves the last one near 1
            entry = torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp(max=self.head.out_features - 1)
            indices[:, i] = entry
        return indices


class _Block(nn.Module):
    """x + attention to earlier positions, then x + two dense layers, each after a normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_WIDTH) if width % HEAD_WIDTH == 0 else 1
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(
        self, x: Float[Tensor, "n position width"], past: Past | None = None
    ) -> tuple[Float[Tensor, "n position width"], Past]:
        """Return the features of the same positions, and keys and values up to the last of them.

        ``past``: keys and values of all positions before a single one.
        """
        parts = self.inputs(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        return x + self.dense(self.norms[1](x)), (key, value)
