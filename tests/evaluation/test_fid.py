"""Fréchet and kernel distance: reference vectors, closed forms, invariances, and what measures compare."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenDecoder, GivenLikelihood
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from vectors import CASES, Case

from vaelab.data.images import Images
from vaelab.evaluation import features
from vaelab.evaluation.evaluation import Evaluation
from vaelab.evaluation.metrics import fid, kid
from vaelab.evaluation.metrics.fid import frechet_distance
from vaelab.evaluation.metrics.kid import kernel_distance
from vaelab.models import networks
from vaelab.models.likelihoods.gaussian import NormalPixels
from vaelab.models.posteriors import diagonal
from vaelab.models.priors import normal
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE

MakeModel = Callable[..., tuple[VAE, nn.Module]]
both = pytest.mark.parametrize(
    ("module", "name", "distance"), [(fid, "fd", frechet_distance), (kid, "kd", kernel_distance)]
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(count: int, dim: int = 4, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return random.standard_normal((count, dim)) @ random.standard_normal((dim, dim)) + random.standard_normal(dim)


def rotation(dim: int, seed: int = 0) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


# -- reference vectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("fid/")])
def test_frechet_distance_of_the_reference_vectors(name: str) -> None:
    case: Any = Case(name)
    case.expect("fid", np.float64(frechet_distance(case.a.numpy(), case.b.numpy())), at_most=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("kid/")])
def test_kernel_distance_of_the_reference_vectors(name: str) -> None:
    case: Any = Case(name)
    rows = case.params.get("rows")
    case.expect("kid", np.float64(kernel_distance(case.a.numpy()[:rows], case.b.numpy()[:rows])))


# -- the Fréchet distance ---------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12))
def test_frechet_distance_is_symmetric_and_sees_no_rotation_and_no_shift(seed: int, n: int, m: int) -> None:
    a, b = draw(n, 5, seed), draw(m, 5, seed + 1)
    found = frechet_distance(a, b)
    assert found >= 0
    assert frechet_distance(b, a) == pytest.approx(found)
    turned = rotation(5, seed)
    assert frechet_distance(a @ turned + 1000, b @ turned + 1000) == pytest.approx(found)


@pytest.mark.parametrize(("count", "dim"), [(50, 4), (5, 20), (2, 3)])
def test_a_set_lies_at_distance_0_from_itself(count: int, dim: int) -> None:
    a = draw(count, dim)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-10)


def test_normal_distributions_with_one_set_of_axes() -> None:
    """|μ|² + Σ (σ_a − σ_b)², where covariances commute."""
    white = draw(400, 3)
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    axes, sigma_a, sigma_b, shift = rotation(3), np.array([3.0, 1, 0]), np.array([1.0, 2, 0.5]), np.array([1, -2, 0.5])
    found = frechet_distance(white * sigma_a @ axes, (white[::-1] * sigma_b + shift) @ axes)
    assert found == pytest.approx(((sigma_a - sigma_b) ** 2).sum() + (shift**2).sum())


def test_the_distance_falls_with_the_number_of_images() -> None:
    """About 1/n too large (1911.07023): quote n."""
    found = [frechet_distance(*np.random.default_rng(0).standard_normal((2, n, 8))) for n in (50, 500, 5000)]
    assert found[0] > 5 * found[1] > 25 * found[2] > 0


# -- the kernel distance ----------------------------------------------------------------------------------------------


def test_kernel_distance_is_unbiased() -> None:
    """Over all pairs of disjoint pairs of a small set it averages to 0."""
    points = draw(6, 2)
    found = []
    for i in range(6):
        for j in set(range(6)) - {i}:
            rest = [k for k in range(6) if k not in (i, j)]
            found += [kernel_distance(points[[i, j]], points[rest])]
    assert np.mean(found) == pytest.approx(0, abs=1e-10)
    assert min(found) < 0


@pytest.mark.parametrize("block", [1, 7, 40])
def test_blocks_of_pairs_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    a, b = draw(20), draw(13, seed=1)
    whole = kernel_distance(a, b)
    monkeypatch.setattr(kid, "BLOCK", block)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_sets_must_have_two_images(distance: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="sets of 5 and 1 images: 2 or more"):
        distance(draw(5), draw(1))


def test_sets_must_have_the_same_features() -> None:
    with pytest.raises(ValueError, match="4 and 3 features cannot be compared: use one extractor"):
        features.check_sets(draw(5, 4), draw(5, 3), 2)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_single_precision_is_calculated_with_in_double(distance: Callable[..., float]) -> None:
    a, b = draw(30).astype(np.float32), draw(30, seed=1).astype(np.float32)
    assert distance(a, b) == distance(a.astype(np.float64), b.astype(np.float64))


# -- measure ----------------------------------------------------------------------------------------------------------


class Flat:
    """An extractor that takes pixels as they are."""

    kind, name = "flat", "pixels"

    def features(self, images: Tensor) -> NDArray[np.float64]:
        return images.double().flatten(1).numpy()


class TwoPixels(networks.Encoder):
    """The code is the first two pixels."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        code = x.flatten(1)[:, :2] * 4 - 2
        return torch.cat([code, torch.zeros_like(code)], 1)


def known_vae() -> VAE:
    """Shows its two latents as the first two pixels of a grey image."""
    spec = Spec((1, 8, 8), latent_dim=2, num_images=100, posterior_parameters=4)
    grey = nn.Parameter(torch.full((62,), 0.5))

    def show(z: Tensor) -> Tensor:
        return torch.cat([((z + 2) / 4).clamp(0, 1), grey.expand(len(z), -1)], 1).view(-1, 1, 8, 8)

    likelihood = GivenLikelihood(lambda decoded: NormalPixels(decoded, 0.5))
    likelihood.grey = grey  # a model has a parameter
    return VAE(spec, TwoPixels(), diagonal.Posterior(spec), normal.Prior(spec), GivenDecoder(show), likelihood)


def two_pixel_images(codes: NDArray[np.float64]) -> Images:
    """What ``known_vae`` would show of codes, but for rounding to 8 bits; every grey exactly 128/255."""
    pixels = np.full((len(codes), 64), 128, np.uint8)
    pixels[:, :2] = np.round(np.clip((codes + 2) / 4, 0, 1) * 255)
    return Images(pixels.reshape(-1, 8, 8, 1))


def measured(module: Any, vae: VAE, images: Images, train: Images | None = None, **options: int) -> Any:
    return module.measure(Evaluation(vae, images, train or images, extractor=Flat()), **options)


@both
def test_what_is_compared(module: Any, name: str, distance: Callable[..., float]) -> None:
    vae = known_vae()
    given = two_pixel_images(np.random.default_rng(0).standard_normal((300, 2)))
    train = two_pixel_images(np.random.default_rng(1).standard_normal((400, 2)) / 3)
    evaluation = Evaluation(vae, given, train, extractor=Flat())
    found = module.measure(evaluation)
    x, random = given.pixels.reshape(300, -1) / 255, evaluation.generator("frechet")
    drawn = vae.decode(torch.randn(300, 2, generator=random)).flatten(1).detach().numpy()
    assert found[f"{name}_flat"] == pytest.approx(distance(x, drawn.astype(float)), rel=1e-4, abs=1e-9)
    rebuilt = np.concatenate([x[:, :2], np.full((300, 62), 0.5)], 1)
    assert found[f"reconstruction_{name}_flat"] == pytest.approx(distance(x, rebuilt), rel=1e-4, abs=1e-9)
    rows = torch.randperm(400, generator=random)[:300].sort().values.numpy()
    assert found[f"training_{name}_flat"] == pytest.approx(distance(x, train.pixels[rows].reshape(300, -1) / 255))
    assert len(found) == 4
    protocol = found["protocol"]
    assert (protocol["extractor"], protocol["features"]) == ("pixels", 64)
    assert "fid" not in found.keys() | {"kid"} & found.keys()


@both
def test_good_samples_are_nearer_than_bad_ones(module: Any, name: str, distance: Any) -> None:
    found = []
    for scale in (1, 0.3):
        given = two_pixel_images(np.random.default_rng(0).standard_normal((500, 2)) * scale)
        extractor = features.PrincipalComponents(given, "the images")
        found.append(module.measure(Evaluation(known_vae(), given, given, extractor=extractor))[f"{name}_pca"])
    assert found[1] > 10 * abs(found[0])


@both
def test_of_many_images_some_are_looked_at(make_model: MakeModel, module: Any, name: str, distance: Any) -> None:
    given = Images(np.random.default_rng(0).integers(0, 256, (50, 9, 8, 1), dtype=np.uint8))
    found = measured(module, make_model()[0], given, samples=20)
    assert (found["protocol"]["images"], found["protocol"]["images_of"]) == (20, 50)
    assert found["protocol"]["generated"].startswith("20 ")


@both
def test_fewer_training_images_than_measured_are_not_compared(
    make_model: MakeModel, module: Any, name: str, distance: Any
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 9, 8, 1), dtype=np.uint8)
    found = measured(module, make_model()[0], Images(pixels), Images(pixels[:49]))
    assert f"training_{name}_flat" not in found
    assert math.isfinite(found[f"{name}_flat"])


@both
def test_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel, module: Any, name: str, distance: Any
) -> None:
    vae, _ = make_model()
    given = Images(np.random.default_rng(0).integers(0, 256, (30, 9, 8, 1), dtype=np.uint8))
    whole = measured(module, vae, given)
    monkeypatch.setattr(features, "chunk_spans", lambda _count, _shape: [(0, 7), (7, 8), (8, 30)])
    parts = measured(module, vae, given)
    assert parts.pop("protocol") == whole.pop("protocol")
    assert parts == pytest.approx(whole, rel=1e-4, abs=1e-9)
    assert whole[f"training_{name}_flat"] < 1e-6  # all 30 are compared with themselves


@both
@pytest.mark.parametrize("count", [1, 5])
def test_one_image_and_equal_images_have_no_distance(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel, module: Any, name: str, distance: Any, count: int
) -> None:
    monkeypatch.setattr("vaelab.evaluation.classifier.find_inception", lambda _device: None)
    given = Images(np.full((count, 9, 8, 1), 77, np.uint8))
    assert module.measure(Evaluation(make_model()[0], given, given)) is None
