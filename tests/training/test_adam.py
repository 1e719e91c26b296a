"""Adam beside that of torch."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from vaelab.training.adam import Adam


def make_network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(27, 4), nn.Linear(4, 1))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_steps_are_those_of_torch_to_the_last_bit(set_to_none: bool) -> None:
    networks = [make_network() for _ in range(2)]
    groups = [
        [{"params": list(net[:3].parameters())}, {"params": list(net[3].parameters()), "lr": 0.5, "betas": (0.5, 0.9)}]
        for net in networks
    ]
    own, others = Adam(groups[0], 0.01), torch.optim.Adam(groups[1], lr=0.01, fused=True)
    x = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(1))
    for number in range(5):
        for network, optimizer in zip(networks, (own, others), strict=True):
            optimizer.zero_grad(set_to_none=set_to_none)
            out = network[:3](x) if number == 2 else network(x)  # the last layer has no gradient in one step
            out.square().sum().backward()
            optimizer.step()
        for mine, theirs in zip(*(network.parameters() for network in networks), strict=True):
            assert torch.equal(mine, theirs)
            for key, value in others.state[theirs].items():
                assert torch.equal(own.state[mine][key], value)
                assert own.state[mine][key].stride() == value.stride()


STEP = """
import sys, torch
from vaelab.training.adam import Adam
weight = torch.nn.Parameter(torch.ones(3))
adam = Adam([{"params": [weight]}], 0.1)
weight.sum().backward()
adam.step()
adam.zero_grad()
print("torch._dynamo" in sys.modules)
"""


def test_a_step_does_not_import_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_steps_with_weight_decay_are_those_of_adamw() -> None:
    networks = [make_network() for _ in range(2)]
    groups = [
        [{"params": list(net[:3].parameters())}, {"params": list(net[3].parameters()), "weight_decay": 0.3}]
        for net in networks
    ]
    own = Adam(groups[0], 0.01)
    others = torch.optim.AdamW(groups[1], lr=0.01, weight_decay=0.0, fused=True)
    for _ in range(3):
        for network, optimizer in zip(networks, (own, others), strict=True):
            optimizer.zero_grad()
            network(torch.ones(8, 2, 5, 5)).square().sum().backward()
            optimizer.step()
    for mine, theirs in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(mine, theirs)
