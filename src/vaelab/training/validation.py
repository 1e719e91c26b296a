"""Validation during training: the objective's terms and the ELBO on held-out images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaelab.data.images import Images
from vaelab.models.bounds import elbo
from vaelab.system.device import disable_tf32, widest_float
from vaelab.system.distributed import current_group
from vaelab.system.noise import StepNoise
from vaelab.system.seeds import derive_seed
from vaelab.training.objectives import Context, compute_terms
from vaelab.training.settings import Settings
from vaelab.training.state import State


@dataclass(frozen=True)
class Validation:
    """The results of one validation, nats per image."""

    terms: Mapping[str, float]
    """The objective's terms, ``elbo``, and the norms of weights and of the last batch's gradient."""
    kl_groups: tuple[float, ...]
    """Mean KL of each latent; a single number where the KL is not a sum over latents."""
    final_loss: float
    """The loss as the objective weighs it after its warm-up; the loss of now unless the best weights are kept."""

    def row(self) -> dict[str, float]:
        """Return the columns of validation.csv; the KL groups are ``kl_1``, ``kl_2`` …"""
        return {**self.terms, **{f"kl_{j + 1}": value for j, value in enumerate(self.kl_groups)}}


@torch.no_grad()
def validate(state: State, images: Images, settings: Settings) -> Validation:
    """Return the objective's terms, the normalised ELBO and the KL groups on held-out images, in float32.

    If the best weights are kept, the loss after the warm-up is measured, too. The noise is the same each time. Each
    rank measures its shard of every batch, and all ranks get the result.
    """
    vae, objective = state.vae, state.objective
    noise = StepNoise(derive_seed(settings.seed, "validation"), vae.device)
    step = torch.full((), max(state.step - 1, 0), device=vae.device, dtype=torch.int64)
    warmup_steps = objective.warmup_steps if state.best is not None else 0
    was_training, wide = vae.training, widest_float(vae.device)
    vae.eval()
    sums: dict[str, Tensor] = {}
    try:
        with disable_tf32():
            for i, start in enumerate(range(0, len(images), settings.batch_size)):
                shard = current_group().shard(min(settings.batch_size, len(images) - start))
                count = len(shard)
                batch = images.batch(start + shard.rows.start, start + shard.rows.stop, vae.device)
                noise.seek(i, shard)
                out, terms = compute_terms(objective, vae, batch, Context(step, noise, vae))
                found = {name: value.to(wide) * count for name, value in terms.items()}
                kl = out.kl.to(wide)[:count]
                log_likelihood = out.p_x.log_prob(batch.x).to(wide)[:, :count]
                found["elbo"] = elbo(log_likelihood, kl.sum(1)).sum()
                found["kl_groups"] = kl.sum(0)
                found["final_loss"] = found["loss"]
                if state.step < warmup_steps:
                    noise.seek(i, shard)
                    after = Context(torch.full_like(step, warmup_steps), noise, vae)
                    found["final_loss"] = compute_terms(objective, vae, batch, after)[1]["loss"].to(wide) * count
                sums = {name: sums[name] + value if name in sums else value for name, value in found.items()}
        sums = {name: current_group().all_reduce_(value) for name, value in sums.items()}
    finally:
        vae.train(was_training)
    final_loss = float(sums.pop("final_loss")) / len(images)
    kl_groups = (sums.pop("kl_groups") / len(images)).tolist()
    return Validation(
        {
            **{name: float(value) / len(images) for name, value in sums.items()},
            "gradient_norm": _norm([p.grad for p in vae.parameters() if p.grad is not None]),
            "weight_norm": _norm(list(vae.parameters())),
        },
        tuple(kl_groups),
        final_loss,
    )


def _norm(tensors: list[Any]) -> float:
    squares = [t.detach().to(widest_float(t.device)).square().sum() for t in tensors]
    return float(torch.stack(squares).sum().sqrt()) if tensors else 0.0
