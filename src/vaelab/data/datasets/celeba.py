"""CelebA: 202,599 aligned faces of celebrities, 178×218 RGB, 40 attributes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from vaelab.data.containers import UnreadablePictures, open_zip, printable, shown
from vaelab.data.contents import find_warnings
from vaelab.data.datasets import Dataset, DatasetInfo, UnusableFile
from vaelab.data.datasets._celeba_files import (
    IMAGES,
    LISTS,
    PUBLISHED,
    ImageFiles,
    ParquetFiles,
    SplitContent,
    find_celeba,
    find_parquet,
)
from vaelab.data.decode import ResizePolicy
from vaelab.data.images import Images
from vaelab.data.picture_cache import PictureFiles, cache_pictures, check_items
from vaelab.system.download import DownloadFailed
from vaelab.system.messages import count_of
from vaelab.system.paths import cache_dir, data_roots
from vaelab.system.registry import unknown

Crop = Literal[
    "center128", "center178-64", "center160-64", "center148-64", "center140-64", "center108-64", "box-64", "box128"
]
BOXES: dict[str, tuple[tuple[int, int, int, int], int]] = {
    "center128": ((25, 45, 153, 173), 128),
    "center178-64": ((0, 20, 178, 198), 64),
    "center160-64": ((9, 29, 169, 189), 64),
    "center148-64": ((15, 35, 163, 183), 64),
    "center140-64": ((19, 39, 159, 179), 64),
    "center108-64": ((35, 55, 143, 163), 64),
    "box-64": ((15, 40, 163, 188), 64),
    "box128": ((25, 57, 153, 185), 128),
}
"""Crop → left, top, right, bottom in the 178×218 pixels, and the side that this part is resized to.

``centerN-S`` is the middle N×N pixels at S×S. PyTorch-VAE uses 148, WAE (1711.01558) and RAE (1903.12436) use 140, and
DCGAN's code uses 108. ``box-64`` is the crop of Larsen et al. 2016 (1512.09300) and NVAE. ``box128`` is the crop of
progressive GANs (1710.10196): 128×128 pixels around (89, 121).
"""
ALIGNED_SIZE = (178, 218)
MIRROR = "flwrlabs/celeba"
"""Repository on the Hugging Face hub: the same JPEGs in parquet files, in the published splits."""
OFFICIAL = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
WANTED = f"{IMAGES}.zip or its folder, {LISTS['attributes']}.txt and {LISTS['partition']}.txt"
TERMS = (
    "CelebA is for non-commercial research only, under its authors' agreement; the people on it did not consent. "
    f"The official source is {OFFICIAL}. It links to a Google Drive, which sends a web page instead of the file when "
    f"its daily quota is used up. Put {WANTED} into one folder and name it with --data"
)
INFO = DatasetInfo(
    title="CelebA, aligned and cropped",
    image_shape=(3, 128, 128),
    splits=dict(PUBLISHED),
    licence="non-commercial research only",
    source="Z. Liu, P. Luo, X. Wang, X. Tang, Deep Learning Face Attributes in the Wild, ICCV 2015",
    files=(f"{IMAGES}.zip", f"{LISTS['attributes']}.txt", f"{LISTS['partition']}.txt"),
    terms=TERMS,
)
REMEDY = "Get them again, or leave them out with --set data.strict=false"
NOT_FOUND = f"Needed: {WANTED}; or the parquet files of the hub"


def shape(*, crop: Crop = "center128", **others: Any) -> tuple[int, int, int]:
    """Channels, height and width of a crop."""
    _, side = _box_of(crop)
    return 3, side, side


def resize_policy(
    image_shape: tuple[int, int, int], *, crop: Crop = "center128", aligned_only: bool = False, **others: Any
) -> ResizePolicy:
    """The resize policy that brings pictures to ``image_shape``: the crop for aligned faces, the middle of others."""
    box, _ = _box_of(crop)
    channels, height, width = image_shape
    return ResizePolicy(height, width, channels, box=box, boxed=ALIGNED_SIZE, boxed_only=aligned_only)


def _box_of(crop: str) -> tuple[tuple[int, int, int, int], int]:
    if crop not in BOXES:
        raise unknown("crop", crop, get_args(Crop))
    return BOXES[crop]


def find(data_dir: Path | None) -> Path | None:
    """The folder or .zip with CelebA at a data root; None if there is none."""
    files = _find(data_dir)
    return files.place if files else None


def _find(data_dir: Path | None) -> ImageFiles | ParquetFiles | None:
    return next((files for root in data_roots(data_dir) if (files := find_celeba(root))), None)


def load(data_dir: Path | None, split: str, *, crop: Crop = "center128", strict: bool = True) -> Images:
    """Load the faces of a split, "train", "valid" or "test", with their attributes through the cache.

    FileNotFoundError with the terms of use if CelebA is not found: it is not downloaded without being asked for.

    crop: part of the picture and size (``BOXES``).
    strict: raise UnusableFile if images are missing or unreadable; otherwise they are left out.
    """
    INFO.check_split(split)
    files = _find(data_dir)
    if files is None:
        raise _not_found(data_dir)
    policy = resize_policy(shape(crop=crop), crop=crop, aligned_only=True)
    key = {"data": "celeba", "files": files.signature(split), "split": split, "crop": crop}
    try:
        cached = cache_pictures(f"celeba {split}, {crop}", key, lambda: _read(files, split, policy, strict))
    except UnreadablePictures as error:
        raise UnusableFile(files.place, f"{error}. {REMEDY}") from None
    metadata = cached.manifest.metadata
    problems = [text for text in (metadata["missing"], cached.describe_skipped()) if text]
    if strict and problems:
        raise UnusableFile(files.place, f"{problems[-1]}. {REMEDY}")
    notes = [_describe(crop), *metadata["notes"], *(f"{text}: left out" for text in problems)]
    doubts = find_warnings(cached.manifest.content, is_full_range=True, background="white")
    notes += [f"{split}: {text}" for text in (cached.describe_recovered(), *doubts) if text]
    return Images(
        cached.pixels,
        attributes=cached.columns.get("attributes"),
        attribute_names=tuple(metadata["attribute_names"]),
        source=str(files.place.resolve()),
        notes=tuple(notes),
        digest=cached.digest,
        cache_folder=cached.folder,
    )


def _not_found(data_dir: Path | None) -> Exception:
    if data_dir is None:
        return FileNotFoundError(f"CelebA is not downloaded yet: vaelab data get celeba downloads it. {TERMS}")
    if data_dir.is_file() and data_dir.suffix.lower() == ".zip":
        open_zip(str(data_dir))  # raises an error that says what is wrong with it
    return FileNotFoundError(f"{data_dir}: no CelebA here or in celeba below it. {NOT_FOUND}")


def _describe(crop: str) -> str:
    (left, top, right, bottom), side = _box_of(crop)
    resized = f", resized to {side}×{side}" if right - left != side else ""
    return f"crop {crop}: columns {left} to {right}, rows {top} to {bottom} of the aligned 178×218 pixels{resized}"


def _read(files: ImageFiles | ParquetFiles, split: str, policy: ResizePolicy, strict: bool) -> PictureFiles:
    content, missing = files.read(split), ""
    if content.missing:
        verb = "is" if len(content.missing) == 1 else "are"
        images = count_of(len(content.missing), "image")
        missing = f"{images} of the {split} split {verb} missing (first: {content.missing[0]})"
        if strict:
            raise UnusableFile(files.place, f"{missing}. {REMEDY}")
    columns = {} if content.attributes is None else {"attributes": content.attributes}
    metadata = {"attribute_names": list(content.attribute_names), "notes": list(content.notes), "missing": missing}
    return PictureFiles(content.items, policy, columns, metadata, strict)


# -- checking and downloading -----------------------------------------------------------------------------------------


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (file or split, verdict) for the lists and images of the CelebA at ``folder``."""
    files = find_celeba(folder)
    if files is None:
        raise FileNotFoundError(f"{folder}: no CelebA here. {NOT_FOUND}")
    policy = resize_policy((3, 64, 64), crop="center148-64", aligned_only=True)
    extra, reported = dict[str, None](), ""
    for split in PUBLISHED:
        try:
            content = files.read(split)
        except (ValueError, OSError) as error:
            if str(error) != reported:  # a problem of all splits is reported once
                reported = str(error)
                yield f"{split} split", reported
            continue
        broken, _ = check_items(f"the {split} split", content.items, policy)
        for name in content.missing:
            yield name, f"missing, although it is on the list of the {split} split"
        for item, reason in broken:
            yield shown(item), printable(reason)
        extra.update(dict.fromkeys(content.extra))
        yield f"{split} split", _judge(content, len(broken), PUBLISHED[split])
    for name in extra:
        yield printable(name), "not on the lists"


def _judge(content: SplitContent, num_broken: int, num_published: int) -> str:
    count = len(content.items) - num_broken
    facts = f"{count_of(count, 'image')}, {count_of(len(content.attribute_names), 'attribute')}"
    if num_broken or content.missing:
        return f"{facts}; {num_broken:,} cannot be read, {len(content.missing):,} are missing"
    return "ok" if count == num_published else f"ok ({facts}; CelebA as published has {num_published:,} images)"


def get(target: Path | None) -> Path:
    """Download the mirror on the Hugging Face hub to ``target`` (None: the cache); resume an interrupted download."""
    from vaelab.data.hub import download

    folder = target if target is not None else cache_dir() / "celeba"
    alternative = f"The official source instead: {TERMS}"
    download(MIRROR, folder, ["*.parquet"], alternative)
    found = find_parquet(folder)
    counts = {split: len(found.read(split).items) if split in found.files else 0 for split in PUBLISHED}
    if counts != PUBLISHED:
        sent, published = (" + ".join(f"{n:,}" for n in of.values()) for of in (counts, PUBLISHED))
        raise DownloadFailed(f"{MIRROR} has sent {sent} images; CelebA as published has {published}. {alternative}")
    return folder


DATASET = Dataset(INFO, load, find, get, check, shape=shape, resize_policy=resize_policy)
