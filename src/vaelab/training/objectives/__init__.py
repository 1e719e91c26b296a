"""Objectives, one file each; every file has a class ``Objective(spec, *, …)``.

Its keyword arguments are the keys of ``[objective]`` in a recipe.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.data.tensors import Batch
from vaelab.models.terms import Term
from vaelab.models.vae import VAE, VAEOutput
from vaelab.system.distributed import current_group
from vaelab.system.noise import Noise


@dataclass(frozen=True)
class Context:
    """Inputs of an objective besides the output of the model and the batch."""

    step: Int[Tensor, ""]
    """Training step from 0, on the device; schedules are functions of it, and no object counts steps."""
    noise: Noise
    vae: VAE

    def gather(self, rows: Float[Tensor, "own ..."]) -> Float[Tensor, "batch ..."]:
        """Return the rows of the whole batch if several processes share it, for terms that compare images.

        Gradients flow back to the rank of each row. Every rank computes the same term from all rows.
        """
        return current_group().all_gather(rows, self.noise.shard)


@dataclass(frozen=True)
class Knob:
    """A recipe key that changes the KL that training reaches."""

    key: str
    raises_kl: bool
    """Whether a larger value leads to a larger KL."""


class Objective(nn.Module, ABC):
    """The loss that training minimises, and what it declares about itself."""

    samples: int = 1
    """Number of samples drawn from each posterior."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Keys of ``vae.REQUIREMENTS`` that the model must provide."""
    warmup_steps: int = 0
    """Number of steps over which a weight or a target rises."""
    terms: tuple[Term, ...] = ()
    """Quantities that ``forward`` returns besides ``"loss"``, ``"reconstruction"`` and ``"kl"``, in order."""
    loss_terms: tuple[str, ...] = ()
    """Names of logged quantities that add up to the loss; empty if the loss is no such sum."""
    loss_unit: ClassVar[str] = "nats"
    """Unit of the loss: nats, or empty if it includes a term that is no log-probability."""
    kl_weight: float | None = None
    """β if the loss is reconstruction + β·KL, else None. With β = 1 the loss is a bound on −ln p(x)."""
    kl_knob: ClassVar[Knob | None] = None
    """The key to change if the KL is too small or too large."""

    def advise_kl(self, *, larger: bool) -> str:
        """Return the change of the recipe that leads to a larger or a smaller KL."""
        if self.kl_knob is None:
            return f"objective.name=beta with an objective.beta {'below' if larger else 'above'} 1"
        return f"a {'larger' if self.kl_knob.raises_kl == larger else 'smaller'} {self.kl_knob.key}"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of the objective for the optimizer of torch."""
        return [{"params": list(self.parameters())}]

    @abstractmethod
    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, Float[Tensor, ""]]:
        """Return ``"loss"``, ``"reconstruction"``, ``"kl"`` and the declared terms: scalars, means over the batch."""


def compute_terms(
    objective: Objective, vae: VAE, batch: Batch, context: Context
) -> tuple[VAEOutput, dict[str, Float[Tensor, ""]]]:
    """Run the forward pass of a step; return the output and all terms, with the losses of the posterior added."""
    out: VAEOutput = vae(batch, context.noise, objective.samples, context.gather)
    terms = objective(out, batch, context)
    loss = sum(out.losses.values(), start=terms["loss"])
    return out, {**terms, "loss": loss, **out.losses, **out.statistics}
