"""The work of one process in tests/api/test_ranks.py; torchrun starts it, and it writes its results to a file."""

import json
import sys
from pathlib import Path

import torch
from small import CPU, make_labelled, make_recipe, make_state

from vaelab.data.images import Batch
from vaelab.data.loader import Batches
from vaelab.models.vae import VAEOutput
from vaelab.system import registry
from vaelab.system.distributed import Shard, current_group, join_group
from vaelab.system.seeds import StepNoise
from vaelab.training.objectives import Context, Objective
from vaelab.training.step import EagerSteps
from vaelab.training.validation import validate

ROWS = torch.arange(15, dtype=torch.float64).reshape(5, 3).sin()


def batch_wise(codes: torch.Tensor) -> torch.Tensor:
    """A loss in which every row meets every other one."""
    return torch.logsumexp(codes @ codes.T, dim=1).mean()


class BatchWise(Objective):
    """reconstruction + KL + a term of all codes of a batch."""

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, torch.Tensor]:
        term = batch_wise(context.gather(out.z[0]))
        loss = out.mean_reconstruction + out.mean_kl + term
        return {"loss": loss, "reconstruction": out.mean_reconstruction, "kl": out.mean_kl, "term": term}


def train_batch_wise(**overrides: str) -> list[list[float]]:
    """Some steps on 50 images in batches of 7, the last of an epoch with a single one; then a validation."""
    made, data = make_recipe(training__batch_size=7, training__learning_rate=0.01, **overrides), make_labelled()
    state = make_state(made, data)
    state.objective = BatchWise()
    batches = Batches(data, 7, 0, CPU, shuffle_buffer=20, group=current_group())
    rows = EagerSteps(state, batches, StepNoise(0, CPU), "none", "fp32").run(0, 20, lambda: False)
    measured = validate(state, make_labelled(15, seed=1), made.training).row()
    return [*rows.tolist(), [measured[name] for name in ("loss", "elbo", "term", "kl_1", "gradient_norm")]]


def train_every_model() -> dict[str, list[list[float]]]:
    """The same for each posterior and prior, and for a conditional model."""
    found = {
        f"{posterior}, {prior}": train_batch_wise(posterior__name=posterior, prior__name=prior)
        for posterior in registry.names("posteriors")
        for prior in registry.names("priors")
    }
    return {**found, "label": train_batch_wise(network__condition="label")}


def num_threads() -> int:
    """Threads of this process, those of libraries with them."""
    return len(list(Path("/proc/self/task").iterdir()))


def main(target: Path) -> None:
    """Sum, tell, gather with gradients; findings as JSON."""
    with join_group() as together:
        shard = together.shard(len(ROWS))
        own = ROWS[shard.start : shard.stop].clone().requires_grad_()
        whole = together.all_gather(own, shard)
        (batch_wise(whole) * shard.weight).backward()
        nobody = Shard(*((0, 1, 1) if together.is_main else (1, 1, 1)))
        lonely = together.all_gather(torch.full((1, 2), float(together.rank)), nobody)
        tensors = together.broadcast_tensors({"a": torch.arange(6).reshape(2, 3).T} if together.is_main else {})
        found = {
            "rank": together.rank,
            "share": [shard.start, shard.stop],
            "sum": together.all_reduce_(torch.tensor([1.0 + together.rank, 10.0])).tolist(),
            "told": together.broadcast({"x": 1} if together.is_main else None),
            "whole": whole.tolist(),
            "gradient": own.grad.tolist() if own.grad is not None else None,
            "lonely": lonely.tolist(),
            "tensor": tensors["a"].tolist(),
            "trained": train_every_model(),
        }
        together.barrier()
        found["threads within"] = num_threads()
    found["threads after"] = num_threads()
    (target / f"rank-{together.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
