"""Codes of any number of images: correct, complete or absent, the same from one process and from several."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from inputs import list_names, make_pixels, write_pictures
from pyarrow import csv, parquet
from typed import Typed, one_line

import vaelab
from vaelab.data.images import Images
from vaelab.data.pictures import Numbered, encode_png
from vaelab.exporters import tables
from vaelab.models.codes import encode_images
from vaelab.system.messages import VaelabWarning
from vaelab.system.progress import Task, show_progress

MEMORY = 24 << 20
"""Bytes by which memory may grow from a few images to a million, whose pixels are 64 MB."""
BROKEN = {0: b"", 5: b"no picture", 600: encode_png(make_pixels(1)[0])[:-30]}
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
every_format = pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])


@pytest.mark.parametrize("count", [1, 12, 1300])  # chunks have 512 images
def test_tables_hold_the_codes_of_all_images(model_file: Path, tmp_path: Path, count: int) -> None:
    np.save(tmp_path / "a.npy", make_pixels(count))
    codes = encode_images(vaelab.load(model_file), Images(make_pixels(count)))
    expected = np.concatenate([codes.mean, codes.log_var], axis=1)
    names = [f"a.npy[{i}]" for i in range(count)]
    columns = [f"{word}_{j}" for word in ("mean", "log_var") for j in (1, 2, 3)]
    for ending in ("parquet", "csv", "npz"):
        assert vaelab.encode(model_file, tmp_path / "a.npy", out=tmp_path / f"codes.{ending}").is_file()
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
    assert list_names(tmp_path) == ["a.npy", "codes.csv", "codes.npz", "codes.parquet"]


@every_format
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_the_parts_of_ranks_form_the_file_of_one_process(tmp_path: Path, ending: str, num_ranks: int) -> None:
    random = np.random.default_rng(0)
    spans = [(0, 4), (4, 8), (8, 12), (12, 16), (16, 17)]
    pieces = [tables.Piece(np.arange(a, b), random.standard_normal((2, b - a, 3)).astype(np.float32)) for a, b in spans]
    rows = tables.CodeTable(Numbered("test", 17), random.integers(0, 10, 17), 3)
    one, several = tmp_path / f"one.{ending}", tmp_path / f"several.{ending}"
    tables.write_codes(one, rows, pieces)
    parts = tables.Parts(several, num_ranks)
    for rank in range(num_ranks):
        parts.write(rank, iter(pieces[5 * rank // num_ranks : 5 * (rank + 1) // num_ranks]))
    tables.write_codes(several, rows, parts)
    assert several.read_bytes() == one.read_bytes()
    for rank in range(num_ranks):
        parts.remove(rank)
    assert list_names(tmp_path) == [one.name, several.name]
    labels = {
        "parquet": lambda: parquet.read_table(one)["label"].to_numpy(),
        "csv": lambda: csv.read_csv(one)["label"].to_numpy(),
        "npz": lambda: np.load(one)["labels"],
    }
    np.testing.assert_array_equal(labels[ending](), rows.labels, strict=True)


@pytest.mark.slow
def test_torchrun_writes_the_file_of_one_process(model_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", make_pixels(1300))
    vaelab.encode(model_file, tmp_path / "a.npy", out=tmp_path / "one.parquet")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vaelab"]
    words = ["encode", model_file, "a.npy", "--out", "two.parquet", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *launch, *words], cwd=tmp_path, env=ONE_THREAD, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "two.parquet\n"), done.stderr
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert list_names(tmp_path) == ["a.npy", "one.parquet", "two.parquet"]


@every_format
@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["failed", "interrupted"])
def test_a_failed_encoding_changes_nothing(model_file: Path, tmp_path: Path, ending: str, error: BaseException) -> None:
    def fail_at_the_end(task: Task) -> None:
        if task.done == task.total and not task.is_over:
            raise error

    np.save(tmp_path / "a.npy", make_pixels(1100))
    old = tmp_path / f"old.{ending}"
    old.write_bytes(b"old")
    for path in (tmp_path / f"new.{ending}", old):
        with show_progress(fail_at_the_end), pytest.raises(type(error)):
            vaelab.encode(model_file, tmp_path / "a.npy", out=path, overwrite=True)
    assert old.read_bytes() == b"old"
    assert list_names(tmp_path) == ["a.npy", old.name]


@every_format
def test_unreadable_pictures_have_no_row(
    model_file: Path, tmp_path: Path, ending: str, wording: Callable[[object], None]
) -> None:
    folder, table_file = write_pictures(tmp_path / "own", 601, BROKEN), tmp_path / f"codes.{ending}"
    with pytest.warns(VaelabWarning) as warned:
        vaelab.encode(model_file, folder, out=table_file)
    (warning,) = warned
    wording(warning.message)
    kept = [i for i in range(601) if i not in BROKEN]
    expected = vaelab.load(model_file).encode(make_pixels(601)[kept]).mean.numpy()
    if ending == "npz":
        with np.load(table_file) as archive:
            names, means = archive["names"].tolist(), archive["mean"]
            assert archive["log_var"].shape == means.shape
    else:
        table = parquet.read_table(table_file) if ending == "parquet" else csv.read_csv(table_file)
        names = table["image"].to_pylist()
        means = np.stack([table[f"mean_{j}"].to_numpy() for j in (1, 2, 3)], axis=1)
    assert names == [f"{i:03d}.png" for i in kept]
    np.testing.assert_allclose(means, expected, atol=1e-6)
    assert list_names(tmp_path) == sorted([table_file.name, "own"])


def test_array_files_are_recognised_by_their_ending_in_any_case(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    np.save("own.npy", make_pixels(5))
    Path("own.npy").rename("X.NPY")
    np.savez("own.npz", make_pixels(4))
    Path("own.npz").rename("X.Npz")
    for name, count in (("X.NPY", 5), ("X.Npz", 4)):
        assert cli("encode", model_file, name, "--out", f"{count}.csv")[0] == 0
        assert csv.read_csv(f"{count}.csv")["image"].to_pylist() == [f"{name}[{i}]" for i in range(count)]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open every folder")
def test_a_folder_that_cannot_be_opened_is_left_out(cli: Typed, model_file: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "own" / "open", 3)
    write_pictures(tmp_path / "own" / "shut", 3).chmod(0)
    code, _, err = cli("encode", model_file, "own", "--out", "a.csv")
    assert (code, "shut" in one_line(err)) == (0, True)
    assert cli("encode", model_file, "own", "--strict")[0] == 1
    (tmp_path / "own" / "shut").chmod(0o700)


MEASURE = """
# prose: ignore
import json, sys
from pathlib import Path
import vaelab
from vaelab.system.progress import show_progress

def own_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

model, few, many, ending = sys.argv[1:]
peaks = []
for name in (few, many):
    seen = []
    with show_progress(lambda task: seen.append(own_memory())):
        vaelab.encode(model, name, out=name + ending, device="cpu")
    peaks.append(max(seen))
print(json.dumps({"reports": len(seen), "grown": peaks[1] - peaks[0]}))
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("ending", [".parquet", ".npz"])
def test_a_million_images_take_the_memory_of_a_few(model_file: Path, tmp_path: Path, ending: str) -> None:
    count = 1_000_000
    many = np.lib.format.open_memmap(tmp_path / "many.npy", "w+", np.uint8, (count, 8, 8, 1))
    for start in range(0, count, 1000):
        many[start : start + 1000] = make_pixels(1000)
    many.flush()
    np.save(tmp_path / "few.npy", many[:40_000])
    arguments = [sys.executable, "-c", MEASURE, model_file, "few.npy", "many.npy", ending]
    done = subprocess.run(arguments, cwd=tmp_path, env=ONE_THREAD, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["reports"] == -(-count // 512) + 2  # with beginning and end
    assert found["grown"] < MEMORY
    if ending == ".parquet":
        table = parquet.ParquetFile(tmp_path / "many.npy.parquet")
        assert (table.metadata.num_rows, table.num_row_groups) == (count, -(-count // (1 << 14)))
