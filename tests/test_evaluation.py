"""Evaluation of a run: what is measured once, kept, and measured again; the cache of codes."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

import vaelab
from vaelab.data.images import Images
from vaelab.evaluation import evaluate as evaluation
from vaelab.evaluation.evaluate import codes_of, evaluate
from vaelab.models.codes import Codes, encode_images
from vaelab.models.vae import VAE
from vaelab.run import MODEL, Run
from vaelab.system import registry as catalog
from vaelab.system.device import generator

MakeModel = Callable[..., tuple[VAE, nn.Module]]
PROTOCOL = {"split": "test", "binarize": "none"}
OF_CODES = ("decomposition", "active_units", "sparsity", "probe")


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
        monkeypatch.setattr(evaluation, "encode_images", self)

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
        assert_equal(evaluation._read(path, (2, 3)), expected)


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

    monkeypatch.setattr(evaluation, "write_atomic", full)
    assert_equal(codes_of(run, model, images()), encode_images(model, images()))
    assert cached(run) == []


# -- evaluation -------------------------------------------------------------------------------------------------------


def test_images_are_encoded_once_for_all_metrics_of_codes(run: Run, model: VAE, counter: Counter) -> None:
    found = evaluate(run, model, images(), PROTOCOL, OF_CODES, train=images(50, seed=1))
    assert list(found) == list(OF_CODES)
    assert counter.encoded == [40, 50]
    assert run.evaluation == found


def test_of_many_training_images_those_are_encoded_that_are_learnt_from(run: Run, model: VAE, counter: Counter) -> None:
    few = {"decomposition": {"most": 20}, "probe": {"most": 30}}
    found = evaluate(run, model, images(), PROTOCOL, OF_CODES, train=images(50, seed=1), options=few)
    assert counter.encoded == [40, 20, 30]
    assert found["decomposition"]["protocol"]["images"] == 50
    assert found["decomposition"]["protocol"]["codes"] == 20
    assert found["probe"]["protocol"]["learnt_from_images"] == 30
    assert found["probe"]["protocol"]["learnt_from_images_of"] == 50


def digests(name: str, given: Images) -> dict[str, str | None]:
    return {f"{name}_sha256": given.fingerprint(), f"{name}_told_sha256": given.told_fingerprint()}


def test_images_of_which_something_else_is_told_are_measured_again(run: Run, model: VAE) -> None:
    given, train = images(), images(50, seed=1)
    first = evaluate(run, model, given, PROTOCOL, ("probe",), train=train)["probe"]
    other = replace(given, labels=np.roll(np.sort(given.labels), 7))
    second = evaluate(run, model, other, PROTOCOL, ("probe",), train=train)["probe"]
    assert second["roc_auc"] != first["roc_auc"]
    third = evaluate(run, model, other, PROTOCOL, ("probe",), train=replace(train, labels=np.sort(train.labels)))[
        "probe"
    ]
    assert third["roc_auc"] != second["roc_auc"]
    assert evaluate(run, model, given, PROTOCOL, ("probe",), train=train)["probe"] == first


def test_what_is_told_has_a_fingerprint_of_its_own() -> None:
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
    assert len({some.told_fingerprint() for some in several}) == len(several)
    assert len({some.fingerprint() for some in several}) == 1
    assert images(6, seed=1).told_fingerprint() == given.told_fingerprint()
    assert replace(given, labels=None).told_fingerprint() is None


def test_results_are_those_of_measure_with_what_they_were_measured_on(run: Run, model: VAE) -> None:
    given, train = images(), images(50, seed=1)
    found = evaluate(run, model, given, PROTOCOL, evaluation.COMPARED, train=train)
    weights = hashlib.sha256(b"weights").hexdigest()
    for name in evaluation.COMPARED:
        measured_on = found[name].pop("measured_on")
        expected = {**PROTOCOL, **digests("images", given), "weights_sha256": weights, "seed": 0}
        options = {}
        if name in ("decomposition", "probe"):
            expected |= digests("train", train)
            options["train"] = train
        assert measured_on == expected
        random = generator(0, "evaluation", name)
        assert found[name] == catalog.load("metrics", name).measure(model, given, random, **options)


def test_what_is_known_is_not_measured_again(
    run: Run, model: VAE, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(run, model, images(), PROTOCOL, evaluation.COMPARED, train=images(50, seed=1))
    counter.encoded.clear()
    measured: list[str] = []
    for name in evaluation.COMPARED:
        module = catalog.load("metrics", name)
        for function in ("measure", "measure_codes"):
            if hasattr(module, function):
                watched = watch(getattr(module, function), name, measured)
                monkeypatch.setattr(module, function, watched)
    again = evaluate(run, model, images(), PROTOCOL, evaluation.COMPARED, train=images(50, seed=1))
    assert again == first
    assert (measured, counter.encoded) == ([], [])
    evaluate(run, model, images(), PROTOCOL, evaluation.COMPARED, train=images(50, seed=2))
    assert measured == ["decomposition", "probe"]
    evaluate(run, model, images(40, seed=3), PROTOCOL, evaluation.COMPARED, train=images(50, seed=2))
    assert measured[2:] == list(evaluation.COMPARED)
    evaluate(run, model, images(40, seed=3), {**PROTOCOL, "split": "valid"}, ("sparsity",))
    assert measured[-1] == "sparsity"
    assert len(measured) == 3 + len(evaluation.COMPARED)


def watch(function: Callable[..., Any], name: str, called: list[str]) -> Callable[..., Any]:
    """``function``, with its calls noted; a signature is looked up through ``__wrapped__``."""

    def watched(*given: Any, **options: Any) -> Any:
        called.append(name)
        return function(*given, **options)

    watched.__wrapped__ = function  # type: ignore[attr-defined]
    return watched


def test_what_there_is_nothing_to_measure_of_is_not_stored(run: Run, model: VAE) -> None:
    assert "probe" in evaluate(run, model, images(), PROTOCOL, ("probe", "sparsity"))
    unlabelled = replace(images(seed=1), labels=None)
    assert list(evaluate(run, model, unlabelled, PROTOCOL, ("probe", "sparsity"))) == ["sparsity"]
    assert list(run.evaluation) == ["sparsity"]
    assert evaluate(run, model, unlabelled, PROTOCOL, ("probe",)) == {}


def test_a_metric_without_codes_is_given_the_images_to_learn_from(
    run: Run, model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(model: VAE, images: Images, generator: Any, *, train: Images | None = None) -> dict[str, Any]:
        return {"learnt_from": -1 if train is None else len(train), "protocol": {"such": "such"}}

    load = catalog.load
    own = SimpleNamespace(measure=measure)
    monkeypatch.setattr(catalog, "load", lambda folder, name: own if name == "own" else load(folder, name))
    assert evaluate(run, model, images(), PROTOCOL, ("own",), train=images(7))["own"]["learnt_from"] == 7
    assert evaluate(run, model, images(), PROTOCOL, ("own",))["own"]["learnt_from"] == -1


def test_a_run_is_compared_by_all_of_this(tmp_path: Path) -> None:
    small = {"network.name": "mlp", "network.hidden": [16], "training.steps": 5, "training.threads": 1}
    run = vaelab.train("digits", small, run=tmp_path / "run")
    assert set(run.evaluation) == set(evaluation.DEFAULT_METRICS)
    found = vaelab.evaluate(run.path, metrics=evaluation.COMPARED)
    assert list(found) == list(evaluation.COMPARED)
    assert found["probe"]["protocol"]["learnt_from"] == "training images"
    assert found["probe"]["attributes"] == 10
    assert found["decomposition"]["protocol"]["aggregate_posterior_of"] == "training images"
    assert found["decomposition"]["protocol"]["codes"] == 1438
    assert len(cached(run)) == 2
    assert set(run.evaluation) == set(evaluation.COMPARED)


def test_options_of_a_metric_are_checked_used_and_part_of_what_is_kept(
    run: Run, model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = evaluation.parse_options({"nll.samples": 3}, ("nll", "sparsity"))
    assert options == {"nll": {"samples": 3}}
    found = evaluate(run, model, images(), PROTOCOL, ("nll",), options=options)["nll"]
    assert found["protocol"]["samples"] == 3
    other = evaluate(run, model, images(), PROTOCOL, ("nll",), options={"nll": {"samples": 4}})["nll"]
    assert other["protocol"]["samples"] == 4
    called: list[str] = []
    module = catalog.load("metrics", "nll")
    monkeypatch.setattr(module, "measure", watch(module.measure, "nll", called))
    assert evaluate(run, model, images(), PROTOCOL, ("nll",), options={"nll": {"samples": 4}})["nll"] == other
    assert called == []


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
    with pytest.raises(catalog.WrongUsage, match=says):
        evaluation.parse_options({key: value}, ("nll", "sparsity"))


def test_only_metrics_of_one_run_are_offered() -> None:
    for name in ("nope", "udr"):
        with pytest.raises(catalog.UnknownName, match=rf"{name}.*Valid: active_units.*sparsity$") as raised:
            evaluation.learns(name)
        assert not {"udr", "anomaly"} & set(str(raised.value).split("Valid: ")[1].split(", "))
