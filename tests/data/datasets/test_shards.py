"""Pictures in parquet files, Hugging Face data sets on the disk and WebDatasets."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from tiny_datasets import NUM_ROWS, make_shards, picture_rows, table_of
from typed import train_small

import vaelab
from vaelab.data.datasets import load_dataset
from vaelab.system.errors import InputError

LOAD = load_dataset("shards").load


def save_to_disk(place: Path) -> None:
    """The folders of ``datasets.DatasetDict.save_to_disk``."""
    for split in NUM_ROWS:
        (place / split).mkdir(parents=True)
        path, table = place / split / "data-00000-of-00001.arrow", table_of(split)
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        (place / split / "cache-1.arrow").write_bytes(b"of a computation")


def put_webdataset(place: Path, **more: bytes) -> None:
    """Two tars of samples: a PNG, its class and a JSON file; ``more``: further files of each sample by ending."""
    place.mkdir(parents=True)
    for split, name in (("train", "train-0000"), ("test", "val-0000")):
        with tarfile.open(place / f"{name}.tar", "w") as archive:
            for i, row in enumerate(picture_rows(split)):
                about = json.dumps({"old": row["old"], "who": "ab"[row["label"]], "box": [1, 2]}).encode()
                files = {"png": row["image"]["bytes"], "cls": str(row["label"]).encode(), "json": about, **more}
                for ending, content in files.items():
                    member = tarfile.TarInfo(f"part/{i:03d}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


MAKERS: dict[str, Callable[[Path], Any]] = {"hub": make_shards, "disk": save_to_disk, "webdataset": put_webdataset}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("split", NUM_ROWS)
def test_pictures_classes_and_attributes_are_found(kind: str, split: str, tmp_path: Path) -> None:
    expected = make_shards(tmp_path / "expected").expected[split]
    MAKERS[kind](tmp_path / "place")
    images = LOAD(tmp_path / "place", split)
    for name, column in expected.items():
        np.testing.assert_array_equal(getattr(images, name), column)
    assert images.attribute_names == ("old",)
    assert images.label_names == (("0", "1") if kind == "webdataset" else ("cat", "dog"))
    assert images.names is not None
    assert len(set(images.names)) == NUM_ROWS[split]


def test_one_file_is_split_by_a_fixed_seed(tmp_path: Path) -> None:
    make_shards(tmp_path)
    path = next(tmp_path.rglob("train*.parquet"))
    assert (len(LOAD(path, "train")), len(LOAD(path, "test"))) == (7, 1)
    assert (len(LOAD(path, "train", valid=3)), len(LOAD(path, "test", valid=3))) == (8, 3)


def test_a_run_is_trained_and_scores_other_shards(tmp_path: Path) -> None:
    make_shards(tmp_path / "hub")
    put_webdataset(tmp_path / "web")
    run = train_small(tmp_path / "run", {"training.steps": 4}, name="folder", data=tmp_path / "hub")
    assert [run.recipe.data[key] for key in ("name", "images", "label", "valid")] == ["shards", "image", "label", 0]
    assert vaelab.encode(run.path, tmp_path / "web").mean.shape[0] == 12
    found = vaelab.check_data(tmp_path / "web")[0]
    assert (found.name, [verdict for _, verdict in found.files]) == ("shards", ["ok", "ok"])


def test_labels_are_another_column_or_none(tmp_path: Path) -> None:
    put_webdataset(tmp_path / "web")
    assert LOAD(tmp_path / "web", "test", label="who").label_names == ("a", "b")
    assert LOAD(tmp_path / "web", "test", label="").labels is None


def test_one_of_several_columns_of_pictures_is_named(tmp_path: Path, wording: Callable[[object], None]) -> None:
    masks = [picture_rows("test")[0]["image"]] * NUM_ROWS["train"]
    parquet.write_table(table_of("train", mask=masks), tmp_path / "a.parquet")
    assert (np.asarray(LOAD(tmp_path / "a.parquet", "train", images="mask").pixels) == 80).all()
    put_webdataset(tmp_path / "web", **{"mask.png": masks[0]["bytes"]})
    assert (np.asarray(LOAD(tmp_path / "web", "test", images="mask.png").pixels) == 80).all()
    for place in (tmp_path / "a.parquet", tmp_path / "web"):
        with pytest.raises(InputError) as caught:
            LOAD(place, "train")
        assert len(caught.value.choices) == 2
        wording(caught.value)


def without_pictures(path: Path) -> Path:
    parquet.write_table(table_of("train").select(["label"]), path)
    return path


def without_rows(path: Path) -> Path:
    parquet.write_table(table_of("train").slice(0, 0), path)
    return path


def damaged(path: Path) -> Path:
    path.write_bytes(b"no such file " * 100)
    return path


def compressed(path: Path) -> Path:
    with tarfile.open(path, "w:gz"):
        return path


@pytest.mark.parametrize(
    ("make", "name", "options"),
    [
        (without_pictures, "a.parquet", {}),
        (without_rows, "a.parquet", {}),
        (damaged, "a.parquet", {}),
        (damaged, "a.arrow", {}),
        (damaged, "a.tar", {}),
        (compressed, "a.tar", {}),
        (lambda path: parquet.write_table(table_of("train"), path) or path, "a.parquet", {"label": "kind"}),
        (lambda path: parquet.write_table(table_of("train"), path) or path, "a.parquet", {"images": "label"}),
    ],
)
def test_what_cannot_be_used_is_one_line(
    make: Callable[[Path], Path], name: str, options: Any, tmp_path: Path, wording: Callable[[object], None]
) -> None:
    with pytest.raises(InputError) as caught:
        LOAD(make(tmp_path / name), "train", **options)
    assert str(tmp_path / name) in str(caught.value)
    wording(caught.value)


def test_pictures_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = picture_rows("train")
    rows[2]["image"], rows[5]["image"] = {"bytes": b"none", "path": None}, None
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    images = LOAD(tmp_path / "a.parquet", "train", valid=1)
    assert len(images) == 6
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 1, 0, 0, 1]
    assert "2 of 8" in " ".join(images.notes)
    with pytest.raises(InputError):
        LOAD(tmp_path / "a.parquet", "train", strict=True)
