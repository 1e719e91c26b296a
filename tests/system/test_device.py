"""Devices: the precision that suits a processor, the device that "auto" takes."""

from typing import get_args

import pytest
import torch

from vaelab.system.device import choose_device, describe_limits, deterministic, resolve_precision, widest_float
from vaelab.system.machine import Precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f", "fp32"),
        ("fpu avx512f avx512_bf16", "bf16"),
        ("fpu amx_bf16 amx_tile", "bf16"),
        ("", "fp32"),
    ],
)
def test_auto_precision_is_bf16_only_if_the_processor_has_it(flags: str, expected: Precision):
    assert resolve_precision("auto", CPU, flags.split()) == expected
    assert resolve_precision("auto", torch.device("cuda"), flags.split()) == "tf32"
    assert resolve_precision("bf16", torch.device("mps"), flags.split()) == "fp32"
    for precision in get_args(Precision):
        assert resolve_precision(precision, CPU, flags.split()) == precision


def test_auto_takes_cuda_then_mps_then_the_cpu():
    assert choose_device(["auto", "cpu", "cuda", "cuda:0", "mps"]) == "cuda"
    assert choose_device(["auto", "cpu", "mps"]) == "mps"
    assert choose_device(["auto", "cpu"]) == "cpu"
    assert choose_device(["auto", "cpu", "mps"], num_processes=2) == "cpu"  # which gloo cannot connect
    assert choose_device(["auto", "cpu", "cuda", "cuda:0"], num_processes=2) == "cuda"


def test_a_device_without_float64_computes_in_float32_and_says_so():
    assert widest_float(torch.device("mps")) == torch.float32
    assert "float64" in describe_limits(torch.device("mps"))
    for name in ("cpu", "cuda"):
        assert widest_float(torch.device(name)) == torch.float64
        assert describe_limits(torch.device(name)) == ""


def half_of_denormals(count: int = 300_000) -> torch.Tensor:
    return torch.full((count,), 1e-40) * 0.5  # large enough for all threads


@pytest.mark.parametrize("threads", [1, 2])
def test_training_replaces_denormal_numbers_by_zero_in_every_thread(threads: int):
    before = torch.get_num_threads()
    assert bool((half_of_denormals() > 0).all())
    with deterministic(CPU, "fp32", threads):
        assert torch.get_num_threads() == threads
        assert bool((half_of_denormals() == 0).all())
    assert bool((half_of_denormals() > 0).all())
    assert torch.get_num_threads() == before
