"""The parts of a model as ONNX graphs, which run without Python and without vaelab."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vaelab.explorer.inference import compute_kl, kl_noise
from vaelab.models.vae import VAE
from vaelab.system.errors import InputError, UsageError
from vaelab.system.noise import Noise

if TYPE_CHECKING:
    from onnx import ModelProto

GRAPHS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "encoder": (("x",), ("mean", "log_var", "kl")),
    "decoder": (("z",), ("decoded", "image")),
    "likelihood": (("decoded_given", "x"), ("error",)),
}
"""Graph → inputs and outputs. In the combined graph outputs end in RESULT, since operators have names such as mean."""
GIVEN, RESULT = "_given", "_result"


class RecordedNoise(Noise):
    """Draws the noise of one image from ``source``, then repeats it for every image of a batch."""

    def __init__(self, source: Noise) -> None:
        self._source, self._draws, self._next = source, list[Tensor](), 0

    def rewind(self) -> None:
        """Begin with the first draw again."""
        self._next = 0

    def normal(self, count: int, *shape: int) -> Tensor:
        """Return standard normal numbers ``[count, …]``, all rows alike, or ``[1, …]`` while a graph is traced."""
        return self._repeat(count, lambda: self._source.normal(1, *shape))

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Return numbers of U(0, 1), like ``normal``."""
        return self._repeat(count, lambda: self._source.uniform(1, *shape))

    def _repeat(self, count: int, draw: Callable[[], Tensor]) -> Tensor:
        if self._next == len(self._draws):
            self._draws.append(draw())
        self._next += 1
        drawn = self._draws[self._next - 1]
        # a symbolic count would be the size of another input, which is not part of the encoder's graph
        return drawn.expand(count, *drawn.shape[1:]) if isinstance(count, int) else drawn


class CombinedGraph(nn.Module):
    """Encoder, decoder and likelihood with separate inputs: exported once, then split."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model, self.noise = model, RecordedNoise(kl_noise(torch.device("cpu")))

    def forward(
        self,
        x: Tensor,
        z: Tensor,
        decoded_given: Tensor,
        condition: Tensor | None = None,
        condition_given: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        self.noise.rewind()
        q, decoded = self.model.encode_batch(x, condition), self.model.decoder(z, condition_given)
        error = self.model.likelihood(decoded_given).reconstruction_loss(x)
        kl = compute_kl(self.model, q, self.noise)
        return q.mean, q.log_var, kl, decoded, self.model.likelihood(decoded).mean, error


def make_graphs(model: VAE, facts: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files encoder.onnx, decoder.onnx and likelihood.onnx of a model on the CPU, for any batch size.

    The encoder maps x ``[B, C, H, W]`` in [0, 1] to mean, log_var ``[B, latent]`` and kl ``[B]`` to the prior, nats.
    The decoder maps z ``[B, latent]`` to decoded, its output, and image ``[B, C, H, W]``, the expected image.
    The likelihood maps decoded and x to error ``[B]``, the reconstruction loss, nats.

    Encoder and decoder of a conditional model also take condition ``[B, K]`` of 0 and 1. ``facts`` become the metadata
    of the files. Raises UsageError if the extra [export] is not installed.
    """
    if not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        raise UsageError("an export needs the extra export: pip install 'vaelab[export]'", subject="export")
    was_training = model.training
    model.eval()
    combined = _export(model)
    model.train(was_training)
    is_conditional = model.spec.condition != "none"
    graphs = {name: _describe(split_graph(combined, name, is_conditional), facts) for name in GRAPHS}
    return {f"{name}.onnx": graph.SerializeToString() for name, graph in graphs.items()}


def run_graph(graph: bytes, **inputs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run a graph with onnxruntime on the CPU; return its outputs by name."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@torch.no_grad()
def compare_graphs(model: VAE, graphs: Mapping[str, bytes], x: Tensor) -> float:
    """Return the largest difference of graphs and model on images: of means and images, relative for losses and KL."""
    condition, _ = model.typical_condition()
    condition = None if condition is None else condition.expand(len(x), -1)
    inputs = {} if condition is None else {"condition": condition.numpy()}
    q = model.encode_batch(x, condition)
    decoded = model.decoder(q.mean, condition)
    p_x, kl = model.likelihood(decoded), compute_kl(model, q, RecordedNoise(kl_noise(x.device)))
    encoder = run_graph(graphs["encoder.onnx"], x=x.numpy(), **inputs)
    decoder = run_graph(graphs["decoder.onnx"], z=q.mean.numpy(), **inputs)
    likelihood = run_graph(graphs["likelihood.onnx"], decoded=decoded.numpy(), x=x.numpy())
    differences = [encoder["mean"] - q.mean.numpy(), decoder["image"] - p_x.mean.numpy()]
    for found, expected in ((likelihood["error"], p_x.reconstruction_loss(x).numpy()), (encoder["kl"], kl.numpy())):
        differences.append((found - expected) / np.maximum(1, np.abs(expected)))
    return max(float(np.abs(difference).max()) for difference in differences)


def _export(model: VAE) -> "ModelProto":
    """Return all parts of a model as one graph."""
    spec, batch = model.spec, torch.export.Dim("batch")
    x = torch.zeros(2, *spec.image_shape)
    decoded = torch.zeros(2, spec.decoder_channels, *spec.image_shape[1:])
    names_in, inputs = ["x", "z", "decoded_given"], [x, torch.zeros(2, spec.latent_dim), decoded]
    if spec.condition != "none":  # two inputs, so that each part keeps its own
        names_in += ["condition", "condition_given"]
        inputs += [torch.zeros(2, spec.condition_dim)] * 2
    combined = CombinedGraph(model)
    with _quiet(), torch.no_grad():
        combined(*inputs)  # records the noise, which becomes constants of the graph
        try:
            program = torch.onnx.export(
                combined,
                tuple(inputs),
                input_names=names_in,
                output_names=[name + RESULT for _, outputs in GRAPHS.values() for name in outputs],
                dynamic_shapes=({0: batch},) * len(names_in),
                custom_translation_table=_translations(),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise InputError(
                f"this model cannot be exported: ONNX lacks an operator that it uses ({reason})"
            ) from error
    assert program is not None
    proto: ModelProto = program.model_proto
    return proto


def _translations() -> dict[Any, Any]:
    """Return replacements of the exporter's formulas that overflow or cancel in float32."""
    from onnxscript import opset18 as op

    def log_sigmoid(x: Any) -> Any:  # ln σ(x) is −∞ below −88
        return op.Neg(op.Softplus(op.Neg(x)))

    def expm1(x: Any) -> Any:  # eˣ − 1 = 2 sinh(x/2) exp(x/2) keeps its digits near 0
        half = op.Mul(x, op.Constant(value_float=0.5))
        return op.Mul(op.Add(op.Sinh(half), op.Sinh(half)), op.Exp(half))

    return {torch.ops.aten.log_sigmoid.default: log_sigmoid, torch.ops.aten.expm1.default: expm1}


def split_graph(combined: "ModelProto", name: str, is_conditional: bool) -> "ModelProto":
    """Return one part of the combined graph, with its inputs and outputs under their own names.

    All inputs have the same batch size, so the exporter may read it from any of them. A part reads it from its own.
    Raises InputError if more than the batch size is read from an input of another part.
    """
    import onnx

    inputs, outputs = GRAPHS[name]
    if is_conditional:
        inputs += {"encoder": ("condition",), "decoder": ("condition_given",)}.get(name, ())

    def rename(inner: str) -> str:
        return f"inner_{inner}" if inner in outputs else inner.removesuffix(GIVEN).removesuffix(RESULT)

    part = onnx.utils.Extractor(combined).extract_model(list(inputs), [output + RESULT for output in outputs])
    foreign = {value.name for value in combined.graph.input}.difference(inputs)
    for node in part.graph.node:
        if node.op_type == "Shape" and node.input[0] in foreign:
            if {attribute.name: attribute.i for attribute in node.attribute} != {"start": 0, "end": 1}:
                raise InputError("this model cannot be exported with this version of onnxscript; try another one")
            node.input[0] = inputs[0]
    for value in (*part.graph.input, *part.graph.output):
        value.name = rename(value.name)
    for node in part.graph.node:
        node.input[:], node.output[:] = map(rename, node.input), map(rename, node.output)
    return part


def _describe(graph: "ModelProto", facts: Mapping[str, str]) -> "ModelProto":
    """Add metadata to a graph, and remove the traces of the code that it was made from."""
    import onnx

    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph.graph.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    graph.producer_name, graph.producer_version = "vaelab", facts.get("vaelab", "")
    onnx.helper.set_model_props(graph, dict(facts))
    onnx.checker.check_model(graph, full_check=True)
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's output within this context, except errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
