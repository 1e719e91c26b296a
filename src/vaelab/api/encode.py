"""``vaelab encode``: posterior means and log-variances of images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from vaelab.api.inputs import InputImages, load_inputs
from vaelab.api.output_paths import choose_file, get_extension
from vaelab.exporters.tables import EXTENSIONS, CodeTable, Parts, Piece, write_codes
from vaelab.models.chunks import chunk_spans
from vaelab.models.codes import encode_spans
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system import registry
from vaelab.system.arguments import AnyPath
from vaelab.system.device import disable_tf32, resolve_device
from vaelab.system.distributed import join_group

Precision = Literal["fp32", "bf16"]


def encode(
    run_path: AnyPath,
    images: Any = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    device: str = "auto",
    precision: Precision = "fp32",
    condition: Any = None,
) -> "Encoded | Path":
    """Return posterior means and log-variances of images, or write them with names and labels to the file ``out``.

    ``images``: an image, folder or array file of any size, or images from memory as for ``train`` (default: the
    held-out images). ``out``: a .parquet, .csv or .npz, whose path is returned. Images that cannot be read have no row,
    and a warning lists them. InputError is raised if none can be read or, with ``strict``, if one cannot.
    ``condition``: a class or attributes for a conditional model, instead of those of the images. Under ``torchrun``
    each rank encodes a part of the images, and rank 0 writes the same file as a single process; every rank must see the
    output folder.
    """
    path = None
    if out is not None:
        path = choose_file(out, f"{Run.at(run_path).name}-codes.parquet", EXTENSIONS, overwrite=overwrite)
    if precision not in get_args(Precision):
        raise registry.unknown("precision", precision, get_args(Precision))
    model, inputs = load_inputs(run_path, images, data, strict=strict, condition=condition)
    model.to(resolve_device(device))
    class_names = inputs.images.label_names if inputs.images.has_class_names else ()
    table = CodeTable(inputs.names, inputs.images.labels, model.spec.latent_dim, class_names)
    spans = chunk_spans(len(inputs), model.spec.image_shape)
    if path is None:
        with disable_tf32():
            found = list(_record_skipped(_encode_pieces(model, inputs, spans, precision), inputs))
        inputs.warn_noted()
        return _collect(table, found)
    with disable_tf32(), join_group() as group:
        shard = group.shard(len(spans))  # whole chunks, so that every rank computes the chunks of a single process
        pieces = _encode_pieces(model, inputs, spans[shard.start : shard.stop], precision)
        if group.world_size == 1 and get_extension(path) != ".npz":
            write_codes(path, table, _record_skipped(pieces, inputs))
        else:
            parts = Parts(path, group.world_size)
            try:
                parts.write(group.rank, pieces)
                group.barrier()
                if group.is_main:
                    for _ in _record_skipped(parts, inputs):
                        pass
                    write_codes(path, table, parts)
                group.barrier()
            finally:
                parts.remove(group.rank)
    if group.is_main:
        inputs.warn_noted()
    return path


@dataclass(frozen=True, eq=False)
class Encoded:
    """Posteriors of images, one row for each image that could be read."""

    names: list[str]
    mean: Float[np.ndarray, "n latent"]
    log_var: Float[np.ndarray, "n latent"]
    labels: Int[np.ndarray, " n"] | None = None
    classes: tuple[str, ...] = ()
    """Name of each label; empty if labels are numbers only."""

    def __len__(self) -> int:
        return len(self.mean)

    def __repr__(self) -> str:
        return f"Encoded({len(self):,} images, {self.mean.shape[1]} latents)"

    def to_pandas(self) -> Any:
        """Return a DataFrame with the columns of the .csv: image, label and class if known, mean_1 …, log_var_1 …."""
        import pandas

        columns: dict[str, Any] = {"image": self.names}
        if self.labels is not None:
            columns["label"] = self.labels
            if self.classes:
                columns["class"] = [self.classes[label] for label in self.labels.tolist()]
        for word, values in (("mean", self.mean), ("log_var", self.log_var)):
            columns |= {f"{word}_{number + 1}": column for number, column in enumerate(values.T)}
        return pandas.DataFrame(columns)


def _collect(table: CodeTable, pieces: Sequence[Piece]) -> Encoded:
    rows = np.concatenate([piece.rows for piece in pieces])
    mean, log_var = np.concatenate([piece.codes for piece in pieces], axis=1)
    labels = None if table.labels is None else table.labels[rows]
    return Encoded([table.names[row] for row in rows.tolist()], mean, log_var, labels, tuple(table.class_names))


def _encode_pieces(
    model: VAE, inputs: InputImages, spans: Sequence[tuple[int, int]], precision: Precision
) -> Iterator[Piece]:
    """Yield the codes of the readable images in each span."""
    for span, codes in zip(spans, encode_spans(model, inputs.images, spans, precision), strict=True):
        rows = inputs.readable_rows(*span)
        yield Piece(rows, codes[:, rows - span[0]])


def _record_skipped(pieces: Iterable[Piece], inputs: InputImages) -> Iterator[Piece]:
    """Yield the pieces of all ranks and record the rows in none of them as skipped; InputError if all rows are."""
    position, count = 0, 0
    for piece in pieces:
        for row in piece.rows.tolist():
            if row != position:
                inputs.skip(range(position, row))
            position = row + 1
        count += len(piece.rows)
        yield piece
    inputs.skip(range(position, len(inputs)))
    inputs.check_any_readable(count)
