"""Exported graphs return what the model returns."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import CROSSED_PAIRS
from torch import nn
from typed import Typed, train_small
from wording import Wording

from vaelab.exporters import onnx
from vaelab.models.vae import VAE
from vaelab.system import registry
from vaelab.system.errors import InputError

pytestmark = pytest.mark.slow
MakeModel = Callable[..., tuple[VAE, nn.Module]]
LIKELIHOODS = [
    *((name, {}) for name in registry.names("likelihoods")),
    ("discretised_logistic", {"likelihood.scale": "pixel"}),
]


@pytest.mark.parametrize("number", range(max(len(CROSSED_PAIRS), len(LIKELIHOODS))))
def test_graphs_equal_the_model(make_model: MakeModel, number: int) -> None:
    """Every posterior, prior, likelihood and network, grey and RGB, sides that are odd, batches of other sizes.

    The KL to a mixture has no closed form; the graph then uses the samples of the explorer's server.
    """
    networks = registry.names("networks")
    posterior, prior = CROSSED_PAIRS[number % len(CROSSED_PAIRS)]
    likelihood, options = LIKELIHOODS[number % len(LIKELIHOODS)]
    chosen: dict[str, Any] = {
        "network.name": networks[number % len(networks)],
        "posterior.name": posterior,
        "prior.name": prior,
        "objective.name": "elbo",
        "likelihood.name": likelihood,
        **options,
    }
    if chosen["network.name"] == "conv":
        chosen |= {"network.channels": [4, 6], "network.strides": [2, 2]}
    shape = (1 + 2 * (number // 2 % 2), 11, 8)
    model, _ = make_model(shape, chosen)
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    graphs = onnx.make_graphs(model, {"run": "small"})
    assert model.training
    model.eval()
    for batch in (1, 5):
        x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(batch))
        assert onnx.compare_graphs(model, graphs, x) <= 1e-5
        codes = 30 * torch.randn(batch, 3, generator=torch.Generator().manual_seed(batch))
        found = onnx.run_graph(graphs["decoder.onnx"], z=codes.numpy())
        with torch.no_grad():
            np.testing.assert_allclose(found["image"], model.decode(codes), rtol=0, atol=1e-5)
            decoded = 100 * model.decoder(codes)  # where ln σ(x) and eˣ − 1 have no digits left
            wanted = model.likelihood(decoded).reconstruction_loss(x)
        error = onnx.run_graph(graphs["likelihood.onnx"], decoded=decoded.numpy(), x=x.numpy())["error"]
        np.testing.assert_allclose(error, wanted, rtol=1e-5, atol=1e-4)


def test_a_kl_without_a_graph_is_refused(make_model: MakeModel) -> None:
    """ONNX has no triangular solve."""
    model, _ = make_model((1, 9, 8), {"posterior.name": "full_covariance", "prior.name": "vamp"})
    with pytest.raises(InputError):
        onnx.make_graphs(model, {"run": "small"})


def combine_parts(end: int) -> Any:
    """A combined graph whose encoder reads the first ``end`` sizes of the decoder's input."""
    helper = pytest.importorskip("onnx").helper
    nodes = [
        helper.make_node("Shape", ["z"], ["size"], start=0, end=end),
        helper.make_node("ConstantOfShape", ["size"], ["kl_result"]),
        helper.make_node("Identity", ["x"], ["mean_result"]),
        helper.make_node("Identity", ["x"], ["log_var_result"]),
    ]
    shapes = {name: ["batch", 3] for name in ("x", "z", "mean_result", "log_var_result")} | {"kl_result": ["batch"]}
    values = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "combined", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_part_reads_the_batch_size_from_its_own_input(wording: Wording) -> None:
    """Some versions of the exporter read it from the decoder's input, which the encoder does not have."""
    part = onnx.split_graph(combine_parts(end=1), "encoder", is_conditional=False)
    assert onnx.run_graph(part.SerializeToString(), x=np.ones((5, 3), np.float32))["kl"].shape == (5,)
    with pytest.raises(InputError) as raised:
        onnx.split_graph(combine_parts(end=2), "encoder", is_conditional=False)
    wording(raised.value)


def test_a_second_runtime_returns_the_same(make_model: MakeModel) -> None:
    """ONNX's own reference implementation, which is written in NumPy."""
    from onnx.reference import ReferenceEvaluator

    model, _ = make_model((1, 11, 8), {"network.name": "conv", "network.channels": [4, 6], "network.strides": [2, 2]})
    graphs = onnx.make_graphs(model, {})
    x = torch.rand(2, 1, 11, 8, generator=torch.Generator().manual_seed(0)).numpy()
    wanted = onnx.run_graph(graphs["encoder.onnx"], x=x)
    for name, inputs in (("encoder", {"x": x}), ("decoder", {"z": wanted["mean"]})):
        evaluator = ReferenceEvaluator(graphs[f"{name}.onnx"])
        found = dict(zip(evaluator.output_names, evaluator.run(None, inputs), strict=True))
        for key, value in onnx.run_graph(graphs[f"{name}.onnx"], **inputs).items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)


def test_a_missing_extra_is_one_line(
    cli: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    run = train_small(tmp_path / "digits", {"training.steps": 20}).path
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, out, err = cli("export", run, "--to", "onnx", "graphs")
    assert (code, out) == (2, "")
    wording(err)
    assert not Path("graphs").exists()
