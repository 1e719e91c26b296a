"""Reads the reference vectors of ../shared/vectors; where there are none, the tests that want one are skipped."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from paths import SHARED
from torch import Tensor

VECTORS = SHARED / "vectors"
IS_HERE = (VECTORS / "expected.json").is_file()
CASES: dict[str, Any] = (
    {case["id"]: case for case in json.loads((VECTORS / "expected.json").read_text())["cases"]} if IS_HERE else {}
)


class Case:
    """One case: its inputs as attributes, and the comparison with what it expects."""

    def __init__(self, name: str) -> None:
        if not IS_HERE:
            pytest.skip(f"no reference vectors in {VECTORS}")
        self._case = CASES[name]
        self.params: dict[str, Any] = self._case["params"]
        for key, reference in self._case["inputs"].items():
            file, _, array = reference.partition(":")
            setattr(self, key, torch.from_numpy(np.load(VECTORS / file)[array]))

    def expect(self, name: str, got: Any, error: float = 0.0, at_most: float = 1e-7) -> None:
        """``got`` is what the case expects of ``name``, within the file's tolerance, itself at most ``at_most``.

        ``error`` is the Monte Carlo error of ``got``, which comes on top.
        """
        entry = self._case["outputs"][name]
        assert not entry.get("informational")
        assert entry["rtol"] <= at_most
        assert entry["atol"] <= at_most
        got = got.detach().numpy() if isinstance(got, Tensor) else np.asarray(got)
        assert got.dtype == np.float64
        value = np.asarray(entry["value"], dtype=np.float64)
        assert got.shape == value.shape
        np.testing.assert_allclose(got, value, rtol=entry["rtol"], atol=entry["atol"] + error, err_msg=name)

    def value(self, name: str) -> Any:
        """Return the expected value, for further calculations."""
        return np.asarray(self._case["outputs"][name]["value"])
