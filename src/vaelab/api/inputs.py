"""The images that a command works on: the user's image files and arrays, or the held-out images of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Real, UInt8

from vaelab import recipe as recipes
from vaelab.api.given import DATASET, options_of
from vaelab.api.load import load_with_recipe
from vaelab.api.run_images import load_run_images
from vaelab.data.containers import printable
from vaelab.data.datasets import load_dataset
from vaelab.data.grounds import FAR, Ground, border_mean, find_ground
from vaelab.data.images import Images
from vaelab.data.memory import is_in_memory, read_memory
from vaelab.data.npy import map_array
from vaelab.data.pictures import LazyArray, Numbered, Skipped, read_ahead, read_pictures
from vaelab.data.tensors import to_uint8
from vaelab.models.chunks import chunk_spans
from vaelab.models.conditions import condition_of, with_condition
from vaelab.models.vae import VAE
from vaelab.run import Run
from vaelab.system.arguments import AnyPath, check_path
from vaelab.system.errors import InputError
from vaelab.system.messages import warn
from vaelab.system.noise import generator

MAX_NAMED = 3
"""Number of pictures that a warning names."""
NUM_SAMPLES = 64
"""Number of samples from which the background of a model's images is determined."""
ARRAYS = (".npy", ".npz")
Rows = Int[np.ndarray, " rows"]
Pixels = Real[np.ndarray, "rows height width channel"]


@dataclass(frozen=True)
class InputImages:
    """Images, a name for each, and those that could not be read so far."""

    images: Images
    names: Sequence[str]
    skipped: Skipped = field(default_factory=Skipped)
    grounds: "Grounds | None" = None
    """The treatment of pictures of ink on paper, for a model of drawings."""

    def __len__(self) -> int:
        return len(self.images)

    def readable_rows(self, start: int = 0, stop: int | None = None) -> Rows:
        """Return the rows of a span that could be read; the span must have been read before."""
        rows = np.arange(start, len(self) if stop is None else stop)
        return rows[[row not in self.skipped.reasons for row in rows.tolist()]] if self.skipped.reasons else rows

    def read(self, count: int) -> Iterator[tuple[Rows, Pixels]]:
        """Yield rows and pixels of the first ``count`` images that can be read, a chunk at a time, reading ahead.

        Raises InputError at the end if none could be read.
        """
        start, found = 0, 0
        while start < len(self) and found < count:
            chunks = chunk_spans(min(count - found, len(self) - start), self.images.image_shape)
            spans = [(start + a, start + b) for a, b in chunks]
            start = spans[-1][1]
            for span, pixels in zip(spans, read_ahead(self.images.pixels, spans), strict=True):
                rows = self.readable_rows(*span)
                found += len(rows)
                if len(rows):
                    yield rows, pixels[rows - span[0]]
        self.check_any_readable(found)

    def skip(self, rows: range) -> None:
        """Record rows that another process could not read; the first few are read again for the reason."""
        for row in rows:
            if row not in self.skipped.reasons:
                if len(self.skipped.reasons) < MAX_NAMED:
                    np.asarray(self.images.pixels[row])
                self.skipped.reasons.setdefault(row, "cannot be read")

    def check_any_readable(self, count: int) -> None:
        """Raise InputError if ``count``, the number of images that could be read, is 0."""
        if count:
            return
        first, reason = min(self.skipped.reasons.items())
        if len(self) > 1:
            reason = f"none of its {len(self):,} images can be read ({self.names[first]}: {reason})"
        raise InputError(f"{self.images.source}: {reason}", subject="images", value=self.images.source)

    def warn_noted(self) -> None:
        """Warn about pictures and folders that could not be read, and about pictures unlike the training images."""
        if self.grounds is not None:
            self.grounds.warn(self.names, self.images.source)
        place, reasons, closed = self.images.source, sorted(self.skipped.reasons.items()), self.skipped.closed
        if reasons:
            named = ", ".join(f"{self.names[row]} ({reason})" for row, reason in reasons[:MAX_NAMED])
            more = f" and {len(reasons) - MAX_NAMED:,} more" if len(reasons) > MAX_NAMED else ""
            verb = "cannot be read and is" if len(reasons) == 1 else "cannot be read and are"
            warn(f"{place}: {len(reasons):,} of {len(self):,} images {verb} left out: {named}{more}")
        if closed:
            name, reason = closed[0]
            more = f" and {len(closed) - 1:,} more" if len(closed) > 1 else ""
            warn(f"{place}: a folder cannot be opened and is left out: {name} ({reason}){more}")


@dataclass(frozen=True)
class Grounds:
    """Inverts pictures whose ground is the opposite of that of a model's images, and remembers which."""

    ground: Ground
    inverted: set[int] = field(default_factory=set)
    unlike: set[int] = field(default_factory=set)
    """Rows of pictures that have neither the background nor its opposite."""

    def adapt(self, pixels: Any, skipped: Skipped) -> LazyArray:
        """Return pictures with the background of the model's images; each is inverted if needed as it is read."""

        def read(rows: Rows) -> Pixels:
            found = np.array(pixels[rows])
            for row, picture in zip(rows.tolist(), found, strict=True):
                if row not in skipped.reasons:
                    picture[:] = self._adapt_one(row, picture)
            return found

        height, width, channels = pixels.shape[1:]
        return LazyArray(len(pixels), (channels, height, width), read)

    def _adapt_one(self, row: int, picture: UInt8[np.ndarray, "height width channel"]) -> Any:
        edge, wanted = border_mean(picture), 0 if self.ground == "dark" else 255
        if (edge > 127.5) == (wanted == 0):
            self.inverted.add(row)
            picture, edge = 255 - picture, 255 - edge
        if abs(edge - wanted) > FAR:
            self.unlike.add(row)
        return picture

    def warn(self, names: Sequence[str], source: str) -> None:
        """Warn once about the pictures that were inverted and those that are unlike the training images."""
        notes = []
        if self.inverted:
            ink = "dark on a light background" if self.ground == "dark" else "light on a dark background"
            notes.append(
                f"{_name_rows(self.inverted, names)} inverted: {ink}, unlike the training images "
                "(images in an array, .npy, are taken as they are)"
            )
        if self.unlike:
            what = f"the background is not {self.ground} enough, so results may be unreliable"
            notes.append(f"{_name_rows(self.unlike, names)} unlike the training images: {what}")
        if notes:
            where = "" if list(names) == [Path(source).name] else f"{source}: "  # a single picture is named already
            warn(f"{where}{'; '.join(notes)}")


def _name_rows(rows: set[int], names: Sequence[str]) -> str:
    """Return the names of the first few rows and the number of the others, followed by "is" or "are"."""
    named = ", ".join(names[row] for row in sorted(rows)[:MAX_NAMED])
    more = f" and {len(rows) - MAX_NAMED:,} more" if len(rows) > MAX_NAMED else ""
    return f"{named}{more} {'is' if len(rows) == 1 else 'are'}"


def load_inputs(
    run_path: AnyPath,
    images: Any,
    data: str | Path | None,
    *,
    strict: bool = False,
    condition: Any = None,
) -> tuple[VAE, InputImages]:
    """Return the model of a run and ``images`` at its size (None: its held-out images).

    ``images`` is a path or in memory (see ``read_memory``). Pictures are resized, and the pages of a file used, as the
    run's recipe says. Unreadable pictures are recorded when they are read; with ``strict`` the first one raises
    InputError. For a model of drawings, such as digits, pictures with the opposite ground are inverted. ``condition``:
    a class or attributes for a conditional model, instead of the images' own.
    """
    model, recipe = load_with_recipe(run_path)
    if images is None:
        loaded = load_run_images(Run(run_path), data)
        valid = _set_condition(model, loaded.valid, condition)
        names = Numbered(loaded.valid_split, len(valid)) if valid.names is None else valid.names
        return model, InputImages(valid, names)
    if is_in_memory(images):
        given = read_memory(images, options=options_of(recipe), image_shape=model.spec.image_shape)
        title = Numbered("images", len(given)) if given.names is None else given.names
        return model, InputImages(_set_condition(model, given, condition), title)
    place = check_path(images, "images")
    if recipe.data["name"] == DATASET and place.suffix.lower() in ARRAYS and place.is_file():
        given = read_memory(map_array(place), None, None, options_of(recipe), model.spec.image_shape, str(place))
        names = Numbered(printable(place.name), len(given))
        return model, InputImages(_set_condition(model, replace(given, source=str(place)), condition), names)
    dataset, options = load_dataset(recipe.data["name"]), recipes.load_options(recipe)
    policy = dataset.resize_policy(model.spec.image_shape, **options) if dataset.resize_policy else None
    expand = dataset.expand_pages if options.get("pages") == "all" else None
    skipped = Skipped()
    own, own_names = read_pictures(place, model.spec.image_shape, policy, None if strict else skipped, expand=expand)
    grounds = None
    is_eight_bit = own.pixels.dtype == np.uint8
    if place.suffix.lower() not in ARRAYS and is_eight_bit and (ground := _ground_of(model)):
        grounds = Grounds(ground)
        own = replace(own, pixels=grounds.adapt(own.pixels, skipped))
    return model, InputImages(_set_condition(model, own, condition), own_names, skipped, grounds)


def _ground_of(model: VAE) -> Ground | None:
    """Return the background of the model's images, from samples: the training images may not be available."""
    if model.spec.image_shape[0] != 1:
        return None
    return find_ground(to_uint8(model.sample(NUM_SAMPLES, generator(0, "ground"))))


def _set_condition(model: VAE, images: Images, condition: Any) -> Images:
    """Return images with ``condition``; raise InputError if a conditional model's images have none."""
    conditioned = with_condition(model.spec, images, condition, model.condition_rows.cpu(), generator(0, "condition"))
    condition_of(model.spec, conditioned.take(np.arange(1)))
    return conditioned
