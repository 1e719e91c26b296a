"""Pictures and codes for people: ``vaelab sample``, ``reconstruct``, ``encode``."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab import catalog
from vaelab.files import free_path, write_atomic
from vaelab.images import Images, to_uint8
from vaelab.lab.data import data_of
from vaelab.lab.results import load, load_with_framing
from vaelab.latent import encode_images
from vaelab.model import VAE
from vaelab.pictures import encode_png, read_pictures, tile
from vaelab.run import Run
from vaelab.runtime import derive_seed

THUMBNAIL = 96
"""Height in pixels that small images are enlarged to on a sheet, or a little less: by whole factors."""
SHEET = 16
"""Images on a sheet of reconstructions, unless told otherwise."""


def output_path(given: str | Path | None, default: str, *, overwrite: bool) -> Path:
    """Where to write: the path given, which must be free unless ``overwrite``, else a free one like ``default``."""
    if given is None:
        return free_path(Path(default))
    path = Path(given)
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is a folder with files in it; choose an empty one or a new name for --out")
    if path.is_file() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another --out, or say --overwrite")
    return path


def _write_pictures(path: Path, pixels: NDArray[np.uint8], columns: int, names: list[str] | None = None) -> None:
    """One sheet if ``path`` ends in .png, else a folder of single pictures with these names, else numbers."""
    if path.suffix.lower() == ".png":
        scale = max(1, THUMBNAIL // pixels.shape[1])
        write_atomic(path, encode_png(tile(pixels, columns).repeat(scale, 0).repeat(scale, 1)))
        return
    if path.suffix:
        raise ValueError(f"{path}: pictures go to a .png or into a folder (a name without an ending)")
    width = len(str(len(pixels) - 1))
    for i, image in enumerate(pixels):
        name = f"-{Path(names[i]).with_suffix('')}".replace("/", "_").replace("\\", "_") if names else ""
        write_atomic(path / f"{i:0{width}d}{name}.png", encode_png(image))


def sample(
    run_path: str | Path, *, count: int = 25, seed: int = 0, out: str | Path | None = None, overwrite: bool = False
) -> Path:
    """Images decoded from the prior, to a .png sheet or a folder."""
    model = load(run_path)
    path = output_path(out, f"{Path(run_path).resolve().name}-samples.png", overwrite=overwrite)
    pixels = to_uint8(model.sample(count, derive_seed(seed, "sample")))
    _write_pictures(path, pixels, columns=_columns(count))
    return path


def _columns(count: int) -> int:
    return int(np.ceil(np.sqrt(count)))


def load_with_images(
    run_path: str | Path, images: str | Path | None, data: str | Path | None
) -> tuple[VAE, Images, list[str]]:
    """The model of a run, the pictures at ``images`` as it wants them (None: its held-out images), their names."""
    model, framing = load_with_framing(run_path)
    if images is not None:
        return model, *read_pictures(Path(images), model.facts.image_shape, framing)
    run = Run.open(run_path)
    held_out = data_of(run, data)
    return model, held_out.valid, [f"{held_out.valid_split}[{i}]" for i in range(len(held_out.valid))]


def reconstruct(
    run_path: str | Path,
    images: str | Path | None = None,
    *,
    count: int | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Originals above their reconstructions on a .png (16 of them), or all reconstructions, one by one, in a folder."""
    path = output_path(out, f"{Path(run_path).resolve().name}-reconstructions.png", overwrite=overwrite)
    model, given, names = load_with_images(run_path, images, data)
    is_sheet = path.suffix.lower() == ".png"
    originals = np.asarray(given.pixels[: count or (SHEET if is_sheet else len(given))])
    rebuilt = to_uint8(torch.from_numpy(model.reconstruct(originals)))
    if not is_sheet:
        _write_pictures(path, rebuilt, columns=1, names=names)
        return path
    columns = min(8, len(originals))
    rows: list[NDArray[np.uint8]] = []
    for start in range(0, len(originals), columns):
        for part in (originals, rebuilt):
            row = part[start : start + columns]
            paper = np.full((columns - len(row), *row.shape[1:]), 255, np.uint8)
            rows.append(np.concatenate([row, paper]))
    _write_pictures(path, np.concatenate(rows), columns)
    return path


def encode(
    run_path: str | Path,
    images: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Posterior means and log-variances of images to .parquet, .csv or .npz, with names and labels where known."""
    path = output_path(out, f"{Path(run_path).resolve().name}-codes.parquet", overwrite=overwrite)
    if path.suffix not in (".parquet", ".csv", ".npz"):
        raise catalog.unknown("ending of --out", path.suffix or path.name, (".parquet", ".csv", ".npz"))
    model, given, names = load_with_images(run_path, images, data)
    codes = encode_images(model, given)
    buffer = io.BytesIO()
    if path.suffix == ".npz":
        labels: dict[str, Any] = {} if given.labels is None else {"labels": given.labels}
        np.savez_compressed(buffer, names=np.array(names), mean=codes.mean, log_var=codes.log_var, **labels)
    else:
        import pyarrow
        from pyarrow import csv, parquet

        columns: dict[str, Any] = {"image": names}
        if given.labels is not None:
            columns["label"] = given.labels
        for word, values in (("mean", codes.mean), ("log_var", codes.log_var)):
            columns.update({f"{word}_{j + 1}": values[:, j] for j in range(values.shape[1])})
        table = pyarrow.table(columns)
        writer = parquet.write_table if path.suffix == ".parquet" else csv.write_csv
        writer(table, buffer)
    write_atomic(path, buffer.getvalue())
    return path
