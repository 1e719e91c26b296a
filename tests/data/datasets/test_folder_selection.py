"""Runs on the user's own pictures, which may be changed afterwards."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv, parquet
from tiny_datasets import put_picture, put_pictures
from typed import Typed, train_small
from wording import Wording

import vaelab
from vaelab.data.datasets.folder import load, reload
from vaelab.data.images import Images, ImagesNotFound
from vaelab.data.scan import hash_name
from vaelab.run import Run
from vaelab.system.errors import InputError
from vaelab.system.paths import cache_dir

TINY = ["--set", "network.name=mlp", "--set", "network.hidden=[16]", "--set", "training.steps=20",
        "--set", "training.threads=1"]  # fmt: skip
NEW = ["cat 猫/new.png", "dog/new.png", "dog/newer.png", "dog/o.png"]
"""Names of further pictures, for both splits."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty pictures of two classes and of all sizes."""
    return put_forty(tmp_path / "my pictures")


def put_forty(root: Path) -> Path:
    for i in range(40):
        put_picture(root / f"{'cat 猫' if i % 2 else 'dog'}/{i} é.png", (20 + i, 60 - i), (6 * i, 100, 50))
    return root


def add_pictures(place: Path) -> None:
    assert {hash_name(name) < (1 << 64) // 10 for name in NEW} == {True, False}
    for name in NEW:
        put_picture(place / name, (31, 17), (1, 2, 3))


# -- loading the same pictures again ----------------------------------------------------------------------------------


@pytest.fixture
def loaded(pictures: Path) -> dict[str, Images]:
    return {split: load(pictures, split) for split in ("train", "test")}


def reload_all(place: Path | None, loaded: dict[str, Images], **options: Any) -> dict[str, Images]:
    selections = json.loads(json.dumps({split: images.selection for split, images in loaded.items()}))
    again = {split: reload(place, split, selections, **options) for split in loaded}
    for split, images in again.items():
        assert images.digest == loaded[split].digest
        assert images.names == loaded[split].names
        assert images.label_names == loaded[split].label_names
        np.testing.assert_array_equal(images.labels, loaded[split].labels)
        assert images.selection == selections[split]
    assert again["train"].warnings == again["test"].warnings
    return again


@pytest.fixture(params=[True, False], ids=["cached", "not cached"])
def is_cached(request: pytest.FixtureRequest, cache: Path, loaded: dict[str, Images]) -> bool:
    if not request.param:
        shutil.rmtree(cache)
    return bool(request.param)


def test_unchanged_pictures_give_no_warning(pictures: Path, loaded: dict[str, Images], is_cached: bool) -> None:
    assert reload_all(pictures, loaded)["train"].warnings == ()


def test_added_pictures_are_left_out(
    pictures: Path, loaded: dict[str, Images], is_cached: bool, wording: Wording
) -> None:
    add_pictures(pictures)
    (warning,) = reload_all(pictures, loaded)["train"].warnings
    wording(warning)


def test_touched_pictures_are_reported(pictures: Path, loaded: dict[str, Images], wording: Wording) -> None:
    os.utime(pictures / "dog" / "0 é.png", ns=(10**18, 10**18))
    (warning,) = reload_all(pictures, loaded)["train"].warnings
    wording(warning)


def test_removed_pictures_come_from_the_cache(
    pictures: Path, loaded: dict[str, Images], is_cached: bool, wording: Wording
) -> None:
    (pictures / loaded["test"].selection["names"][0]).unlink()
    if is_cached:
        (warning,) = reload_all(pictures, loaded)["train"].warnings
        wording(warning)
    else:
        with pytest.raises(ImagesNotFound) as caught:
            reload_all(pictures, loaded)
        wording(caught.value)


def test_a_removed_folder_is_replaced_by_the_cache(
    pictures: Path, loaded: dict[str, Images], is_cached: bool, wording: Wording
) -> None:
    shutil.rmtree(pictures)
    for place in (pictures, None):
        if is_cached:
            (warning,) = reload_all(place, loaded)["train"].warnings
            wording(warning)
        else:
            with pytest.raises(ImagesNotFound):
                reload_all(place, loaded)


def test_a_copy_of_the_pictures_elsewhere_is_used(pictures: Path, loaded: dict[str, Images], tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "copy")
    shutil.rmtree(pictures)
    assert reload_all(tmp_path / "copy", loaded)["train"].warnings == ()


def test_pictures_with_another_content_are_refused(
    pictures: Path, loaded: dict[str, Images], cache: Path, wording: Wording
) -> None:
    shutil.rmtree(cache)
    put_picture(pictures / loaded["train"].selection["names"][0], colour=(9, 9, 9))
    with pytest.raises(ImagesNotFound) as caught:
        reload_all(pictures, loaded)
    wording(caught.value)


def test_a_repaired_picture_stays_out(tmp_path: Path) -> None:
    root = put_pictures(tmp_path / "own", 12)
    whole = (root / "003.png").read_bytes()
    (root / "003.png").write_bytes(b"")
    loaded = {split: load(root, split) for split in ("train", "test")}
    (root / "003.png").write_bytes(whole)
    assert reload_all(root, loaded)["train"].warnings == ()
    assert sum(len(load(root, split)) for split in loaded) == 12  # completes the cache entry
    assert reload_all(root, loaded)["train"].warnings == ()


def test_the_split_stays_when_another_folder_appears(tmp_path: Path) -> None:
    for i in range(12):
        put_picture(tmp_path / "own" / ("train" if i < 8 else "test") / f"{i}.png", colour=20 * i)
    loaded = {split: load(tmp_path / "own", split) for split in ("train", "test")}
    folders = {key: loaded["train"].resolved[key] for key in ("train", "valid", "test")}
    assert folders == {"train": "train", "valid": 0, "test": "test"}
    put_picture(tmp_path / "own" / "val" / "x.png")
    assert load(tmp_path / "own", "test").split_name == "val"
    again = reload_all(tmp_path / "own", loaded, **folders)
    assert again["test"].split_name == "test"
    assert again["train"].warnings == ()


@pytest.mark.parametrize(
    "content",
    [{}, {"other": {}}, {"train": {"names": 3}, "test": {}}],
    ids=["empty", "other split", "shape"],
)
def test_damaged_selections_are_refused(pictures: Path, content: Any) -> None:
    with pytest.raises(InputError) as caught:
        reload(pictures, "train", content)
    assert caught.value.subject == "pictures.json"


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run on forty pictures, and their folder."""
    place = tmp_path_factory.mktemp("trained")
    put_forty(place / "my pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        vaelab.train("folder", {"network.name": "mlp", "network.hidden": [16], "training.steps": 20,
                             "training.threads": 1}, data=place / "my pictures", run=place / "run")  # fmt: skip
    return place / "run", place / "my pictures"


@pytest.fixture
def finished(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of that run and of its pictures."""
    run, place = trained
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(place, tmp_path / "my pictures")
    machine = json.loads((tmp_path / "run" / "machine.json").read_text())
    machine["data_dir"] = str(tmp_path / "my pictures")
    (tmp_path / "run" / "machine.json").write_text(json.dumps(machine))
    return tmp_path / "run", tmp_path / "my pictures"


@pytest.mark.slow
def test_a_run_on_own_pictures_is_complete(trained: tuple[Path, Path]) -> None:
    run = Run(trained[0])
    assert run.is_finished
    assert {"data", "losses", "reconstructions", "samples"} <= set(run.figures)
    assert run.recipe.data["size"] == [16, 16]
    assert run.recipe.data["channels"] == "rgb"
    assert (run.recipe.objective["beta"], run.recipe.network["latent_dim"]) == (0.062, 4)
    expected = {"data": "folder", "size": [16, 16], "fit": "crop", "split": "test"}
    assert run.evaluation["elbo"]["measured_on"].items() >= expected.items()
    assert "own fixed split" in (run.path / "report.html").read_text()


@pytest.mark.slow
def test_a_run_resumes_with_its_own_pictures_after_others_were_added(
    cli: Typed, finished: tuple[Path, Path], tmp_path: Path
) -> None:
    run, place = finished
    history = (run / "history.csv").read_bytes()
    assert cli("train", "folder", *TINY, "--data", place, "--run", run)[0] == 0  # it is finished
    put_pictures(tmp_path / "others", 12)
    code, _, err = cli("train", "folder", *TINY, "--data", "others", "--run", run)
    assert (code, err.count("\n")) == (1, 1)
    (run / "model.safetensors").unlink()  # as if it had been interrupted
    shutil.rmtree(run / "checkpoints")
    (run / "history.csv").unlink()
    put_picture(place / "dog" / "new.png", colour=(1, 2, 3))
    code, out, err = cli("train", "folder", *TINY, "--data", place, "--run", run)
    assert (code, err) == (0, "")
    assert "(1 added)" in out
    assert (run / "history.csv").read_bytes() == history


@pytest.mark.long
def test_a_run_is_measured_on_its_own_pictures_after_others_were_added(
    cli: Typed, finished: tuple[Path, Path], trained: tuple[Path, Path], tmp_path: Path
) -> None:
    run, place = finished
    held_out = json.loads((run / "pictures.json").read_text())["test"]["names"]
    before = json.loads((run / "evaluation.json").read_text())["elbo"]["elbo"]
    add_pictures(place)
    for verb in ("evaluate", "figures", "doctor"):
        code, _, err = cli(verb, run)
        assert (code, err.count("(4 added)")) == (0, 1)
    assert json.loads((run / "evaluation.json").read_text())["elbo"]["elbo"] == before
    code, _, err = cli("encode", run, "--out", "codes.csv")
    assert (code, err.count("(4 added)")) == (0, 1)
    assert csv.read_csv("codes.csv")["image"].to_pylist() == held_out
    (place / held_out[0]).unlink()
    shutil.rmtree(cache_dir() / "images")
    code, _, err = cli("evaluate", run)
    assert (code, err.count("\n")) == (1, 1)
    assert cli("evaluate", run, "--data", trained[1])[0] == 0
    for content in ("", "[]", "{}x", '{"train": 1}'):
        (run / "pictures.json").write_text(content)
        code, _, err = cli("evaluate", run, "--data", trained[1])
        assert (code, err.count("pictures.json")) == (1, 1)
    (run / "pictures.json").unlink()
    assert cli("evaluate", run, "--data", trained[1])[0] == 0


@pytest.mark.long
def test_held_out_pictures_without_classes(cli: Typed, tmp_path: Path) -> None:
    for i in range(36):
        name = f"{'test' if i < 6 else 'train/cat' if i % 2 else 'train/dog'}/{i}.png"
        put_picture(tmp_path / "own" / name, colour=7 * i)
    assert cli("train", "folder", *TINY, "--data", "own", "--run", "run")[0] == 0
    run = Run(tmp_path / "run")
    assert run.machine["validated_on"] == "test"
    for words in (["evaluate"], ["figures"], ["doctor"], ["report"]):
        assert cli(*words, "run")[0] == 0
    assert "probe" not in run.evaluation
    assert cli("score", "run", "--out", "scores.csv")[0] == 0
    table = csv.read_csv("scores.csv")
    assert sorted(table["image"].to_pylist()) == [f"test/{i}.png" for i in range(6)]
    assert "class" not in table.column_names


@pytest.mark.long
def test_held_out_pictures_are_named_in_tables(cli: Typed, tmp_path: Path) -> None:
    for i in range(40):
        name = f"{'train/good' if i < 20 else 'test/good' if i < 30 else 'test/broken'}/{i}.png"
        put_picture(tmp_path / "own" / name, colour=i)
    code, out, _ = cli("data", "check", "own", "--json")
    assert code == 0
    (warning,) = json.loads(out)[0]["warnings"]
    assert "data.test=test/good" in warning
    code, out, _ = cli("train", "folder", *TINY, "--data", "own", "--run", "both")
    assert (code, out.count(warning)) == (0, 1)
    assert cli("score", "both", "--out", "scores.parquet")[0] == 0
    table = parquet.read_table("scores.parquet").to_pydict()
    assert set(zip(table["label"], table["class"], strict=True)) == {(0, "broken"), (1, "good")}
    assert [image.split("/")[1] for image in table["image"]] == table["class"]
    for ending in ("csv", "npz"):
        assert cli("encode", "both", "--out", f"codes.{ending}")[0] == 0
    assert csv.read_csv("codes.csv")["class"].to_pylist() == ["broken"] * 10 + ["good"] * 10
    assert np.load("codes.npz")["label_names"].tolist() == ["broken", "good"]
    words = ["--data", "own", "--set", "data.test=test/good", "--run", "good"]
    assert cli("train", "folder", *TINY, *words)[0] == 0
    run = Run(tmp_path / "good")
    assert run.machine["validated_on"] == "test/good"
    assert run.evaluation["elbo"]["protocol"]["images"] == 10
    assert cli("train", "folder", *TINY, *words)[0] == 0  # it is finished
    assert cli("train", "folder", *TINY, *words, "--set", "data.valid=test/broken")[0] == 1


@pytest.mark.slow
def test_a_run_encodes_pictures_of_other_sizes(cli: Typed, finished: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = finished
    put_picture(tmp_path / "new" / "large ä.jpg", (300, 200), (200, 30, 30))
    put_picture(tmp_path / "new" / "in" / "grey.png", (8, 90))
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "new" / "clear.png")  # on white, as in training
    names = ["clear.png", "in/grey.png", "large ä.jpg"]
    for ending in ("parquet", "csv"):
        assert cli("encode", run, "new", "--out", f"codes.{ending}")[0] == 0
    assert parquet.read_table(tmp_path / "codes.parquet")["image"].to_pylist() == names
    assert csv.read_csv(tmp_path / "codes.csv")["image"].to_pylist() == names
    assert cli("reconstruct", run, "new", "--out", "pairs.png")[0] == 0
    with Image.open(tmp_path / "pairs.png") as sheet:
        above = np.asarray(sheet.convert("RGB"))[20]  # above the words of the label
    assert (above != 255).any(1).argmax() > len(above) / 3  # the first of three pictures is white
    assert cli("reconstruct", run, "new", "--out", "one by one")[0] == 0
    assert len(list((tmp_path / "one by one").iterdir())) == 3
    shutil.make_archive("new", "zip", "new")
    assert cli("encode", run, "new.zip", "--out", "codes.npz")[0] == 0
    assert np.load(tmp_path / "codes.npz")["names"].tolist() == names
    (tmp_path / "new" / "broken.png").write_bytes(b"")
    code, _, err = cli("encode", run, "new", "--out", "some.csv")
    assert (code, err.count("broken.png")) == (0, 1)
    code, _, err = cli("encode", run, "new", "--out", "none.csv", "--strict")
    assert (code, err.count("broken.png"), err.count("\n")) == (1, 1, 1)


@pytest.mark.parametrize("count", [1, 2, 31])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:posterior collapse")  # 20 steps are few
@pytest.mark.filterwarnings("ignore:sampler gmm is left out")  # one code is too few
def test_few_pictures_train(tmp_path: Path, count: int) -> None:
    root = put_pictures(tmp_path / "own", count, (40, 30))
    run = train_small(tmp_path / "run", {"training.steps": 20, "data.size": 24}, name="folder", data=root)
    assert run.is_finished
    assert run.recipe.data["size"] == 24
    assert len(run.history["loss"]) == 20


@pytest.mark.parametrize(
    ("size", "channels"), [(8, [32]), ([20, 33], [32, 64]), (28, [32, 64]), (256, [32, 64, 128, 256, 256, 256])]
)
def test_automatic_network_and_objective_suit_the_size(tmp_path: Path, size: Any, channels: list[int]) -> None:
    put_pictures(tmp_path / "own", 100, (300, 300))
    recipe = vaelab.plan("folder", {"data.size": size}, data=tmp_path / "own", run=tmp_path / "run")["recipe"]
    assert recipe.network["channels"] == channels
    assert 2 <= recipe.network["latent_dim"] <= 12
    assert recipe.training.epochs == 1000
    height, width = size if isinstance(size, list) else (size, size)
    assert recipe.objective["beta"] == pytest.approx(height * width / 64**2, rel=0.05)
