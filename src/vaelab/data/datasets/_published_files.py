"""Data sets of a few published files, which are downloaded, compared with their digests and read through the cache.

The files may lie as they are published, or unpacked.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vaelab.data.array_cache import cache_images
from vaelab.data.cache import file_signature
from vaelab.data.datasets import DatasetInfo
from vaelab.data.images import Images
from vaelab.system.download import DownloadFailed, fetch
from vaelab.system.paths import cache_dir, data_roots


@dataclass(frozen=True)
class PublishedFile:
    """A file as the authors of a data set publish it."""

    name: str
    digest: str
    """Algorithm and digest of its bytes, such as "md5:6a4b…"."""
    urls: tuple[str, ...]

    def check(self, path: Path) -> None:
        """Raise ValueError if a file has another digest."""
        if not self.is_at(path):
            raise ValueError(f"{path.stat().st_size:,} bytes with another digest than {self.name} has")

    def is_at(self, path: Path) -> bool:
        """Return whether a path holds this file."""
        algorithm, _, digest = self.digest.partition(":")
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest() == digest


@dataclass(frozen=True)
class Subset:
    """Images of a data set that are published for themselves."""

    files: tuple[PublishedFile, ...]
    unpacked: tuple[str, ...] = ()
    """Names of the files in an unpacked archive that are needed instead of it, gzipped or not."""

    def search(self, folder: Path) -> Path | None:
        """Return the place of the files in a folder: that of a single file, else the folder; None if one is missing."""
        if all((folder / file.name).is_file() for file in self.files):
            return folder / self.files[0].name if len(self.files) == 1 else folder
        is_unpacked = all(any((folder / f"{name}{end}").is_file() for end in ("", ".gz")) for name in self.unpacked)
        return folder if self.unpacked and is_unpacked else None


Read = Callable[[Path, str, str], Images]
"""(place of the files, name of the subset, split) → images; DamagedFile names the file."""


@dataclass(frozen=True)
class PublishedSet:
    """A data set of published files, in one subset or several."""

    name: str
    info: DatasetInfo
    subsets: Mapping[str, Subset]
    folders: tuple[str, ...]
    """Folders below a data root in which other programs put the files."""
    read: Read
    remark: str = ""
    """A sentence about other forms of the files, for the message that there are none."""

    def load(self, data_dir: Path | None, split: str, subset: str = "") -> Images:
        """Return the images of a split of a subset, downloaded first if they are not found."""
        self.info.check_split(split)
        wanted = self.subsets[subset]
        found = self._find(data_dir, [wanted])
        if found is None and data_dir is not None:
            raise FileNotFoundError(f"{data_dir}: no files of {subset or self.name} here. {self._advise([wanted])}")
        if found is None:
            self._get(cache_dir() / self.name, [wanted])
            found = wanted.search(cache_dir() / self.name)
            assert found is not None
        place = found
        signatures = [file_signature(path) for path in self._paths(place, wanted)]
        key = {"data": self.name, "subset": subset, "split": split, "files": signatures}
        images = cache_images(f"{subset or self.name} {split}", key, lambda: self._read(place, subset, split))
        return replace(images, source=str(place.resolve()))

    def _read(self, place: Path, subset: str, split: str) -> Images:
        images = self.read(place, subset, split)
        names = self._differences(place, self.subsets[subset])
        return replace(images, notes=(*images.notes, *(f"{name} is not the published file" for name in names)))

    def _differences(self, place: Path, subset: Subset) -> list[str]:
        """Return the names of files that are not the published ones; those of an unpacked archive have no digests."""
        is_unpacked = place.is_dir() and subset.unpacked
        paths = () if is_unpacked else zip(subset.files, self._paths(place, subset), strict=True)
        return [file.name for file, path in paths if not file.is_at(path)]

    def _paths(self, place: Path, subset: Subset) -> list[Path]:
        """Return the files at a place that ``search`` has found."""
        if place.is_file():
            return [place]
        names = subset.unpacked or [file.name for file in subset.files]
        return [path for name in names for path in (place / name, place / f"{name}.gz") if path.is_file()]

    def find(self, data_dir: Path | None) -> Path | None:
        """Return the place of the first subset whose files are there; None if there is none."""
        return self._find(data_dir, list(self.subsets.values()))

    def _find(self, data_dir: Path | None, subsets: Sequence[Subset]) -> Path | None:
        places = (place for root in data_roots(data_dir) for place in self._search(root, subsets))
        return next(places, None)

    def _search(self, root: Path, subsets: Sequence[Subset]) -> Iterator[Path]:
        if root.is_file():
            yield from (root for subset in subsets if [file.name for file in subset.files] == [root.name])
            return
        for folder in (root, *(root / name for name in (*self.folders, self.name))):
            yield from filter(None, (subset.search(folder) for subset in subsets))

    def get(self, target: Path | None) -> Path:
        """Download missing files to ``target`` (None: the user's cache, where other or damaged files are replaced)."""
        folder = target if target is not None else cache_dir() / self.name
        self._get(folder, list(self.subsets.values()), replaces=target is None)
        return folder

    def _get(self, folder: Path, subsets: Sequence[Subset], *, replaces: bool = False) -> None:
        for file in dict.fromkeys(file for subset in subsets for file in subset.files):
            path = folder / file.name
            if not path.is_file() or (replaces and not file.is_at(path)):
                try:
                    fetch(file.urls, path, file.check)
                except DownloadFailed as error:
                    message = f"{self.name} could not be downloaded ({error}). {self._advise(subsets)}"
                    raise DownloadFailed(message) from None

    def _advise(self, subsets: Sequence[Subset]) -> str:
        names = list(dict.fromkeys(file.name for subset in subsets for file in subset.files))
        remark = f". {self.remark}" if self.remark else ""
        return f"Put {', '.join(names)} into a folder and name it with --data, or leave --data out to download{remark}"

    def check(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Yield (file, verdict) for each split of each subset with files at a folder, after reading them."""
        for name, subset in self.subsets.items():
            place = next(self._search(folder, [subset]), None)
            for split in self.info.splits if place else ():
                assert place is not None
                title = " ".join(filter(None, (name, split, "split")))
                try:
                    self.read(place, name, split)
                except (OSError, ValueError) as error:
                    yield title, str(error)
                else:
                    differences = self._differences(place, subset)
                    yield title, f"readable, but not the published {differences[0]}" if differences else "ok"
