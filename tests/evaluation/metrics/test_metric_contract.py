"""The contract of metrics, checked for every member of the folder."""

import inspect
import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from given import FlatPixels
from small import make_recipe
from torch import nn

from vaelab.build import build
from vaelab.data.images import Images
from vaelab.evaluation.evaluation import NEEDS, OWN_SAMPLER, Evaluation, NotMeasurable
from vaelab.evaluation.metrics import (
    Metric,
    Quantity,
    SeedMetric,
    code_density,
    fid,
    kid,
    load_metric,
    load_metrics,
    mig,
    order_quantities,
    precision_recall,
)
from vaelab.models.codes import Codes
from vaelab.models.conditions import condition_names, training_rows
from vaelab.models.vae import VAE
from vaelab.system import registry
from vaelab.system.errors import UnknownName

MakeModel = Callable[..., tuple[VAE, nn.Module]]
METRICS = {name: metric for name, metric in load_metrics().items() if isinstance(metric, Metric)}
FEW = {"train_draws": 200, "test_draws": 100, "train_votes": 200, "test_votes": 100, "samples": 30}
LIKELIHOODS = [{"likelihood.name": name} for name in registry.names("likelihoods") if name != "gaussian"]
MEMBERS = [
    {"posterior.name": "full_covariance"},
    {"posterior.name": "iaf"},
    {"posterior.name": "vq", "prior.name": "uniform"},
    {"prior.name": "mixture"},
    {"prior.name": "flow"},
    {"network.condition": "label"},
    {"network.condition": "attributes"},
]
every_metric = pytest.mark.parametrize("name", METRICS)


def plain_images(count: int, seed: int = 0) -> Images:
    """Black-or-white images 9×8 without labels."""
    pixels = np.random.default_rng(seed).integers(0, 2, (count, 9, 8, 1), dtype=np.uint8)
    return Images(pixels * np.uint8(255))


def annotated_images(count: int, seed: int = 0) -> Images:
    """Such images with classes, attributes and factors."""
    random = np.random.default_rng(seed + 1)
    return Images(
        plain_images(count, seed).pixels,
        labels=np.arange(count) % 2,
        attributes=random.random((count, 2)) < 0.5,
        attribute_names=("some", "other"),
        factors=random.integers(0, 3, (count, 2)),
        factor_names=("shape", "size"),
        factor_sizes=(3, 3),
    )


def make_vae(overrides: dict[str, str]) -> VAE:
    made = make_recipe(network__name="mlp", **{key.replace(".", "__"): value for key, value in overrides.items()})
    train = annotated_images(60, seed=5)
    vae, _ = build(made.resolve(train.image_shape, len(train)), condition_names(made.network["condition"], train))
    vae.condition_rows = training_rows(vae.spec, train)
    return vae


def evaluation_of(vae: VAE, images: Images | None = None) -> Evaluation:
    return Evaluation(vae, images or annotated_images(40), annotated_images(60, seed=5), extractor=FlatPixels())


@cache
def shared_evaluation(overrides: str) -> Evaluation:
    """One evaluation for all metrics, which leave the model as it is."""
    return evaluation_of(make_vae(json.loads(overrides)))


def measure(name: str, evaluation: Evaluation) -> Any:
    """Measure with few draws."""
    measure: Any = METRICS[name].measure
    accepted = inspect.signature(measure).parameters
    return measure(evaluation, **{option: count for option, count in FEW.items() if option in accepted})


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "protocol":
                yield from numbers_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    else:
        yield value


def missing_needs(evaluation: Evaluation, needs: frozenset[str]) -> tuple[object, ...]:
    try:
        evaluation.check_needs(needs)
    except NotMeasurable as error:
        return error.choices
    return ()


def check_result(name: str, found: dict[str, Any]) -> None:
    """Check that a result has finite numbers, at least one quantity, and a protocol, all of it JSON."""
    assert found["protocol"]
    assert all(isinstance(number, int | float) and math.isfinite(number) for number in numbers_in(found))
    assert json.loads(json.dumps(found)) == found
    keys = {quantity.key for quantity in METRICS[name].quantities}
    assert keys & found.keys() or name in ("fid", "kid")  # these depend on the extractor


# -- declarations -----------------------------------------------------------------------------------------------------


def test_declarations_are_consistent() -> None:
    metrics = load_metrics()
    assert all(metric.needs <= NEEDS.keys() for metric in metrics.values())
    order_quantities((name, metric.order, metric.quantities) for name, metric in metrics.items())
    for metric in metrics.values():
        keys = [quantity.key for quantity in metric.quantities]
        assert {quantity.baseline for quantity in metric.quantities} <= {"", *keys}
        for parameter in list(inspect.signature(metric.measure).parameters.values())[1:]:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert parameter.default is not inspect.Parameter.empty
    assert [name for name, metric in metrics.items() if isinstance(metric, SeedMetric)] == ["udr"]


def test_two_metrics_cannot_declare_the_same_quantity() -> None:
    with pytest.raises(ValueError):
        order_quantities([("one", 1, [Quantity("kl", "KL")]), ("other", 2, [Quantity("kl", "KL, too")])])


@pytest.mark.parametrize("name", ["nope", "udr"])
def test_only_metrics_of_one_model_are_offered(name: str) -> None:
    with pytest.raises(UnknownName) as raised:
        load_metric(name)
    assert raised.value.choices == tuple(sorted(METRICS))


# -- results ----------------------------------------------------------------------------------------------------------


@every_metric
def test_results_are_repeatable_and_leave_the_model_unchanged(name: str) -> None:
    vae = make_vae({})
    before = {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    shared = evaluation_of(vae)
    first, again = measure(name, shared), measure(name, shared)
    check_result(name, first)
    assert first == again == measure(name, evaluation_of(vae))
    assert all(torch.equal(tensor, before[key]) for key, tensor in vae.state_dict().items())
    assert all(parameter.grad is None for parameter in vae.parameters())


@every_metric
@pytest.mark.parametrize("overrides", [*LIKELIHOODS, *MEMBERS], ids=lambda given: next(iter(given.values())))
def test_every_kind_of_model_is_measured_or_refused(name: str, overrides: dict[str, str]) -> None:
    if name == "dci":
        pytest.skip("slow, and it sees only codes")
    evaluation = shared_evaluation(json.dumps(overrides))
    missing = missing_needs(evaluation, METRICS[name].needs)
    if missing:
        assert (name, missing) == ("decomposition", ("diagonal_posterior",))
    elif name == "code_density" and "quantised_posterior" in evaluation.model.provides:
        with pytest.raises(NotMeasurable) as raised:
            measure(name, evaluation)
        assert tuple(raised.value.choices) == ("continuous_posterior",)
        evaluation = evaluation_of(evaluation.model)
        evaluation.own_sampler = {"name": "autoregressive", "steps": 20}
        check_result(name, code_density.measure(evaluation, sampler=OWN_SAMPLER))
    else:
        check_result(name, measure(name, evaluation))


@every_metric
def test_one_image_is_measured_or_refused(name: str) -> None:
    evaluation, found = evaluation_of(make_vae({}), annotated_images(1)), {}
    with suppress(NotMeasurable):
        found = measure(name, evaluation)
    assert all(math.isfinite(number) for number in numbers_in(found))


@pytest.mark.parametrize(
    "name", [name for name in METRICS if METRICS[name].question in ("latent space", "disentanglement")]
)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_codes_that_are_not_finite_are_refused(name: str, wrong: float) -> None:
    means = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    means[::2, 1] = wrong
    codes = Codes(means, np.zeros_like(means))
    evaluation = Evaluation(
        make_vae({}), annotated_images(40), annotated_images(60), encode=lambda given: codes.take(slice(len(given)))
    )
    with pytest.raises(ValueError) as raised:
        measure(name, evaluation)
    assert not isinstance(raised.value, NotMeasurable)


@pytest.mark.parametrize(
    "score",
    [fid.frechet_distance, kid.kernel_distance, precision_recall.precision_recall, precision_recall.density_coverage],
)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(score: Callable[..., object], wrong: float) -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 40, 3))
    score(a, b)
    b[::2, 1] = wrong
    with pytest.raises(ValueError):
        score(a, b)


# -- needs ------------------------------------------------------------------------------------------------------------


@every_metric
def test_needs_that_are_not_met_are_named(name: str) -> None:
    evaluation, needs = Evaluation(make_vae({}), plain_images(5)), METRICS[name].needs
    of_images = needs - make_vae({}).provides
    if not of_images:
        evaluation.check_needs(needs)
        return
    with pytest.raises(NotMeasurable) as raised:
        evaluation.check_needs(needs, name)
    assert (raised.value.subject, set(raised.value.choices)) == (name, of_images)
    assert all(NEEDS[need] in str(raised.value) for need in of_images)


@pytest.mark.parametrize(("held_out", "train", "missing"), [
    (plain_images(5), annotated_images(5), ("labels",)),
    (annotated_images(5), plain_images(5), ("train_labels",)),
    (annotated_images(5), None, ("train_labels",)),
])  # fmt: skip
def test_set_without_labels_is_named(held_out: Images, train: Images | None, missing: tuple[str]) -> None:
    with pytest.raises(NotMeasurable) as raised:
        Evaluation(make_vae({}), held_out, train).check_needs(METRICS["probe"].needs)
    assert raised.value.choices == missing


def test_true_densities_of_mig_need_a_diagonal_posterior() -> None:
    with pytest.raises(NotMeasurable) as raised:
        mig.measure(evaluation_of(make_vae({"posterior.name": "full_covariance"})), protocol="chen")
    assert raised.value.choices == ("diagonal_posterior",)


def test_a_prior_that_does_not_factorise_has_no_kl_per_latent() -> None:
    evaluation = evaluation_of(make_vae({"prior.name": "mixture"}))
    found, elbo = measure("decomposition", evaluation), measure("elbo", evaluation)
    assert "dimension_wise_kl" not in found
    assert found["kl"] == pytest.approx(found["mutual_information"] + found["aggregate_kl"])
    assert "kl_per_latent" not in elbo
    assert elbo["protocol"]["kl"] != "closed form"


# -- shared quantities ------------------------------------------------------------------------------------------------


def test_codes_and_features_are_computed_once() -> None:
    encoded: list[int] = []
    vae = make_vae({})
    vae.encoder.register_forward_hook(lambda module, given, out: encoded.append(len(out)))
    evaluation = evaluation_of(vae)
    for name in ("fid", "kid", "precision_recall", "active_units", "sparsity"):
        measure(name, evaluation)
    assert sorted(encoded) == [30, 40], "reconstructions of 30 images, and codes of 40"


def test_samples_may_come_from_another_sampler() -> None:
    evaluation = evaluation_of(make_vae({}))
    by_prior, by_gmm = (fid.measure(evaluation, sampler=sampler, samples=30) for sampler in ("prior", "gmm"))
    assert by_gmm["fd_pixels"] != by_prior["fd_pixels"]
    assert "gmm" in by_gmm["protocol"]["generated"]
    with pytest.raises(UnknownName) as raised:
        fid.measure(evaluation, sampler="nope")
    assert "gmm" in raised.value.choices


def test_samples_come_from_the_sampler_of_the_recipe() -> None:
    vae, train = make_vae({}), annotated_images(60, seed=5)
    found = []
    for components, options in ((3, {}), (3, {"sampler": "gmm"}), (3, {"sampler": "prior"}), (20, {})):
        own = {"name": "gmm", "components": components}
        evaluation = Evaluation(vae, annotated_images(40), train, extractor=FlatPixels(), sampler=own)
        found.append(fid.measure(evaluation, samples=30, **options)["fd_pixels"])
    assert found[0] == found[1]
    assert len({*found[1:]}) == 3
