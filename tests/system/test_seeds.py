"""Seeds are functions of their purpose."""

import torch

from vaelab.system.noise import generator
from vaelab.system.seeds import derive_seed


def test_every_purpose_has_its_own_seed():
    assert derive_seed(1, "weights") == derive_seed(1, "weights")
    assert len({derive_seed(1), derive_seed(2), derive_seed(1, "weights"), derive_seed(1, "order", 0)}) == 4
    assert torch.equal(torch.rand(3, generator=generator(1, "a")), torch.rand(3, generator=generator(1, "a")))
