"""The images that a verb is given: pictures and arrays of a person, or the held-out images of a run."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from vaelab.api.data import data_of
from vaelab.api.results import load_with_resize_policy
from vaelab.data.images import Images
from vaelab.data.pictures import Numbered, Skipped, read_pictures
from vaelab.models.conditions import condition_of, with_condition
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.seeds import generator

NAMED = 3
"""Pictures that a warning names."""

Warn = Callable[[str], None]
"""Receives one sentence for the person."""


def warn_in_python(text: str) -> None:
    """A warning of Python's; the command line prints it instead."""
    warnings.warn(text, stacklevel=3)


@dataclass(frozen=True)
class Given:
    """Images, a name for each, and which of them turned out not to be readable when they were read."""

    images: Images
    names: Sequence[str]
    place: str
    """Where the images are, for messages."""
    skipped: Skipped = field(default_factory=Skipped)

    def __len__(self) -> int:
        return len(self.images)

    def readable(self, start: int = 0, stop: int | None = None) -> Int[np.ndarray, " rows"]:
        """Row numbers of a span whose images could be read; the span must have been read before."""
        rows = np.arange(start, len(self) if stop is None else stop)
        return rows[[row not in self.skipped.reasons for row in rows.tolist()]] if self.skipped.reasons else rows

    def skip(self, rows: range) -> None:
        """Note rows that another process could not read; each is read again for the reason, the first few at least."""
        for row in rows:
            if row not in self.skipped.reasons:
                if len(self.skipped.reasons) < NAMED:
                    np.asarray(self.images.pixels[row])
                self.skipped.reasons.setdefault(row, "cannot be read")

    def pixels(self, most: int) -> tuple[NDArray[np.uint8], Int[np.ndarray, " rows"]]:
        """The first ``most`` images that can be read, and their row numbers; ValueError if there are none."""
        parts, rows, start = [self.images.pixels[:0]], [np.arange(0)], 0
        while start < len(self) and (wanted := most - sum(map(len, rows))):
            stop = min(start + wanted, len(self))
            read = np.asarray(self.images.pixels[start:stop])
            rows.append(self.readable(start, stop))
            parts.append(read[rows[-1] - start])
            start = stop
        self.check_some(sum(map(len, rows)))
        return np.concatenate(parts), np.concatenate(rows)

    def check_some(self, count: int) -> None:
        """ValueError if ``count``, the number of images that could be read, is 0."""
        if not count:
            first, reason = next(iter(sorted(self.skipped.reasons.items())))
            if len(self) == 1:
                raise ValueError(f"{self.place}: {reason}")
            raise ValueError(
                f"{self.place}: none of its {len(self):,} pictures can be read ({self.names[first]}: {reason})"
            )

    def tell_skipped(self, warn: Warn, looked_at: int | None = None) -> None:
        """Warn of the pictures and folders that could not be read, if there were any."""
        reasons, closed = sorted(self.skipped.reasons.items()), self.skipped.closed
        if reasons:
            some = ", ".join(f"{self.names[row]} ({reason})" for row, reason in reasons[:NAMED])
            more = f" and {len(reasons) - NAMED:,} more" if len(reasons) > NAMED else ""
            count = len(self) if looked_at is None else looked_at
            verb = "cannot be read and is" if len(reasons) == 1 else "cannot be read and are"
            warn(f"{self.place}: {len(reasons):,} of {count:,} pictures {verb} left out: {some}{more}")
        if closed:
            name, reason = closed[0]
            more = f" and {len(closed) - 1:,} more" if len(closed) > 1 else ""
            warn(f"{self.place}: a folder cannot be opened and is left out: {name} ({reason}){more}")


def load_with_images(
    run_path: AnyPath,
    images: str | Path | None,
    data: str | Path | None,
    *,
    strict: bool = False,
    condition: Any = None,
) -> tuple[VAE, Given]:
    """The model of a run, and the pictures at ``images`` at its size (None: its held-out images).

    Pictures that cannot be read are noted while the others are read; with ``strict`` the first raises ValueError.
    ``condition``: a class or attributes for a conditional model, in place of the images' own.
    """
    model, policy = load_with_resize_policy(run_path)
    if images is not None:
        place = check_path(images, "images", advice="For arrays in memory there is vaelab.load(run).encode")
        skipped = Skipped()
        own, names = read_pictures(place, model.spec.image_shape, policy, None if strict else skipped)
        return model, Given(_conditioned(model, own, condition), names, own.source, skipped)
    held_out = data_of(Run.open(run_path), data)
    valid = _conditioned(model, held_out.valid, condition)
    names = Numbered(held_out.valid_split, len(valid)) if valid.names is None else valid.names
    return model, Given(valid, names, valid.source)


def _conditioned(model: VAE, images: Images, condition: Any) -> Images:
    """Images under a condition; ValueError where a conditional model's images have none of their own either."""
    found = with_condition(model.spec, images, condition, model.condition_rows.cpu(), generator(0, "condition"))
    condition_of(model.spec, found.take(np.arange(1)))
    return found
