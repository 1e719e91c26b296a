"""Data sets, one file each; every file has a ``DATASET``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate

from vaelab.data.decode import ResizePolicy
from vaelab.data.images import Images
from vaelab.data.scan import Entry
from vaelab.system import registry
from vaelab.system.errors import InputError, UnknownName

Shape = tuple[int, int, int]
"""Channels, height, width."""
Selections = Mapping[str, Mapping[str, Any]]
"""Split → ``Images.selection``."""


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that are known without loading it."""

    title: str
    image_shape: Shape | None
    """None if it depends on the user's files."""
    splits: dict[str, int | None]
    """Published split → number of images; None if it depends on the user's files."""
    licence: str
    source: str
    files: tuple[str, ...] = ()
    """Names of its files; empty for a data set that needs none."""
    terms: str = ""
    """Conditions that the user should know before downloading it."""
    instructions: str = ""
    """How to obtain the files, for a data set that vaelab does not download."""

    @property
    def is_published(self) -> bool:
        """Whether its images are the same for everybody."""
        return any(self.splits.values())

    def check_split(self, split: str, num_images: int | None = None) -> None:
        """Raise UnknownName for a split that the data set does not have.

        If it has only the split "train", the message says how to set some of the ``num_images`` aside.
        """
        if split not in self.splits:
            count, advice = num_images or self.splits["train"] or 0, ""
            if len(self.splits) == 1:
                images, number = (f"{count:,} images", max(1, min(10_000, count // 10))) if count else ("images", "N")
                advice = f"; to validate, set some of its {images} aside: --set data.valid={number}"
            message = f"{self.title}: no split {split!r}. Valid: {', '.join(self.splits)}{advice}"
            raise UnknownName(message, subject="split", value=split, choices=self.splits)


@dataclass(frozen=True)
class Dataset:
    """The facts about a data set, and the functions that load, find and check it.

    ``load(data_dir, split, *, …)`` returns the images of a split as the authors of the data set publish it ("train",
    "valid" or "test"). Its keyword arguments are the keys of ``[data]`` in a recipe; the other functions that take
    options accept the same ones. ``data_dir`` is the place that the user names with ``--data``, or None.
    """

    info: DatasetInfo
    load: Callable[Concatenate[Path | None, str, ...], Images]
    find: Callable[[Path | None], Path | None] | None = None
    """(data_dir) → folder or file of the data set; None if it is not there."""
    get: Callable[[Path | None], Path] | None = None
    """(target) → folder, after downloading the data set to ``target`` or, if it is None, to the cache."""
    check: Callable[[Path], Iterator[tuple[str, str]]] | None = None
    """(folder) → (file, verdict) for every file; a verdict starts with "ok" or says what is wrong."""
    shape: Callable[..., Shape] | None = None
    """(**options) → shape of the images; None: ``info.image_shape``."""
    counts: Callable[..., Mapping[str, int]] | None = None
    """(**options) → published split and its number of images; None: ``info.splits``."""
    resize_policy: Callable[Concatenate[Shape, ...], ResizePolicy] | None = None
    """(image_shape, **options) → how other pictures become images of this shape."""
    expand_pages: Callable[[Sequence[Entry]], list[Entry]] | None = None
    """(entries) → one entry for each page of each file, for a data set with the option ``pages``."""
    describe_layout: Callable[Concatenate[Path, ...], tuple[list[str], list[str]]] | None = None
    """(data_dir, **options) → notes and warnings about the splits and classes in the user's files."""
    reload: Callable[Concatenate[Path | None, str, Selections, ...], Images] | None = None
    """(data_dir, split, selections, **options) → the images of an earlier load, after files were added or removed."""


class UnusableFile(InputError):
    """A file or folder that does not hold what a data set needs."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}", subject=path)


def load_dataset(name: str) -> Dataset:
    """The data set with this name; UnknownName lists the valid ones."""
    module = registry.load("datasets", name)
    dataset = getattr(module, "DATASET", None)
    if not isinstance(dataset, Dataset):
        raise ValueError(f"data set {name!r}: {module.__name__} has no DATASET = Dataset(…)")
    return dataset
