"""The pictures of a run, as it remembers them: so that they are found again after others came or went."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vaelab.data.scan import Entry, digest


@dataclass(frozen=True)
class Selection:
    """The pictures of one split, as a run remembers them."""

    place: str
    cache_folder: str
    """Name of their entry in the cache."""
    sha256: str
    files: str
    """``digest`` of the picture files."""
    names: list[str]
    left_out: list[str]
    """Pictures that could not be read."""
    classes: list[str]
    labels: dict[str, int] | None
    """Folder → number of its class."""
    split_name: str

    def label_column(self) -> NDArray[np.int64] | None:
        """The class of each picture; KeyError if a folder has none."""
        if self.labels is None:
            return None
        folders = (Entry((self.place, name), 0, 0).folder for name in self.names)
        return np.array([self.labels[folder] for folder in folders], np.int64)


@dataclass(frozen=True)
class Present:
    """The pictures that are at a place now."""

    by_name: dict[str, Entry]
    used: frozenset[str]
    """Names of those that a new run would use."""

    def select(self, wanted: Selection) -> list[Entry]:
        """The pictures of a selection that are still there."""
        return [self.by_name[name] for name in wanted.names if name in self.by_name]


def check_selections(selections: Mapping[str, Mapping[str, Any]], split: str) -> dict[str, Selection]:
    """The selections of a run by split; ValueError if they are damaged or ``split`` is missing."""
    try:
        known = TypeAdapter(dict[str, Selection]).validate_python(selections)
        for selection in known.values():
            selection.label_column()
        _ = known[split]
    except (ValidationError, KeyError):
        raise ValueError(
            "pictures.json of the run is damaged; remove it, and the pictures are loaded as for a new run"
        ) from None
    return known


def describe_change(
    place: Path, known: Mapping[str, Selection], now: Present | None, *, is_same_place: bool
) -> list[str]:
    """One sentence about what has changed at a place; none if nothing that matters."""
    if now is None:
        return [f"{place} is not there: the pictures come from the cache"]
    then = {name for selection in known.values() for name in selection.names}
    added = now.used - then - {name for selection in known.values() for name in selection.left_out}
    gone = then - now.by_name.keys()
    is_touched = is_same_place and not gone and any(digest(now.select(one)) != one.files for one in known.values())
    changes = [f"{len(added):,} came"] if added else []
    changes += [f"{len(gone):,} {'is' if len(gone) == 1 else 'are'} gone"] if gone else []
    changes += ["some files have another size or date"] if is_touched else []
    if not changes:
        return []
    what = " and ".join(changes)
    return [f"the pictures in {place} have changed ({what}): the {len(then):,} that the run began with are used"]
