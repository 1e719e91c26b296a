"""Members of every kind work through the interfaces, each as one file (tests/support/members)."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from members import registered
from small import (
    CPU,
    compute_terms,
    forward,
    make_labelled,
    make_recipe,
    make_settings,
    make_state,
    make_steps,
    run_steps,
)
from two_processes import TwoProcesses

import vaelab
from vaelab.build import logged_terms
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import load_metric
from vaelab.models.codes import encode_images, sample_codes
from vaelab.models.samplers import make_sampler
from vaelab.system.errors import RecipeError
from vaelab.system.noise import StepNoise, generator
from vaelab.training.state import State
from vaelab.training.validation import validate

MODELS: dict[str, dict[str, Any]] = {
    "quantised codes of a spatial network": {
        "posterior__name": "vq", "posterior__codes": 12, "posterior__code_dim": 2, "posterior__decay": 0.9,
        "prior__name": "uniform", "network__name": "spatial", "network__latent_dim": 12,
    },
    "flow posterior and mixture of posteriors": {
        "posterior__name": "iaf", "posterior__hidden": [8], "prior__name": "vamp", "prior__components": 5,
        "objective__name": "iwae", "objective__num_samples": 3,
    },
    "adversarial and perceptual objective": {"objective__name": "judged", "network__condition": "label"},
    "conditional mixture of posteriors": {
        "posterior__name": "full_covariance", "prior__name": "vamp", "prior__components": 5,
        "network__condition": "attributes", "objective__name": "info",
    },
}  # fmt: skip
every_model = pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS)
DATA = make_labelled()


@pytest.fixture(autouse=True)
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registered(tmp_path_factory.mktemp("packages")):
        yield


def make(overrides: dict[str, Any]) -> State:
    return make_state(make_recipe(**{"training__learning_rate": 0.01, **overrides}), DATA)


@every_model
def test_training_resumes_bit_for_bit(overrides: dict[str, Any]) -> None:
    whole, first, second = (make(overrides) for _ in range(3))
    before = {name: tensor.clone() for name, tensor in whole.tensors().items()}
    values = run_steps(make_steps(whole, DATA), 12)
    early = run_steps(make_steps(first, DATA), 7)
    second.restore(7, {name: tensor.clone() for name, tensor in first.tensors().items()})
    late = run_steps(make_steps(second, DATA), 12)
    assert torch.equal(torch.cat([early, late]), values)
    assert bool(torch.isfinite(values).all())
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, whole.tensors()[name])}
    fixed = ("objective.extractor", ".mask", ".order")  # pretrained weights, and the structure of a flow
    assert moved == {name for name in before if not any(part in name for part in fixed)}


@every_model
@pytest.mark.parametrize("count", [1, 5])  # with one image, the first process has none
def test_two_processes_equal_one(overrides: dict[str, Any], count: int) -> None:
    state = make({key: value for key, value in overrides.items() if key != "network__condition"})
    x, models, noise = DATA.floats(0, count), [deepcopy(state.vae) for _ in range(2)], StepNoise(0, CPU)
    shares = TwoProcesses(count).run(state.objective, models, x, step=4)
    noise.seek(4)
    for name, term in compute_terms(state.objective, state.vae, x, 4, noise).items():
        torch.testing.assert_close(shares[0][name] + shares[1][name], term, msg=name)
    for name, buffer in state.vae.named_buffers():
        for model in models:
            torch.testing.assert_close(model.get_buffer(name), buffer, msg=name)


@every_model
def test_the_declared_terms_are_logged_and_validated(overrides: dict[str, Any]) -> None:
    made, state = make_recipe(**overrides), make(overrides)
    steps = make_steps(state, DATA)
    run_steps(steps, 1)
    assert steps.names == ["loss", *(term.name for term in logged_terms(made))]
    row = validate(state, DATA.take(np.arange(11)), make_settings(made)).row()
    assert set(steps.names) <= row.keys()
    assert all(np.isfinite(value) for value in row.values())


@every_model
def test_encoding_sampling_and_metrics_work(overrides: dict[str, Any]) -> None:
    vae = make(overrides).vae.eval()
    codes, samples = encode_images(vae, DATA), sample_codes(vae, DATA, generator(0, "test"))
    assert codes.mean.shape == samples.z.shape == (len(DATA), vae.spec.latent_dim)
    assert codes.image_kl is None or codes.image_kl.shape == (len(DATA), 1)
    assert bool(torch.isfinite(vae.sample(3, 0)).all())
    assert np.isfinite(vae.reconstruct(DATA)).all()
    evaluation = Evaluation(vae, DATA, DATA)
    elbo, nll = load_metric("elbo").measure(evaluation), load_metric("nll").measure(evaluation, samples=64)
    assert elbo is not None
    assert nll is not None
    assert -nll["nll"] > elbo["elbo"] - 3 * elbo["elbo_standard_error"]
    if "continuous_posterior" in vae.provides:
        sampler = make_sampler("gmm", vae, lambda: DATA)
        assert np.isfinite(sampler.compare_with_prior(samples.z)["log_prob"])


def test_the_codebook_changes_in_training_only() -> None:
    vae = make(MODELS["quantised codes of a spatial network"]).vae
    x, codebook = DATA.floats(0, 8), vae.get_buffer("posterior.codebook")
    before, place = codebook.clone(), codebook.data_ptr()
    vae.encode(x)
    with torch.no_grad():
        forward(vae, x)
    forward(vae.eval(), x)
    assert torch.equal(codebook, before)
    forward(vae.train(), x)
    assert not torch.equal(codebook, before)
    assert codebook.data_ptr() == place, "a captured step writes to the same address"


def test_pretrained_weights_of_an_objective_are_kept() -> None:
    state = make(MODELS["adversarial and perceptual objective"])
    weight = state.objective.get_parameter("extractor.weight")
    assert torch.equal(weight, torch.full_like(weight, 0.1))


@pytest.mark.parametrize(
    ("overrides", "subject", "value", "choices"),
    [
        ({"posterior__name": "vq"}, "prior.name", "normal", ("uniform",)),
        ({"prior__name": "uniform"}, "prior.name", "uniform", None),
        ({"posterior__name": "iaf", "objective__name": "dip"}, "objective.name", "dip", None),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_those_that_do(
    overrides: dict[str, Any], subject: str, value: str, choices: tuple[str, ...] | None, wording: Any
) -> None:
    with pytest.raises(RecipeError) as caught:
        make(overrides)
    assert (caught.value.subject, caught.value.value) == (subject, value)
    assert choices is None or caught.value.choices == choices
    assert value not in caught.value.choices
    wording(caught.value)


@pytest.mark.slow
def test_a_run_with_quantised_codes_trains_resumes_and_samples(tmp_path: Path) -> None:
    set_ = {
        "network.name": "spatial", "network.latent_dim": 49, "posterior.name": "vq", "posterior.codes": 12,
        "prior.name": "uniform",
        "training.steps": 40, "training.checkpoint_every": 20, "training.threads": 1,
    }  # fmt: skip
    run = vaelab.train("digits", set_, run=tmp_path / "run")
    content, history = run.model_path.read_bytes(), (run.path / "history.csv").read_bytes()
    assert history.splitlines()[0].decode().endswith("commitment,perplexity")
    run.model_path.unlink()
    max((run.path / "checkpoints").iterdir()).unlink()
    vaelab.train("digits", set_, run=run.path)
    assert run.model_path.read_bytes() == content
    assert (run.path / "history.csv").read_bytes() == history
    assert vaelab.load(run.path).sample(3, 0).shape == (3, 1, 28, 28)
