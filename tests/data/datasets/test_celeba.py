"""CelebA in every form in which people have it: the same images, attributes and splits from all."""

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from tiny_datasets import (
    ATTRIBUTES,
    FACE_COUNTS,
    FACE_NAMES,
    FACE_SPLITS,
    HAS,
    NUM_FACES,
    attribute_list,
    centre_crops,
    face_jpeg,
    face_pixels,
    face_rows,
    partition_list,
    put_celeba,
    put_faces,
)
from typed import Typed, train_small
from wording import Wording

from vaelab import recipe
from vaelab.data.datasets import UnusableFile, celeba
from vaelab.data.datasets._celeba_files import MAX_FOLDERS, PUBLISHED
from vaelab.data.datasets.celeba import BOXES, INFO, check, find, load, resize_policy, shape
from vaelab.data.decode import decode

Place = Callable[[Path], Path]


def attribute_csv() -> str:
    rows = [",".join([FACE_NAMES[i], *("1" if has else "-1" for has in HAS[i])]) for i in range(NUM_FACES)]
    return "\n".join([",".join(["image_id", *ATTRIBUTES]), *rows]) + "\n"


def partition_csv() -> str:
    return "image_id,partition\n" + "".join(f"{FACE_NAMES[i]},{FACE_SPLITS[i]}\n" for i in range(NUM_FACES))


def zip_faces(path: Path, inside: str = "img_align_celeba/", *, with_lists: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(inside, "")
        for i, name in enumerate(FACE_NAMES):
            archive.writestr(f"{inside}{name}", face_jpeg(i))
            archive.writestr(f"__MACOSX/{inside}._{name}", "")
        if with_lists:
            archive.writestr("list_attr_celeba.csv", attribute_csv())
            archive.writestr("list_eval_partition.csv", partition_csv())
    return path


def images_alone(root: Path) -> Path:
    return put_celeba(root) / "img_align_celeba"


def google_drive(root: Path) -> Path:
    put_celeba(root)
    for folder in ("Img", "Anno", "Eval"):
        (root / folder).mkdir()
    (root / "img_align_celeba").rename(root / "Img" / "img_align_celeba")
    (root / "list_attr_celeba.txt").rename(root / "Anno" / "list_attr_celeba.txt")
    (root / "list_eval_partition.txt").rename(root / "Eval" / "list_eval_partition.txt")
    return root


def zipped(root: Path) -> Path:
    put_celeba(root)
    shutil.rmtree(root / "img_align_celeba")
    zip_faces(root / "img_align_celeba.zip")
    (root / "img_align_celeba").mkdir()  # left by an interrupted unpacking
    return root


def zip_alone(root: Path) -> Path:
    return zipped(root) / "img_align_celeba.zip"


def torchvision(root: Path) -> Path:
    put_celeba(root / "celeba")
    (root / "celeba" / "identity_CelebA.txt").write_text("000001.jpg 2880\n")
    return root


def kaggle(root: Path) -> Path:
    put_faces(root / "img_align_celeba" / "img_align_celeba")
    for name, text in (("list_attr_celeba", attribute_csv()), ("list_eval_partition", partition_csv())):
        content = text.replace("\n", "\r\n").encode("utf-8-sig")  # as some programs save them
        (root / f"{name}.csv").write_bytes(content)
    return root


def kaggle_archive(root: Path) -> Path:
    root.mkdir(parents=True)
    return zip_faces(root / "archive.zip", "img_align_celeba/img_align_celeba/", with_lists=True)


def make_table(split: str, kind: type = bool) -> pyarrow.Table:
    rows = face_rows(split)
    columns: dict[str, Any] = {"image": [{"bytes": face_jpeg(i), "path": FACE_NAMES[i]} for i in rows]}
    columns["celeb_id"] = rows
    values = HAS[rows] if kind is bool else np.where(HAS[rows], 1, -1)
    columns |= {name: values[:, j].tolist() for j, name in enumerate(ATTRIBUTES)}
    return pyarrow.table({**columns, "lefteye_x": [68 + i for i in rows]})


def hub(root: Path) -> Path:
    folder = root / "celeba" / "img_align+identity+attr"
    folder.mkdir(parents=True)
    for split in FACE_COUNTS:
        whole = make_table(split)
        for part in range(2):
            name = f"{split}-0000{part}-of-00002.parquet"
            parquet.write_table(whole.slice(part, 1 if part == 0 else None), folder / name, row_group_size=2)
    return root


def plain_hub(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    for split in FACE_COUNTS:
        word = "validation" if split == "valid" else split
        parquet.write_table(make_table(split, int), root / "data" / f"{word}-00000-of-00001-0a1b2c.parquet")
    return root


def converted_hub(root: Path) -> Path:
    for split in FACE_COUNTS:
        folder = root / ("validation" if split == "valid" else split)
        folder.mkdir(parents=True)
        parquet.write_table(make_table(split), folder / "0000.parquet")
    return root


LAYOUTS = [put_celeba, images_alone, google_drive, zipped, zip_alone, torchvision, kaggle, kaggle_archive,
           hub, plain_hub, converted_hub]  # fmt: skip


def load_error(place: Path, split: str = "train") -> UnusableFile:
    """The error of loading a split."""
    with pytest.raises(UnusableFile) as caught:
        load(place, split)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


# -- published facts --------------------------------------------------------------------------------------------------


def test_published_facts() -> None:
    assert PUBLISHED == {"train": 162_770, "valid": 19_867, "test": 19_962} == INFO.splits
    assert celeba.MIRROR == "flwrlabs/celeba"
    for fact in ("non-commercial research", "mmlab.ie.cuhk.edu.hk/projects/CelebA.html", "--data"):
        assert fact in INFO.terms


def test_crops_of_papers() -> None:
    for name, ((left, top, right, bottom), side) in BOXES.items():
        assert right - left == bottom - top
        assert 0 <= left < right <= 178
        assert 0 <= top < bottom <= 218
        assert shape(crop=name) == (3, side, side)
        if name.startswith("center"):
            size, _, target = name.removeprefix("center").partition("-")
            assert (right - left, side) == (int(size), int(target or size))
            assert (left, top) == ((178 - int(size)) // 2, (218 - int(size)) // 2)
    assert BOXES["box-64"] == ((15, 40, 15 + 148, 40 + 148), 64)  # Larsen et al.: rows 40 to 188, columns 15 to 163
    assert BOXES["box128"] == ((89 - 64, 121 - 64, 89 + 64, 121 + 64), 128)
    assert {recipe.load(name).data["crop"] for name in recipe.presets() if name.startswith("celeba")} <= set(BOXES)


@pytest.mark.parametrize("crop", BOXES)
def test_a_crop_is_a_slice_or_its_area_averages(tmp_path: Path, crop: str) -> None:
    (left, top, right, bottom), side = BOXES[crop]
    images = load(put_celeba(tmp_path / "in"), "valid", crop=crop)
    for number, pixels in zip(face_rows("valid"), np.asarray(images.pixels), strict=True):
        part = face_pixels(number)[top:bottom, left:right].astype(float)
        overlaps = np.clip(
            np.minimum.outer(np.arange(1, side + 1) * len(part), np.arange(1, len(part) + 1) * side)
            - np.maximum.outer(np.arange(side) * len(part), np.arange(len(part)) * side), 0, None,
        ) / len(part)  # fmt: skip
        means = np.einsum("ij,jkc,lk->ilc", overlaps, part, overlaps, optimize=True)
        np.testing.assert_allclose(pixels, means, atol=0.5 + 1e-9)
    assert f"columns {left} to {right}, rows {top} to {bottom}" in images.notes[0]


def test_aligned_pictures_are_cropped_like_the_faces() -> None:
    policy = resize_policy((3, 128, 128), crop="center128")
    np.testing.assert_array_equal(decode(face_jpeg(0), policy), centre_crops([0])[0])


# -- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images(tmp_path: Path, layout: Place) -> None:
    place = layout(tmp_path / "in")
    assert find(place) is not None
    for split in FACE_COUNTS:
        images = load(place, split)
        np.testing.assert_array_equal(np.asarray(images.pixels), centre_crops(face_rows(split)))
        np.testing.assert_array_equal(images.attributes, HAS[face_rows(split)])
        assert images.attribute_names == tuple(ATTRIBUTES)
        assert len(images.notes) == 2  # the crop, and that there are fewer images than published
        assert f"{sum(PUBLISHED.values()):,}" in images.notes[1] or f"{PUBLISHED[split]:,}" in images.notes[1]
        assert Path(images.source).exists()
    found = find(place)
    assert found
    assert all(verdict.startswith("ok (") for _, verdict in check(found))


def test_the_cache_is_searched(tmp_path: Path, wording: Wording) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load(None, "train")
    wording(caught.value)
    hub(tmp_path / "cache" / "vaelab")
    assert find(None) == tmp_path / "cache" / "vaelab" / "celeba"
    assert len(load(None, "train")) == FACE_COUNTS["train"]


def test_other_pictures_are_not_taken_for_celeba(tmp_path: Path) -> None:
    put_faces(tmp_path / "own" / "faces")
    shutil.make_archive(str(tmp_path / "faces"), "zip", tmp_path / "own")
    for i in range(MAX_FOLDERS + 1):
        (tmp_path / "many" / f"class {i}").mkdir(parents=True)
    parquet.write_table(make_table("train"), tmp_path / "many" / "class 3" / "train.parquet")
    (tmp_path / "half.zip").write_bytes(b"PK\3\4")
    for name in ("own", "faces.zip", "many", "half.zip"):
        assert find(tmp_path / name) is None


# -- missing and damaged images ---------------------------------------------------------------------------------------


def test_missing_images_are_refused_or_left_out(tmp_path: Path, wording: Wording) -> None:
    place = put_celeba(tmp_path / "in")
    for i in (1, 2):
        (place / "img_align_celeba" / FACE_NAMES[i]).unlink()
    wording(load_error(place))
    images = load(place, "train", strict=False)
    np.testing.assert_array_equal(np.asarray(images.pixels), centre_crops([0, 3]))
    np.testing.assert_array_equal(images.attributes, HAS[[0, 3]])
    wording(images.notes[-1])
    assert load_error(place).subject == place  # with a cache entry, too
    assert len(load(place, "test")) == 3
    verdicts = dict(check(place))
    assert verdicts["000002.jpg"].startswith("missing")
    wording(verdicts["train split"])


def test_extra_images_are_left_out(tmp_path: Path) -> None:
    place = put_celeba(tmp_path / "in")
    for name in ("999999.jpg", "000001 (copy).jpg"):
        (place / "img_align_celeba" / name).write_bytes(face_jpeg(0))
    images = load(place, "test")
    assert len(images) == 3
    assert any("2 (first: 000001 (copy).jpg)" in note for note in images.notes)
    assert dict(check(place))["999999.jpg"] == "not on the lists"


@pytest.mark.parametrize("layout", [put_celeba, zipped, hub])
def test_truncated_images_are_refused_or_left_out(
    tmp_path: Path, layout: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = face_jpeg

    def damaged(number: int) -> bytes:
        return whole(number)[:3000] if number in (4, 7) else whole(number)

    with monkeypatch.context() as patch:
        patch.setattr("tiny_datasets.face_jpeg", damaged)
        patch.setitem(globals(), "face_jpeg", damaged)
        place = layout(tmp_path / "in")
    for _ in range(2):  # without a cache entry, then with one
        assert "1 of 2 images" in str(load_error(place, "valid"))
        images = load(place, "valid", strict=False)
        np.testing.assert_array_equal(np.asarray(images.pixels), centre_crops([5]))
        np.testing.assert_array_equal(images.attributes, HAS[[5]])
        assert "1 of 2 images" in images.notes[-1]
    found = find(place)
    assert found
    assert len([name for name, verdict in check(found) if verdict.startswith("damaged")]) == 2


def test_an_image_repaired_in_place_is_noticed(tmp_path: Path) -> None:
    place = put_celeba(tmp_path / "in")
    path = place / "img_align_celeba" / FACE_NAMES[0]
    path.write_bytes(face_jpeg(0)[:3000])
    load_error(place)
    with path.open("r+b") as file:  # the folder does not change
        file.write(face_jpeg(0))
    np.testing.assert_array_equal(np.asarray(load(place, "train").pixels), centre_crops(face_rows("train")))
    other = place / "img_align_celeba" / FACE_NAMES[5]
    other.write_bytes(b"")
    assert len(load(place, "valid", strict=False)) == 1
    other.write_bytes(face_jpeg(5))
    assert len(load(place, "valid", strict=False)) == 2


def test_images_of_another_size_are_refused(tmp_path: Path, wording: Wording) -> None:
    place = put_celeba(tmp_path / "in")
    Image.new("RGB", (178, 178)).save(place / "img_align_celeba" / FACE_NAMES[0])
    wording(load_error(place))


# -- missing and damaged lists ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_the_partition_images_are_split_by_number(tmp_path: Path, wording: Wording) -> None:
    """The published numbers decide, if all 202,599 images are listed."""
    place = put_celeba(tmp_path / "in")
    (place / "list_eval_partition.txt").unlink()
    wording(load_error(place))
    shutil.rmtree(place / "img_align_celeba")
    (place / "img_align_celeba").mkdir()
    rows = "".join(f"{i:06d}.jpg {1 - 2 * (i % 2)}\n" for i in range(1, 202_600))
    (place / "list_attr_celeba.txt").write_text(f"202599\nEven\n{rows}")
    borders = {"train": [1, 162_770], "valid": [162_771, 182_637], "test": [182_638, 202_599]}
    for number in (number for numbers in borders.values() for number in numbers):
        (place / "img_align_celeba" / f"{number:06d}.jpg").write_bytes(face_jpeg(number))
    for split, numbers in borders.items():
        images = load(place, split, strict=False)
        np.testing.assert_array_equal(np.asarray(images.pixels), centre_crops(numbers))
        assert images.attributes is not None
        assert images.attributes[:, 0].tolist() == [number % 2 == 0 for number in numbers]
        assert any("list_eval_partition.txt" in note for note in images.notes)


def test_without_the_attributes_there_are_none(tmp_path: Path) -> None:
    place = put_celeba(tmp_path / "in")
    (place / "list_attr_celeba.txt").unlink()
    images = load(place, "train")
    assert (len(images), images.attributes, images.attribute_names) == (4, None, ())
    assert any("list_attr_celeba.txt" in note for note in images.notes)


DAMAGED = {
    "cut off": ("list_eval_partition", partition_list()[:-5]),
    "two images too few": ("list_eval_partition", partition_list(7)),
    "unknown split": ("list_eval_partition", partition_list().replace(" 1", " 3")),
    "web page": ("list_eval_partition", "<!DOCTYPE html>\n<html>"),
    "attributes cut off": ("list_attr_celeba", attribute_list()[:-200]),
    "wrong count": ("list_attr_celeba", attribute_list().replace("9\n", "202599\n", 1)),
    "wrong value": ("list_attr_celeba", attribute_list().replace(" -1", " -2", 1)),
    "a value too few": ("list_attr_celeba", attribute_list().replace(" -1", "", 1)),
    "no header": ("list_attr_celeba", "000001.jpg 1 1\n"),
    "attributes are a web page": ("list_attr_celeba", "<html>"),
    "empty": ("list_attr_celeba", ""),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_damaged_lists_are_named(tmp_path: Path, fault: str, wording: Wording) -> None:
    name, text = DAMAGED[fault]
    place = put_celeba(tmp_path / "in")
    (place / f"{name}.txt").write_text(text)
    error = load_error(place)
    assert f"{name}.txt" in str(error.subject)
    wording(error)
    assert [verdict for _, verdict in check(place)] == [str(error)]  # a problem of all splits is reported once


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    place = zipped(tmp_path / "in")
    path = place / "img_align_celeba.zip"
    whole = path.read_bytes()
    for content in (b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", whole[: len(whole) // 2]):
        path.write_bytes(content)
        for where in (place, path):
            with pytest.raises(ValueError, match=str(path)):
                load(where, "train")
        assert len(list(check(place))) == 1
    path.write_bytes(whole)
    assert len(load(place, "train")) == 4


def test_damaged_parquet_files_are_named(tmp_path: Path, wording: Wording) -> None:
    place = hub(tmp_path / "in")
    folder = place / "celeba" / "img_align+identity+attr"
    _, second = sorted(folder.glob("train-*"))
    whole = second.read_bytes()
    second.unlink()
    assert load_error(place).subject == folder
    second.write_bytes(whole[:2000])
    assert load_error(place).subject == second
    parquet.write_table(parquet.read_table(io.BytesIO(whole)).drop_columns("Young"), second)
    wording(load_error(place))
    parquet.write_table(pyarrow.table({"text": ["no", "image"]}), second)
    wording(load_error(place))
    second.write_bytes(whole)
    assert len(load(place, "train")) == 4
    for path in folder.glob("valid-*"):
        path.unlink()
    wording(load_error(place, "valid"))


def test_parquet_files_without_attributes(tmp_path: Path) -> None:
    root = plain_hub(tmp_path / "in")
    for path in (root / "data").iterdir():
        parquet.write_table(parquet.read_table(path, columns=["image", "celeb_id"]), path)
    images = load(root, "train")
    assert images.attributes is None
    assert any("no attributes" in note for note in images.notes)


# -- the cache --------------------------------------------------------------------------------------------------------


def test_cache_entries_depend_on_files_split_and_crop(tmp_path: Path, cache: Path) -> None:
    def count() -> int:
        return len([path for path in cache.iterdir() if path.is_dir()])

    place = put_celeba(tmp_path / "in")
    load(place, "train")
    load(place, "train", strict=False)
    assert count() == 1
    load(place, "train", crop="box-64")
    load(place, "valid")
    assert count() == 3
    (place / "img_align_celeba" / "new.jpg").write_bytes(face_jpeg(0))
    assert any("first: new.jpg" in note for note in load(place, "train").notes)
    assert count() == 4
    (place / "list_attr_celeba.txt").write_text(attribute_list().replace("Young", "Old"))
    assert load(place, "train").attribute_names[-1] == "Old"


# -- the command line -------------------------------------------------------------------------------------------------

TINY = {"network.name": "mlp", "network.hidden": [16], "network.latent_dim": 3, "training.steps": 20,
        "data.crop": "box-64"}  # fmt: skip


@pytest.mark.slow
def test_a_run_on_faces(cli: Typed, tmp_path: Path) -> None:
    place = zipped(tmp_path / "in")
    run = train_small(tmp_path / "run", TINY, name="celeba", data=place)
    assert run.is_finished
    protocol = run.evaluation["elbo"]["measured_on"]
    assert protocol.items() >= {"data": "celeba", "crop": "box-64", "split": "valid"}.items()
    assert "strict" not in protocol
    assert "columns 15 to 163, rows 40 to 188" in (tmp_path / "run" / "report.html").read_text()
    words = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}".replace(" ", ""))]
    words += ["--set", "training.threads=1", "--run", "run"]
    assert cli("train", "celeba", *words, "--data", place)[0] == 0  # it is finished
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "aligned.jpg").write_bytes(face_jpeg(4))  # a held-out image
    Image.new("RGB", (300, 400), (90, 80, 70)).save(tmp_path / "new" / "other.png")
    assert cli("encode", "run", "new", "--out", "new.npz")[0] == 0
    assert cli("encode", "run", "--out", "valid.npz")[0] == 0
    new, held_out = np.load(tmp_path / "new.npz"), np.load(tmp_path / "valid.npz")
    assert new["names"].tolist() == ["aligned.jpg", "other.png"]
    np.testing.assert_allclose(new["mean"][0], held_out["mean"][0], rtol=1e-5)
    other = put_celeba(tmp_path / "others")
    (other / "img_align_celeba" / FACE_NAMES[0]).write_bytes(face_jpeg(99))
    code, _, err = cli("train", "celeba", *words, "--data", other)
    assert (code, err.count("\n")) == (1, 1)


def test_cache_check_and_list(cli: Typed, tmp_path: Path) -> None:
    place = torchvision(tmp_path / "in")
    code, out, err = cli("data", "cache", "in")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["train: 4 images, 128×128 RGB", "valid: 2 images, 128×128 RGB"]
    code, out, _ = cli("data", "check", "in")
    assert (code, out.splitlines()[0]) == (0, "celeba in in/celeba:")
    rows = {row["name"]: row for row in json.loads(cli("data", "list", "--data", place, "--json")[1])}
    assert rows["celeba"]["place"] == str(place / "celeba")
    assert rows["celeba"]["images"] == PUBLISHED
    assert rows["celeba"]["terms"] == INFO.terms
    (place / "celeba" / "img_align_celeba" / FACE_NAMES[6]).write_bytes(face_jpeg(6)[:2000])
    code, out, _ = cli("data", "check", "in")
    assert (code, out.count("  000007.jpg: ")) == (1, 1)
    assert cli("data", "cache", "in", "--set", "data.valid=1", "--strict")[0] == 0  # the test split is not used


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("train celeba --data .", 1),
        ("train celeba --data half.zip", 1),
        ("train celeba --data other.zip", 1),
        ("train celeba --set data.crop=center64", 2),
    ],
    ids=str,
)
def test_wrong_usage_gets_one_line(cli: Typed, tmp_path: Path, command: str, code: int, wording: Wording) -> None:
    (tmp_path / "half.zip").write_bytes(b"PK\3\4")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.jpg", face_jpeg(0))
    found, _, err = cli(*command.split())
    assert (found, err.count("\n")) == (code, 1)
    wording(err)


def test_a_dry_run_needs_no_files(cli: Typed) -> None:
    code, out, _ = cli("train", "celeba", "--dry-run")
    assert code == 0
    assert "162,770 train + 19,867 valid" in out
