"""What one of several processes does in tests/test_ranks.py; torchrun starts it, its findings go to a file."""

import json
import sys
from pathlib import Path

import torch

from vaelab.ranks import Share, joined

ROWS = torch.arange(15, dtype=torch.float64).reshape(5, 3).sin()


def batch_wise(codes: torch.Tensor) -> torch.Tensor:
    """A loss in which every row meets every other one."""
    return torch.logsumexp(codes @ codes.T, dim=1).mean()


def main(target: Path) -> None:
    """Sum, tell, gather with gradients; findings as JSON."""
    with joined(torch.device("cpu")) as together:
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
        }
        together.barrier()
    (target / f"rank-{together.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
