"""Pictures and codes of any number of images: as they come, whole or not there, the same on one rank and on several."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pyarrow import csv, parquet
from torch import nn
from typed import Typed

import vaelab
from vaelab import recipe
from vaelab.api import outputs
from vaelab.data.images import Images, to_uint8
from vaelab.data.pictures import Numbered, encode_png
from vaelab.exporters import tables
from vaelab.models import vae as model_module
from vaelab.models.codes import encode_images
from vaelab.models.vae import VAE
from vaelab.system import device as runtime
from vaelab.system.files import save_tensors

MakeModel = Callable[..., tuple[VAE, nn.Module]]
SHAPE = (1, 8, 8)
MEMORY = 24 << 20
"""Bytes that encoding a million images may take beyond what a few take; one byte of each image would be 64 MB."""


@pytest.fixture(scope="module")
def model_file(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of 8×8 images, untrained."""
    vae, _ = make_model(SHAPE)
    given = {"data": {"name": "digits"}, "network": {"name": "mlp", "hidden": [16], "latent_dim": 3}}
    settled = recipe.validate(given, "small").settled(SHAPE, 100)
    facts = {"format": 1, "name": "small", "recipe": settled.sections(), "image_shape": SHAPE, "num_images": 100}
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_tensors(path, vae.state_dict(), facts)
    return path


@pytest.fixture
def chunks_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks and groups of rows of few images."""
    monkeypatch.setattr(model_module, "CHUNK", 4)
    monkeypatch.setattr(tables, "GROUP_ROWS", 10)


def some_pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 12, 43])
@pytest.mark.usefixtures("chunks_of_four")
def test_tables_hold_the_codes_of_all_images(model_file: Path, tmp_path: Path, count: int) -> None:
    np.save(tmp_path / "a.npy", some_pixels(count))
    codes = encode_images(vaelab.load(model_file), Images(some_pixels(count)))
    expected = np.concatenate([codes.mean, codes.log_var], axis=1)
    names = [f"a.npy[{i}]" for i in range(count)]
    columns = [f"{word}_{j}" for word in ("mean", "log_var") for j in (1, 2, 3)]
    for ending in ("parquet", "csv", "npz"):
        assert vaelab.encode(model_file, tmp_path / "a.npy", out=tmp_path / f"codes.{ending}").is_file()
    assert parquet.ParquetFile(tmp_path / "codes.parquet").num_row_groups == -(-count // 12)  # ≥ 10 rows, whole chunks
    for table in (parquet.read_table(tmp_path / "codes.parquet"), csv.read_csv(tmp_path / "codes.csv")):
        assert table.column_names == ["image", *columns]
        assert table["image"].to_pylist() == names
        values = np.stack([table[name].to_numpy() for name in columns], axis=1).astype(np.float32)
        np.testing.assert_array_equal(values, expected, strict=True)
    with np.load(tmp_path / "codes.npz") as archive:
        assert archive.files == ["names", "mean", "log_var"]
        assert archive["names"].tolist() == names
        np.testing.assert_array_equal(archive["mean"], codes.mean, strict=True)
        np.testing.assert_array_equal(archive["log_var"], codes.log_var, strict=True)
    assert names_in(tmp_path) == ["a.npy", "codes.csv", "codes.npz", "codes.parquet"]


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".npz"])
@pytest.mark.parametrize("num_ranks", [2, 3])
@pytest.mark.usefixtures("chunks_of_four")
def test_the_parts_of_ranks_make_the_file_of_one(tmp_path: Path, ending: str, num_ranks: int) -> None:
    random = np.random.default_rng(0)
    pieces = [random.standard_normal((2, count, 3)).astype(np.float32) for count in (4, 4, 4, 4, 1)]
    rows = tables.Rows(Numbered("test", 17), random.integers(0, 10, 17), 3)
    one, several = tmp_path / f"one{ending}", tmp_path / f"several{ending}"
    tables.write_codes(one, rows, pieces)
    parts = tables.Parts(several, num_ranks)
    for rank in range(num_ranks):
        parts.write(rank, iter(pieces[5 * rank // num_ranks : 5 * (rank + 1) // num_ranks]))
    tables.write_codes(several, rows, parts)
    assert several.read_bytes() == one.read_bytes()
    for rank in range(num_ranks):
        parts.remove(rank)
    assert names_in(tmp_path) == [one.name, several.name]
    labels = {
        ".parquet": lambda: parquet.read_table(one)["label"].to_numpy(),
        ".csv": lambda: csv.read_csv(one)["label"].to_numpy(),
        ".npz": lambda: np.load(one)["labels"],
    }
    np.testing.assert_array_equal(labels[ending](), rows.labels, strict=True)


def test_torchrun_writes_the_file_of_one_process(model_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", some_pixels(1300))  # three chunks
    vaelab.encode(model_file, tmp_path / "a.npy", out=tmp_path / "one.parquet")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vaelab"]
    words = ["encode", model_file, "a.npy", "--out", "two.parquet", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "two.parquet\n"), done.stderr
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert names_in(tmp_path) == ["a.npy", "one.parquet", "two.parquet"]


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["failed", "interrupted"])
@pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])
@pytest.mark.usefixtures("chunks_of_four")
def test_an_encoding_that_fails_leaves_everything_as_it_was(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, error: BaseException
) -> None:
    encode, calls = VAE.encode, [0]

    def fail_in_the_end(self: VAE, images: Any) -> Any:
        calls[0] += 1
        if calls[0] == 9:
            raise error
        return encode(self, images)

    np.save(tmp_path / "a.npy", some_pixels(40))
    monkeypatch.setattr(VAE, "encode", fail_in_the_end)
    with pytest.raises(type(error)):
        vaelab.encode(model_file, tmp_path / "a.npy", out=tmp_path / f"new.{ending}")
    assert calls == [9]
    (tmp_path / f"old.{ending}").write_bytes(b"old")
    calls[0] = 0
    with pytest.raises(type(error)):
        vaelab.encode(model_file, tmp_path / "a.npy", out=tmp_path / f"old.{ending}", overwrite=True)
    assert (tmp_path / f"old.{ending}").read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.npy", f"old.{ending}"]


def test_a_broken_picture_late_in_a_folder_is_named_and_nothing_is_written(
    cli: Typed, model_file: Path, tmp_path: Path, chunks_of_four: None
) -> None:
    (tmp_path / "own").mkdir()
    for i, pixels in enumerate(some_pixels(30)):
        (tmp_path / "own" / f"{i:02d}.png").write_bytes(encode_png(pixels) if i != 21 else b"")
    assert cli("encode", model_file, "own", "--out", "codes.csv") == (1, "", "vaelab: own/21.png: empty file\n")
    assert names_in(tmp_path) == ["own"]
    assert cli("reconstruct", model_file, "own", "-n", 21, "--out", "sheet.png")[0] == 0  # the others are not read


MEASURE = """
import json, sys, tracemalloc
from pathlib import Path
from vaelab import lab
from vaelab.model import VAE

encode, seen = VAE.encode, []

def own_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

def measured(self, images):
    seen.append(own_memory())
    return encode(self, images)

VAE.encode = measured
model, few, many, ending = sys.argv[1:]
vaelab.encode(model, few, out=f"few{ending}", device="cpu")
before = max(seen)
seen.clear()
vaelab.encode(model, many, out=f"many{ending}", device="cpu")
print(json.dumps({"chunks": len(seen), "grown": max(seen) - before}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
@pytest.mark.parametrize("ending", [".parquet", ".npz"])
def test_a_million_images_take_the_memory_of_a_few(model_file: Path, tmp_path: Path, ending: str) -> None:
    """Read at every chunk: neither pixels (64 MB), nor their floats, nor names or codes (24 MB) may pile up."""
    count = 1_000_000
    many = np.lib.format.open_memmap(tmp_path / "many.npy", "w+", np.uint8, (count, 8, 8, 1))
    for start in range(0, count, 1000):
        many[start : start + 1000] = some_pixels(1000)
    many.flush()
    np.save(tmp_path / "few.npy", many[:40_000])
    arguments = [sys.executable, "-c", MEASURE, model_file, "few.npy", "many.npy", ending]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["chunks"] == -(-count // 512)
    assert found["grown"] < MEMORY
    if ending == ".parquet":
        table = parquet.ParquetFile(tmp_path / "many.parquet")
        assert (table.metadata.num_rows, table.num_row_groups) == (count, -(-count // (1 << 14)))


def test_precision_is_one_of_those_there_are(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    np.save("a.npy", some_pixels(5))
    for precision in ("fp32", "bf16"):
        words = ("--out", f"{precision}.npz", "--precision", precision, "--device", "cpu")
        assert cli("encode", model_file, "a.npy", *words)[0] == 0
    exact, rounded = np.load("fp32.npz")["mean"], np.load("bf16.npz")["mean"]
    assert rounded.dtype == np.float32
    assert 1e-5 < np.abs(rounded - exact).max() < 0.05
    code, _, err = cli("encode", model_file, "a.npy", "--precision", "fp16")
    assert code == 2
    assert "'bf16'" in err


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "sample"])
def test_a_device_that_is_not_there_is_one_line(cli: Typed, model_file: Path, verb: str) -> None:
    np.save("a.npy", some_pixels(5))
    images = [] if verb == "sample" else ["a.npy"]
    code, out, err = cli(verb, model_file, *images, "--device", "abacus")
    assert (code, out) == (1, "")
    assert err.startswith("vaelab: device 'abacus' cannot be used here")
    assert err.count("\n") == 1
    assert cli(verb, model_file, *images, "--device", "cpu")[0] == 0


# -- pictures ---------------------------------------------------------------------------------------------------------


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.usefixtures("chunks_of_four")
def test_samples_are_written_while_more_are_decoded_and_are_those_of_the_model(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = to_uint8(vaelab.load(model_file).sample(23, runtime.derive_seed(5, "sample")))
    decode, written = VAE.decode, list[int]()

    def count_before(self: VAE, z: torch.Tensor) -> torch.Tensor:
        assert len(z) <= 4
        written.append(len(list((tmp_path / "many").glob("*.png"))))
        return decode(self, z)

    monkeypatch.setattr(VAE, "decode", count_before)
    vaelab.sample(model_file, count=23, seed=5, out=tmp_path / "many")
    assert [count >= 4 * (i - 1) for i, count in enumerate(written)] == [True] * 6  # all but those being written
    assert names_in(tmp_path / "many") == [f"{i:02d}.png" for i in range(23)]
    found = np.stack([read(tmp_path / "many" / f"{i:02d}.png") for i in range(23)])
    np.testing.assert_array_equal(found, expected[..., 0])
    vaelab.sample(model_file, count=23, seed=5, out=tmp_path / "sheet.png")
    sheet = read(tmp_path / "sheet.png")[::12, ::12]  # small images are enlarged by a whole factor
    np.testing.assert_array_equal(sheet[2:10, 12:20], expected[1, ..., 0])


@pytest.mark.usefixtures("chunks_of_four")
def test_reconstructions_in_a_folder_are_those_of_the_model(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "own" / "in").mkdir(parents=True)
    for i, pixels in enumerate(some_pixels(11)):
        (tmp_path / "own" / "in" / f"{i:02d}.png").write_bytes(encode_png(pixels))
    vaelab.reconstruct(model_file, tmp_path / "own", out=tmp_path / "all")
    vaelab.reconstruct(model_file, tmp_path / "own", count=3, out=tmp_path / "some")
    names = [f"{i:02d}-in_{i:02d}.png" for i in range(11)]
    assert names_in(tmp_path / "all") == names
    assert names_in(tmp_path / "some") == [name[1:] for name in names[:3]]
    rebuilt = vaelab.load(model_file).reconstruct(some_pixels(11))
    for i, name in enumerate(names):
        np.testing.assert_allclose(read(tmp_path / "all" / name), rebuilt[i, 0] * 255, atol=0.51)


def test_a_picture_that_cannot_be_written_ends_it(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_pixels: NDArray[np.uint8]) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(outputs, "encode_png", fail)
    with pytest.raises(OSError, match="no space left"):
        vaelab.sample(model_file, count=3, out=tmp_path / "many")


def test_an_ending_of_no_pictures_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    for verb in (vaelab.sample, vaelab.reconstruct):
        with pytest.raises(ValueError, match=r"a\.jpeg: pictures go to a \.png or into a folder"):
            verb(tmp_path / "no model", out=tmp_path / "a.jpeg")
