"""Black-or-white data sets of published splits, in one ``.npz`` or in text files, which the user obtains."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.datasets import Dataset, DatasetInfo, UnusableFile
from vaelab.data.datasets._factor_files import is_npz_with
from vaelab.data.images import Images
from vaelab.data.npy import NpyHeader, read_npz
from vaelab.system.files import DamagedFile
from vaelab.system.paths import data_roots

SPLITS = ("train", "valid", "test")
MAX_BYTES = 1 << 30
ZERO, ONE = b"01"


@dataclass(frozen=True)
class BinarySet:
    """Images of 0 (black) and 1 (white) in the arrays train, valid and test, uint8 ``[N, H, W]``."""

    name: str
    info: DatasetInfo
    folders: tuple[str, ...]
    """Folders below a data root in which the files may lie."""
    npz: str
    """Name of the ``.npz``."""
    sha256: Mapping[str, str]
    """Split → digest of its pixels, one byte each."""
    label_names: tuple[str, ...] = ()
    """Names of the classes 1, 2 …, which are in the arrays train_labels, valid_labels and test_labels."""
    text: str = ""
    """Name of the text file of a split, with ``{split}``: a line of zeros and ones for each image."""

    def dataset(self) -> Dataset:
        """The data set of these files."""
        return Dataset(self.info, self.load, find=self.find, check=self.check)

    def find(self, data_dir: Path | None) -> Path | None:
        """The ``.npz``, or the folder with all text files; None if there is neither."""
        return next(filter(None, map(self._search, data_roots(data_dir))), None)

    def _search(self, root: Path) -> Path | None:
        if root.is_file():
            return root if self._is_one(root) else None
        for folder in (root, *(root / name for name in self.folders)):
            if (folder / self.npz).is_file():
                return folder / self.npz
            if self.text and all((folder / self.text.format(split=split)).is_file() for split in SPLITS):
                return folder
        return None

    def _is_one(self, path: Path) -> bool:
        """Whether an ``.npz`` with another name may be this data set: the two differ in whether they have labels."""
        return is_npz_with(path, *SPLITS) and is_npz_with(path, "train_labels") == bool(self.label_names)

    def load(self, data_dir: Path | None, split: str) -> Images:
        """Load the images of ``split``."""
        self.info.check_split(split)
        found = self.find(data_dir)
        if found is None:
            raise self._not_found(data_dir)
        pixels, labels = self._read(found, split)
        notes = () if self._is_published(pixels, split) else (f"the {split} split is not the published one",)
        white = (pixels * np.uint8(255))[..., None]
        return Images(white, labels, self.label_names, source=str(found.resolve()), notes=notes)

    def check(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Yield (file, verdict) after reading every split."""
        found = self._search(folder)
        if found is None:
            raise self._not_found(folder)
        for split in SPLITS:
            try:
                pixels, _ = self._read(found, split)
            except (OSError, ValueError) as error:
                yield f"{split} split", str(error)
            else:
                whole = self._is_published(pixels, split)
                yield f"{split} split", "ok" if whole else f"readable, but not the published {self.info.title}"

    def _not_found(self, data_dir: Path | None) -> FileNotFoundError:
        place = "" if data_dir is None else f"{data_dir}: "
        return FileNotFoundError(f"{place}no files of {self.name}. {self.info.instructions}")

    def _is_published(self, pixels: NDArray[np.uint8], split: str) -> bool:
        return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() == self.sha256[split]

    def _read(self, found: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        """Pixels of 0 and 1 ``[N, H, W]`` and labels from 0; InputError if they are others."""
        if found.is_dir():
            path = found / self.text.format(split=split)
            return self._read_text(path), None

        def check(name: str, header: NpyHeader) -> None:
            if header.dtype != np.uint8 or len(header.shape) != 3 or not all(header.shape):
                raise UnusableFile(found, f"{name} must be uint8 [N, H, W]; got {header.dtype} {list(header.shape)}")

        pixels = read_npz(found, split, max_bytes=MAX_BYTES, check=check)[split]
        if pixels.size and pixels.max() > 1:
            raise UnusableFile(found, f"{split} must be 0 (black) or 1 (white); got {pixels.max()}")
        return pixels, self._read_labels(found, split, len(pixels)) if self.label_names else None

    def _read_labels(self, path: Path, split: str, count: int) -> NDArray[np.int64]:
        name, most = f"{split}_labels", len(self.label_names)
        labels = read_npz(path, name, max_bytes=MAX_BYTES)[name]
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise UnusableFile(path, f"{name} must be {count} integers; got {labels.dtype} {list(labels.shape)}")
        if len(labels) and not 1 <= labels.min() <= labels.max() <= most:
            raise UnusableFile(path, f"{name} must be from 1 to {most}; got {labels.min()} to {labels.max()}")
        return labels.astype(np.int64) - 1

    def _read_text(self, path: Path) -> NDArray[np.uint8]:
        assert self.info.image_shape is not None
        _, height, width = self.info.image_shape
        content = np.frombuffer(path.read_bytes(), np.uint8)
        digits = content[(content == ZERO) | (content == ONE)]
        num_blank = np.isin(content, np.frombuffer(b" \t\r\n", np.uint8)).sum()
        if len(digits) + num_blank != len(content):
            raise DamagedFile(path, "it must hold zeros and ones, separated by blanks")
        if not len(digits) or len(digits) % (height * width):
            raise DamagedFile(path, f"{len(digits):,} values are not a multiple of an image {height}×{width}")
        pixels: NDArray[np.uint8] = digits.reshape(-1, height, width) - np.uint8(ZERO)
        return pixels
