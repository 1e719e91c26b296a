"""Evaluation of a run: what is measured once, kept, and measured again; the cache of codes."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

import vaelab
from vaelab.data.images import Images
from vaelab.evaluation import evaluate as evaluating
from vaelab.evaluation.evaluate import codes_of, default_metrics, measure_run, parse_options
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import load_metric
from vaelab.models.codes import Codes, encode_images
from vaelab.models.vae import VAE
from vaelab.run import MODEL, Run
from vaelab.system.errors import UnknownName, UsageError

MakeModel = Callable[..., tuple[VAE, nn.Module]]
PROTOCOL = {"split": "test", "binarize": "none"}
OF_CODES = ("decomposition", "active_units", "sparsity", "probe")
COMPARED = tuple(name for name in default_metrics("compare") if "factors" not in load_metric(name).needs)


@pytest.fixture
def model(make_model: MakeModel) -> VAE:
    return make_model()[0]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """As much of a run as evaluation reads."""
    (tmp_path / MODEL).write_bytes(b"weights")
    return Run(tmp_path)


def images(count: int = 40, seed: int = 0) -> Images:
    random = np.random.default_rng(seed)
    return Images(random.integers(0, 256, (count, 9, 8, 1), dtype=np.uint8), labels=np.arange(count) % 2)


def cached(run: Run) -> list[Path]:
    return sorted((run.path / "cache").glob("*"))


def assert_equal(ours: Codes, theirs: Codes) -> None:
    np.testing.assert_array_equal(ours.mean, theirs.mean)
    np.testing.assert_array_equal(ours.log_var, theirs.log_var)


class Counter:
    """Stands in for ``encode_images`` and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoded: list[int] = []
        monkeypatch.setattr(evaluating, "encode_images", self)

    def __call__(self, model: VAE, given: Images) -> Codes:
        self.encoded.append(len(given))
        return encode_images(model, given)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)


# -- codes ------------------------------------------------------------------------------------------------------------


def test_codes_are_encoded_once_for_weights_and_images(run: Run, model: VAE, counter: Counter) -> None:
    expected = encode_images(model, images())
    for _ in range(3):
        assert_equal(codes_of(run, model, images()), expected)
    assert counter.encoded == [40]
    codes_of(run, model, images(30))
    codes_of(run, model, images(40, seed=1))
    assert counter.encoded == [40, 30, 40]
    run.model_path.write_bytes(b"other weights")
    codes_of(run, model, images())
    assert counter.encoded == [40, 30, 40, 40]
    assert len(cached(run)) == 4
    assert all(path.name.startswith("codes-") and path.suffix == ".npz" for path in cached(run))


def test_the_cache_may_be_removed(run: Run, model: VAE, counter: Counter) -> None:
    first = codes_of(run, model, images())
    for path in cached(run):
        path.unlink()
    (run.path / "cache").rmdir()
    assert_equal(codes_of(run, model, images()), first)
    assert counter.encoded == [40, 40]


def test_a_damaged_cache_is_made_again(run: Run, model: VAE) -> None:
    """Wherever a byte is flipped, the codes are right."""
    given = images(2)
    expected = codes_of(run, model, given)
    (path,) = cached(run)
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        assert_equal(codes_of(run, model, given), expected)
    for content in (b"", b"PK", whole[:-1], whole[:300], b"\x93NUMPY", bytes(1000)):
        path.write_bytes(content)
        assert_equal(codes_of(run, model, given), expected)
        assert_equal(evaluating._read(path, model, 2), expected)


@pytest.mark.parametrize("wrong", [{"mean": np.zeros((40, 3), np.float32)}, {"mean": np.zeros((39, 3), np.float32)}])
def test_a_cache_of_something_else_is_made_again(run: Run, model: VAE, wrong: dict[str, Any]) -> None:
    expected = codes_of(run, model, images())
    (path,) = cached(run)
    np.savez(path, **wrong, **({"log_var": np.zeros((39, 3), np.float32)} if len(wrong["mean"]) == 39 else {}))
    assert_equal(codes_of(run, model, images()), expected)


def test_nothing_in_a_cache_is_executed(run: Run, model: VAE) -> None:
    expected = codes_of(run, model, images())
    (path,) = cached(run)
    trap = np.array([SimpleNamespace()], object)
    np.savez(path, mean=trap, log_var=trap)
    assert_equal(codes_of(run, model, images()), expected)


def test_codes_come_without_a_cache_where_it_cannot_be_written(
    run: Run, model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(evaluating, "write_atomic", full)
    assert_equal(codes_of(run, model, images()), encode_images(model, images()))
    assert cached(run) == []


def test_the_kl_of_other_posteriors_is_kept_too(run: Run, make_model: MakeModel, counter: Counter) -> None:
    vae, _ = make_model(overrides={"posterior.name": "full_covariance"})
    first, again = (codes_of(run, vae, images()) for _ in range(2))
    assert counter.encoded == [40]
    assert first.image_kl is not None
    assert again.image_kl is not None
    np.testing.assert_array_equal(again.image_kl, first.image_kl)
    assert codes_of(run, make_model()[0], images()).image_kl is None  # of other weights, were they the run's


# -- evaluation -------------------------------------------------------------------------------------------------------


def measure(
    run: Run,
    model: VAE,
    given: Images,
    names: tuple[str, ...],
    train: Images | None = None,
    protocol: dict[str, str] = PROTOCOL,
    **options: dict[str, Any],
) -> dict[str, Any]:
    evaluation = Evaluation(model, given, train, encode=partial(codes_of, run, model))
    return measure_run(run, evaluation, protocol, names, options).results


def test_images_are_encoded_once_for_all_metrics_of_codes(run: Run, model: VAE, counter: Counter) -> None:
    found = measure(run, model, images(), OF_CODES, images(50, seed=1))
    assert list(found) == list(OF_CODES)
    assert counter.encoded == [50, 40]
    assert run.evaluation == found


def test_of_many_training_images_those_are_encoded_that_are_learnt_from(run: Run, model: VAE, counter: Counter) -> None:
    few = {"decomposition": {"most": 20}, "probe": {"most": 30}}
    found = measure(run, model, images(), OF_CODES, images(50, seed=1), **few)
    assert counter.encoded == [20, 40, 30]
    assert found["decomposition"]["protocol"]["images"] == 50
    assert found["decomposition"]["protocol"]["codes"] == 20
    assert found["probe"]["protocol"]["learnt_from_images"] == 30
    assert found["probe"]["protocol"]["learnt_from_images_of"] == 50


def digests(name: str, given: Images) -> dict[str, str | None]:
    return {f"{name}_sha256": given.fingerprint(), f"{name}_told_sha256": given.annotations_digest()}


def test_images_of_which_something_else_is_told_are_measured_again(run: Run, model: VAE) -> None:
    given, train = images(), images(50, seed=1)
    other = replace(given, labels=np.roll(np.sort(given.labels), 7))
    pairs = [(given, train), (other, train), (other, replace(train, labels=np.sort(train.labels)))]
    first, second, third = (measure(run, model, some, ("probe",), learnt)["probe"] for some, learnt in pairs)
    assert len({one["roc_auc"] for one in (first, second, third)}) == 3
    assert measure(run, model, given, ("probe",), train)["probe"] == first


def test_annotations_have_a_fingerprint_of_their_own() -> None:
    given = images(6)
    factors = np.arange(12).reshape(6, 2)
    table = np.arange(12).reshape(6, 2) % 2 == 0
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


def test_results_are_those_of_measure_with_what_they_were_measured_on(run: Run, model: VAE) -> None:
    given, train = images(), images(50, seed=1)
    found = measure(run, model, given, COMPARED, train)
    weights = hashlib.sha256(b"weights").hexdigest()
    for name in COMPARED:
        metric, measured_on = load_metric(name), found[name].pop("measured_on")
        learnt = digests("train", train) if "train" in metric.needs else {}
        assert measured_on == {**PROTOCOL, **digests("images", given), "weights_sha256": weights, "seed": 0, **learnt}
        assert found[name] == metric.measure(Evaluation(model, given, train))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the metrics that are measured, one after the other."""
    called: list[str] = []
    load = evaluating.load_metric

    def watched(name: str) -> Any:
        metric = load(name)

        def note(evaluation: Evaluation, **options: Any) -> Any:
            called.append(name)
            return metric.measure(evaluation, **options)  # type: ignore[call-arg]

        return replace(metric, measure=note)

    monkeypatch.setattr(evaluating, "load_metric", watched)
    return called


def test_what_is_known_is_not_measured_again(run: Run, model: VAE, counter: Counter, measured: list[str]) -> None:
    first = measure(run, model, images(), COMPARED, images(50, seed=1))
    counter.encoded.clear()
    measured.clear()
    assert measure(run, model, images(), COMPARED, images(50, seed=1)) == first
    assert (measured, counter.encoded) == ([], [])
    measure(run, model, images(), COMPARED, images(50, seed=2))
    assert measured == ["decomposition", "probe"]
    measure(run, model, images(40, seed=3), COMPARED, images(50, seed=2))
    assert measured[2:] == list(COMPARED)
    measure(run, model, images(40, seed=3), ("sparsity",), protocol={**PROTOCOL, "split": "valid"})
    assert measured[-1] == "sparsity"
    assert len(measured) == 3 + len(COMPARED)


def test_options_are_part_of_what_is_kept(run: Run, model: VAE, measured: list[str]) -> None:
    found = [measure(run, model, images(), ("nll",), nll={"samples": samples})["nll"] for samples in (3, 4, 4)]
    assert [one["protocol"]["samples"] for one in found] == [3, 4, 4]
    assert found[1] == found[2]
    assert measured == ["nll", "nll"]


def test_what_cannot_be_measured_is_not_stored_and_the_reason_is_given(run: Run, model: VAE) -> None:
    names = ("probe", "sparsity", "mig")
    assert "probe" in measure(run, model, images(), names, images(50, seed=1))
    unlabelled = replace(images(seed=1), labels=None)
    evaluated = measure_run(run, Evaluation(model, unlabelled, unlabelled), PROTOCOL, names)
    assert list(evaluated.results) == list(run.evaluation) == ["sparsity"]
    assert "labels or attributes" in evaluated.skipped["probe"]
    assert "known factors" in evaluated.skipped["mig"]
    still = replace(unlabelled, factors=np.zeros((40, 2), np.int64))
    assert measure_run(run, Evaluation(model, still), PROTOCOL, ("mig",)).skipped.keys() == {"mig"}


def test_a_run_is_evaluated_by_all_that_its_images_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("vaelab.evaluation.classifier.STEPS", 5)
    small = {"network.name": "mlp", "network.hidden": [16], "training.steps": 5, "training.threads": 1}
    run = vaelab.train("digits", small, run=tmp_path / "run")
    assert set(run.evaluation) == set(default_metrics("train")) == {"elbo"}
    evaluated = vaelab.evaluate(run.path)
    assert {*evaluated.results, *evaluated.skipped} == {*default_metrics("evaluate")}
    assert all("factors" in load_metric(name).needs for name in evaluated.skipped)
    found = evaluated.results
    assert found["probe"]["protocol"]["learnt_from"] == "training images"
    assert found["probe"]["attributes"] == 10
    assert found["decomposition"]["protocol"]["aggregate_posterior_of"] == "training images"
    assert found["decomposition"]["protocol"]["codes"] == 1438
    assert found["fid"]["measured_on"]["extractor"].startswith("classifier")
    assert len(cached(run)) == 2
    assert run.evaluation == found
    with pytest.raises(UsageError, match=r"^mig needs images with known factors$"):
        vaelab.evaluate(run.path, metrics=["elbo", "mig"])


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("nope.samples", 3, "nope.*nll, sparsity"),
        ("nll.nope", 3, "nope.*samples"),
        ("nll.samples", 0, "greater than or equal to 1"),
        ("nll", 3, "samples"),
        ("sparsity.train", 3, "train"),
    ],
)
def test_wrong_options_of_a_metric_say_what_is_right(key: str, value: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_options({key: value}, ("nll", "sparsity"))


@pytest.mark.parametrize("name", ["nope", "udr"])
def test_only_metrics_of_one_run_are_offered(name: str) -> None:
    with pytest.raises(UnknownName, match=rf"{name}.*Valid: active_units.*sparsity$") as raised:
        load_metric(name)
    assert "udr" not in str(raised.value).split("Valid: ")[1].split(", ")
