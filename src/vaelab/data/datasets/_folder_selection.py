"""The pictures of a run: recorded by name, so that they are found again after others were added or removed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vaelab.data.scan import Entry, digest
from vaelab.system.errors import InputError


@dataclass(frozen=True)
class Selection:
    """The pictures of one split, as recorded in pictures.json."""

    place: str
    cache_folder: str
    """Name of their entry in the image cache."""
    sha256: str
    """Fingerprint of the images."""
    files: str
    """Digest of the names, sizes and times of the files."""
    names: list[str]
    left_out: list[str]
    """Pictures that could not be read."""
    classes: list[str]
    labels: dict[str, int] | None
    """Folder, or name of a picture with a row in a table → number of its class."""
    split_name: str
    attribute_names: list[str] = field(default_factory=list)
    attributes: dict[str, str] | None = None
    """Name of a picture → one digit for each attribute, 1 or 0."""

    def label_column(self) -> NDArray[np.int64] | None:
        """The class of each picture; KeyError if a folder has none."""
        if self.labels is None:
            return None
        folders = {name: Entry((self.place, name), 0, 0).folder for name in self.names}
        return np.array([self.labels[name if name in self.labels else folders[name]] for name in self.names], np.int64)

    def attribute_column(self) -> NDArray[np.bool_] | None:
        """The attributes of each picture ``[N, A]``; KeyError if a picture has none."""
        if self.attributes is None:
            return None
        return np.array([[digit == "1" for digit in self.attributes[name]] for name in self.names], bool)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Labels and attributes, if there are any."""
        found = {"labels": self.label_column(), "attributes": self.attribute_column()}
        return {name: column for name, column in found.items() if column is not None}


@dataclass(frozen=True)
class CurrentPictures:
    """The pictures that are at a place now."""

    by_name: dict[str, Entry]
    used: frozenset[str]
    """Names of the pictures that a new run would use."""

    def select(self, wanted: Selection) -> list[Entry]:
        """The pictures of a selection that still exist."""
        return [self.by_name[name] for name in wanted.names if name in self.by_name]


def parse_selections(given: Mapping[str, Mapping[str, Any]], split: str) -> dict[str, Selection]:
    """The selections of a run by split; InputError if they are damaged or ``split`` is missing."""
    try:
        selections = TypeAdapter(dict[str, Selection]).validate_python(given)
        for selection in selections.values():
            selection.columns()
        _ = selections[split]
    except (ValidationError, KeyError):
        message = "pictures.json of the run is damaged; remove it to load the images as for a new run"
        raise InputError(message, subject="pictures.json") from None
    return selections


def describe_change(
    place: Path, selections: Mapping[str, Selection], now: CurrentPictures | None, *, is_same_place: bool
) -> list[str]:
    """A warning about changes at a place; none if the run is not affected."""
    if now is None:
        return [f"{place} does not exist: the images come from the cache"]
    before = {name for selection in selections.values() for name in selection.names}
    left_out = {name for selection in selections.values() for name in selection.left_out}
    added, removed = now.used - before - left_out, before - now.by_name.keys()
    is_touched = any(digest(now.select(selection)) != selection.files for selection in selections.values())
    changes = [f"{len(added):,} added"] if added else []
    changes += [f"{len(removed):,} removed"] if removed else []
    changes += ["some files have another size or date"] if is_touched and is_same_place and not removed else []
    if not changes:
        return []
    return [f"the images in {place} have changed ({', '.join(changes)}); the run's own {len(before):,} are used"]
