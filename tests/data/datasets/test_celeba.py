"""CelebA in every shape that people have it in, made up in small: the same images, attributes and splits from all."""

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
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet
from typed import Typed, train_small

from vaelab import recipe
from vaelab.data.datasets import _celeba_layouts, celeba
from vaelab.data.datasets.celeba import BOXES, INFO, PUBLISHED, check, find, load, resize_policy, shape
from vaelab.data.decode import decode

SIZES = {"train": 4, "valid": 2, "test": 3}
COUNT = sum(SIZES.values())
NAMES = [f"{i + 1:06d}.jpg" for i in range(COUNT)]
SPLIT_OF = [number for number, count in enumerate(SIZES.values()) for _ in range(count)]
ATTRIBUTES = ["5_o_Clock_Shadow", *(f"Trait_{i}" for i in range(38)), "Young"]
HAS = np.random.default_rng(1).integers(0, 2, (COUNT, 40)).astype(bool)
Place = Callable[[Path], Path]


def jpeg(number: int) -> bytes:
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (28, 23, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)[:218, :178]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def face(number: int) -> NDArray[np.uint8]:
    """All of an image's pixels."""
    with Image.open(io.BytesIO(jpeg(number))) as picture:
        return np.asarray(picture)


def attribute_list(count: int = COUNT) -> str:
    rows = [f"{NAMES[i]} " + " ".join(" 1" if has else "-1" for has in HAS[i]) for i in range(count)]
    return "\n".join([str(count), " ".join(ATTRIBUTES), *rows]) + "\n"


def partition_list(count: int = COUNT) -> str:
    return "".join(f"{NAMES[i]} {SPLIT_OF[i]}\n" for i in range(count))


def attribute_csv() -> str:
    rows = [",".join([NAMES[i], *("1" if has else "-1" for has in HAS[i])]) for i in range(COUNT)]
    return "\n".join([",".join(["image_id", *ATTRIBUTES]), *rows]) + "\n"


def partition_csv() -> str:
    return "image_id,partition\n" + "".join(f"{NAMES[i]},{SPLIT_OF[i]}\n" for i in range(COUNT))


def put_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(jpeg(i))
    return folder


def put_lists(folder: Path, ending: str = "txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = (attribute_list(), partition_list()) if ending == "txt" else (attribute_csv(), partition_csv())
    for stem, text in zip(("list_attr_celeba", "list_eval_partition"), texts, strict=True):
        (folder / f"{stem}.{ending}").write_text(text)
    return folder


def zip_up(path: Path, inside: str = "img_align_celeba/", lists: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as written:
        written.writestr(inside, "")
        for i, name in enumerate(NAMES):
            written.writestr(f"{inside}{name}", jpeg(i))
            written.writestr(f"__MACOSX/{inside}._{name}", "")
        if lists:
            written.writestr("list_attr_celeba.csv", attribute_csv())
            written.writestr("list_eval_partition.csv", partition_csv())
    return path


def official(root: Path) -> Path:
    put_images(root / "img_align_celeba")
    return put_lists(root)


def images_alone(root: Path) -> Path:
    return official(root) / "img_align_celeba"


def google_drive(root: Path) -> Path:
    put_images(root / "Img" / "img_align_celeba")
    put_lists(root / "Anno")
    (root / "Eval").mkdir()
    (root / "Anno" / "list_eval_partition.txt").rename(root / "Eval" / "list_eval_partition.txt")
    return root


def zipped(root: Path) -> Path:
    put_lists(root)
    zip_up(root / "img_align_celeba.zip")
    (root / "img_align_celeba").mkdir()  # what a failed unpacking leaves
    return root


def zip_alone(root: Path) -> Path:
    return zipped(root) / "img_align_celeba.zip"


def torchvision(root: Path) -> Path:
    official(root / "celeba")
    (root / "celeba" / "identity_CelebA.txt").write_text("000001.jpg 2880\n")
    return root


def kaggle(root: Path) -> Path:
    put_images(root / "img_align_celeba" / "img_align_celeba")
    put_lists(root, "csv")
    for path in root.glob("*.csv"):  # as some programs save them
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    return root


def kaggle_archive(root: Path) -> Path:
    root.mkdir(parents=True)
    return zip_up(root / "archive.zip", "img_align_celeba/img_align_celeba/", lists="csv")


def table(split: str, kind: type = bool) -> pyarrow.Table:
    rows = [i for i in range(COUNT) if SPLIT_OF[i] == list(SIZES).index(split)]
    columns: dict[str, Any] = {"image": [{"bytes": jpeg(i), "path": NAMES[i]} for i in rows], "celeb_id": rows}
    values = HAS[rows] if kind is bool else np.where(HAS[rows], 1, -1)
    columns |= {name: values[:, j].tolist() for j, name in enumerate(ATTRIBUTES)}
    return pyarrow.table({**columns, "lefteye_x": [68 + i for i in rows]})


def hub(root: Path) -> Path:
    folder = root / "celeba" / "img_align+identity+attr"
    folder.mkdir(parents=True)
    for split in SIZES:
        whole = table(split)
        for part in range(2):
            name = f"{split}-0000{part}-of-00002.parquet"
            parquet.write_table(whole.slice(part, 1 if part == 0 else None), folder / name, row_group_size=2)
    return root


def plain_hub(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    for split in SIZES:
        word = "validation" if split == "valid" else split
        parquet.write_table(table(split, int), root / "data" / f"{word}-00000-of-00001-0a1b2c.parquet")
    return root


def converted_hub(root: Path) -> Path:
    for split in SIZES:
        folder = root / ("validation" if split == "valid" else split)
        folder.mkdir(parents=True)
        parquet.write_table(table(split), folder / "0000.parquet")
    return root


LAYOUTS = [official, images_alone, google_drive, zipped, zip_alone, torchvision, kaggle, kaggle_archive,
           hub, plain_hub, converted_hub]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA", raising=False)
    return tmp_path / "cache" / "vaelab"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if CelebA had been published in this size."""
    for module in (_celeba_layouts, celeba):
        monkeypatch.setattr(module, "PUBLISHED", SIZES)
    monkeypatch.setattr(_celeba_layouts, "ALL", COUNT)


def middle(numbers: list[int]) -> NDArray[np.uint8]:
    return np.stack([face(i)[45:173, 25:153] for i in numbers])


def rows(split: str) -> list[int]:
    return [i for i in range(COUNT) if SPLIT_OF[i] == list(SIZES).index(split)]


# -- what is published ------------------------------------------------------------------------------------------------


def test_the_published_numbers() -> None:
    assert PUBLISHED == {"train": 162_770, "valid": 19_867, "test": 19_962} == INFO.splits
    assert _celeba_layouts.ALL == 202_599
    assert INFO.licence == "non-commercial research only"
    assert celeba.MIRROR == "flwrlabs/celeba"
    assert "mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in INFO.terms
    for words in ("non-commercial research", "daily quota", "web page", "--data", "list_eval_partition.txt"):
        assert words in INFO.terms


def test_the_crops_that_papers_use() -> None:
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
def test_a_crop_is_a_slice_or_the_area_averages_of_one(tmp_path: Path, crop: str) -> None:
    (left, top, right, bottom), side = BOXES[crop]
    images = load(official(tmp_path / "in"), "valid", crop=crop)
    for number, pixels in zip(rows("valid"), np.asarray(images.pixels), strict=True):
        part = face(number)[top:bottom, left:right].astype(float)
        overlaps = np.clip(
            np.minimum.outer(np.arange(1, side + 1) * len(part), np.arange(1, len(part) + 1) * side)
            - np.maximum.outer(np.arange(side) * len(part), np.arange(len(part)) * side), 0, None,
        ) / len(part)  # fmt: skip
        means = np.einsum("ij,jkc,lk->ilc", overlaps, part, overlaps, optimize=True)
        np.testing.assert_allclose(pixels, means, atol=0.5 + 1e-9)
    assert f"crop {crop}: columns {left} to {right}, rows {top} to {bottom} of the aligned 178×218" in images.notes[0]


def test_other_pictures_are_framed_like_the_faces() -> None:
    frame = resize_policy((3, 128, 128), crop="center128")
    np.testing.assert_array_equal(decode(jpeg(0), frame), middle([0])[0])
    buffer = io.BytesIO()
    Image.fromarray(np.full((500, 300, 3), 9, np.uint8)).save(buffer, "PNG")
    assert decode(buffer.getvalue(), frame).shape == (128, 128, 3)


# -- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same(tmp_path: Path, layout: Place, published: None) -> None:
    place = layout(tmp_path / "in")
    assert find(place) is not None
    for split in SIZES:
        images = load(place, split)
        np.testing.assert_array_equal(np.asarray(images.pixels), middle(rows(split)))
        np.testing.assert_array_equal(images.attributes, HAS[rows(split)])
        assert images.attribute_names == tuple(ATTRIBUTES)
        assert images.notes == ("crop center128: columns 25 to 153, rows 45 to 173 of the aligned 178×218 pixels",)
        assert Path(images.source).exists()
    assert [verdict for _, verdict in check(find(place))] == ["ok"] * 3


def test_it_is_found_where_data_is_looked_for(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"^CelebA is not here yet: vaelab data get celeba downloads it\. .*non-com"
    ):
        load(None, "train")
    assert find(None) is None
    hub(cache)
    assert find(None) == cache / "celeba"
    assert len(load(None, "train")) == SIZES["train"]
    torchvision(tmp_path / "mine")
    monkeypatch.setenv("VAELAB_DATA", str(tmp_path / "mine"))
    assert find(None) == tmp_path / "mine" / "celeba"
    (tmp_path / "none").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"none: no CelebA here or in celeba below it. Wanted: img_align_celeba.zip"
    ):
        load(tmp_path / "none", "train")
    with pytest.raises(ValueError, match=r"published with the splits train, valid, test; there is no split 'all'"):
        load(tmp_path / "mine", "all")


def test_own_pictures_are_not_taken_for_it(tmp_path: Path) -> None:
    put_images(tmp_path / "own" / "faces")
    assert find(tmp_path / "own") is None
    shutil.make_archive(str(tmp_path / "faces"), "zip", tmp_path / "own")
    assert find(tmp_path / "faces.zip") is None
    for i in range(_celeba_layouts.MOST_FOLDERS + 1):
        (tmp_path / "many" / f"class {i}").mkdir(parents=True)
    parquet.write_table(table("train"), tmp_path / "many" / "class 3" / "train.parquet")
    assert find(tmp_path / "many") is None
    (tmp_path / "half.zip").write_bytes(b"PK\3\4")
    assert find(tmp_path / "half.zip") is None


# -- counts -----------------------------------------------------------------------------------------------------------


def test_other_numbers_than_published_are_said(tmp_path: Path) -> None:
    by_lists, by_hub = load(official(tmp_path / "a"), "train"), load(hub(tmp_path / "b"), "train")
    assert "the lists name 9 images; CelebA as published has 202,599" in by_lists.notes
    assert "4 images of the train split; CelebA as published has 162,770" in by_hub.notes
    verdicts = dict(check(find(tmp_path / "a")))
    assert verdicts["valid split"] == "ok (2 images, 40 attributes; published are 19,867 images)"


def test_missing_images_are_refused_or_left_out(tmp_path: Path) -> None:
    place = official(tmp_path / "in")
    for i in (1, 2):
        (place / "img_align_celeba" / NAMES[i]).unlink()
    says = r"2 images of the train split are missing \(first: 000002\.jpg\)"
    with pytest.raises(
        ValueError, match=rf"in: {says}\. Get them again, or leave them out with --set data\.strict=fal"
    ):
        load(place, "train")
    images = load(place, "train", strict=False)
    np.testing.assert_array_equal(np.asarray(images.pixels), middle([0, 3]))
    np.testing.assert_array_equal(images.attributes, HAS[[0, 3]])
    assert images.notes[-1].endswith("000002.jpg): left out")
    with pytest.raises(ValueError, match=says):  # with the cache entry at hand
        load(place, "train")
    assert len(load(place, "test")) == 3
    found = list(check(place))
    assert ("000002.jpg", "missing, though the lists name it in the train split") in found
    assert ("train split", "2 images, 40 attributes; 0 cannot be read, 2 are missing") in found


def test_extra_images_are_said_and_left_out(tmp_path: Path) -> None:
    place = official(tmp_path / "in")
    for name in ("999999.jpg", "000001 (copy).jpg"):
        (place / "img_align_celeba" / name).write_bytes(jpeg(0))
    images = load(place, "test")
    assert len(images) == 3
    assert "2 images are not on the lists (first: 000001 (copy).jpg): left out" in images.notes
    assert ("999999.jpg", "not on the lists") in list(check(place))


@pytest.mark.parametrize("layout", [official, zipped, hub])
def test_truncated_images_are_refused_or_left_out(
    tmp_path: Path, layout: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = jpeg

    def damaged(number: int) -> bytes:
        return whole(number)[:3000] if number in (4, 7) else whole(number)

    monkeypatch.setitem(globals(), "jpeg", damaged)
    place = layout(tmp_path / "in")
    says = r"1 of 2 pictures cannot be read \(first: .*: damaged.*truncated"
    with pytest.raises(
        ValueError, match=rf"{says}.*\)\. Get them again, or leave them out with --set data\.strict=false"
    ):
        load(place, "valid")
    images = load(place, "valid", strict=False)
    monkeypatch.setitem(globals(), "jpeg", whole)
    np.testing.assert_array_equal(np.asarray(images.pixels), middle([5]))
    np.testing.assert_array_equal(images.attributes, HAS[[5]])
    assert "1 of 2 pictures cannot be read" in images.notes[-1]
    with pytest.raises(ValueError, match=says):
        load(place, "valid")
    broken = [name for name, verdict in check(find(place)) if verdict.startswith("damaged")]
    assert len(broken) == 2


def test_an_image_that_was_mended_in_its_place_is_noticed(tmp_path: Path) -> None:
    place = official(tmp_path / "in")
    path = place / "img_align_celeba" / NAMES[0]
    path.write_bytes(jpeg(0)[:3000])
    with pytest.raises(ValueError, match="1 of 4 pictures cannot be read"):
        load(place, "train")
    with path.open("r+b") as file:  # the folder does not change
        file.write(jpeg(0))
    np.testing.assert_array_equal(np.asarray(load(place, "train").pixels), middle(rows("train")))
    other = place / "img_align_celeba" / NAMES[5]
    other.write_bytes(b"")
    assert len(load(place, "valid", strict=False)) == 1
    other.write_bytes(jpeg(5))
    assert len(load(place, "valid", strict=False)) == 2


def test_images_of_another_size_are_not_aligned_ones(tmp_path: Path) -> None:
    place = official(tmp_path / "in")
    Image.new("RGB", (178, 178)).save(place / "img_align_celeba" / NAMES[0])
    with pytest.raises(ValueError, match=r"first: 000001\.jpg: 178×178 pixels instead of 178×218"):
        load(place, "train")


def test_without_the_partition_all_images_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = official(tmp_path / "in")
    (place / "list_eval_partition.txt").unlink()
    with pytest.raises(
        ValueError, match=r"9 images and no list_eval_partition\.txt; without that list all 202,599 must"
    ):
        load(place, "train")
    monkeypatch.setattr(_celeba_layouts, "PUBLISHED", SIZES)
    monkeypatch.setattr(_celeba_layouts, "ALL", COUNT)
    for split in SIZES:
        images = load(place, split)
        np.testing.assert_array_equal(images.attributes, HAS[rows(split)])
    assert "no list_eval_partition.txt beside the images: split by the published numbers of images" in images.notes


def test_without_attributes_there_are_none(tmp_path: Path, published: None) -> None:
    place = official(tmp_path / "in")
    (place / "list_attr_celeba.txt").unlink()
    images = load(place, "train")
    assert (len(images), images.attributes, images.attribute_names) == (4, None, ())
    assert images.notes[1:] == ("no list_attr_celeba.txt beside the images: trained without attributes",)


# -- damaged lists and archives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("list_eval_partition", partition_list()[:-5], "'000009.j' is no image with its partition 0, 1 or 2; get it"),
        ("list_eval_partition", partition_list(7), "do not list the same images: 9 and 7"),
        ("list_eval_partition", partition_list().replace(" 1", " 3"), "'000005.jpg 3' is no image with its partition"),
        ("list_eval_partition", "<!DOCTYPE html>\n<html>", "is a web page and no list; most likely a notice of Goo"),
        ("list_attr_celeba", attribute_list()[:-200], "promises 9 images and it lists 8|values for 000009"),
        ("list_attr_celeba", attribute_list().replace("9\n", "202599\n", 1), "promises 202,599 images and it lists 9"),
        ("list_attr_celeba", attribute_list().replace(" -1", " -2", 1), "values other than 1 and -1"),
        ("list_attr_celeba", attribute_list().replace(" -1", "", 1), "39 values for 000001.jpg, 40 attributes; get it"),
        ("list_attr_celeba", "000001.jpg 1 1\n", "no line with the names of the attributes"),
        ("list_attr_celeba", "<html>", "is a web page and no list"),
        ("list_attr_celeba", "", "no line with the names of the attributes"),
    ],
)  # fmt: skip
def test_damaged_lists_are_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    place = official(tmp_path / "in")
    (place / f"{name}.txt").write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        load(place, "train")
    assert f"{name}.txt" in str(caught.value)
    found = list(check(place))
    assert len(found) == 1  # what is wrong with the whole is said once
    assert str(caught.value) == found[0][1]


def test_a_notice_of_google_drive_and_half_a_zip(tmp_path: Path) -> None:
    place = zipped(tmp_path / "in")
    path = place / "img_align_celeba.zip"
    whole = path.read_bytes()
    for content, says in (
        (
            b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title>",
            "a web page instead of a zip",
        ),
        (whole[: len(whole) // 2], r"not a zip, or cut off before its end \([\d,]+ bytes\); get it again"),
    ):
        path.write_bytes(content)
        for where in (place, path):
            with pytest.raises(ValueError, match=rf"img_align_celeba\.zip.* {says}"):
                load(where, "train")
        assert len(list(check(place))) == 1
    path.write_bytes(whole)
    assert len(load(place, "train")) == 4


def test_damaged_parquet_files(tmp_path: Path) -> None:
    place = hub(tmp_path / "in")
    folder = place / "celeba" / "img_align+identity+attr"
    _, second = sorted(folder.glob("train-*"))
    whole = second.read_bytes()
    second.unlink()
    with pytest.raises(ValueError, match=r"1 of 2 files of the train split; get the others"):
        load(place, "train")
    second.write_bytes(whole[:2000])
    with pytest.raises(ValueError, match=r"train-00001-of-00002\.parquet: damaged or cut off \(.*\); get it again"):
        load(place, "train")
    parquet.write_table(parquet.read_table(io.BytesIO(whole)).drop_columns("Young"), second)
    with pytest.raises(ValueError, match="other attributes than the files before it"):
        load(place, "train")
    parquet.write_table(pyarrow.table({"text": ["no", "image"]}), second)
    with pytest.raises(ValueError, match="no column image in it; wanted is CelebA as the Hugging Face hub has it"):
        load(place, "train")
    second.write_bytes(whole)
    assert len(load(place, "train")) == 4
    for path in folder.glob("valid-*"):
        path.unlink()
    with pytest.raises(ValueError, match="no images of the valid split here"):
        load(place, "valid")


def test_parquet_files_without_attributes(tmp_path: Path) -> None:
    root = plain_hub(tmp_path / "in")
    for path in (root / "data").iterdir():
        parquet.write_table(parquet.read_table(path, columns=["image", "celeb_id"]), path)
    images = load(root, "train")
    assert images.attributes is None
    assert "no columns of attributes: trained without attributes" in images.notes


# -- image cache  -----------------------------------------------------------------------------------------------------


def entries(cache: Path) -> set[str]:
    return {path.name for path in (cache / "images").iterdir() if path.is_dir()}


def test_what_shapes_the_images_makes_another_cache_entry(tmp_path: Path, cache: Path) -> None:
    place = official(tmp_path / "in")
    load(place, "train")
    load(place, "train", strict=False)
    assert len(entries(cache)) == 1
    load(place, "train", crop="box-64")
    load(place, "valid")
    assert len(entries(cache)) == 3
    (place / "img_align_celeba" / "new.jpg").write_bytes(jpeg(0))
    assert "1 images are not on the lists (first: new.jpg): left out" in load(place, "train").notes
    assert len(entries(cache)) == 4
    (place / "list_attr_celeba.txt").write_text(attribute_list().replace("Young", "Old"))
    assert load(place, "train").attribute_names[-1] == "Old"


def test_a_later_load_reads_neither_lists_nor_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = official(tmp_path / "in")
    before = load(place, "train")

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(_celeba_layouts.Layout, "read", fail)
    monkeypatch.setattr("vaelab.data.decode.decode", fail)
    after = load(place, "train")
    assert after.digest == before.digest
    np.testing.assert_array_equal(after.attributes, before.attributes)


# -- typed ------------------------------------------------------------------------------------------------------------

TINY = {"network.name": "mlp", "network.hidden": [16], "network.latent_dim": 3, "training.steps": 20,
        "data.crop": "box-64"}  # fmt: skip


def one_line(err: str) -> str:
    assert err.startswith("vaelab: ")
    assert err.count("\n") == 1
    return err


def test_a_run_on_faces_and_what_it_does_with_other_pictures(cli: Typed, tmp_path: Path) -> None:
    place = zipped(tmp_path / "in")
    run = train_small(tmp_path / "run", TINY, name="celeba", data=place)
    assert run.is_finished
    protocol = run.evaluation["elbo"]["measured_on"]
    assert (protocol["data"], protocol["crop"], protocol["split"]) == ("celeba", "box-64", "valid")
    assert "strict" not in protocol
    assert "crop box-64: columns 15 to 163, rows 40 to 188" in (tmp_path / "run" / "report.html").read_text()
    words = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}".replace(" ", ""))]
    words += ["--set", "training.threads=1", "--data", place, "--run", "run"]
    assert "is done already" in cli("train", "celeba", *words)[1]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "aligned.jpg").write_bytes(jpeg(4))  # a held-out image
    Image.new("RGB", (300, 400), (90, 80, 70)).save(tmp_path / "new" / "other.png")
    assert cli("encode", "run", "new", "--out", "new.npz")[0] == 0
    assert cli("encode", "run", "--out", "valid.npz")[0] == 0
    new, held_out = np.load(tmp_path / "new.npz"), np.load(tmp_path / "valid.npz")
    assert new["names"].tolist() == ["aligned.jpg", "other.png"]
    np.testing.assert_allclose(new["mean"][0], held_out["mean"][0], rtol=1e-5)
    assert cli("reconstruct", "run", "new", "--out", "pairs.png")[0] == 0
    other = official(tmp_path / "others")
    (other / "img_align_celeba" / NAMES[0]).write_bytes(jpeg(99))
    code, _, err = cli("train", "celeba", *words[:-4], "--data", other, "--run", "run")
    assert code == 1
    assert "are not those that run was trained on" in one_line(err)


def test_data_cache_check_and_list(cli: Typed, tmp_path: Path) -> None:
    place = torchvision(tmp_path / "in")
    code, out, err = cli("data", "cache", "in")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["train: 4 images, 128×128 RGB", "valid: 2 images, 128×128 RGB"]
    assert "crop center128: columns 25 to 153, rows 45 to 173" in out
    code, out, _ = cli("data", "check", "in")
    assert code == 0
    assert out.splitlines()[0] == "celeba in in/celeba:"
    assert "  train split: ok (4 images, 40 attributes; published are 162,770 images)" in out.splitlines()
    rows = {row["name"]: row for row in json.loads(cli("data", "list", "--data", place, "--json")[1])}
    assert rows["celeba"]["place"] == str(place / "celeba")
    assert rows["celeba"]["images"] == PUBLISHED
    assert "non-commercial" in rows["celeba"]["terms"]
    (place / "celeba" / "img_align_celeba" / NAMES[6]).write_bytes(jpeg(6)[:2000])
    code, out, _ = cli("data", "check", "in")
    assert code == 1
    assert "  000007.jpg: damaged" in out
    code, _, err = cli("data", "cache", "in", "--set", "data.valid=1", "--strict")
    assert code == 0  # of the test split nothing is wanted


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["train", "celeba"], 1, "CelebA is not here yet: vaelab data get celeba downloads it. CelebA is for non-"),
        (["train", "celeba", "--data", "."], 1, "no CelebA here or in celeba below it. Wanted: img_align_celeba.zip"),
        (["train", "celeba", "--set", "data.crop=center64", "--data", "in"], 2, "Did you mean"),
        (["train", "celeba", "--data", "half.zip"], 1, "half.zip is damaged: not a zip, or cut off"),
        (["train", "celeba", "--data", "other.zip"], 1, "other.zip: no CelebA here"),
    ],
)  # fmt: skip
def test_wrong_usage_gets_one_line(cli: Typed, tmp_path: Path, words: list[str], code: int, says: str) -> None:
    (tmp_path / "half.zip").write_bytes(b"PK\3\4")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as written:
        written.writestr("a.jpg", jpeg(0))
    found, _, err = cli(*words)
    assert found == code
    assert says in one_line(err)


def test_a_dry_run_needs_no_files(cli: Typed) -> None:
    code, out, _ = cli("train", "celeba", "--dry-run")
    assert code == 0
    assert "162,770 train, 19,867 valid" in out
