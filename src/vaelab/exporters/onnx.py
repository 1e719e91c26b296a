"""The parts of a model as ONNX graphs, which run without Python and without vaelab."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.models.vae import VAE
from vaelab.system.errors import UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

GRAPHS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "encoder": (("x",), ("mean", "log_var")),
    "decoder": (("z",), ("decoded", "image")),
    "likelihood": (("decoded_given", "x"), ("error",)),
}
"""Name → what goes in and what comes out, while all three are one graph."""


class Parts(nn.Module):
    """Encoder, decoder and likelihood side by side, each with inputs of its own: exported at once, then taken apart."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Tensor,
        z: Tensor,
        decoded_given: Tensor,
        condition: Tensor | None = None,
        condition_given: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        posterior, decoded = self.model.encode_batch(x, condition), self.model.decoder(z, condition_given)
        error = self.model.likelihood(decoded_given).reconstruction_loss(x)
        return posterior.mean, posterior.log_var, decoded, self.model.likelihood(decoded).mean, error


def make_graphs(model: VAE, about: Mapping[str, str]) -> dict[str, bytes]:
    """The files ``encoder.onnx``, ``decoder.onnx`` and ``likelihood.onnx`` of a model on the CPU, for any batch size.

    A conditional model's encoder and decoder also take condition ``[B, K]``, one-hot or 0 and 1.

    encoder: x ``[B, C, H, W]`` in [0, 1] → mean, log_var ``[B, latent]``. decoder: z → decoded, what the decoder
    returns, and image ``[B, C, H, W]``, what the likelihood expects of it. likelihood: decoded, x → error ``[B]``, what
    the objective counts as reconstruction, nats. ``about``: what the files say of themselves.
    """
    _require_extra()
    was_training = model.training
    model.eval()
    whole = _export(model)
    model.train(was_training)
    is_conditional = model.spec.condition != "none"
    return {f"{name}.onnx": _describe(_cut(whole, name, is_conditional), about).SerializeToString() for name in GRAPHS}


def run_graph(graph: bytes, **inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What a graph gives for these inputs, by onnxruntime on the CPU."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@torch.no_grad()
def compare_graphs(model: VAE, graphs: Mapping[str, bytes], x: Tensor) -> float:
    """Largest difference of graphs and model on images ``[B, C, H, W]``: means and images, losses in proportion."""
    condition, _ = model.typical_condition()
    condition = None if condition is None else condition.expand(len(x), -1)
    given = {} if condition is None else {"condition": condition.numpy()}
    posterior = model.encode_batch(x, condition)
    decoded = model.decoder(posterior.mean, condition)
    pixels = model.likelihood(decoded)
    encoder = run_graph(graphs["encoder.onnx"], x=x.numpy(), **given)
    decoder = run_graph(graphs["decoder.onnx"], z=posterior.mean.numpy(), **given)
    likelihood = run_graph(graphs["likelihood.onnx"], decoded=decoded.numpy(), x=x.numpy())
    error = pixels.reconstruction_loss(x).numpy()
    differences = (
        encoder["mean"] - posterior.mean.numpy(),
        decoder["image"] - pixels.mean.numpy(),
        (likelihood["error"] - error) / np.maximum(1, np.abs(error)),
    )
    return max(float(np.abs(difference).max()) for difference in differences)


def _require_extra() -> None:
    if not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        raise UsageError("an export needs the extra export: pip install 'vaelab[export]'")


def _export(model: VAE) -> "ModelProto":
    """All parts of a model as one graph."""
    spec, batch = model.spec, torch.export.Dim("batch")
    x = torch.zeros(2, *spec.image_shape)
    decoded = torch.zeros(2, spec.decoder_channels, *spec.image_shape[1:])
    names_in, given = ["x", "z", "decoded_given"], [x, torch.zeros(2, spec.latent_dim), decoded]
    if spec.condition != "none":  # two inputs, so that each part keeps its own
        names_in += ["condition", "condition_given"]
        given += [torch.zeros(2, spec.condition_dim)] * 2
    names_out = [name for _, outputs in GRAPHS.values() for name in outputs]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            Parts(model),
            tuple(given),
            input_names=names_in,
            output_names=names_out,
            dynamic_shapes=({0: batch},) * len(names_in),
            custom_translation_table=_translations(),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    whole: ModelProto = program.model_proto
    return whole


def _translations() -> dict[Any, Any]:
    """Functions that the exporter would write as formulas which overflow or cancel in float32."""
    from onnxscript import opset18 as op

    def log_sigmoid(x: Any) -> Any:  # as ln σ(x) it is −∞ below −88
        return op.Neg(op.Softplus(op.Neg(x)))

    def expm1(x: Any) -> Any:  # as eˣ − 1 it has no digits left near 0; eˣ − 1 = 2 sinh(x/2) exp(x/2)
        half = op.Mul(x, op.Constant(value_float=0.5))
        return op.Mul(op.Add(op.Sinh(half), op.Sinh(half)), op.Exp(half))

    return {torch.ops.aten.log_sigmoid.default: log_sigmoid, torch.ops.aten.expm1.default: expm1}


def _cut(whole: "ModelProto", name: str, is_conditional: bool) -> "ModelProto":
    """One part of the whole, by the names that it has alone."""
    import onnx

    inputs, outputs = GRAPHS[name]
    if is_conditional:
        inputs += {"encoder": ("condition",), "decoder": ("condition_given",)}.get(name, ())
    part = onnx.utils.Extractor(whole).extract_model(list(inputs), list(outputs))
    for graph_input in part.graph.input:
        graph_input.name = graph_input.name.removesuffix("_given")
    for node in part.graph.node:
        node.input[:] = [given.removesuffix("_given") for given in node.input]
    return part


def _describe(graph: "ModelProto", about: Mapping[str, str]) -> "ModelProto":
    """The graph with what is to be known of it, and without the traces of the code that it was made of."""
    import onnx

    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph.graph.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    graph.producer_name, graph.producer_version = "vaelab", about.get("vaelab", "")
    onnx.helper.set_model_props(graph, dict(about))
    onnx.checker.check_model(graph)
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what the exporter says of itself reaches the person; its errors do."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
