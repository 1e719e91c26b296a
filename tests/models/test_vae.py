"""Encode, decode, sample and reconstruct, with images in every form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from vaelab.data.images import Images
from vaelab.models import networks
from vaelab.models.chunks import EVAL_BATCH_SIZE
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE, DiagonalNormal
from vaelab.models.vae import VAE
from vaelab.system.errors import InputError
from vaelab.training.objectives import Objective

MakeModel = Callable[..., tuple[VAE, Objective]]
GREY, COLOUR = (1, 9, 8), (3, 10, 9)


@pytest.fixture(scope="module", params=[GREY, COLOUR], ids=["grey", "colour"])
def vae(request: pytest.FixtureRequest, make_model: MakeModel) -> VAE:
    network = {"network.name": "conv", "network.channels": [4, 4], "network.strides": [2, 1]}
    return make_model(request.param, network)[0]


@pytest.fixture(scope="module")
def grey(make_model: MakeModel) -> VAE:
    return make_model(GREY)[0]


def pixels(vae: VAE, count: int) -> np.ndarray:
    """uint8 ``[N, H, W, C]``."""
    channels, height, width = vae.spec.image_shape
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def assert_same(ours: DiagonalNormal, theirs: DiagonalNormal) -> None:
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.log_var, theirs.log_var)


# -- encode -----------------------------------------------------------------------------------------------------------


def test_encode_returns_the_posterior_and_not_a_sample(vae: VAE) -> None:
    x = torch.from_numpy(pixels(vae, 5)).permute(0, 3, 1, 2).float() / 255
    q = vae.encode(x)
    assert isinstance(q, DiagonalNormal)
    assert q.mean.shape == q.log_var.shape == (5, vae.spec.latent_dim)
    assert_same(q, DiagonalNormal(*vae.encoder(x).detach().chunk(2, 1)))
    assert torch.equal(q.mean, vae.encode(x).mean)


@pytest.mark.parametrize("layout", ["channels last", "channels first"])
@pytest.mark.parametrize("container", ["array", "tensor", "Images"])
@pytest.mark.parametrize("number", ["uint8", "float32", "float64"])
def test_encode_accepts_every_form_of_images(vae: VAE, layout: str, container: str, number: str) -> None:
    raw = pixels(vae, 3)
    expected = vae.encode(Images(raw))
    if container == "Images":
        assert_same(vae.encode(Images(raw)), expected)
        return
    given: Any = raw if number == "uint8" else (raw / 255).astype(number)
    given = given.transpose(0, 3, 1, 2) if layout == "channels first" else given
    assert_same(vae.encode(torch.from_numpy(given.copy()) if container == "tensor" else given), expected)


def test_encode_accepts_one_image_and_grey_images_without_channels(vae: VAE) -> None:
    raw = pixels(vae, 3)
    expected = vae.encode(raw)
    single = vae.encode(raw[0])
    assert_same(single, DiagonalNormal(expected.mean[:1], expected.log_var[:1]))
    if vae.spec.image_shape[0] == 1:
        assert_same(vae.encode(raw[..., 0]), expected)
        assert_same(vae.encode(raw[0, ..., 0]), single)


def test_read_only_arrays_give_no_warning(vae: VAE) -> None:
    raw = pixels(vae, 2)
    expected = vae.reconstruct(raw)
    raw.flags.writeable = False
    np.testing.assert_array_equal(vae.reconstruct(raw), expected)
    codes = np.zeros((2, vae.spec.latent_dim), np.float32)
    codes.flags.writeable = False
    assert vae.decode(codes).shape == (2, *vae.spec.image_shape)


def test_images_are_not_modified(vae: VAE) -> None:
    raw, floats = pixels(vae, 2), torch.rand(2, *vae.spec.image_shape)
    raw_before, floats_before = raw.copy(), floats.clone()
    vae.reconstruct(raw)
    vae.reconstruct(floats)
    np.testing.assert_array_equal(raw, raw_before)
    assert torch.equal(floats, floats_before)


MISFITS = {
    "height and width exchanged": np.zeros((2, 8, 9, 1), np.uint8),
    "other channels": np.zeros((2, 3, 9, 8), np.uint8),
    "five axes": np.zeros((2, 2, 1, 9, 8), np.uint8),
    "one axis": np.zeros(72, np.uint8),
    "one axis of a tensor": torch.zeros(9),
    "integers": np.zeros((2, 9, 8), np.int64),
    "too large": np.full((2, 9, 8), 255.0),
    "negative": np.full((2, 9, 8), -0.1),
    "not a number": np.full((2, 9, 8), np.nan),
}


@pytest.mark.parametrize("images", MISFITS.values(), ids=MISFITS)
def test_images_that_do_not_fit_are_refused(grey: VAE, images: Any, wording: Any) -> None:
    for function in (grey.encode, grey.reconstruct):
        with pytest.raises(ValueError) as caught:
            function(images)
    wording(caught.value)


# -- decode and sample ------------------------------------------------------------------------------------------------


def test_decode_returns_expected_images(vae: VAE) -> None:
    codes = torch.randn(4, vae.spec.latent_dim, generator=torch.Generator().manual_seed(0))
    images = vae.decode(codes)
    torch.testing.assert_close(images, torch.sigmoid(vae.decoder(codes)).detach())
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    torch.testing.assert_close(vae.decode(codes.double()), images)
    torch.testing.assert_close(vae.decode(codes[0]), images[:1])


def test_decode_returns_an_array_for_an_array(vae: VAE) -> None:
    codes = np.zeros((2, vae.spec.latent_dim), np.float32)
    for array in (codes, codes.astype(np.float64), codes[0]):
        images = vae.decode(array)
        assert isinstance(images, np.ndarray)
        assert images.dtype == np.float32
        assert images.shape[1:] == vae.spec.image_shape
    assert isinstance(vae.decode(torch.from_numpy(codes)), Tensor)


@pytest.mark.parametrize("shape", [(), (2,), (4,), (5, 2), (1, 3, 1), (2, 0)])
def test_codes_that_do_not_fit_are_refused(grey: VAE, shape: tuple[int, ...]) -> None:
    for codes in (np.zeros(shape, np.float32), torch.zeros(shape)):
        with pytest.raises(InputError) as caught:
            grey.decode(codes)
        assert not shape or caught.value.value == list(shape)


def test_samples_come_from_the_prior_and_the_seed(vae: VAE) -> None:
    samples = vae.sample(4, 7)
    assert samples.shape == (4, *vae.spec.image_shape)
    codes = torch.randn(4, vae.spec.latent_dim, generator=torch.Generator().manual_seed(7))
    assert torch.equal(samples, vae.decode(codes))
    assert torch.equal(samples, vae.sample(4, torch.Generator().manual_seed(7)))
    assert not torch.equal(samples, vae.sample(4, 8))
    generator = torch.Generator().manual_seed(7)
    assert not torch.equal(vae.sample(4, generator), vae.sample(4, generator)), "the generator advances"


def test_samples_without_a_seed_use_the_generator_of_torch(vae: VAE) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        assert torch.equal(vae.sample(4), vae.sample(4, 7))


# -- reconstruct ------------------------------------------------------------------------------------------------------


def test_reconstructions_are_decoded_posterior_means(vae: VAE) -> None:
    raw = pixels(vae, 3)
    expected = vae.decode(vae.encode(raw).mean)
    reconstructions = vae.reconstruct(raw)
    assert isinstance(reconstructions, np.ndarray)
    np.testing.assert_array_equal(reconstructions, expected.numpy())
    as_tensor = vae.reconstruct(torch.from_numpy(raw))
    assert isinstance(as_tensor, Tensor)
    assert torch.equal(as_tensor, expected)
    assert vae.reconstruct(raw[0]).shape == (1, *vae.spec.image_shape)


# -- any number of images ---------------------------------------------------------------------------------------------


def test_empty_inputs_are_refused(vae: VAE) -> None:
    none, codes = pixels(vae, 0), np.zeros((0, vae.spec.latent_dim))
    for call in (
        lambda: vae.encode(none),
        lambda: vae.reconstruct(none),
        lambda: vae.decode(codes),
        lambda: vae.sample(0),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("count", [EVAL_BATCH_SIZE - 1, EVAL_BATCH_SIZE, EVAL_BATCH_SIZE + 5])
def test_results_do_not_depend_on_the_chunks(vae: VAE, count: int) -> None:
    seen: list[int] = []
    handle = vae.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    raw = pixels(vae, count)
    whole, images = vae.encode(raw), vae.reconstruct(raw)
    assert max(seen) <= EVAL_BATCH_SIZE
    assert sum(seen) == 2 * count
    handle.remove()
    for i in (0, 1, count - 2, count - 1):
        alone = vae.encode(raw[i])
        assert_same(alone, DiagonalNormal(whole.mean[i : i + 1], whole.log_var[i : i + 1]))
        np.testing.assert_allclose(vae.reconstruct(raw[i]), images[i : i + 1], rtol=1e-5, atol=1e-6)


# -- gradients, state and shapes ---------------------------------------------------------------------------------------


def test_functions_for_users_have_no_gradients_and_change_nothing(vae: VAE) -> None:
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    raw = pixels(vae, 2)
    q = vae.encode(raw)
    codes = q.mean.clone().requires_grad_()
    results = [q.mean, q.log_var, vae.decode(codes), vae.sample(2, 0), vae.reconstruct(torch.from_numpy(raw))]
    assert not any(tensor.requires_grad for tensor in results)
    assert all(parameter.grad is None for parameter in vae.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    assert torch.is_grad_enabled()


def test_functions_for_objectives_have_gradients(grey: VAE) -> None:
    x = torch.rand(2, *GREY, generator=torch.Generator().manual_seed(0))
    q = grey.encode_batch(x)
    assert q.mean.requires_grad
    assert q.log_var.requires_grad
    assert grey.decode_batch(q.mean).log_prob(x).requires_grad


def test_extreme_log_variances_are_clamped(grey: VAE) -> None:
    class Wild(networks.Encoder):
        def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
            return torch.tensor([0.0, 0.0, 0.0, -1e9, 0.0, 1e9]).expand(len(x), 6)

    wild = VAE(grey.spec, Wild(), grey.posterior, grey.prior, grey.decoder, grey.likelihood)
    assert wild.encode(pixels(grey, 1)).log_var.tolist() == [[LOG_VAR_RANGE[0], 0.0, LOG_VAR_RANGE[1]]]


def test_shapes_are_checked_at_run_time(grey: VAE) -> None:
    """In the tests, jaxtyping and beartype check every annotation of vaelab (tests/conftest.py)."""
    with pytest.raises(TypeCheckError):
        grey.encode_batch(torch.zeros(2, 9, 8))
    with pytest.raises(TypeCheckError):
        DiagonalNormal(torch.zeros(2, 3), torch.zeros(2, 4))


@given(st.integers(0, 2**63 - 1))
def test_any_seed_is_valid(make_model: MakeModel, seed: int) -> None:
    vae, _ = make_model(GREY)
    assert bool(torch.isfinite(vae.sample(1, seed)).all())
