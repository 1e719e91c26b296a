"""``vaelab sample``, ``reconstruct``, ``encode``, ``score`` and ``edit`` as commands: files, tables, refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv, parquet
from typed import Typed, one_line

import vaelab


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_samples_get_new_names_and_replace_nothing(
    cli: Typed, trained: Path, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits").symlink_to(trained)
    names = [cli("sample", "runs/digits", "-n", 9)[1].rstrip() for _ in range(2)]
    assert names == ["runs/digits-samples.png", "runs/digits-samples-2.png"]
    first, second = ((tmp_path / name).read_bytes() for name in names)
    assert first == second
    assert read(tmp_path / names[0]).shape == (3 * (3 * 30 + 2), 3 * (3 * 30 + 2))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    for words, code in (
        (("--out", names[0]), 1),
        (("--out", "mine", "--overwrite"), 1),
        (("--out", "a.jpeg"), 2),
        (("--out", "new/folder/a.png"), 1),
    ):
        found, out, err = cli("sample", trained, *words)
        assert (found, out) == (code, "")
        wording(one_line(err))
    assert cli("sample", trained, "--seed", 1, "-n", 9, "--out", names[0], "--overwrite")[0] == 0
    assert (tmp_path / names[0]).read_bytes() != first
    assert cli("sample", trained, "-n", 12, "--out", "many")[0] == 0
    assert len(list((tmp_path / "many").glob("*.png"))) == 12


def test_the_sampler_is_named_and_its_options_are_set(
    cli: Typed, trained: Path, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    sheets = []
    for words in ((), ("--sampler", "gmm"), ("--set", "sampler.name=gmm", "--set", "sampler.components=2")):
        code, out, err = cli("sample", trained, "-n", 4, "--out", f"{len(sheets)}.png", *words)
        assert (code, out.rstrip()) == (0, f"{len(sheets)}.png")
        wording(one_line(err))
        sheets.append((tmp_path / out.rstrip()).read_bytes())
    assert len(set(sheets)) == 3


def test_a_sheet_shows_pictures_above_their_reconstructions(cli: Typed, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / f"ä {i}.png")
    assert cli("reconstruct", trained, "mine", "--out", "pairs.png")[0] == 0
    with Image.open(tmp_path / "pairs.png") as picture:
        sheet = np.asarray(picture.convert("L")).astype(float)
    original = read(tmp_path / "mine" / "ä 1.png")
    large = original.repeat(6, 0).repeat(6, 1).astype(float)  # small images are enlarged by a whole factor
    left = next(x for x in range(sheet.shape[1] - 168) if np.abs(sheet[12:180, x : x + 168] - large).mean() < 2)
    rebuilt = vaelab.load(trained).reconstruct(original)[0, 0] * 255
    below = sheet[184:352, left : left + 168][::6, ::6]
    assert np.abs(below - rebuilt).mean() < 2  # the file has 256 colours
    assert (sheet[:, : left - 2 * 172] < 128).any()  # the names of the rows
    Image.fromarray(np.pad(original, ((0, 0), (5, 5)))).save(tmp_path / "mine" / "ä 1.png")  # is cropped again
    assert cli("reconstruct", trained, "mine", "--out", "wide.png")[0] == 0
    assert np.array_equal(read(tmp_path / "wide.png"), read(tmp_path / "pairs.png"))


def test_held_out_images_are_the_default(cli: Typed, trained: Path, tmp_path: Path) -> None:
    assert cli("reconstruct", trained, "-n", 5, "--out", "folder")[0] == 0
    assert len(list((tmp_path / "folder").iterdir())) == 5


def test_transparent_pictures_are_refused(
    cli: Typed, trained: Path, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    Image.new("RGBA", (28, 28), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    code, _, err = cli("reconstruct", trained, "clear.png", "--out", "x.png")
    assert code == 1
    wording(one_line(err))


def test_codes_are_equal_in_all_formats(cli: Typed, trained: Path, tmp_path: Path) -> None:
    for ending in ("parquet", "csv", "npz"):
        assert cli("encode", trained, "--out", f"codes.{ending}") == (0, f"codes.{ending}\n", "")
    archive = np.load(tmp_path / "codes.npz")
    for table in (parquet.read_table(tmp_path / "codes.parquet"), csv.read_csv(tmp_path / "codes.csv")):
        assert table.column_names == ["image", "label", "mean_1", "mean_2", "log_var_1", "log_var_2"]
        columns = np.stack([table["mean_1"].to_numpy(), table["mean_2"].to_numpy()], axis=1)
        np.testing.assert_allclose(columns, archive["mean"], rtol=1e-6)
        assert table["label"].to_numpy().tolist() == archive["labels"].tolist()
    assert archive["mean"].shape == (359, 2)
    assert str(archive["names"][3]) == "test[3]"
    assert cli("encode", trained, "--out", "codes.txt")[0] == 2


def test_precision_changes_codes_by_rounding(cli: Typed, trained: Path) -> None:
    for precision in ("fp32", "bf16"):
        words = ("--out", f"{precision}.npz", "--precision", precision, "--device", "cpu")
        assert cli("encode", trained, *words)[0] == 0
    exact, rounded = np.load("fp32.npz")["mean"], np.load("bf16.npz")["mean"]
    assert rounded.dtype == np.float32
    assert 1e-5 < np.abs(rounded - exact).max() < 0.1
    assert cli("encode", trained, "--precision", "fp16")[0] == 2


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "sample"])
def test_an_unknown_device_is_refused(cli: Typed, trained: Path, verb: str) -> None:
    code, out, err = cli(verb, trained, "--device", "abacus")
    assert (code, out) == (2, "")
    assert all(word in one_line(err) for word in ("abacus", "auto", "cpu"))


def test_thresholds_of_scores_are_printed_and_stored(cli: Typed, trained: Path) -> None:
    np.save("noise.npy", np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8))
    words = ("score", trained, "noise.npy", "--normal", "held-out", "--out", "s.csv")
    code, out, _ = cli(*words, "--samples", 1)
    assert (code, out.splitlines()[:3]) == (0, ["s.csv", "s.png", "s.json"])
    assert all(word in out for word in ("threshold", "threshold tpr", "threshold fpr"))
    kept = json.loads(Path("s.json").read_text())["-ELBO"]
    normal = vaelab.score(trained, samples=1, out="n.npz")
    with np.load(normal.table) as held_out:
        false_alarms = np.mean(-held_out["elbo"] >= kept["threshold"])
    assert kept["threshold_fpr"] == pytest.approx(false_alarms, abs=0.01)
    assert kept["threshold_tpr"] == 1
    for name in ("s.csv", "s.png", "s.json"):
        assert cli(*words)[0] == 1, f"{name} exists"
        Path(name).unlink()


def test_conditions_are_parsed_and_refused_by_other_models(cli: Typed, trained: Path) -> None:
    for words in (("--class", "7"), ("--with", "Smiling")):
        assert cli("sample", trained, *words)[0] == 1
    for words in (("--class", "7", "--with", "Smiling"), ("--with", "Smiling", "--without", "Smiling")):
        assert cli("sample", trained, *words)[0] == 2
