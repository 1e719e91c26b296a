"""Evaluation of a run: stored results, what invalidates them, options, and the cache of codes."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn
from typed import train_small

import vaelab
from vaelab.data.datasets import digits
from vaelab.data.images import Images
from vaelab.evaluation.evaluate import (
    default_metrics,
    load_codes,
    measure_run,
    parse_options,
    resolve_metrics,
)
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import load_metric
from vaelab.models.codes import Codes, encode_images
from vaelab.models.vae import VAE
from vaelab.run import MODEL, Run
from vaelab.system.errors import RecipeError, UnknownName, UsageError

PROTOCOL = {"split": "test", "binarize": "none"}
OF_CODES = ("decomposition", "active_units", "sparsity", "probe")
COMPARED = tuple(name for name in default_metrics("compare") if "factors" not in load_metric(name).needs)


class Counter:
    """Counts the images that go through an encoder."""

    def __init__(self, model: VAE) -> None:
        self.encoded: list[int] = []
        model.encoder.register_forward_hook(lambda module, given, out: self.encoded.append(len(out)))

    def reset(self) -> list[int]:
        """Return the numbers of images so far and forget them."""
        seen, self.encoded[:] = list(self.encoded), []
        return seen


@pytest.fixture
def model(make_model: Callable[..., tuple[VAE, nn.Module]]) -> VAE:
    return make_model()[0]


@pytest.fixture
def counter(model: VAE) -> Counter:
    return Counter(model)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """As much of a run as evaluation reads."""
    (tmp_path / MODEL).write_bytes(b"weights")
    return Run.at(tmp_path)


def images(count: int = 40, seed: int = 0) -> Images:
    random = np.random.default_rng(seed)
    return Images(random.integers(0, 256, (count, 9, 8, 1), dtype=np.uint8), labels=np.arange(count) % 2)


def cached(run: Run) -> list[Path]:
    return sorted((run.path / "cache").glob("*"))


def assert_equal(ours: Codes, theirs: Codes) -> None:
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.log_var, theirs.log_var)


# -- codes ------------------------------------------------------------------------------------------------------------


def test_codes_are_encoded_once_per_weights_and_images(run: Run, model: VAE, counter: Counter) -> None:
    expected = encode_images(model, images())
    counter.reset()
    for _ in range(3):
        assert_equal(load_codes(run, model, images()), expected)
    assert counter.reset() == [40]
    for given in (images(30), images(40, seed=1)):
        load_codes(run, model, given)
    run.model_path.write_bytes(b"other weights")
    load_codes(run, model, images())
    assert counter.reset() == [30, 40, 40]
    assert len(cached(run)) == 4
    shutil.rmtree(run.path / "cache")
    assert_equal(load_codes(run, model, images()), expected)
    assert counter.reset() == [40]


def test_damaged_cache_is_replaced(run: Run, model: VAE, counter: Counter) -> None:
    given = images(2)
    expected = load_codes(run, model, given)
    (path,) = cached(run)
    whole = path.read_bytes()
    flipped = [
        whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(0, len(whole), max(1, len(whole) // 60))
    ]
    for content in (b"", b"PK", whole[:-1], whole[:300], b"\x93NUMPY", bytes(1000), *flipped):
        path.write_bytes(content)
        assert_equal(load_codes(run, model, given), expected)
    counter.reset()
    assert_equal(load_codes(run, model, given), expected)
    assert counter.reset() == [], "the replaced file is whole"


@pytest.mark.parametrize("wrong", [
    {"mean": np.zeros((40, 3), np.float32)},
    {"mean": np.zeros((39, 3), np.float32), "log_var": np.zeros((39, 3), np.float32)},
    {"mean": np.zeros((40, 3)), "log_var": np.zeros((40, 3))},
    {"mean": np.array([SimpleNamespace()], object), "log_var": np.array([SimpleNamespace()], object)},
], ids=["missing", "other images", "other dtype", "pickled"])  # fmt: skip
def test_cache_of_something_else_is_replaced(run: Run, model: VAE, wrong: dict[str, Any]) -> None:
    expected = load_codes(run, model, images())
    (path,) = cached(run)
    np.savez(path, **wrong)
    assert_equal(load_codes(run, model, images()), expected)


def test_codes_do_not_need_a_cache(run: Run, model: VAE) -> None:
    (run.path / "cache").write_text("a file where the folder would be")
    assert_equal(load_codes(run, model, images()), encode_images(model, images()))


def test_kl_per_image_is_cached_too(run: Run, make_model: Callable[..., tuple[VAE, nn.Module]], model: VAE) -> None:
    vae, _ = make_model(overrides={"posterior.name": "full_covariance"})
    counter = Counter(vae)
    first, again = (load_codes(run, vae, images()) for _ in range(2))
    assert counter.reset() == [40]
    assert first.image_kl is not None
    np.testing.assert_array_equal(again.image_kl, first.image_kl)
    assert load_codes(run, model, images()).image_kl is None


# -- results ----------------------------------------------------------------------------------------------------------


def measure(
    run: Run,
    model: VAE,
    given: Images,
    names: tuple[str, ...],
    train: Images | None = None,
    protocol: dict[str, str] = PROTOCOL,
    **options: dict[str, Any],
) -> dict[str, Any]:
    evaluation = Evaluation(model, given, train, encode=partial(load_codes, run, model))
    return measure_run(run, evaluation, protocol, names, options).results


def test_images_are_encoded_once_for_all_metrics_of_codes(run: Run, model: VAE, counter: Counter) -> None:
    found = measure(run, model, images(), OF_CODES, images(50, seed=1))
    assert list(found) == list(OF_CODES)
    assert counter.reset() == [50, 40]
    assert run.evaluation == found
    few = {"decomposition": {"max_images": 20}, "probe": {"max_train_images": 30}}
    found = measure(run, model, images(), OF_CODES, images(50, seed=1), **few)
    assert counter.reset() == [20, 30]
    assert (found["decomposition"]["protocol"]["images"], found["decomposition"]["protocol"]["codes"]) == (50, 20)


def digests(name: str, given: Images) -> dict[str, str | None]:
    return {f"{name}_sha256": given.fingerprint(), f"{name}_annotations_sha256": given.annotations_digest()}


def test_results_record_what_they_were_measured_on(run: Run, model: VAE) -> None:
    given, train = images(), images(50, seed=1)
    found = measure(run, model, given, COMPARED, train)
    weights = hashlib.sha256(b"weights").hexdigest()
    for name in COMPARED:
        metric, measured_on = load_metric(name), found[name].pop("measured_on")
        of_train = digests("train", train) if metric.needs_train_images else {}
        assert measured_on == {**PROTOCOL, **digests("images", given), "weights_sha256": weights, "seed": 0, **of_train}
        assert found[name] == metric.measure(Evaluation(model, given, train))


def test_stored_results_are_not_measured_again(run: Run, model: VAE, counter: Counter) -> None:
    """The entries that change in evaluation.json are those that depend on what changed."""

    def changed(*given: Any, **options: Any) -> set[str]:
        before = run.evaluation
        measure(run, model, *given, **options)
        return {name for name, entry in run.evaluation.items() if before.get(name) != entry}

    first, train = images(), images(50, seed=1)
    assert changed(first, COMPARED, train) == set(COMPARED)
    counter.reset()
    assert changed(first, COMPARED, train) == set()
    assert counter.reset() == [], "nothing goes through the model"
    assert changed(first, COMPARED, images(50, seed=2)) == {"decomposition", "probe", "sliced_wasserstein"}
    other = replace(first, labels=np.roll(np.sort(first.labels), 7))
    assert changed(other, ("probe",), train) == {"probe"}
    relabelled = replace(train, labels=np.sort(train.labels))
    assert changed(other, ("probe",), relabelled) == {"probe"}
    assert changed(images(40, seed=3), COMPARED, train) == set(COMPARED)
    assert changed(images(40, seed=3), ("sparsity",), protocol={**PROTOCOL, "split": "valid"}) == {"sparsity"}
    for samples, expected in ((3, {"nll"}), (4, {"nll"}), (4, set())):
        assert changed(first, ("nll",), nll={"samples": samples}) == expected


def test_annotations_digest() -> None:
    given = images(6)
    factors = np.arange(12).reshape(6, 2)
    table = factors % 2 == 0
    several = [
        given,
        replace(given, labels=1 - given.labels),
        replace(given, label_names=("a", "b")),
        replace(given, labels=None, factors=factors),
        replace(given, labels=None, factors=factors, factor_names=("a", "b")),
        replace(given, labels=None, attributes=table, attribute_names=("a", "b")),
        replace(given, labels=None, attributes=table, attribute_names=("b", "a")),
    ]
    assert len({some.annotations_digest() for some in several}) == len(several)
    assert len({some.fingerprint() for some in several}) == 1
    assert images(6, seed=1).annotations_digest() == given.annotations_digest()
    assert replace(given, labels=None).annotations_digest() is None


def test_skipped_metrics_have_a_reason_and_no_stored_result(run: Run, model: VAE, wording: Any) -> None:
    names = ("probe", "sparsity", "mig")
    assert "probe" in measure(run, model, images(), names, images(50, seed=1))
    unlabelled = replace(images(seed=1), labels=None)
    evaluated = measure_run(run, Evaluation(model, unlabelled, images(50)), PROTOCOL, names)
    assert list(evaluated.results) == list(run.evaluation) == ["sparsity"]
    assert set(evaluated.skipped) == {"probe", "mig"}
    constant = replace(unlabelled, factors=np.zeros((40, 2), np.int64))
    evaluated_mig = measure_run(run, Evaluation(model, constant), PROTOCOL, ("mig",))
    for reason in (*evaluated.skipped.values(), evaluated_mig.skipped["mig"]):
        wording(reason)


def test_results_of_another_sampler_are_measured_again(run: Run, model: VAE) -> None:
    def measured(sampler: dict[str, Any]) -> dict[str, Any]:
        evaluation = Evaluation(model, images(), images(50, seed=1), sampler=sampler)
        return measure_run(run, evaluation, PROTOCOL, ("sliced_wasserstein", "sparsity")).results

    by_prior, by_gmm = measured({"name": "prior"}), measured({"name": "gmm", "components": 2})
    assert by_gmm["sliced_wasserstein"]["swd"] != by_prior["sliced_wasserstein"]["swd"]
    assert by_gmm["sliced_wasserstein"]["measured_on"]["recipe_sampler"] == {"name": "gmm", "components": 2}
    assert by_gmm["sparsity"] == by_prior["sparsity"]
    assert measured({"name": "prior"}) == by_prior


def test_a_failing_metric_does_not_stop_the_others(run: Run, model: VAE) -> None:
    with_nan = Codes(np.full((40, 3), np.nan, np.float32), np.zeros((40, 3), np.float32))
    evaluation = Evaluation(model, images(), encode=lambda _: with_nan)
    failed: list[str] = []
    names = ("active_units", "reconstruction")
    evaluated = measure_run(run, evaluation, PROTOCOL, names, on_failure=lambda name, error: failed.append(name))
    assert (failed, list(evaluated.results)) == (["active_units"], ["reconstruction"])
    with pytest.raises(ValueError):
        measure_run(run, evaluation, PROTOCOL, names)


@pytest.mark.slow
def test_a_run_is_evaluated_with_all_metrics_that_its_images_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = digits.load(None, "train").take(np.arange(400))
    np.savez(tmp_path / "small.npz", images=small.pixels[:, ::3, ::3])
    overrides = {"training.steps": 5, "data.name": "arrays", "data.valid": 100}
    run = train_small(tmp_path / "run", overrides, name="folder", data=tmp_path / "small.npz")
    assert set(run.evaluation) == set(default_metrics("train")) == {"elbo"}
    evaluated = vaelab.evaluate(run.path)
    assert {*evaluated.results, *evaluated.skipped} == {*default_metrics("evaluate")}
    assert all(load_metric(name).needs & {"factors", "labels"} for name in evaluated.skipped)
    found = evaluated.results
    assert found["decomposition"]["protocol"]["codes"] == 300
    assert found["fid"]["measured_on"]["extractor"].startswith("PCA"), "images without labels have no classifier"
    assert len(cached(run)) == 2
    assert run.evaluation == found


def test_a_named_metric_whose_needs_are_not_met_is_refused(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", {"training.steps": 5})
    before = run.evaluation
    with pytest.raises(NotMeasurable) as raised:
        vaelab.evaluate(run.path, metrics=["active_units", "mig"])
    assert (raised.value.subject, raised.value.choices) == ("mig", ("factors",))
    assert run.evaluation == before


# -- names and options ------------------------------------------------------------------------------------------------


def test_synonyms_are_resolved() -> None:
    assert resolve_metrics(["Frechet", "fid", "beta-VAE score", "nope"]) == ("fid", "betavae", "nope")


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("nope.samples", 3, UnknownName),
        ("nll.nope", 3, UnknownName),
        ("nll.samples", 0, RecipeError),
        ("nll", 3, UnknownName),
    ],
)
def test_wrong_options_of_a_metric(key: str, value: int, error: type[UsageError], wording: Any) -> None:
    with pytest.raises(error) as raised:
        parse_options({key: value}, ("nll", "sparsity"))
    wording(raised.value)
