"""Warnings about values during training."""

import pytest
from small import make_images, make_recipe, make_state

from vaelab.training.checks import find_collapse
from vaelab.training.validation import Validation


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        ([0.5, 0.011], ""),  # a latent is active above 0.01 nats
        ([0.009], "w"),
        ([0.009, 0.009], "w"),
        ([0.009, 0.015, 0.009], "w"),  # near the threshold it is neither withdrawn nor repeated
        ([0.009, 0.015, 0.021, 0.009], "w-w"),
    ],
)
def test_a_collapse_is_withdrawn_with_a_margin(kl: list[float], expected: str) -> None:
    state = make_state(make_recipe(), make_images())
    state.step = 100
    found = [find_collapse(state, Validation({}, (0.0, value), 0.0)) for value in kl]
    assert "".join("w" * len(warnings) + "-" * len(withdrawn) for warnings, withdrawn in found) == expected
