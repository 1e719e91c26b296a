"""The contract of networks over every member, the layers of presets, transposed convolutions and first weights."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab import recipe
from vaelab.build import build as build_recipe
from vaelab.models.initialisation import initialise
from vaelab.models.networks import Decoder, Encoder
from vaelab.models.networks.conv import UpConvolution, feature_sizes
from vaelab.models.networks.residual import Attention
from vaelab.models.spec import Spec
from vaelab.models.vae import VAE
from vaelab.recipe.schema import check_section, resolve_section, signature_schema
from vaelab.system import registry
from vaelab.system.errors import RecipeError

every_network = pytest.mark.parametrize("name", registry.names("networks"))
sides = st.integers(8, 40)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def make_spec(image_shape: tuple[int, int, int], latent_dim: int = 2, channels: int = 0, condition: int = 0) -> Spec:
    """The spec of a model with a diagonal posterior."""
    return Spec(
        image_shape,
        latent_dim,
        num_images=100,
        condition="label" if condition else "none",
        condition_names=tuple(map(str, range(condition))),
        posterior_parameters=2 * latent_dim,
        decoder_channels=channels or image_shape[0],
    )


def random_condition(spec: Spec, batch: int) -> Tensor | None:
    """One-hot vectors; None for an unconditional model."""
    if not spec.condition_dim:
        return None
    labels = torch.randint(spec.condition_dim, (batch,), generator=generator())
    return F.one_hot(labels, spec.condition_dim).float()


def make_pair(name: str, spec: Spec, **options: Any) -> tuple[Encoder, Decoder]:
    """Encoder and decoder with the values that a recipe with these options gets."""
    module = registry.load("networks", name)
    given = check_section("network", {"name": name, "latent_dim": spec.latent_dim, **options})
    section = resolve_section("network", given, spec)
    encoder, decoder = (
        maker(spec, **{key: section[key] for key in signature_schema(maker)})
        for maker in (module.Encoder, module.Decoder)
    )
    initialise(encoder, generator())
    initialise(decoder, generator())
    return encoder, decoder


def assert_contract(name: str, spec: Spec, batch: int = 2, **options: Any) -> None:
    """Both directions have the shapes of the contract and finite values."""
    encoder, decoder = make_pair(name, spec, **options)
    condition = random_condition(spec, batch)
    h = encoder(torch.rand(batch, *spec.image_shape, generator=generator()), condition)
    assert h.shape == (batch, spec.posterior_parameters)
    decoded = decoder(h[:, : spec.latent_dim], condition)
    assert decoded.shape == (batch, spec.decoder_channels, *spec.image_shape[1:])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (h, decoded))


@every_network
@pytest.mark.parametrize("condition", [0, 3])
@pytest.mark.parametrize(
    ("image_shape", "latent_dim", "channels_per_pixel"),
    [((1, 8, 8), 1, 1), ((3, 9, 31), 7, 1), ((1, 31, 9), 2, 2), ((3, 8, 65), 64, 2), ((1, 37, 41), 3, 1)],
)
def test_any_image_size_works(
    name: str, image_shape: tuple[int, int, int], latent_dim: int, channels_per_pixel: int, condition: int
) -> None:
    assert_contract(name, make_spec(image_shape, latent_dim, channels_per_pixel * image_shape[0], condition))


@every_network
@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches_work(name: str, batch: int) -> None:
    assert_contract(name, make_spec((1, 8, 8)), batch)


@every_network
@pytest.mark.parametrize("parameters", [3, 11])
def test_the_encoder_returns_the_parameters_of_the_posterior(name: str, parameters: int) -> None:
    spec = replace(make_spec((1, 8, 8), 2), posterior_parameters=parameters)
    encoder, _ = make_pair(name, spec)
    assert encoder(torch.zeros(4, 1, 8, 8)).shape == (4, parameters)


@every_network
@pytest.mark.parametrize("condition", [0, 3])
def test_gradients_reach_every_weight(name: str, condition: int) -> None:
    spec = make_spec((1, 12, 11), 3, condition=condition)
    encoder, decoder = make_pair(name, spec)
    given_condition = random_condition(spec, 8)
    mean, log_var = encoder(torch.rand(8, *spec.image_shape, generator=generator()), given_condition).chunk(2, 1)
    decoder(mean + log_var, given_condition).square().sum().backward()
    for part in (encoder, decoder):
        for parameter_name, parameter in part.named_parameters():
            assert bool((parameter.grad != 0).any()), parameter_name


@every_network
def test_the_condition_changes_the_output_of_both_parts(name: str) -> None:
    spec = make_spec((1, 12, 11), 3, condition=2)
    encoder, decoder = make_pair(name, spec)
    x, z = torch.rand(1, *spec.image_shape, generator=generator()), torch.zeros(1, 3)
    first, second = torch.eye(2)[:1], torch.eye(2)[1:]
    assert not torch.equal(encoder(x, first), encoder(x, second))
    assert not torch.equal(decoder(z, first), decoder(z, second))


@given(
    sides,
    sides,
    st.sampled_from([1, 3]),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=4),
    st.booleans(),
    st.integers(2, 7),
    st.lists(st.integers(1, 9), max_size=2),
)
def test_conv_works_with_any_strides(
    height: int,
    width: int,
    colours: int,
    layers: list[tuple[int, int]],
    activate_last: bool,
    kernel: int,
    hidden: list[int],
) -> None:
    channels, strides = ([layer[i] for layer in layers] for i in (0, 1))
    spec = make_spec((colours, height, width))
    module = registry.load("networks", "conv")
    shared: dict[str, Any] = {"channels": channels, "strides": strides, "kernel": kernel, "hidden": hidden}
    side = min(height, width)
    for stride in strides:
        side = (side + 2 * ((kernel - 1) // 2) - kernel) // stride + 1
    if side < 1:
        with pytest.raises(RecipeError) as caught:
            module.Encoder(spec, activate_last=activate_last, **shared)
        assert caught.value.subject == "network.strides"
        return
    encoder = module.Encoder(spec, activate_last=activate_last, **shared)
    decoder = module.Decoder(spec, **shared)
    initialise(decoder, generator())
    initialise(encoder, generator())
    h = encoder(torch.rand(2, *spec.image_shape, generator=generator()))
    assert h.shape == (2, 4)
    assert decoder(h[:, :2]).shape == (2, *spec.image_shape)


@given(sides, sides, st.sampled_from([1, 3]), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_mlp_works_with_any_hidden_layers(height: int, width: int, colours: int, hidden: list[int]) -> None:
    assert_contract("mlp", make_spec((colours, height, width)), hidden=hidden)


@given(sides, st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_a_convolution_divides_the_side_by_its_stride_and_rounds_up(side: int, strides: list[int]) -> None:
    sizes = feature_sizes(side, strides)
    assert sizes == [side, *(math.ceil(before / stride) for before, stride in zip(sizes, strides, strict=False))]


@pytest.mark.parametrize("part", ["Encoder", "Decoder"])
def test_channels_and_strides_of_different_lengths_are_refused(part: str, wording: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        getattr(registry.load("networks", "conv"), part)(make_spec((1, 28, 28)), channels=[8, 8, 8], strides=[2, 2])
    assert (caught.value.subject, caught.value.value) == ("network.channels", [8, 8, 8])
    wording(caught.value)


def test_one_of_channels_and_strides_alone_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        make_pair("conv", make_spec((1, 28, 28)), channels=[8, 8, 8])
    assert caught.value.subject == "network.channels"


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu", "silu", "gated"])
def test_mlp_computes_each_activation(activation: str) -> None:
    spec = make_spec((1, 9, 8))
    encoder, _ = make_pair("mlp", spec, hidden=[5], activation=activation)
    x = torch.rand(3, *spec.image_shape, generator=generator())
    first = encoder.layers[0]
    if activation == "gated":
        hidden = first.value(x.flatten(1)) * torch.sigmoid(first.gate(x.flatten(1)))
    else:
        hidden = getattr(F, activation)(first(x.flatten(1)))
    torch.testing.assert_close(encoder(x), encoder.head(hidden))


def test_too_many_layers_for_a_side_are_refused(wording: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        registry.load("networks", "conv").Encoder(make_spec((1, 8, 8)), channels=[8] * 4, strides=[2] * 4, kernel=4)
    assert (caught.value.subject, caught.value.value) == ("network.strides", [2] * 4)
    wording(caught.value)


# -- the experiments' layers ------------------------------------------------------------------------------------------


def conv_layers(encoder: nn.Module) -> list[tuple[int, int]]:
    """(channels, stride) of each convolution; all are 3×3."""
    found = [part for part in encoder.modules() if isinstance(part, nn.Conv2d)]
    assert all(part.kernel_size == (3, 3) for part in found)
    return [(part.out_channels, part.stride[0]) for part in found]


def up_layers(decoder: nn.Module) -> list[tuple[int, int]]:
    found = [part for part in decoder.modules() if isinstance(part, UpConvolution)]
    assert all(part.weight.shape[2:] == (3, 3) for part in found)
    return [(part.weight.shape[1], part.stride) for part in found]


def build(image_shape: tuple[int, int, int], network: dict[str, Any]) -> VAE:
    tables = {"data": {"name": "digits"}, "network": {"name": "conv", **network}}
    return build_recipe(recipe.validate(tables, "table").resolve(image_shape, 100))[0]


def features(vae: VAE) -> tuple[Tensor, tuple[int, ...]]:
    """The inputs of the encoder's last layer and the decoder's first convolution."""
    seen: dict[str, Tensor] = {}
    vae.encoder.head.register_forward_hook(lambda _module, inputs, _out: seen.update(encoder=inputs[0]))
    vae.decoder.up_convolutions[0].register_forward_hook(lambda _module, inputs, _out: seen.update(decoder=inputs[0]))
    with torch.no_grad():
        vae.decoder(vae.encode_batch(torch.rand(2, *vae.spec.image_shape, generator=generator())).mean)
    return seen["encoder"], tuple(seen["decoder"].shape[1:])


def test_mnist_has_the_layers_of_the_experiment() -> None:
    vae, _ = build_recipe(recipe.load("mnist").resolve((1, 28, 28), 60_000))
    assert conv_layers(vae.encoder) == [(32, 1), (64, 2), (64, 2), (64, 1)]
    assert up_layers(vae.decoder) == [(64, 1), (64, 2), (32, 2), (1, 1)]
    bottleneck, image = features(vae)
    assert bottleneck.shape == (2, 3136)
    assert float(bottleneck.min()) < 0, "no ReLU after the last convolution"
    assert image == (64, 7, 7)
    assert vae.num_parameters == {
        "encoder": (9 * 1 * 32 + 32) + (9 * 32 * 64 + 64) + 2 * (9 * 64 * 64 + 64) + (3136 * 4 + 4),
        "decoder": (2 * 3136 + 3136) + 2 * (9 * 64 * 64 + 64) + (9 * 64 * 32 + 32) + (9 * 32 * 1 + 1),
        "likelihood": 0,
        "posterior": 0,
        "prior": 0,
    }
    assert sum(vae.num_parameters.values()) == 105_220 + 102_017


def test_celeba_has_the_layers_of_the_experiment() -> None:
    vae, _ = build_recipe(recipe.load("celeba").resolve((3, 128, 128), 162_770))
    assert conv_layers(vae.encoder) == [(32, 2), (64, 2), (64, 2), (64, 2)]
    assert up_layers(vae.decoder) == [(64, 2), (64, 2), (32, 2), (3, 2)]
    bottleneck, image = features(vae)
    assert bottleneck.shape == (2, 4096)
    assert float(bottleneck.min()) < 0
    assert image == (64, 8, 8)
    assert vae.num_parameters == {
        "encoder": (9 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + 2 * (9 * 64 * 64 + 64) + (4096 * 400 + 400),
        "decoder": (200 * 4096 + 4096) + 2 * (9 * 64 * 64 + 64) + (9 * 64 * 32 + 32) + (9 * 32 * 3 + 3),
        "likelihood": 0,
        "posterior": 0,
        "prior": 0,
    }


def test_celeba_beta_has_the_layers_of_the_experiment() -> None:
    vae, _ = build_recipe(recipe.load("celeba-beta").resolve((3, 128, 128), 162_770))
    assert conv_layers(vae.encoder) == [(32, 2), (64, 2), (128, 2), (256, 2), (256, 2)]
    assert up_layers(vae.decoder) == [(256, 2), (128, 2), (64, 2), (32, 2), (3, 2)]
    bottleneck, image = features(vae)
    assert bottleneck.shape == (2, 4096)
    assert float(bottleneck.min()) == 0, "a ReLU after every convolution"
    assert image == (256, 4, 4)
    sizes = [3, 32, 64, 128, 256, 256]
    assert vae.num_parameters == {
        "encoder": sum(9 * sizes[i] * sizes[i + 1] + sizes[i + 1] for i in range(5)) + (4096 * 800 + 800),
        "decoder": (400 * 4096 + 4096) + sum(9 * sizes[i] * sizes[i + 1] + sizes[i] for i in range(5)),
        "likelihood": 0,
        "posterior": 0,
        "prior": 0,
    }


def test_celeba64_beta_has_the_layers_of_the_paper() -> None:
    vae, _ = build_recipe(recipe.load("celeba64-beta").resolve((3, 64, 64), 162_770))
    found = [part for part in vae.encoder.modules() if isinstance(part, nn.Conv2d)]
    assert [(part.out_channels, part.stride[0], part.kernel_size[0]) for part in found] == [
        (32, 2, 4), (32, 2, 4), (64, 2, 4), (64, 2, 4),
    ]  # fmt: skip
    assert [(part.in_features, part.out_features) for part in vae.encoder.modules() if isinstance(part, nn.Linear)] == [
        (64 * 4 * 4, 256),
        (256, 64),
    ]
    assert [(part.in_features, part.out_features) for part in vae.decoder.modules() if isinstance(part, nn.Linear)] == [
        (32, 256),
        (256, 64 * 4 * 4),
    ]
    assert float(features(vae)[1][0]) == 64


def test_conv_computes_convolutions_with_relu_between_them() -> None:
    vae = build((1, 9, 12), {"latent_dim": 2, "channels": [4, 5], "strides": [2, 1]})
    x = torch.rand(3, 1, 9, 12, generator=generator())
    first, second = vae.encoder.convolutions
    h = F.conv2d(F.relu(F.conv2d(x, first.weight, first.bias, 2, 1)), second.weight, second.bias, 1, 1)
    codes = F.linear(h.flatten(1), vae.encoder.head.weight, vae.encoder.head.bias)
    q = vae.encode_batch(x)
    torch.testing.assert_close(q.mean, codes[:, :2])
    torch.testing.assert_close(q.log_var, codes[:, 2:])
    up_first, up_second = vae.decoder.up_convolutions
    h = F.linear(q.mean, vae.decoder.stem.weight, vae.decoder.stem.bias).view(3, 5, 5, 6)
    h = F.relu(F.conv_transpose2d(h, up_first.weight, up_first.bias, 1, 1))
    h = F.conv_transpose2d(h, up_second.weight, up_second.bias, 2, 1, (0, 1))
    torch.testing.assert_close(vae.decoder(q.mean), h)


# -- transposed convolutions ------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(6, 16), st.integers(6, 16))
def test_up_convolution_matches_torch(kernel: int, stride: int, height: int, width: int) -> None:
    small = tuple(feature_sizes(side, [stride], kernel)[-1] for side in (height, width))
    ours = UpConvolution((4, 3), kernel, stride, (small, (height, width))).double()
    initialise(ours, generator())
    padding = (kernel - 1) // 2
    theirs = nn.ConvTranspose2d(4, 3, kernel, stride, padding, tuple(ours.output_padding)).double()
    theirs.load_state_dict(ours.state_dict())
    h = torch.randn(2, 4, *small, generator=generator(), dtype=torch.float64)
    results = []
    for layer in (ours, theirs):
        given_h = h.clone().requires_grad_()
        out = layer(given_h)
        assert out.shape == (2, 3, height, width)
        gradients = torch.autograd.grad(out.sin().sum(), [given_h, layer.weight, layer.bias])
        results.append([out, *gradients])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# -- first weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [lambda: nn.Conv2d(30, 40, 3), lambda: nn.Linear(150, 600), lambda: nn.ConvTranspose2d(30, 40, 3, stride=2)],
    ids=["conv", "linear", "transposed"],
)
def test_weights_are_drawn_as_by_torch(make: Callable[[], nn.Module]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs, ours = make(), make()
    assert not torch.equal(ours.weight, theirs.weight)
    initialise(ours, generator())  # the seed of torch's first layer
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=0)
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(ours.weight)
    assert 0.999 < float(ours.weight.detach().abs().max()) * math.sqrt(fan_in) <= 1


@every_network
def test_first_weights_are_bounded_by_the_fan_in_and_come_from_the_generator(name: str) -> None:
    spec = make_spec((1, 28, 28))
    for part in (0, 1):
        one, same, other = (make_pair(name, spec)[part] for _ in range(3))
        initialise(one, generator())
        initialise(same, generator())
        initialise(other, torch.Generator().manual_seed(1))
        for layer in one.modules():
            weight = getattr(layer, "weight", None)
            if isinstance(layer, nn.GroupNorm):
                assert bool((weight == 1).all())
                assert bool((layer.bias == 0).all())
            elif isinstance(weight, Tensor):
                fan_in, _ = nn.init._calculate_fan_in_and_fan_out(weight)
                assert float(weight.detach().abs().max()) <= 1 / math.sqrt(fan_in)
                assert float(layer.bias.detach().abs().max()) <= 1 / math.sqrt(fan_in)
        for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
            is_drawn = bool((a != 0).any()) and bool((a != 1).any())  # a normalisation starts at 1 and 0
            assert torch.equal(a, c) != is_drawn


def test_frozen_weights_keep_their_values() -> None:
    frozen, free = nn.Linear(3, 2).requires_grad_(False), nn.Linear(3, 2)
    before = [parameter.clone() for parameter in (*frozen.parameters(), *free.parameters())]
    initialise(nn.ModuleList([frozen, free]), generator())
    kept = [torch.equal(a, b) for a, b in zip(before, (*frozen.parameters(), *free.parameters()), strict=True)]
    assert kept == [True, True, False, False]


# -- residual networks ------------------------------------------------------------------------------------------------

SPATIAL = {"channels": [8, 8], "strides": [2, 2], "latents": "spatial"}


@pytest.mark.parametrize("shape", [(1, 9, 8), (3, 13, 16)])
@pytest.mark.parametrize("condition", [0, 3])
def test_spatial_latents_of_any_size(shape: tuple[int, int, int], condition: int) -> None:
    positions = -(-shape[1] // 4) * -(-shape[2] // 4)
    assert_contract("residual", make_spec(shape, 5 * positions, channels=6, condition=condition), **SPATIAL)


def test_a_spatial_latent_changes_pixels_near_its_position_only() -> None:
    """The latents of a position are adjacent, row by row."""
    _, decoder = make_pair("residual", make_spec((1, 64, 64), 2 * 16 * 16), **SPATIAL)
    for part in decoder.modules():  # a normalisation over the image would spread the change
        if isinstance(part, nn.GroupNorm):
            part.forward = lambda x: x  # type: ignore[method-assign]
    z = torch.zeros(1, 2 * 16 * 16)
    moved = z.clone()
    moved[0, 2 * (16 * 12 + 3) + 1] = 1  # row 12, column 3
    changed = (decoder(moved) - decoder(z))[0, 0].abs() > 0
    rows, columns = changed.nonzero().unbind(1)
    assert 30 < int(rows.min()) < int(rows.max()) < 64
    assert 0 <= int(columns.min()) < int(columns.max()) < 34


def test_attention_is_that_of_torch() -> None:
    part, reference = Attention(64), nn.MultiheadAttention(64, 2, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(part.inputs.weight[..., 0, 0])
        reference.in_proj_bias.copy_(part.inputs.bias)
        reference.out_proj.weight.copy_(part.output.weight[..., 0, 0])
        reference.out_proj.bias.copy_(part.output.bias)
    x = torch.randn(2, 64, 3, 5, generator=generator())
    rows = part.norm(x).flatten(2).mT
    expected = x + reference(rows, rows, rows)[0].mT.reshape(x.shape)
    torch.testing.assert_close(part(x), expected)


@pytest.mark.parametrize(("attention", "levels"), [(0, 0), (7, 0), (8, 1), (16, 2)])
def test_attention_of_small_levels_joins_distant_parts(attention: int, levels: int) -> None:
    options = {"channels": [8, 8, 8], "strides": [2, 2, 2], "latents": "spatial", "attention": attention}
    spec = make_spec((1, 64, 60), 64)
    encoder, decoder = make_pair("residual", spec, **options)
    assert_contract("residual", spec, **options)
    for network in (encoder, decoder):
        assert sum(isinstance(part, Attention) for part in network.modules()) == levels
    for part in (*encoder.modules(), *decoder.modules()):  # a normalisation also joins distant parts
        if isinstance(part, nn.GroupNorm):
            part.forward = lambda x: x  # type: ignore[method-assign]
    x = torch.rand(1, 1, 64, 60, generator=generator()).requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(x)[0, 0], x)  # the first position, at the top left
    assert bool((gradient[0, 0, -3:, -3:] != 0).any()) == (levels > 0)
    z = torch.randn(1, 64, generator=generator()).requires_grad_()
    (gradient,) = torch.autograd.grad(decoder(z)[0, 0, 0, 0], z)
    assert bool((gradient[0, -1:] != 0).any()) == (levels > 0)


def test_parameters_of_a_latent_keep_its_place() -> None:
    """Means come before log-variances, both with the channels of a position last."""
    spec = make_spec((1, 16, 16), 3 * 16)
    encoder, _ = make_pair("residual", spec, **SPATIAL)
    with torch.no_grad():
        encoder.head.weight.zero_()
        encoder.head.bias.copy_(torch.arange(6.0))
    h = encoder(torch.rand(2, 1, 16, 16))
    assert h[0, :48].tolist() == [0.0, 1.0, 2.0] * 16
    assert h[0, 48:].tolist() == [3.0, 4.0, 5.0] * 16


@pytest.mark.parametrize("latent_dim", [15, 40])
def test_a_grid_that_does_not_divide_the_latents_is_refused(latent_dim: int, wording: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        make_pair("residual", make_spec((1, 16, 16), latent_dim), **SPATIAL)
    assert (caught.value.subject, caught.value.value) == ("network.latent_dim", latent_dim)
    wording(caught.value)


def test_full_covariance_has_no_spatial_latents(wording: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        make_pair("residual", replace(make_spec((1, 16, 16), 16), posterior_parameters=16 * 19 // 2 + 1), **SPATIAL)
    assert caught.value.subject == "network.latents"
    wording(caught.value)


def test_a_last_convolution_needs_an_odd_kernel() -> None:
    spec = make_spec((1, 8, 8))
    assert_contract("conv", spec, last_convolution=True, negative_slope=0.1)
    with pytest.raises(RecipeError) as error:
        make_pair("conv", spec, last_convolution=True, kernel=4)
    assert (error.value.subject, error.value.value) == ("network.kernel", 4)
