"""Fréchet and kernel distance: reference vectors, closed forms, invariances, and the sets that ``measure`` compares."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from given import FlatPixels, GivenDecoder, GivenLikelihood
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from vectors import CASES, Case

from vaelab.data.images import Images
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.features import PrincipalComponents
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


def draw(count: int, dim: int = 4, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return random.standard_normal((count, dim)) @ random.standard_normal((dim, dim)) + random.standard_normal(dim)


def rotation(dim: int, seed: int = 0) -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("fid/")])
def test_frechet_distance_of_the_vectors(name: str) -> None:
    case: Any = Case(name)
    case.expect("fid", np.float64(frechet_distance(case.a.numpy(), case.b.numpy())), at_most=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("kid/")])
def test_kernel_distance_of_the_vectors(name: str) -> None:
    case: Any = Case(name)
    rows = case.params.get("rows")
    case.expect("kid", np.float64(kernel_distance(case.a.numpy()[:rows], case.b.numpy()[:rows])))


# -- the Fréchet distance ---------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12))
def test_frechet_distance_is_symmetric_and_invariant_to_rotation_and_shift(seed: int, n: int, m: int) -> None:
    a, b = draw(n, 5, seed), draw(m, 5, seed + 1)
    found = frechet_distance(a, b)
    assert found >= 0
    assert frechet_distance(b, a) == pytest.approx(found)
    turned = rotation(5, seed)
    assert frechet_distance(a @ turned + 1000, b @ turned + 1000) == pytest.approx(found)


@pytest.mark.parametrize(("count", "dim"), [(50, 4), (5, 20), (2, 3)])
def test_frechet_distance_of_equal_sets_is_0(count: int, dim: int) -> None:
    a = draw(count, dim)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-10)


def test_frechet_distance_of_normal_distributions_with_the_same_axes() -> None:
    """|μ|² + Σ (σ_a − σ_b)², since the covariances commute."""
    white = draw(400, 3)
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
    axes, sigma_a, sigma_b, shift = rotation(3), np.array([3.0, 1, 0]), np.array([1.0, 2, 0.5]), np.array([1, -2, 0.5])
    found = frechet_distance(white * sigma_a @ axes, (white[::-1] * sigma_b + shift) @ axes)
    assert found == pytest.approx(((sigma_a - sigma_b) ** 2).sum() + (shift**2).sum())


def test_frechet_distance_falls_with_the_number_of_images() -> None:
    """Its bias is about 1/n (1911.07023)."""
    found = [frechet_distance(*np.random.default_rng(0).standard_normal((2, n, 8))) for n in (50, 500, 5000)]
    assert found[0] > 5 * found[1] > 25 * found[2] > 0


# -- the kernel distance ----------------------------------------------------------------------------------------------


def test_kernel_distance_is_unbiased() -> None:
    """Its mean over all pairs of disjoint pairs of a small set is 0."""
    points = draw(6, 2)
    found = []
    for i in range(6):
        for j in set(range(6)) - {i}:
            rest = [k for k in range(6) if k not in (i, j)]
            found += [kernel_distance(points[[i, j]], points[rest])]
    assert np.mean(found) == pytest.approx(0, abs=1e-10)
    assert min(found) < 0


def test_kernel_distance_of_more_pairs_than_a_block() -> None:
    a, b = draw(2500, 3), draw(1700, 3, seed=1)
    whole = [(x @ y.T / 3 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    within = [(kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in whole[:2]]
    assert kernel_distance(a, b) == pytest.approx(sum(within) - 2 * whole[2].mean(), rel=1e-9)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_distances_are_computed_in_double_precision(distance: Callable[..., float]) -> None:
    a, b = draw(30).astype(np.float32), draw(30, seed=1).astype(np.float32)
    assert distance(a, b) == distance(a.astype(np.float64), b.astype(np.float64))


# -- measure ----------------------------------------------------------------------------------------------------------


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
    """Images that ``known_vae`` shows of codes, rounded to 8 bits, with 128/255 for grey."""
    pixels = np.full((len(codes), 64), 128, np.uint8)
    pixels[:, :2] = np.round(np.clip((codes + 2) / 4, 0, 1) * 255)
    return Images(pixels.reshape(-1, 8, 8, 1))


def random_images(count: int) -> Images:
    return Images(np.random.default_rng(0).integers(0, 256, (count, 9, 8, 1), dtype=np.uint8))


@both
def test_sets_that_are_compared(module: Any, name: str, distance: Callable[..., float]) -> None:
    """More images than go through the networks at a time."""
    vae = known_vae()
    held_out = two_pixel_images(np.random.default_rng(0).standard_normal((600, 2)))
    train = two_pixel_images(np.random.default_rng(1).standard_normal((700, 2)) / 3)
    evaluation = Evaluation(vae, held_out, train, extractor=FlatPixels())
    found = module.measure(evaluation)
    x, random = held_out.pixels.reshape(600, -1) / 255, evaluation.generator("frechet")
    drawn = vae.decode(torch.randn(600, 2, generator=random)).flatten(1).detach().numpy()
    assert found[f"{name}_pixels"] == pytest.approx(distance(x, drawn.astype(float)), rel=1e-4, abs=1e-9)
    rebuilt = np.concatenate([x[:, :2], np.full((600, 62), 0.5)], 1)
    assert found[f"reconstruction_{name}_pixels"] == pytest.approx(distance(x, rebuilt), rel=1e-4, abs=1e-9)
    rows = torch.randperm(700, generator=random)[:600].sort().values.numpy()
    chosen = train.pixels[rows].reshape(600, -1) / 255
    assert found[f"training_{name}_pixels"] == pytest.approx(distance(x, chosen), rel=1e-4, abs=1e-9)
    assert len(found) == 4
    assert (found["protocol"]["extractor"], found["protocol"]["features"]) == ("pixels", 64)


@both
def test_good_samples_are_closer_than_bad_ones(module: Any, name: str, distance: Any) -> None:
    found = []
    for scale in (1, 0.3):
        images = two_pixel_images(np.random.default_rng(0).standard_normal((500, 2)) * scale)
        extractor = PrincipalComponents(images, "the images")
        found.append(module.measure(Evaluation(known_vae(), images, images, extractor=extractor))[f"{name}_pca"])
    assert found[1] > 10 * abs(found[0])


@both
def test_numbers_of_images(make_model: MakeModel, module: Any, name: str, distance: Any) -> None:
    vae, images = make_model()[0], random_images(50)
    found = module.measure(Evaluation(vae, images, images, extractor=FlatPixels()), samples=20)
    assert (found["protocol"]["images"], found["protocol"]["images_available"]) == (20, 50)
    assert found["protocol"]["generated"].startswith("20 ")
    few = Images(images.pixels[:49])
    found = module.measure(Evaluation(vae, images, few, extractor=FlatPixels()))
    assert f"training_{name}_pixels" not in found, "fewer training images than held-out ones"
    assert math.isfinite(found[f"{name}_pixels"])


@both
@pytest.mark.parametrize("count", [1, 5])
def test_one_image_and_equal_images_have_no_distance(
    make_model: MakeModel, module: Any, name: str, distance: Any, count: int, wording: Any
) -> None:
    images = Images(np.full((count, 9, 8, 1), 77, np.uint8))
    with pytest.raises(NotMeasurable) as raised:
        module.measure(Evaluation(make_model()[0], images, images))
    wording(raised.value)
