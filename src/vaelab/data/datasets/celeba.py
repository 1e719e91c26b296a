"""CelebA: 202,599 aligned faces of celebrities, 178×218 RGB, 40 attributes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from vaelab.data.containers import UnreadablePictures, open_zip, printable, shown
from vaelab.data.contents import find_warnings
from vaelab.data.datasets._celeba_layouts import IMAGES, PUBLISHED, Layout, Split, find_layout, find_parquet
from vaelab.data.datasets._celeba_lists import LISTS
from vaelab.data.decode import ResizePolicy
from vaelab.data.images import DatasetInfo, Images
from vaelab.data.picture_cache import PictureFiles, cache_pictures, check_items
from vaelab.system.download import DownloadFailed
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
"""Crop → left, top, right, bottom of the 178×218 pixels, and the side that this part is resized to.

``centerN-S``: the middle N×N pixels at S×S: 148 as PyTorch-VAE, 140 as WAE (1711.01558) and RAE (1903.12436), 108 as
DCGAN's code. ``box-64``: Larsen et al. 2016 (1512.09300), also NVAE's. ``box128``: the 128×128 pixels about (89, 121)
of progressive GANs (1710.10196).
"""
ALIGNED = (178, 218)
MIRROR = "flwrlabs/celeba"
"""On the Hugging Face hub: the same JPEGs in parquet files, split as published."""
OFFICIAL = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
WANTED = f"{IMAGES}.zip or its folder, {LISTS['attributes']}.txt and {LISTS['partition']}.txt"
TERMS = (
    "CelebA is for non-commercial research only, under its authors' agreement; it shows people who were not asked. "
    f"Its official source is {OFFICIAL}, which leads to a Google Drive whose daily quota is often used up (it then "
    f"sends a web page in place of the file). Put {WANTED} into one folder and name it with --data"
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


def shape(*, crop: Crop = "center128", **others: Any) -> tuple[int, int, int]:
    """Channels, height and width that a crop gives."""
    _, side = _box(crop)
    return 3, side, side


def resize_policy(image_shape: tuple[int, int, int], *, crop: Crop = "center128", **others: Any) -> ResizePolicy:
    """How pictures come to a model's shape: aligned faces by the crop, others cut about their centre."""
    box, _ = _box(crop)
    channels, height, width = image_shape
    return ResizePolicy(height, width, channels, box=box, boxed=ALIGNED)


def _box(crop: str) -> tuple[tuple[int, int, int, int], int]:
    if crop not in BOXES:
        raise unknown("crop", crop, get_args(Crop))
    return BOXES[crop]


def find(data_dir: Path | None) -> Path | None:
    """The place of a CelebA in the places that count; None if it is in none of them."""
    layout = _find(data_dir)
    return layout.place if layout else None


def _find(data_dir: Path | None) -> Layout | None:
    return next(filter(None, (find_layout(root) for root in data_roots(data_dir))), None)


def load(data_dir: Path | None, split: str, *, crop: Crop = "center128", strict: bool = True) -> Images:
    """The faces of ``split`` (train, valid or test) with their attributes, decoded once into the cache.

    ``crop``: which part, and at which size (BOXES). ``strict``: ValueError where images are missing or cannot be read;
    false leaves them out. It is never downloaded unasked: FileNotFoundError states its terms.
    """
    if split not in PUBLISHED:
        raise ValueError(f"celeba is published with the splits {', '.join(PUBLISHED)}; there is no split {split!r}")
    channels, height, width = shape(crop=crop)
    layout = _find(data_dir)
    if layout is None:
        raise _nothing(data_dir)
    box, _ = _box(crop)
    frame = ResizePolicy(height, width, channels, box=box, boxed=ALIGNED, boxed_only=True)
    key = {"data": "celeba", "files": layout.file_signatures(split), "split": split, "crop": crop}
    try:
        cached = cache_pictures(f"celeba {split}, {crop}", key, lambda: _source(layout, split, frame, strict))
    except UnreadablePictures as error:
        raise ValueError(f"{layout.place}: {error}. {MEND}") from None
    facts = cached.manifest.metadata
    skipped, recovered = cached.describe_skipped(), cached.describe_recovered()
    if strict and (skipped or facts["missing"]):
        raise ValueError(f"{layout.place}: {skipped or facts['missing']}. {MEND}")
    lost = [f"{words}: left out" for words in (facts["missing"], skipped) if words]
    recoveries = [f"{split}: {recovered}"] if recovered else []
    doubts = find_warnings(cached.manifest.content, is_full_range=True, background="white")
    return Images(
        cached.pixels,
        attributes=cached.columns.get("attributes"),
        attribute_names=tuple(facts["attribute_names"]),
        source=str(layout.place.resolve()),
        notes=(_describe(crop), *facts["notes"], *lost, *recoveries, *(f"{split}: {sentence}" for sentence in doubts)),
        digest=cached.digest,
        cache_folder=cached.folder,
    )


MEND = "Get them again, or leave them out with --set data.strict=false"


def _nothing(data_dir: Path | None) -> Exception:
    if data_dir is None:
        return FileNotFoundError(f"CelebA is not here yet: vaelab data get celeba downloads it. {TERMS}")
    if data_dir.is_file() and data_dir.suffix.lower() == ".zip":
        open_zip(str(data_dir))  # says what is wrong with it
    return FileNotFoundError(f"{data_dir}: no CelebA here or in celeba below it. {_wanted()}")


def _wanted() -> str:
    return f"Wanted: {WANTED}; or the hub's parquet files"


def _describe(crop: str) -> str:
    (left, top, right, bottom), side = _box(crop)
    resized = f", resized to {side}×{side}" if right - left != side else ""
    return f"crop {crop}: columns {left} to {right}, rows {top} to {bottom} of the aligned 178×218 pixels{resized}"


def _source(layout: Layout, split: str, frame: ResizePolicy, strict: bool) -> PictureFiles:
    found, missing = layout.read(split), ""
    if found.missing:
        missing = f"{len(found.missing):,} images of the {split} split are missing (first: {found.missing[0]})"
        if strict:
            raise ValueError(f"{layout.place}: {missing}. {MEND}")
    columns = {} if found.attributes is None else {"attributes": found.attributes}
    facts = {"attribute_names": list(found.attribute_names), "notes": list(found.notes), "missing": missing}
    return PictureFiles(found.items, frame, columns, facts, strict)


# -- checking and getting ---------------------------------------------------------------------------------------------


def check(folder: Path) -> Iterator[tuple[str, str]]:
    """(what, "ok" … or what is wrong with it) for the lists and images of the CelebA at ``folder``."""
    layout = find_layout(folder)
    if layout is None:
        raise FileNotFoundError(f"{folder}: no CelebA here. {_wanted()}")
    frame = ResizePolicy(64, 64, 3, box=BOXES["center148-64"][0], boxed=ALIGNED, boxed_only=True)
    extra: dict[str, None] = {}
    said = ""
    for split, published in PUBLISHED.items():
        try:
            found = layout.read(split)
        except (ValueError, OSError) as error:
            if str(error) != said:  # what is wrong with the whole is said once
                said = str(error)
                yield f"{split} split", said
            continue
        broken, _ = check_items(f"the {split} split", found.items, frame)
        for name in found.missing:
            yield name, f"missing, though the lists name it in the {split} split"
        for item, reason in broken:
            yield shown(item), printable(reason)
        extra.update(dict.fromkeys(found.extra))
        yield f"{split} split", _verdict(found, len(broken), published)
    for name in extra:
        yield printable(name), "not on the lists"


def _verdict(found: Split, num_broken: int, published: int) -> str:
    count = len(found.items) - num_broken
    words = f"{count:,} images, {len(found.attribute_names)} attributes"
    if num_broken or found.missing:
        return f"{words}; {num_broken:,} cannot be read, {len(found.missing):,} are missing"
    return "ok" if count == published else f"ok ({words}; published are {published:,} images)"


def get(target: Path | None) -> Path:
    """Download the mirror on the Hugging Face hub to ``target`` (None: the user's cache), going on where it stopped."""
    from vaelab.data.hub import download

    folder = target if target is not None else cache_dir() / "celeba"
    download(MIRROR, folder, ["*.parquet"], f"The official source instead: {TERMS}")
    found = find_parquet(folder)
    counts = {split: len(found.read(split).items) if split in found.parquet else 0 for split in PUBLISHED}
    if counts != PUBLISHED:
        has = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        raise DownloadFailed(
            f"{MIRROR} has sent {has} images; published are {', '.join(f'{n:,}' for n in PUBLISHED.values())}. "
            f"The official source instead: {TERMS}"
        )
    return folder
