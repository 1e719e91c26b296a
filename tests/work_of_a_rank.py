"""What one of several processes does in tests/test_ranks.py; torchrun starts it, its findings go to a file."""

import json
import sys
from pathlib import Path

import torch
from small import CPU, make_images, make_recipe
from torch import nn

from vaelab import recipe
from vaelab.data.loader import Batches
from vaelab.models.vae import VAE
from vaelab.system.device import Noise
from vaelab.system.distributed import Share, joined, ranks
from vaelab.training.state import begin
from vaelab.training.step import Steps
from vaelab.training.validation import validate

ROWS = torch.arange(15, dtype=torch.float64).reshape(5, 3).sin()


def batch_wise(codes: torch.Tensor) -> torch.Tensor:
    """A loss in which every row meets every other one."""
    return torch.logsumexp(codes @ codes.T, dim=1).mean()


class BatchWise(nn.Module):
    """reconstruction + KL + a term of all codes of a batch."""

    def forward(self, vae: VAE, x: torch.Tensor, step: torch.Tensor) -> dict[str, torch.Tensor]:
        passed = vae(x)
        reconstruction, kl = passed.reconstruction.mean(), passed.kl.sum(1).mean()
        term = batch_wise(vae.gather(passed.z))
        return {"loss": reconstruction + kl + term, "reconstruction": reconstruction, "kl": kl, "term": term}


def train_batch_wise() -> list[list[float]]:
    """Some steps on 50 images in batches of 7, the last of an epoch with a single one; then a validation."""
    made, data = make_recipe(training__batch_size=7, training__learning_rate=0.01), make_images()
    vae, _ = recipe.build(made, data.image_shape, len(data))
    state = begin(vae, BatchWise(), made.training, CPU)
    batches = Batches(data, 7, 0, CPU, window=20, ranks=ranks())
    vae.noise = noise = Noise(0, CPU)
    rows = Steps(state, batches, noise, "none", "fp32").run(0, 20, lambda: False)
    measured = validate(state, make_images(15, seed=1), made.training)
    return [*rows.tolist(), [measured[name] for name in ("loss", "elbo", "term", "kl_1", "gradient_norm")]]


def num_threads() -> int:
    """Threads of this process, those of libraries with them."""
    return len(list(Path("/proc/self/task").iterdir()))


def main(target: Path) -> None:
    """Sum, tell, gather with gradients; findings as JSON."""
    with joined() as together:
        share = together.share(len(ROWS))
        own = ROWS[share.start : share.stop].clone().requires_grad_()
        whole = together.gather(own, share)
        (batch_wise(whole) * share.weight).backward()
        nobody = Share(*((0, 1, 1) if together.is_first else (1, 1, 1)))
        lonely = together.gather(torch.full((1, 2), float(together.rank)), nobody)
        tensors = together.broadcast_tensors({"a": torch.arange(6).reshape(2, 3).T} if together.is_first else {})
        found = {
            "rank": together.rank,
            "share": [share.start, share.stop],
            "sum": together.sum_(torch.tensor([1.0 + together.rank, 10.0])).tolist(),
            "told": together.broadcast({"x": 1} if together.is_first else None),
            "whole": whole.tolist(),
            "gradient": own.grad.tolist() if own.grad is not None else None,
            "lonely": lonely.tolist(),
            "tensor": tensors["a"].tolist(),
            "trained": train_batch_wise(),
        }
        together.barrier()
        found["threads within"] = num_threads()
    found["threads after"] = num_threads()
    (target / f"rank-{together.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
