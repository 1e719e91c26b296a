"""The contract of metrics, over every member; active units and sparsity by hand."""

import inspect
import json
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from given import given_evaluation
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import nn

from vaelab.data.images import Images
from vaelab.evaluation import evaluation as evaluations
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import (
    Metric,
    Quantity,
    SeedMetric,
    active_units,
    fid,
    kid,
    load_metrics,
    mig,
    order_quantities,
    precision_recall,
    sparsity,
)
from vaelab.models.codes import Codes
from vaelab.models.vae import VAE
from vaelab.system import registry
from vaelab.system.errors import UnknownName

MakeModel = Callable[..., tuple[VAE, nn.Module]]
METRICS = {name: metric for name, metric in load_metrics().items() if isinstance(metric, Metric)}
OF_CODES = (
    "active_units",
    "sparsity",
    "decomposition",
    "mig",
    "sap",
    "dci",
    "modularity",
    "irs",
    "factorvae",
    "betavae",
)
FEW = {"train_draws": 200, "test_draws": 100, "train_votes": 200, "test_votes": 100, "samples": 30}
every_metric = pytest.mark.parametrize("name", METRICS)


def images(count: int, seed: int = 0) -> Images:
    """Black-or-white images 9×8 without labels."""
    pixels = np.random.default_rng(seed).integers(0, 2, (count, 9, 8, 1), dtype=np.uint8)
    return Images(pixels * np.uint8(255))


def told_images(count: int, seed: int = 0) -> Images:
    """Such images with classes, attributes and factors."""
    random = np.random.default_rng(seed + 1)
    return Images(
        images(count, seed=seed).pixels,
        labels=np.arange(count) % 2,
        attributes=random.random((count, 2)) < 0.5,
        attribute_names=("some", "other"),
        factors=random.integers(0, 3, (count, 2)),
        factor_names=("shape", "size"),
        factor_sizes=(3, 3),
    )


class Flat:
    """An extractor that takes pixels as they are."""

    kind = name = "pixels"

    def features(self, images: torch.Tensor) -> NDArray[np.float64]:
        return images.double().flatten(1).numpy()


def evaluation_of(vae: VAE, given: Images | None = None) -> Evaluation:
    return Evaluation(vae, given or told_images(40), told_images(60, seed=5), extractor=Flat())


def measure(name: str, evaluation: Evaluation) -> Any:
    """With few draws."""
    accepted = inspect.signature(METRICS[name].measure).parameters
    options = {option: count for option, count in FEW.items() if option in accepted}
    return cast(Any, METRICS[name].measure)(evaluation, **options)


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for key, item in value.items() if key != "protocol" for number in numbers_in(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value]


# -- the contract -----------------------------------------------------------------------------------------------------


def test_what_metrics_declare_fits_together() -> None:
    metrics = load_metrics()
    assert all(metric.needs <= evaluations.NEEDS.keys() for metric in metrics.values())
    order_quantities((name, metric.order, metric.quantities) for name, metric in metrics.items())
    for metric in metrics.values():
        keys = [quantity.key for quantity in metric.quantities]
        assert {quantity.baseline for quantity in metric.quantities} <= {"", *keys}
        for parameter in list(inspect.signature(metric.measure).parameters.values())[1:]:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert parameter.default is not inspect.Parameter.empty


def test_two_metrics_cannot_declare_the_same_quantity() -> None:
    with pytest.raises(ValueError, match="one and other both declare the quantity 'kl'"):
        order_quantities([("one", 1, [Quantity("kl", "KL")]), ("other", 2, [Quantity("kl", "KL, too")])])


@every_metric
@pytest.mark.parametrize("likelihood", registry.names("likelihoods"))
def test_results_are_finite_numbers_with_their_protocol(make_model: MakeModel, name: str, likelihood: str) -> None:
    vae, _ = make_model(overrides={"likelihood.name": likelihood})
    measured = measure(name, evaluation_of(vae))
    assert measured["protocol"]
    numbers = numbers_in(measured)
    assert numbers
    assert all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    assert json.loads(json.dumps(measured)) == measured
    keys = {quantity.key for quantity in METRICS[name].quantities}
    assert keys & measured.keys() or name in ("fid", "kid", "reconstruction")  # other extractors, sides below 11


@every_metric
@pytest.mark.parametrize(
    "member",
    [
        {"posterior.name": "full_covariance"},
        {"prior.name": "mixture"},
        {"network.condition": "label"},
        {"network.condition": "attributes"},
    ],
)
def test_other_posteriors_priors_and_conditions_are_measured_or_said_not_to_be(
    make_conditional: Callable[..., VAE], name: str, member: dict[str, str]
) -> None:
    vae = make_conditional(member)
    evaluation = evaluation_of(vae)
    obstacle = evaluation.find_obstacle(METRICS[name].needs)
    if obstacle is None:
        assert all(math.isfinite(number) for number in numbers_in(measure(name, evaluation)))
    else:
        assert name == "decomposition"
        assert "diagonal posterior" in obstacle


@pytest.fixture(scope="module")
def make_conditional() -> Callable[[dict[str, str]], VAE]:
    from small import make_recipe

    from vaelab.build import build
    from vaelab.models.conditions import condition_names, training_rows

    def make(overrides: dict[str, str]) -> VAE:
        made = make_recipe(network__name="mlp", **{key.replace(".", "__"): value for key, value in overrides.items()})
        train = told_images(60, seed=5)
        vae, _ = build(made.resolve(train.image_shape, len(train)), condition_names(made.network["condition"], train))
        vae.condition_rows = training_rows(vae.spec, train)
        return vae

    return make


@every_metric
def test_one_image_is_measured_or_has_nothing_to_measure(make_model: MakeModel, name: str) -> None:
    evaluation = evaluation_of(make_model()[0], told_images(1))
    measured = measure(name, evaluation)
    assert measured is None or None not in measured.values()


@every_metric
def test_results_are_a_function_of_the_evaluation(make_model: MakeModel, name: str) -> None:
    vae, _ = make_model()
    before = {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    shared = evaluation_of(vae)
    first, again = measure(name, shared), measure(name, shared)
    assert first == again == measure(name, evaluation_of(vae))
    assert all(torch.equal(tensor, before[key]) for key, tensor in vae.state_dict().items())
    assert all(parameter.grad is None for parameter in vae.parameters())


@pytest.mark.parametrize("name", OF_CODES)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_codes_that_are_not_finite_are_refused(make_model: MakeModel, name: str, wrong: float) -> None:
    means = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    means[::2, 1] = wrong
    codes = Codes(means, np.zeros_like(means))
    evaluation = Evaluation(
        make_model()[0],
        told_images(40),
        told_images(60),
        encode=lambda given: codes.take(slice(len(given))),
    )
    with pytest.raises(ValueError, match="posterior means are not finite numbers"):
        measure(name, evaluation)


@pytest.mark.parametrize(
    "score",
    [fid.frechet_distance, kid.kernel_distance, precision_recall.precision_recall, precision_recall.density_coverage],
)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(score: Callable[..., object], wrong: float) -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 40, 3))
    score(a, b)
    b[::2, 1] = wrong
    with pytest.raises(ValueError, match="are not finite numbers"):
        score(a, b)


# -- what is needed ---------------------------------------------------------------------------------------------------


@every_metric
def test_needs_that_are_not_met_are_said_in_words(make_model: MakeModel, name: str) -> None:
    evaluation, needs = Evaluation(make_model()[0], images(5)), METRICS[name].needs
    of_data = needs & {"train", "features", "factors", "attributes"}
    obstacle = evaluation.find_obstacle(needs)
    assert (obstacle is None) == (not of_data)
    if obstacle is not None:
        assert all(evaluations.NEEDS[need] in obstacle for need in of_data)
        with pytest.raises(NotMeasurable, match=f"^{name} needs "):
            evaluation.require(name, *needs)


def test_true_densities_of_codes_need_a_diagonal_posterior(make_conditional: Callable[..., VAE]) -> None:
    evaluation = evaluation_of(make_conditional({"posterior.name": "full_covariance"}))
    with pytest.raises(NotMeasurable, match=r"^mig.protocol=chen needs a diagonal posterior"):
        mig.measure(evaluation, protocol="chen")


def test_a_prior_that_does_not_factorise_has_no_dimension_wise_kl(make_conditional: Callable[..., VAE]) -> None:
    found = measure("decomposition", evaluation_of(make_conditional({"prior.name": "mixture"})))
    assert "dimension_wise_kl" not in found
    assert found["kl"] == pytest.approx(found["mutual_information"] + found["aggregate_kl"])
    elbo = measure("elbo", evaluation_of(make_conditional({"prior.name": "mixture"})))
    assert "kl_per_latent" not in elbo
    assert elbo["protocol"]["kl"].startswith("mean over the samples")


def test_codes_features_and_samples_are_computed_once(make_model: MakeModel) -> None:
    vae, _ = make_model()
    evaluation = evaluation_of(vae)
    for name in ("fid", "kid", "precision_recall", "active_units", "sparsity"):
        measure(name, evaluation)
    assert evaluation.codes is evaluation.codes
    assert evaluation.features(30) is evaluation.features(30)
    assert len(evaluation.features(30)) == 30


def test_samples_may_come_from_another_sampler(make_model: MakeModel) -> None:
    evaluation, random = evaluation_of(make_model()[0]), torch.Generator().manual_seed(0)
    drawn = evaluation.samples(7, random, "prior")
    assert drawn.floats(2, 5).shape == (3, 1, 9, 8)
    assert torch.equal(drawn.floats(0, 7), make_model()[0].decode(drawn.codes))
    by_gmm: Any = fid.measure(evaluation, sampler="gmm", samples=30)
    assert by_gmm["fd_pixels"] != fid.measure(evaluation, samples=30)["fd_pixels"]  # type: ignore[index]
    assert "sampler gmm" in by_gmm["protocol"]["generated"]
    with pytest.raises(UnknownName, match="sampler 'nope'"):
        fid.measure(evaluation, sampler="nope")


def test_seeds_are_compared_by_what_they_declare() -> None:
    assert [name for name, metric in load_metrics().items() if isinstance(metric, SeedMetric)] == ["udr"]


# -- active units -----------------------------------------------------------------------------------------------------


@given(arrays(np.float64, (7, 3), elements=st.floats(-2, 2)), st.floats(-100, 100))
def test_active_units_do_not_depend_on_where_the_means_lie(means: NDArray[np.float64], shift: float) -> None:
    count, variances = active_units.active_units(means)
    moved, moved_variances = active_units.active_units(means + np.array([0, shift, 0]))
    np.testing.assert_allclose(moved_variances, ((means - means.mean(0)) ** 2).mean(0), atol=1e-10)
    near = np.abs(variances - 0.01) < 1e-9
    assert near.any() or moved == count


def test_active_units_by_variance_and_by_kl() -> None:
    swing = np.array([1.0, -1.0])[:, None]
    means = swing * [1.0, 0.11, 0.09, 0.0] + [0, 0, 0, 3]  # variances 1, 0.0121, 0.0081, 0
    evaluation = given_evaluation(means, np.array([[-2.0, 0, 0, 0]] * 2))
    measured = active_units.measure(evaluation)
    assert measured["active_units"] == 2
    assert measured["active_units_by_kl"] == 2  # the first, and the last, which lies away from the prior
    np.testing.assert_allclose(measured["variance_of_means"], [1, 0.0121, 0.0081, 0], rtol=1e-6)
    strict = active_units.measure(evaluation, variance=0.5, kl=4.0)
    assert (strict["active_units"], strict["active_units_by_kl"]) == (1, 1)
    assert evaluation.codes.is_active.tolist() == [True, False, False, True]


def test_a_collapsed_model_has_no_active_unit() -> None:
    measured = active_units.measure(given_evaluation(np.zeros((5, 3))))
    assert (measured["active_units"], measured["active_units_by_kl"]) == (0, 0)


# -- sparsity ---------------------------------------------------------------------------------------------------------


def test_hoyer_by_hand() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, -7.0], [2.0, -2.0], [1e-200, 0.0]])
    expected = [(math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1), 1, 0, 1]
    np.testing.assert_allclose(sparsity.hoyer(vectors), expected, atol=1e-12)


def test_hoyer_of_what_has_no_direction_is_nan() -> None:
    assert np.isnan(sparsity.hoyer(np.zeros((2, 3)))).all()
    assert np.isnan(sparsity.hoyer(np.ones((2, 1)))).all()


@given(arrays(np.float64, (4, 5), elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3))
def test_hoyer_lies_between_0_and_1_whatever_the_scale(vectors: NDArray[np.float64], scale: float) -> None:
    values = sparsity.hoyer(vectors)
    assert ((values[np.isfinite(values)] > -1e-12) & (values[np.isfinite(values)] < 1 + 1e-12)).all()
    np.testing.assert_allclose(sparsity.hoyer(vectors * scale), values, atol=1e-9)


def measured_sparsity(means: NDArray[Any]) -> dict[str, Any]:
    return sparsity.measure(given_evaluation(means))


def test_sparsity_does_not_depend_on_the_scale_of_a_latent() -> None:
    means = np.random.default_rng(0).standard_normal((500, 4))
    expected = measured_sparsity(means)["hoyer"]
    assert measured_sparsity(means * [1, 1e-3, 50, 7])["hoyer"] == pytest.approx(expected, rel=1e-5)


def test_sparsity_of_normal_codes_and_of_one_latent_at_a_time() -> None:
    random, root = np.random.default_rng(0), math.sqrt(20)
    ratio = 20 * math.gamma(10) / (math.sqrt(math.pi) * math.gamma(10.5))  # E ‖u‖₁ of a random unit vector
    dense = measured_sparsity(random.standard_normal((2000, 20)))
    assert dense["hoyer"] == pytest.approx((root - ratio) / (root - 1), abs=0.005)
    assert dense["share_near_zero"] == pytest.approx(math.erf(0.1 / math.sqrt(2)), abs=0.01)
    sparse = measured_sparsity(np.eye(20)[np.arange(2000) % 20] * random.standard_normal((2000, 1)))
    assert sparse["hoyer"] == pytest.approx(1)
    assert sparse["share_near_zero"] > 0.95


def test_a_latent_that_does_not_vary_counts_as_zero() -> None:
    means = np.random.default_rng(0).standard_normal((300, 3))
    still = np.concatenate([means, np.full((300, 1), 0.3)], 1)
    zero = np.concatenate([means, np.zeros((300, 1))], 1)
    assert measured_sparsity(still)["hoyer"] == pytest.approx(measured_sparsity(zero)["hoyer"])
    collapsed = measured_sparsity(np.full((5, 3), 0.3))
    assert "hoyer" not in collapsed
    assert collapsed["protocol"]["hoyer_undefined_for"] == 5
    assert collapsed["share_near_zero"] == 0
