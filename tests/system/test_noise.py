"""Random numbers are functions of seed and step."""

import torch

from vaelab.system.distributed import Shard
from vaelab.system.noise import StepNoise

CPU = torch.device("cpu")


def test_noise_is_a_function_of_seed_and_step():
    one, other, shifted = StepNoise(3, CPU), StepNoise(3, CPU), StepNoise(4, CPU)
    one.normal(100)
    for noise in (one, other, shifted):
        noise.seek(7)
    first = one.normal(10_000)
    assert torch.equal(first, other.normal(10_000))
    assert not torch.equal(first, shifted.normal(10_000))
    one.seek(8)
    assert not torch.equal(first, one.normal(10_000))
    assert abs(float(first.mean())) < 0.05
    assert abs(float(first.std()) - 1) < 0.03


def test_shards_of_noise_are_parts_of_the_noise_of_the_whole_batch():
    noise = StepNoise(0, CPU)
    whole = noise.normal(7, 2)
    for shard in (Shard(0, 3, 7), Shard(3, 7, 7), Shard(7, 7, 7)):
        noise.seek(0, shard)
        rows = shard.rows
        assert torch.equal(noise.normal(len(rows), 2), whole[rows.start : rows.stop])
