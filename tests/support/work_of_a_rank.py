"""The work of one process in tests/api/test_ranks.py; torchrun starts it, its results go to a file."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from small import CONTROLS, FITTING_PAIRS, make_labelled, make_recipe, make_settings, make_state, make_steps, run_steps

from vaelab.data.tensors import Batch
from vaelab.models.vae import VAEOutput
from vaelab.system.distributed import Shard, current_group, join_group
from vaelab.training.objectives import Context, Objective
from vaelab.training.validation import validate

ROWS = torch.arange(15, dtype=torch.float64).reshape(5, 3).sin()


def batch_wise(codes: torch.Tensor) -> torch.Tensor:
    """A loss that compares every row with every other one."""
    return torch.logsumexp(codes @ codes.T, dim=1).mean()


class BatchWise(Objective):
    """reconstruction + KL + a term of all codes of a batch."""

    def forward(self, out: VAEOutput, batch: Batch, context: Context) -> dict[str, torch.Tensor]:
        term = batch_wise(context.gather(out.z[0]))
        loss = out.mean_reconstruction + out.mean_kl + term
        return {"loss": loss, "reconstruction": out.mean_reconstruction, "kl": out.mean_kl, "term": term}


def train_batch_wise(**overrides: Any) -> list[list[float]]:
    """Some steps on 50 images in batches of 7, the last of an epoch with a single one; then a validation."""
    made, data = make_recipe(training__batch_size=7, training__learning_rate=0.01, **overrides), make_labelled()
    state = make_state(made, data)
    state.objective = BatchWise()
    if state.average:  # begins with weights that the first rank has read
        other = make_state(make_recipe(training__batch_size=7, training__seed=1, **overrides), data).vae.state_dict()
        state.start_from(current_group().broadcast_tensors(other if current_group().is_main else {}))
    rows = run_steps(make_steps(state, data, made, shuffle_buffer=20, group=current_group()), 9)
    with state.averaged():
        measured = validate(state, make_labelled(15, seed=1), make_settings(made)).row()
    return [*rows.tolist(), [measured[name] for name in ("loss", "elbo", "term", "kl_1", "gradient_norm")]]


def train_every_model() -> dict[str, list[list[float]]]:
    """The same for each posterior and each prior once, for a conditional model, and with all controls."""
    found = {
        f"{posterior}, {prior}": train_batch_wise(posterior__name=posterior, prior__name=prior)
        for posterior, prior in FITTING_PAIRS
        if posterior == "diagonal" or prior in ("normal", "uniform")
    }
    controls = {key: value for control in CONTROLS.values() for key, value in control.items() if "training" in key}
    found["controls"] = train_batch_wise(**controls)
    return {**found, "label": train_batch_wise(network__condition="label")}


def num_threads() -> int:
    """Threads of this process, those of libraries with them."""
    return len(list(Path("/proc/self/task").iterdir()))


def main(target: Path) -> None:
    """Reduce, broadcast, gather with gradients; write the results as JSON."""
    with join_group() as group:
        shard = group.shard(len(ROWS))
        own = ROWS[shard.start : shard.stop].clone().requires_grad_()
        whole = group.all_gather(own, shard)
        (batch_wise(whole) * shard.weight).backward()
        empty = Shard(*((0, 1, 1) if group.is_main else (1, 1, 1)))
        of_empty = group.all_gather(torch.full((1, 2), float(group.rank)), empty)
        tensors = group.broadcast_tensors({"a": torch.arange(6).reshape(2, 3).T} if group.is_main else {})
        found = {
            "rank": group.rank,
            "shard": [shard.start, shard.stop],
            "sum": group.all_reduce_(torch.tensor([1.0 + group.rank, 10.0])).tolist(),
            "broadcast": group.broadcast({"x": 1} if group.is_main else None),
            "whole": whole.tolist(),
            "gradient": own.grad.tolist() if own.grad is not None else None,
            "empty shard": of_empty.tolist(),
            "tensor": tensors["a"].tolist(),
            "trained": train_every_model(),
        }
        group.barrier()
        found["threads within"] = num_threads()
    found["threads after"] = num_threads()
    (target / f"rank-{group.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
