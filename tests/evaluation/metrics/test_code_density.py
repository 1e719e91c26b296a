"""The log density of held-out codes under a sampler, beside that of the prior."""

import pytest
import torch
from small import make_images, make_recipe, make_state

from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import code_density
from vaelab.models.codes import sample_codes


def make_evaluation() -> Evaluation:
    """A model whose codes are far from N(0, I)."""
    train, held_out = make_images(200), make_images(60, seed=1)
    vae = make_state(make_recipe(network__name="mlp"), train).vae.eval()
    vae.get_parameter("encoder.head.bias").data += 3
    return Evaluation(vae, held_out, train)


def test_a_fitted_sampler_describes_held_out_codes_better_than_the_prior() -> None:
    evaluation = make_evaluation()
    found = code_density.measure(evaluation)
    z = torch.from_numpy(sample_codes(evaluation.model, evaluation.images, evaluation.generator("code density")).z)
    expected = float(evaluation.sampler("gmm").log_prob(z).mean())
    assert found["sampler_log_prob"] == pytest.approx(expected)
    assert found["prior_log_prob"] == pytest.approx(float(evaluation.model.density().log_prob(z).mean()))
    assert found["sampler_gain"] == pytest.approx(found["sampler_log_prob"] - found["prior_log_prob"])
    assert found["sampler_gain"] > 4 * found["sampler_gain_standard_error"] > 0
    stated = {"sampler": "gmm", "codes": 200, "images": 60, "log_prob": "exact"}
    assert stated.items() <= found["protocol"].items()


def test_the_prior_gains_nothing_over_itself() -> None:
    found = code_density.measure(make_evaluation(), sampler="prior")
    assert found["sampler_gain"] == 0
    assert found["sampler_log_prob"] == found["prior_log_prob"]
