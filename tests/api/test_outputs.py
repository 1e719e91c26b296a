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
from vaelab.api import pictures
from vaelab.api.load import CONDITION_ROWS, MODEL_FORMAT
from vaelab.api.plan import run_directory
from vaelab.data.images import Images, to_uint8
from vaelab.data.pictures import Numbered, encode_png
from vaelab.exporters import tables
from vaelab.models import vae as model_module
from vaelab.models.codes import encode_images
from vaelab.models.vae import VAE
from vaelab.system.files import save_tensors, unique_path
from vaelab.system.seeds import derive_seed

MakeModel = Callable[..., tuple[VAE, nn.Module]]
SHAPE = (1, 8, 8)
MEMORY = 24 << 20
"""Bytes that encoding a million images may take beyond what a few take; one byte of each image would be 64 MB."""


@pytest.fixture(scope="module")
def model_file(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of 8×8 images, untrained."""
    vae, _ = make_model(SHAPE)
    given = {"data": {"name": "digits"}, "network": {"name": "mlp", "hidden": [16], "latent_dim": 3}}
    resolved = recipe.validate(given, "small").resolve(SHAPE, 100)
    told = {"name": "small", "recipe": resolved.sections(), "image_shape": SHAPE, "num_images": 100}
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_tensors(path, {**vae.state_dict(), CONDITION_ROWS: vae.condition_rows}, {"format": MODEL_FORMAT, **told})
    return path


@pytest.fixture
def chunks_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks and groups of rows of few images."""
    monkeypatch.setattr(model_module, "EVAL_BATCH_SIZE", 4)
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
    starts = [(0, 4), (4, 8), (8, 12), (12, 16), (16, 17)]
    pieces = [
        tables.Piece(np.arange(a, b), random.standard_normal((2, b - a, 3)).astype(np.float32)) for a, b in starts
    ]
    rows = tables.CodeTable(Numbered("test", 17), random.integers(0, 10, 17), 3)
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

    def fail_in_the_end(self: VAE, images: Any, condition: Any = None) -> Any:
        calls[0] += 1
        if calls[0] == 9:
            raise error
        return encode(self, images, condition)

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


def write_pictures(folder: Path, count: int, broken: dict[int, bytes]) -> Path:
    """Pictures 00.png, 01.png … of ``some_pixels``, some of them replaced by other bytes."""
    folder.mkdir(parents=True)
    for i, pixels in enumerate(some_pixels(count)):
        (folder / f"{i:02d}.png").write_bytes(broken.get(i, encode_png(pixels)))
    return folder


BROKEN = {0: b"", 5: b"no picture", 21: encode_png(some_pixels(1)[0])[:-30]}


@pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])
@pytest.mark.usefixtures("chunks_of_four")
def test_broken_pictures_have_no_row_and_the_others_keep_theirs(
    cli: Typed, model_file: Path, tmp_path: Path, ending: str
) -> None:
    write_pictures(tmp_path / "own", 30, BROKEN)
    code, out, err = cli("encode", model_file, "own", "--out", f"codes.{ending}")
    assert (code, out, err.count("\n")) == (0, f"codes.{ending}\n", 1)
    assert "3 of 30" in err
    assert all(f"{i:02d}.png" in err for i in BROKEN)
    kept = [i for i in range(30) if i not in BROKEN]
    expected = vaelab.load(model_file).encode(some_pixels(30)[kept]).mean.numpy()
    if ending == "npz":
        with np.load("codes.npz") as archive:
            names, means = archive["names"].tolist(), archive["mean"]
            assert archive["log_var"].shape == means.shape
    else:
        table = parquet.read_table("codes.parquet") if ending == "parquet" else csv.read_csv("codes.csv")
        names = table["image"].to_pylist()
        means = np.stack([table[f"mean_{j}"].to_numpy() for j in (1, 2, 3)], axis=1)
    assert names == [f"{i:02d}.png" for i in kept]
    np.testing.assert_allclose(means, expected, atol=1e-6)
    assert names_in(tmp_path) == sorted([f"codes.{ending}", "own"])


@pytest.mark.usefixtures("chunks_of_four")
def test_broken_pictures_are_left_out_of_scores_and_reconstructions(
    cli: Typed, model_file: Path, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "own", 30, BROKEN)
    kept = [i for i in range(30) if i not in BROKEN]
    code, _, err = cli("reconstruct", model_file, "own", "--out", "all/")
    assert (code, err.count("\n")) == (0, 1)
    assert names_in(tmp_path / "all") == [f"{n:02d}-{i:02d}.png" for n, i in enumerate(kept)]
    rebuilt = vaelab.load(model_file).reconstruct(some_pixels(30)[kept])
    for n, name in enumerate(names_in(tmp_path / "all")):
        np.testing.assert_allclose(read(tmp_path / "all" / name), rebuilt[n, 0] * 255, atol=0.51)
    assert cli("reconstruct", model_file, "own", "-n", 6, "--out", "some/")[0] == 0
    assert [name[2:4] for name in names_in(tmp_path / "some")] == ["01", "02", "03", "04", "06", "07"]
    with pytest.warns(UserWarning, match=r"00\.png"):
        vaelab.reconstruct(model_file, "own", count=2, out="two.png")  # the second chunk is not read


def test_with_strict_a_broken_picture_is_named_and_nothing_is_written(
    cli: Typed, model_file: Path, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "own", 30, {21: b""})
    for verb, *words in (("encode",), ("reconstruct", "-n", 30), ("reconstruct", "--out", "all/")):
        code, out, err = cli(verb, model_file, "own", "--strict", *words)
        assert (code, out, err) == (1, "", "vaelab: own/21.png: empty file\n")
        assert names_in(tmp_path) == ["own"]
    assert cli("reconstruct", model_file, "own", "-n", 21, "--strict")[0] == 0  # the others are not read


@pytest.mark.parametrize("count", [1, 3])
def test_where_no_picture_can_be_read_it_fails_with_one_line_and_no_file(
    cli: Typed, model_file: Path, tmp_path: Path, count: int
) -> None:
    write_pictures(tmp_path / "own", count, dict.fromkeys(range(count), b"no picture"))
    place = "own/00.png" if count == 1 else "own"
    for verb, *words in (
        ("encode",), ("encode", "--out", "a.npz"), ("reconstruct",), ("reconstruct", "--out", "all/")
    ):  # fmt: skip
        code, out, err = cli(verb, model_file, place, *words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"vaelab: {place}: ")
        assert names_in(tmp_path) == ["own"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open every folder")
def test_a_folder_that_cannot_be_opened_is_told(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "own" / "open", 3, {})
    write_pictures(tmp_path / "own" / "shut", 3, {}).chmod(0)
    code, _, err = cli("encode", model_file, "own", "--out", "a.csv")
    assert (code, "shut" in err, err.count("\n")) == (0, True, 1)
    assert cli("encode", model_file, "own", "--strict")[0] == 1
    (tmp_path / "own" / "shut").chmod(0o700)


# -- names and places -------------------------------------------------------------------------------------------------


def test_names_of_any_length_and_script_get_files_of_their_own(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    pixels, long = some_pixels(4), "長い名前" * 20  # 240 bytes
    for i, name in enumerate(("a" * 240, f"{long}0", f"{long}1", "short")):
        place = tmp_path / "own" / long / long
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.png").write_bytes(encode_png(pixels[i]))
    assert cli("reconstruct", model_file, "own", "--out", "all/")[0] == 0
    names = names_in(tmp_path / "all")
    assert len(names) == 4
    assert [name[0] for name in names] == list("0123")
    assert all(len(name.encode()) <= 255 and name.endswith(".png") for name in names)
    assert len({name[1:] for name in names}) == 4
    again = tmp_path / "again"
    assert cli("reconstruct", model_file, "own", "--out", again)[0] == 0
    assert names_in(again) == names  # the digest is of the name alone
    for name in (f"{'c' * 251}.csv", f"{'p' * 247}.parquet", f"{'n' * 251}.npz"):
        assert cli("encode", model_file, "own", "--out", name)[0] == 0
        assert Path(name).is_file()


def test_a_run_may_have_a_name_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    overrides = {"network.hidden": [16] * 60, **{f"objective.{'k' * 40}{i}": "値" * 20 for i in range(3)}}
    name = run_directory("digits", overrides).name
    assert len(name.encode()) <= 255
    assert name == run_directory("digits", dict(reversed(overrides.items()))).name
    assert name != run_directory("digits", {**overrides, "network.hidden": [16] * 61}).name
    assert run_directory("digits", {"objective.beta": 4}).name == "digits-objective.beta=4"
    longest = tmp_path / ("長" * 85)
    assert unique_path(longest) == longest
    longest.touch()
    second = unique_path(longest)
    second.touch()
    assert len({longest, second, unique_path(longest)}) == 3


def test_what_is_a_folder_is_said_by_the_disk_and_by_a_slash(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    np.save("own.npy", some_pixels(5))
    Path("out.v2").mkdir()
    for out in ("out.v2", "samples.2026-11-28/", "new.d/sub.png/", "plain", "of.v3"):
        code, printed, err = cli("sample", model_file, "-n", 3, "--out", out)
        assert (code, err) == (0, "")
        assert names_in(Path(out)) == ["0.png", "1.png", "2.png"]
        assert printed == f"{Path(out)}\n"
    for verb, name in (("encode", "codes.parquet"), ("reconstruct", "")):
        Path(f"{verb}.out").mkdir()
        assert cli(verb, model_file, "own.npy", "--out", f"{verb}.out")[0] == 0
        assert all(found.endswith(name) for found in names_in(tmp_path / f"{verb}.out"))
    assert cli("encode", model_file, "own.npy", "--out", "encode.out/")[0] == 0
    assert len(names_in(tmp_path / "encode.out")) == 2  # the first is not overwritten
    assert cli("encode", model_file, "own.npy", "--out", "tables/")[0] == 0
    for out in ("A.PNG", "codes.CSV", "codes.NPZ", "codes.Parquet"):
        verb = "encode" if "codes" in out else "sample"
        words = ["own.npy"] if verb == "encode" else []
        assert cli(verb, model_file, *words, "--out", out)[0] == 0
        assert Path(out).is_file()
    np.testing.assert_array_equal(np.load("codes.NPZ")["mean"].shape, (5, 3))
    assert csv.read_csv("codes.CSV").num_rows == 5
    for verb, out, code in (
        ("sample", "own.npy/", 1),
        ("encode", "own.npy/a.csv", 1),
        ("sample", "own.npy/sheet.png", 1),
        ("sample", "own.npy", 2),
    ):
        words = (verb, model_file, "own.npy") if verb == "encode" else (verb, model_file)
        found, _, err = cli(*words, "--out", out)
        assert (found, err.count("\n"), "own.npy" in err) == (code, 1, True)
    np.testing.assert_array_equal(np.load("own.npy"), some_pixels(5))


def test_an_array_is_one_whatever_the_case_of_its_ending(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    np.save("own.npy", some_pixels(5))
    Path("own.npy").rename("X.NPY")
    np.savez("own.npz", some_pixels(4))
    Path("own.npz").rename("X.Npz")
    for name, count in (("X.NPY", 5), ("X.Npz", 4)):
        assert cli("encode", model_file, name, "--out", f"{count}.csv")[0] == 0
        assert csv.read_csv(f"{count}.csv")["image"].to_pylist() == [f"{name}[{i}]" for i in range(count)]


MEASURE = """
import json, sys, tracemalloc
from pathlib import Path
import vaelab
from vaelab.models.vae import VAE

encode, seen = VAE.encode, []

def own_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

def measured(self, images, condition=None):
    seen.append(own_memory())
    return encode(self, images, condition)

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
    assert (code, out) == (2, "")
    assert all(word in err for word in ("abacus", "auto", "cpu"))
    assert (err.count("\n"), len(err) < 200) == (1, True)
    assert cli(verb, model_file, *images, "--device", "cpu")[0] == 0


# -- pictures ---------------------------------------------------------------------------------------------------------


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.usefixtures("chunks_of_four")
def test_samples_are_written_while_more_are_decoded_and_are_those_of_the_model(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = to_uint8(vaelab.load(model_file).sample(23, derive_seed(5, "sample")))
    decode, written = VAE.decode, list[int]()

    def count_before(self: VAE, z: torch.Tensor, condition: Any = None) -> torch.Tensor:
        assert len(z) <= 4
        written.append(len(list((tmp_path / "many").glob("*.png"))))
        return decode(self, z, condition)

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

    monkeypatch.setattr(pictures, "encode_png", fail)
    with pytest.raises(OSError, match="no space left"):
        vaelab.sample(model_file, count=3, out=tmp_path / "many")


def test_an_ending_of_no_pictures_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    for verb in (vaelab.sample, vaelab.reconstruct):
        with pytest.raises(ValueError, match=r"a\.jpeg: pictures go to a \.png or into a folder"):
            verb(tmp_path / "no model", out=tmp_path / "a.jpeg")
