"""One small file of every kind that vaelab reads."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

PICTURES = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "webp": "WEBP", "bmp": "BMP", "gif": "GIF"}
ATTRIBUTES = [f"Trait_{i}" for i in range(39)] + ["Young"]
RECIPE = """# prose: ignore
title = "A recipe to be damaged"
[data]
name = "digits"
[network]
name = "mlp"
hidden = [8]
latent_dim = 3
[likelihood]
name = "gaussian"
[objective]
name = "beta"
beta = 2.0
warmup_steps = 10
[training]
batch_size = 16
epochs = 2
learning_rate = 0.001
seed = 3
"""


def encode(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Pixels ``[H, W]`` or ``[H, W, 3]`` in a format of Pillow's."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_pictures(folder: Path, random: np.random.Generator) -> None:
    """Pictures of every format in two classes."""
    for i, (ending, kind) in enumerate(PICTURES.items()):
        path = folder / ("cat" if i % 2 else "dog") / f"{i}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(random.integers(0, 256, (28, 28, 3), dtype=np.uint8), kind))


def write_zip(path: Path, random: np.random.Generator) -> None:
    """The same in a .zip."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, (ending, kind) in enumerate(PICTURES.items()):
            picture = encode(random.integers(0, 256, (28, 28, 3), dtype=np.uint8), kind)
            archive.writestr(f"{'cat' if i % 2 else 'dog'}/{i}.{ending}", picture)


def write_idx(folder: Path, random: np.random.Generator) -> None:
    """MNIST's four files with twenty images each, two of them gzipped."""
    folder.mkdir()
    for split in ("train", "t10k"):
        for name, shape, most in (("images-idx3-ubyte", (20, 28, 28), 256), ("labels-idx1-ubyte", (20,), 10)):
            values = random.integers(0, most, shape, dtype=np.uint8)
            content = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values.tobytes()
            if split == "train":
                (folder / f"{split}-{name}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / f"{split}-{name}").write_bytes(content)


def write_parquet(folder: Path, random: np.random.Generator) -> None:
    """CelebA as the hub has it, four faces a split."""
    folder.mkdir()
    for split in ("train", "valid", "test"):
        rows: dict[str, list[Any]] = {"image": [], **{name: [] for name in ATTRIBUTES}}
        for i in range(4):
            face = encode(random.integers(0, 256, (218, 178, 3), dtype=np.uint8), "JPEG")
            rows["image"].append({"bytes": face, "path": f"{i:06d}.jpg"})
            for name in ATTRIBUTES:
                rows[name].append(bool(random.integers(2)))
        parquet.write_table(pyarrow.table(rows), folder / f"{split}-00000-of-00001.parquet")


def write_celeba(folder: Path, random: np.random.Generator) -> None:
    """CelebA as its authors have it: pictures and two lists."""
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(6)]
    for name in names:
        face = encode(random.integers(0, 256, (218, 178, 3), dtype=np.uint8), "JPEG")
        (folder / "img_align_celeba" / name).write_bytes(face)
    rows = [f"{name} " + " ".join(str(2 * random.integers(2) - 1) for _ in ATTRIBUTES) for name in names]
    text = "\n".join([str(len(names)), " ".join(ATTRIBUTES), *rows]) + "\n"
    (folder / "list_attr_celeba.txt").write_text(text, encoding="utf-8")
    partition = "".join(f"{name} {i % 3}\n" for i, name in enumerate(names))
    (folder / "list_eval_partition.txt").write_text(partition, encoding="utf-8")


def write_factors(path: Path, random: np.random.Generator) -> None:
    """Images with known factors in an .npz."""
    np.savez_compressed(
        path,
        images=random.integers(0, 256, (24, 8, 8), dtype=np.uint8),
        factors=np.stack(np.unravel_index(np.arange(24), (2, 3, 4)), 1),
        factor_names=np.array(["a", "b", "c"]),
    )


def stop_in_the_middle(run: Path) -> None:
    """Turn a finished run into one that was killed after its second newest checkpoint."""
    newest = max(run.glob("checkpoints/step-*.safetensors"))
    for path in (newest, run / "model.safetensors", run / "evaluation.json", run / "doctor.json", run / "report.html"):
        path.unlink()
    facts = json.loads((run / "machine.json").read_text(encoding="utf-8"))
    (run / "machine.json").write_text(json.dumps({k: v for k, v in facts.items() if k != "finished"}), encoding="utf-8")


MATERIALS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "faces": write_pictures,
    "pictures.zip": write_zip,
    "mnist": write_idx,
    "hub": write_parquet,
    "celeba": write_celeba,
    "factors.npz": write_factors,
    "several.npz": lambda path, random: np.savez(path, a=random.integers(0, 256, (5, 28, 28), dtype=np.uint8)),
    "factors.toml": lambda path, _: path.write_text('title = "Factors"\n[data]\nname = "arrays"\nvalid = 4\n') and None,
    "recipe.toml": lambda path, _: path.write_text(RECIPE, encoding="utf-8") and None,
}
"""Name of a file beside the runs → function that writes it."""
