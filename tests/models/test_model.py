"""What people do with a model: encode, decode, sample, reconstruct, with whatever images they have."""

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
from vaelab.models import vae as model_module
from vaelab.models.posteriors.diagonal import LOG_VAR_RANGE, DiagonalNormal
from vaelab.models.vae import VAE
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


def test_encode_gives_the_posterior_and_never_a_sample(vae: VAE) -> None:
    x = torch.from_numpy(pixels(vae, 5)).permute(0, 3, 1, 2).float() / 255
    q = vae.encode(x)
    assert isinstance(q, DiagonalNormal)
    assert q.mean.shape == q.log_var.shape == (5, vae.spec.latent_dim)
    assert_same(q, DiagonalNormal(*vae.encoder(x).detach().chunk(2, 1)))
    assert torch.equal(q.mean, vae.encode(x).mean)


@pytest.mark.parametrize("layout", ["channels last", "channels first"])
@pytest.mark.parametrize("container", ["array", "tensor", "Images"])
@pytest.mark.parametrize("number", ["uint8", "float32", "float64"])
def test_encode_takes_images_as_people_have_them(vae: VAE, layout: str, container: str, number: str) -> None:
    raw = pixels(vae, 3)
    expected = vae.encode(Images(raw))
    if container == "Images":
        assert_same(vae.encode(Images(raw)), expected)
        return
    given: Any = raw if number == "uint8" else (raw / 255).astype(number)
    given = given.transpose(0, 3, 1, 2) if layout == "channels first" else given
    assert_same(vae.encode(torch.from_numpy(given.copy()) if container == "tensor" else given), expected)


def test_encode_takes_one_image_and_grey_images_without_channels(vae: VAE) -> None:
    raw = pixels(vae, 3)
    expected = vae.encode(raw)
    single = vae.encode(raw[0])
    assert_same(single, DiagonalNormal(expected.mean[:1], expected.log_var[:1]))
    if vae.spec.image_shape[0] == 1:
        assert_same(vae.encode(raw[..., 0]), expected)
        assert_same(vae.encode(raw[0, ..., 0]), single)


def test_read_only_arrays_are_taken_without_a_warning(vae: VAE) -> None:
    raw = pixels(vae, 2)
    expected = vae.reconstruct(raw)
    raw.flags.writeable = False
    np.testing.assert_array_equal(vae.reconstruct(raw), expected)
    codes = np.zeros((2, vae.spec.latent_dim), np.float32)
    codes.flags.writeable = False
    assert vae.decode(codes).shape == (2, *vae.spec.image_shape)


def test_images_are_left_as_they_are(vae: VAE) -> None:
    raw, floats = pixels(vae, 2), torch.rand(2, *vae.spec.image_shape)
    raw_before, floats_before = raw.copy(), floats.clone()
    vae.reconstruct(raw)
    vae.reconstruct(floats)
    np.testing.assert_array_equal(raw, raw_before)
    assert torch.equal(floats, floats_before)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 9, 1), np.uint8), r"\[2, 8, 9, 1\].*\[N, 1, 9, 8\] or \[N, 9, 8, 1\]"),
        (np.zeros((2, 3, 9, 8), np.uint8), r"\[2, 3, 9, 8\]"),
        (np.zeros((2, 2, 1, 9, 8), np.uint8), r"\[2, 2, 1, 9, 8\]"),
        (np.zeros(72, np.uint8), r"\[72\]"),
        (torch.zeros(9), r"\[9\]"),
        (np.zeros((2, 9, 8), np.int64), "uint8 or floating point"),
        (np.full((2, 9, 8), 255.0), r"\[0, 1\]"),
        (np.full((2, 9, 8), -0.1), r"\[0, 1\]"),
        (np.full((2, 9, 8), np.nan), "finite"),
    ],
)
def test_images_that_do_not_fit(grey: VAE, images: Any, message: str) -> None:
    for function in (grey.encode, grey.reconstruct):
        with pytest.raises(ValueError, match=message):
            function(images)


# -- decode and sample ------------------------------------------------------------------------------------------------


def test_decode_gives_expected_images(vae: VAE) -> None:
    codes = torch.randn(4, vae.spec.latent_dim, generator=torch.Generator().manual_seed(0))
    images = vae.decode(codes)
    torch.testing.assert_close(images, torch.sigmoid(vae.decoder(codes)).detach())
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    torch.testing.assert_close(vae.decode(codes.double()), images)
    torch.testing.assert_close(vae.decode(codes[0]), images[:1])


def test_decode_answers_in_kind(vae: VAE) -> None:
    codes = np.zeros((2, vae.spec.latent_dim), np.float32)
    for array in (codes, codes.astype(np.float64), codes[0]):
        images = vae.decode(array)
        assert isinstance(images, np.ndarray)
        assert images.dtype == np.float32
        assert images.shape[1:] == vae.spec.image_shape
    assert isinstance(vae.decode(torch.from_numpy(codes)), Tensor)


@pytest.mark.parametrize("shape", [(), (2,), (4,), (5, 2), (1, 3, 1), (2, 0)])
def test_codes_that_do_not_fit(grey: VAE, shape: tuple[int, ...]) -> None:
    for codes in (np.zeros(shape, np.float32), torch.zeros(shape)):
        with pytest.raises(ValueError, match=r"\[N, 3\]"):
            grey.decode(codes)


def test_samples_come_from_the_prior_and_the_seed(vae: VAE) -> None:
    samples = vae.sample(4, 7)
    assert samples.shape == (4, *vae.spec.image_shape)
    codes = torch.randn(4, vae.spec.latent_dim, generator=torch.Generator().manual_seed(7))
    assert torch.equal(samples, vae.decode(codes))
    assert torch.equal(samples, vae.sample(4, torch.Generator().manual_seed(7)))
    assert not torch.equal(samples, vae.sample(4, 8))
    generator = torch.Generator().manual_seed(7)
    assert not torch.equal(vae.sample(4, generator), vae.sample(4, generator)), "a generator goes on"


def test_samples_without_a_seed_follow_torchs_own(vae: VAE) -> None:
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


def test_no_images_at_all(vae: VAE) -> None:
    none, codes = pixels(vae, 0), np.zeros((0, vae.spec.latent_dim))
    for call in (
        lambda: vae.encode(none),
        lambda: vae.reconstruct(none),
        lambda: vae.decode(codes),
        lambda: vae.sample(0),
    ):
        with pytest.raises(ValueError, match=r"no |1 or more"):
            call()


@pytest.mark.parametrize("count", [3, 4, 9])
def test_chunks_change_nothing(vae: VAE, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    seen: list[int] = []
    handle = vae.encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    raw = pixels(vae, count)
    whole, images = vae.encode(raw), vae.reconstruct(raw)
    seen.clear()
    monkeypatch.setattr(model_module, "EVAL_BATCH_SIZE", 4)
    assert_same(vae.encode(raw), whole)
    assert max(seen) <= 4
    assert sum(seen) == count
    handle.remove()
    np.testing.assert_allclose(vae.reconstruct(raw), images, rtol=1e-5, atol=1e-6)
    one_by_one = [vae.encode(image) for image in raw]
    assert_same(DiagonalNormal(*(torch.cat([getattr(q, k) for q in one_by_one]) for k in ("mean", "log_var"))), whole)


# -- gradients, and what else a model promises ------------------------------------------------------------------------


def test_no_gradients_and_no_change(vae: VAE) -> None:
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    raw = pixels(vae, 2)
    q = vae.encode(raw)
    codes = q.mean.clone().requires_grad_()
    results = [q.mean, q.log_var, vae.decode(codes), vae.sample(2, 0), vae.reconstruct(torch.from_numpy(raw))]
    assert not any(tensor.requires_grad for tensor in results)
    assert all(parameter.grad is None for parameter in vae.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    assert torch.is_grad_enabled()


def test_gradients_flow_where_objectives_need_them(grey: VAE) -> None:
    x = torch.rand(2, *GREY, generator=torch.Generator().manual_seed(0))
    q = grey.encode_batch(x)
    assert q.mean.requires_grad
    assert q.log_var.requires_grad
    assert grey.decode_batch(q.mean).log_prob(x).requires_grad


def test_wild_log_variances_are_held(grey: VAE) -> None:
    class Wild(networks.Encoder):
        def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
            return torch.tensor([0.0, 0.0, 0.0, -1e9, 0.0, 1e9]).expand(len(x), 6)

    wild = VAE(grey.spec, Wild(), grey.posterior, grey.prior, grey.decoder, grey.likelihood)
    assert wild.encode(pixels(grey, 1)).log_var.tolist() == [[LOG_VAR_RANGE[0], 0.0, LOG_VAR_RANGE[1]]]


def test_shapes_are_checked_at_run_time(grey: VAE) -> None:
    """tests/conftest.py has jaxtyping and beartype check every annotation of vaelab."""
    with pytest.raises(TypeCheckError):
        grey.encode_batch(torch.zeros(2, 9, 8))
    with pytest.raises(TypeCheckError):
        DiagonalNormal(torch.zeros(2, 3), torch.zeros(2, 4))


@given(st.integers(0, 2**63 - 1))
def test_any_seed_samples(make_model: MakeModel, seed: int) -> None:
    vae, _ = make_model(GREY)
    assert bool(torch.isfinite(vae.sample(1, seed)).all())
