"""CelebA's two lists, attributes and partition, as their authors and as Kaggle write them."""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaelab.data.containers import read_entry
from vaelab.system.files import read_bytes

LISTS = {"attributes": "list_attr_celeba", "partition": "list_eval_partition"}
MAX_BYTES = 1 << 28
"""Larger lists are refused; that of CelebA's attributes has 27 million."""
Text = tuple[str, str]
"""What stands in a list, and where it lies."""


def find_lists(base: Path) -> dict[str, Path]:
    """Which list → its file in or about a folder."""
    found = {}
    for which, stem in LISTS.items():
        for folder in (base, base / "Anno", base / "Eval", base.parent / "Anno", base.parent / "Eval"):
            for suffix in (".txt", ".csv"):
                if which not in found and (folder / f"{stem}{suffix}").is_file():
                    found[which] = folder / f"{stem}{suffix}"
    return found


def read_list(path: Path) -> Text:
    """The text of a list."""
    return _decoded(read_bytes(path, MAX_BYTES)), str(path)


def lists_inside(opened: zipfile.ZipFile, where: Path) -> dict[str, Text]:
    """The lists that lie in the zip itself, as in Kaggle's archive."""
    found = {}
    for name in opened.namelist():
        for which, stem in LISTS.items():
            if name.rpartition("/")[2] in (f"{stem}.csv", f"{stem}.txt"):
                if opened.getinfo(name).file_size > MAX_BYTES:
                    raise ValueError(f"{where}: {name} has more than {MAX_BYTES:,} bytes")
                found[which] = (_decoded(read_entry(opened, name)), f"{where}: {name}")
    return found


def _decoded(content: bytes) -> str:
    return content.decode("utf-8-sig", "replace")


def parse_attributes(text: str, where: str) -> tuple[list[str], tuple[str, ...], NDArray[np.bool_]]:
    """(names of images, names of attributes, table) of ``list_attr_celeba``, whose values are 1 and −1."""
    header, rows = _rows(text, where)
    if header is None:
        raise ValueError(f"{where}: no line with the names of the attributes")
    wrong = next((row for row in rows if len(row) != len(header) + 1), None)
    if wrong is not None:
        raise ValueError(f"{where}: {len(wrong) - 1} values for {wrong[0]}, {len(header)} attributes; get it again")
    values = np.array([row[1:] for row in rows]) if rows else np.empty((0, len(header)), str)
    if not np.isin(values, ("1", "-1", "0")).all():
        raise ValueError(f"{where}: values other than 1 and -1")
    return [row[0] for row in rows], tuple(header), values == "1"


def parse_partition(text: str, where: str) -> dict[str, int]:
    """Image → 0, 1 or 2 of ``list_eval_partition``."""
    _, rows = _rows(text, where)
    for row in rows:
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise ValueError(f"{where}: {' '.join(row)!r} is no image with its partition 0, 1 or 2; get it again")
    return {row[0]: int(row[1]) for row in rows}


def _rows(text: str, where: str) -> tuple[list[str] | None, list[list[str]]]:
    """(header or None, rows of words) of a list, in the authors' form or as .csv."""
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise ValueError(f"{where} is a web page and no list; most likely a notice of Google Drive: get it again")
    lines = [line.replace(",", " ").split() for line in io.StringIO(text) if line.strip()]
    if lines and len(lines[0]) == 1 and lines[0][0].isdigit():
        promised, lines = int(lines[0][0]), lines[1:]
        if len(lines) - 1 != promised:
            raise ValueError(f"{where}: its first line promises {promised:,} images and it lists {len(lines) - 1:,}")
        return lines[0], lines[1:]
    if lines and lines[0][0] == "image_id":
        return lines[0][1:], lines[1:]
    return None, lines
