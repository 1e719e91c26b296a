"""Images that a program has in memory: arrays, tensors, pictures, and data sets of PyTorch or the Hugging Face hub.

All of them become ``Images``. A note says what was decided about axes and values.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Real, UInt8
from numpy.typing import NDArray
from PIL import Image

from vaelab.data.containers import UnreadablePicture
from vaelab.data.datasets._folder_resize import Size, choose_size
from vaelab.data.datasets._folder_resize import ValueRange as ValueRange
from vaelab.data.decode import ResizePolicy, fit_picture
from vaelab.data.images import SMALLEST_SIDE, Images, name_channels
from vaelab.system.arguments import describe
from vaelab.system.errors import InputError
from vaelab.system.progress import progress

Axes = Literal["auto", "NHW", "NHWC", "NCHW"]
"""Order of the axes of an array: images, height, width, channels."""
Shape = tuple[int, int, int]
"""Channels, height, width."""
GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of pictures without colour."""
BLOCK_VALUES = 1 << 22
"""Values that are converted at a time."""
KINDS = "arrays, tensors, PIL images, a torch Dataset, a Hugging Face Dataset or vaelab.Images"
LABEL_KEYS = ("label", "labels", "fine_label", "class", "target")
"""Names under which an image's class is looked for in a dictionary."""


@dataclass(frozen=True)
class ArrayOptions:
    """How numbers become images; the keys of the data set ``arrays``."""

    axes: Axes = "auto"
    range: ValueRange = "auto"
    size: Size = "auto"


@dataclass
class _Collected:
    """The given images as one array, and facts that come with them."""

    array: NDArray[Any]
    source: str
    labels: Any = None
    label_names: tuple[str, ...] = ()
    are_pictures: bool = False
    """PIL images, whose values go from 0 to 255 regardless of ``range``."""
    notes: list[str] = field(default_factory=list)


def read_memory(
    given: Any,
    labels: Any = None,
    attributes: Any = None,
    options: ArrayOptions | None = None,
    image_shape: Shape | None = None,
    name: str = "images",
    label_names: tuple[str, ...] = (),
) -> Images:
    """Return images of a program as ``Images``, ``[N, H, W, C]`` of uint8, uint16 or float32 in [0, 1].

    They have 8 bits if nothing is lost by that.

    ``given`` is an array or tensor ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]``, or a list of PIL
    images, arrays or tensors. It may be a ``torch.utils.data.Dataset`` or a ``datasets.Dataset``, whose items are
    images, or images with labels. ``Images`` are returned as they are.

    ``labels``: a class for each image, as an integer or a name, or the column of a hub data
    set. ``attributes``: true or false, ``[N, A]``, or a mapping from names to columns, such as a DataFrame.

    ``image_shape``: the shape that a model needs; then one image is enough, and pictures are resized to it.
    ``label_names``: classes that are known already. ``resolved`` of the result has the values of "auto" options.

    Raises InputError with one line, which begins with ``name``, for what cannot be used, and TypeError for objects of
    another kind.
    """
    options = options or ArrayOptions()
    if isinstance(given, Images):
        images = given if image_shape is None else _check_shape(given, image_shape, name)
        return _annotate(images, labels, attributes, name)
    found = _collect(given, labels, options, image_shape, name)
    array, axes = arrange(found.array, options.axes, image_shape, name)
    wanted = "full" if found.are_pictures else options.range
    pixels, value_range, notes = _to_pixels(array, wanted, name, is_for_model=image_shape is not None)
    count, height, width, channels = pixels.shape
    layout = f"{name}: {count:,} of {height}×{width} {name_channels(channels)}, from {found.source} read as {axes}"
    images = Images(
        pixels,
        label_names=label_names or found.label_names,
        source=found.source,
        notes=(layout, *found.notes, *notes),
        warnings=_find_doubts(pixels, found.array.dtype),
        resolved={"axes": axes, "range": value_range},
    )
    return _annotate(images, found.labels if labels is None or isinstance(labels, str) else labels, attributes, name)


def is_in_memory(given: Any) -> bool:
    """Return whether images were given as an object, not as a path or not at all."""
    return given is not None and not isinstance(given, str | bytes) and not hasattr(given, "__fspath__")


# -- from objects to one array ----------------------------------------------------------------------------------------


def _collect(given: Any, labels: Any, options: ArrayOptions, shape: Shape | None, name: str) -> _Collected:
    if isinstance(given, Mapping):
        choices = [str(key) for key in given]
        advice = f'give one of its parts, such as {name}=…["{choices[0]}"]' if choices else "it is empty"
        raise InputError(f"{name}: {describe(given)} of {', '.join(choices)}: {advice}", subject=name, choices=choices)
    from torch.utils.data import DataLoader, Dataset

    if isinstance(given, DataLoader):
        raise InputError(f"{name}: a DataLoader makes batches; give its data set: {name}=loader.dataset", subject=name)
    if isinstance(given, Image.Image):
        given = [given]
    if hasattr(given, "column_names") and hasattr(given, "features"):
        return _collect_hub(given, labels, options, shape, name)
    if isinstance(labels, str):
        raise InputError(
            f"labels = {labels!r} names a column, which only a Hugging Face Dataset has; give one label per image",
            subject="labels",
        )
    if isinstance(given, Dataset):
        source = f"a data set ({type(given).__name__})"
        return _collect_items(_items_of(given), _length_of(given), source, options, shape, name)
    if isinstance(given, Sequence) and not isinstance(given, list | tuple | str | bytes):
        given = list(given)  # a column of a hub data set, for example
    if isinstance(given, list | tuple) and len(given) and _is_picture_or_tensor(_first_of(given)):
        return _collect_items(iter(given), len(given), f"a {type(given).__name__}", options, shape, name)
    return _Collected(_as_array(given, name), describe(given))


def _is_tensor(given: Any) -> bool:
    """Return whether this is a tensor of torch, which need not be imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor)


def _is_picture_or_tensor(given: Any) -> bool:
    return isinstance(given, Image.Image) or _is_tensor(given)


def _first_of(given: Sequence[Any]) -> Any:
    """Return the first image of a list of images, or of pairs of an image and a label."""
    first = given[0]
    return first[0] if isinstance(first, tuple) and len(first) == 2 else first


def _as_array(given: Any, name: str) -> NDArray[Any]:
    """Return numbers as an array; InputError for those that are no images, TypeError for other objects."""
    if _is_tensor(given):
        given = given.detach().cpu()
        given = given.float() if str(given.dtype) == "torch.bfloat16" else given
        return np.asarray(given.numpy())
    if np.ma.is_masked(given):
        raise InputError(f"{name} must not be masked; fill the masked values first", subject=name)
    if not hasattr(given, "__array__") and not isinstance(given, list | tuple):
        raise TypeError(f"{name} must be {KINDS}; got {describe(given)}")
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(f"{name} have different shapes; {_ADVICE_SHAPES}", subject=name) from None
    if array.dtype == object:
        raise InputError(f"{name} are an array of objects, not of numbers; {_ADVICE_SHAPES}", subject=name)
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise InputError(f"{name} must be whole or floating-point numbers; got {array.dtype}", subject=name)
    return array


_ADVICE_SHAPES = "stack images of one size with numpy.stack, or give a list of PIL images, which are resized"


def _length_of(given: Any) -> int | None:
    return len(given) if hasattr(given, "__len__") else None


def _items_of(given: Any) -> Iterator[Any]:
    from torch.utils.data import IterableDataset

    if isinstance(given, IterableDataset) or not hasattr(given, "__len__"):
        yield from given
    else:
        for number in range(len(given)):
            yield given[number]


def _collect_items(
    items: Iterable[Any], count: int | None, source: str, options: ArrayOptions, shape: Shape | None, name: str
) -> _Collected:
    """Read images, or images with labels, one by one."""
    images, labels, has_other = list[Any](), list[Any](), False
    with progress(f"reading {name}", count) as bar:
        for item in items:
            image, label = _split_item(item, len(images), name)
            images.append(image.copy() if isinstance(image, Image.Image) and _is_file(image) else image)
            labels.append(_as_label(label))
            has_other |= label is not None and labels[-1] is None
            bar.advance(1)
    if not images:
        raise InputError(f"{name}: {source} is empty", subject=name)
    known = labels if all(label is not None for label in labels) else None
    left_out = ["what its items have besides images is no class and is left out"] if has_other else []
    if are_pictures := all(isinstance(image, Image.Image) for image in images):
        array, notes = _fit_pictures(images, options, shape, name)
    else:
        array, notes = _stack(images, name), []
    title, told = f"{source} of {len(images):,}", [*notes, *left_out]
    return _Collected(array, title, known, are_pictures=are_pictures, notes=told)


def _is_file(picture: Image.Image) -> bool:
    """Return whether a picture keeps its file open until it is read."""
    return getattr(picture, "fp", None) is not None


def _split_item(item: Any, number: int, name: str) -> tuple[Any, Any]:
    """Return the image of an item and its label, or what else it has in the label's place."""
    if isinstance(item, Mapping):
        keys = [key for key, value in item.items() if _is_image(value)]
        if len(keys) != 1:
            what = f"{len(keys)} images ({', '.join(keys)})" if keys else f"no image, only {', '.join(map(str, item))}"
            raise InputError(f"{name}[{number}] has {what}; keep the column of one image", subject=name, choices=keys)
        label = next((item[key] for key in LABEL_KEYS if key in item), None)
        return item[keys[0]], label
    if isinstance(item, tuple | list) and len(item) and _is_image(item[0]):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _is_image(value: Any) -> bool:
    if isinstance(value, Image.Image):
        return True
    shape = getattr(value, "shape", None)
    return shape is not None and len(shape) >= 2


def _as_label(value: Any) -> int | str | None:
    """Return a class as a number or text; None if it is something else."""
    if isinstance(value, str):
        return value
    if value is None or getattr(value, "ndim", 0) > 0 or isinstance(value, float | Sequence | Mapping):
        return None
    return int(value) if hasattr(value, "__index__") or hasattr(value, "item") else None


def _stack(images: Sequence[Any], name: str) -> NDArray[Any]:
    first = _as_array(images[0], f"{name}[0]")
    stacked = np.empty((len(images), *first.shape), first.dtype)
    for number, image in enumerate(images):
        array = _as_array(image, f"{name}[{number}]")
        if array.shape != first.shape or array.dtype != first.dtype:
            found, other = (f"{each.dtype} {list(each.shape)}" for each in (first, array))
            message = f"{name}[{number}] is {other}, {name}[0] is {found}; {_ADVICE_SHAPES}"
            raise InputError(message, subject=name)
        stacked[number] = array
    return stacked


def _fit_pictures(
    pictures: Sequence[Image.Image], options: ArrayOptions, shape: Shape | None, name: str
) -> tuple[UInt8[np.ndarray, "n h w c"], list[str]]:
    """Return PIL images at one size: their own if they share one, else that of the options."""
    sizes = [(picture.height, picture.width) for picture in pictures]
    channels = 1 if all(picture.mode in GREY_MODES for picture in pictures) else 3
    if shape is not None:
        channels, height, width = shape
    elif options.size != "auto":
        height, width = (options.size, options.size) if isinstance(options.size, int) else options.size
    else:
        height, width = sizes[0] if len(set(sizes)) == 1 else choose_size(sizes)
    policy = ResizePolicy(height, width, channels)
    pixels = np.empty((len(pictures), height, width, channels), np.uint8)
    for number, picture in enumerate(pictures):
        try:
            pixels[number] = fit_picture(picture, policy)
        except UnreadablePicture as error:
            raise InputError(f"{name}[{number}]: {error}", subject=name) from None
    is_resized = set(sizes) != {(height, width)}
    return pixels, [f"images are cropped to {height}×{width} about their centre (data.size)"] if is_resized else []


def _collect_hub(given: Any, labels: Any, options: ArrayOptions, shape: Shape | None, name: str) -> _Collected:
    """Read a ``datasets.Dataset``: its image column, and the column of classes if it has one."""
    features, columns = given.features or {}, list(given.column_names or [])
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    images = [column for column, kind in kinds.items() if kind in ("Image", "Array2D", "Array3D")]
    if features and len(images) != 1:
        found = f"{len(images)} image columns ({', '.join(images)})" if images else f"no image column in {columns}"
        advice = f"give one column: {name}=….select_columns([…]) with labels=…[…]"
        raise InputError(f"{name} has {found}; {advice}", subject=name, choices=images)
    if isinstance(labels, str) and labels not in columns:
        raise InputError(
            f"labels = {labels!r}: the columns are {', '.join(columns)}", subject="labels", choices=columns
        )
    classes = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    by_name = next((key for key in LABEL_KEYS if key in columns), None)
    column = labels if isinstance(labels, str) else classes[0] if len(classes) == 1 else by_name
    if images and hasattr(given, "select_columns"):
        given = given.select_columns([*images, *([column] if column else [])])
    rows = ({"image": row[images[0]], "label": row[column] if column else None} if images else row for row in given)
    found_images = _collect_items(rows, _length_of(given), "a Hugging Face Dataset", options, shape, name)
    if column and found_images.labels is not None:
        found_images.label_names = tuple(getattr(features.get(column), "names", None) or ())
        found_images.notes.append(f"labels: the column {column}")
    return found_images


# -- axes and values --------------------------------------------------------------------------------------------------


def arrange(array: NDArray[Any], axes: Axes, image_shape: Shape | None, name: str) -> tuple[NDArray[Any], Axes]:
    """Return an array as ``[N, H, W, C]`` and the order of its axes; InputError unless exactly one order fits."""
    if image_shape is not None and _is_one_image(array.shape, image_shape):
        array = array[None]
    if array.size == 0:
        raise InputError(f"{name}: an empty array, of shape {list(array.shape)}", subject=name)
    fitting = [order for order in _possible(array.shape, image_shape) if axes in ("auto", order)]
    if len(fitting) > 1 and image_shape is None:  # channels are few
        counts = {order: array.shape[order.index("C")] for order in fitting}
        likely = [order for order, count in counts.items() if count in (1, 3)]
        fitting = likely or [order for order, count in counts.items() if count == min(counts.values())]
    if len(fitting) != 1:
        raise InputError(f"{name}: {_explain_axes(array.shape, axes, fitting, image_shape)}", subject=name)
    if fitting[0] == "NHW":
        array = array[..., None]
    return (array.transpose(0, 2, 3, 1) if fitting[0] == "NCHW" else array), fitting[0]


def image_axes(images: NDArray[Any], axes: Axes) -> NDArray[Any]:
    """Return images ``[N, H, W, C]`` in another order of axes."""
    if axes == "NHW":
        return images[..., 0]
    return images.transpose(0, 3, 1, 2) if axes == "NCHW" else images


def _is_one_image(shape: tuple[int, ...], image_shape: Shape) -> bool:
    """Return whether an array is one image of a model's shape."""
    channels, height, width = image_shape
    if len(shape) == 3:
        is_stack = channels == 1 and shape[1:] == (height, width)
        return not is_stack and shape in ((channels, height, width), (height, width, channels))
    return len(shape) == 2


def _possible(shape: tuple[int, ...], image_shape: Shape | None) -> Iterator[Axes]:
    """Yield the orders of axes in which an array would be images."""
    orders: dict[int, tuple[Axes, ...]] = {3: ("NHW",), 4: ("NHWC", "NCHW")}
    for order in orders.get(len(shape), ()):
        sizes = dict(zip(order, shape, strict=True))
        found = (sizes.get("C", 1), sizes["H"], sizes["W"])
        if min(found[1:]) >= SMALLEST_SIDE if image_shape is None else found == image_shape:
            yield order


def _explain_axes(shape: tuple[int, ...], axes: Axes, fitting: Sequence[Axes], image_shape: Shape | None) -> str:
    text = f"an array of shape {list(shape)}"
    if image_shape is not None:
        channels, height, width = image_shape
        wanted = f"[N, {channels}, {height}, {width}] or [N, {height}, {width}, {channels}]"
        return f"{text} does not match; expected {wanted}"
    if fitting:
        return f'{text} may be any of {", ".join(fitting)}: say which with set={{"data.axes": "{fitting[0]}"}}'
    if len(shape) == 2:
        side = math.isqrt(shape[1])
        example = f"[{shape[0]}, {side}, {side}]" if side * side == shape[1] else "[N, H, W]"
        return f"{text} holds rows, not images; reshape them to {example}, or use vaelab.sklearn.VAE"
    if len(shape) == 3 and shape[-1] < SMALLEST_SIDE <= min(shape[:2]):
        return f"{text} looks like one image; several are needed, [N, H, W, C]"
    said = "" if axes == "auto" else f" as {axes} (data.axes)"
    return f"{text}{said} is not [N, H, W], [N, H, W, C] or [N, C, H, W] with sides of {SMALLEST_SIDE} pixels or more"


def _to_pixels(
    array: NDArray[Any], wanted: ValueRange, name: str, *, is_for_model: bool
) -> tuple[Real[np.ndarray, "n h w c"], ValueRange, list[str]]:
    """Return numbers as pixels, the range of values that became black to white, and notes about it."""
    if array.dtype == np.uint8 and wanted == "full":
        return np.ascontiguousarray(array), "full", []
    spans = _spans(array)
    extremes = [_extremes(array[span], span.start, name) for span in spans]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    found = _choose_range(array.dtype, low, high) if wanted == "auto" and not is_for_model else wanted
    if isinstance(found, str):
        is_deep = array.dtype == np.uint16 and high > 255
        black, white = (
            0.0,
            255.0 if is_for_model and array.dtype.kind in "iu" and not is_deep else _white_of(array.dtype),
        )
        if low < black or high > white:
            advice = f'give the values that are black and white: set={{"data.range": [{low:g}, {high:g}]}}'
            if is_for_model:
                advice = "expected integers from 0 to 255, or floating-point numbers from 0 to 1"
            raise InputError(f"{name}: {array.dtype} values from {low:g} to {high:g}; {advice}", subject=name)
    else:
        black, white = (float(value) for value in found)
    dtype = _choose_dtype(array, spans, black, white)
    pixels, num_outside = np.empty(array.shape, dtype), 0
    for span in spans:
        if array.dtype == dtype and (black, white) == (0.0, float(LEVELS[dtype])):
            pixels[span] = array[span]
            continue
        block = array[span].astype(np.float64)
        num_outside += int(np.count_nonzero((block < black) | (block > white)))
        scaled = np.clip((block - black) * (LEVELS[dtype] / (white - black)), 0, LEVELS[dtype])
        pixels[span] = scaled if dtype == np.float32 else np.rint(scaled)
    if num_outside > array.size // 2 and is_for_model:
        trained = f"those of the training images range from {black:g} to {white:g} (data.range)"
        raise InputError(f"{name}: values from {low:g} to {high:g}; {trained}", subject=name)
    notes = []
    if (black, white) != (0.0, 255.0):
        kept = {np.dtype(np.uint16): ", kept with 16 bits", np.dtype(np.float32): ", kept as float32"}.get(dtype, "")
        notes.append(f"{name}: values from {black:g} to {white:g} become black to white{kept} (data.range)")
    if num_outside:
        notes.append(f"{name}: {num_outside:,} of {array.size:,} values are outside {black:g} to {white:g} and clipped")
    return pixels, found, notes


LEVELS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}
"""Type of pixels → its white."""
EXACT = 0.01
"""Floating-point images have 8 bits if no value is further than this from one of 256 levels."""


def _choose_dtype(array: NDArray[Any], spans: Sequence[slice], black: float, white: float) -> np.dtype[Any]:
    """Return the smallest type of pixels that keeps the values in a range apart; integers have at most 16 bits."""
    if array.dtype.kind != "f":
        return np.dtype(np.uint8 if white - black <= 255 else np.uint16)
    for span in spans:
        levels = np.clip((array[span].astype(np.float64) - black) * (255 / (white - black)), 0, 255)
        if np.abs(levels - np.rint(levels)).max() > EXACT:
            return np.dtype(np.float32)
    return np.dtype(np.uint8)


def _spans(array: NDArray[Any]) -> list[slice]:
    step = max(1, BLOCK_VALUES // math.prod(array.shape[1:]))
    return [slice(start, min(start + step, len(array))) for start in range(0, len(array), step)]


def _extremes(block: NDArray[Any], first: int, name: str) -> tuple[float, float]:
    low, high = float(block.min()), float(block.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        wrong = first + int(np.argmin(np.isfinite(block).all(axis=(1, 2, 3))))
        raise InputError(f"{name}[{wrong}] has values that are NaN or infinite; replace them first", subject=name)
    return low, high


def _white_of(dtype: np.dtype[Any]) -> float:
    """Return the value that is white in the full range of a type."""
    if dtype.kind in "fb":
        return 1.0
    return 255.0 if dtype.itemsize == 1 else 65535.0


def _choose_range(dtype: np.dtype[Any], low: float, high: float) -> ValueRange:
    """Return the range of values to use for "auto": the first usual one that holds them, else the extremes."""
    if dtype == np.uint8 and high > 1:
        return "full"
    if low >= 0 and high <= 1:
        return [0.0, 1.0]
    if dtype.kind == "f" and low >= -1 and high <= 1:
        return [-1.0, 1.0]
    if low >= 0 and 128 <= high <= 255:
        return [0.0, 255.0]
    return [low, high] if high > low else [low, low + 1]


LOW_CONTRAST = 64
"""8-bit images that use a smaller part of the 256 values cause a warning."""


def _find_doubts(pixels: Real[np.ndarray, "n h w c"], dtype: np.dtype[Any]) -> tuple[str, ...]:
    if dtype != np.uint8:
        return ()
    low, high = int(pixels.min()), int(pixels.max())
    if high - low >= LOW_CONTRAST:
        return ()
    return (f'pixel values use only {low} to {high} of 0 to 255; to use all: set={{"data.range": [{low}, {high}]}}',)


# -- labels and attributes --------------------------------------------------------------------------------------------


def _check_shape(images: Images, image_shape: Shape, name: str) -> Images:
    if images.image_shape != image_shape:
        raise InputError(f"{name}: {_explain_axes(tuple(images.pixels.shape), 'auto', (), image_shape)}", subject=name)
    return images


def _annotate(images: Images, labels: Any, attributes: Any, name: str) -> Images:
    """Return images with labels and attributes, if there are any."""
    try:
        if labels is not None:
            numbers, names = _read_labels(labels, images.label_names, len(images))
            images = replace(images, labels=numbers, label_names=names)
        if attributes is not None:
            values, titles = _read_attributes(attributes, len(images))
            images = replace(images, attributes=values, attribute_names=titles)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{name}: {error}", subject=name) from None
    return images


def _read_labels(given: Any, known: tuple[str, ...], count: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return classes as numbers from 0 on, and their names."""
    values = given.detach().cpu().numpy() if _is_tensor(given) else np.asarray(given)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1:
        advice = "several true or false values for each image are attributes=…"
        raise InputError(
            f"labels must be one class per image; got shape {list(values.shape)}. {advice}", subject="labels"
        )
    if len(values) != count:
        raise InputError(f"{len(values):,} labels for {count:,} images", subject="labels")
    if values.dtype == object and all(isinstance(value, str) for value in values.tolist()):
        values = values.astype(str)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "biuU":
        is_missing = [value is None or value != value for value in values.tolist()]
        got = f"labels[{is_missing.index(True)}] is missing" if any(is_missing) else f"got {values.dtype}"
        raise InputError(f"labels must be integers or names; {got}", subject="labels")
    if values.dtype.kind == "U" and known:
        places = {name: number for number, name in enumerate(known)}
        if missing := sorted(set(values.tolist()) - places.keys()):
            message = f"labels: {missing[0]!r} is not one of the {len(known)} known classes"
            raise InputError(message, subject="labels", value=missing[0], choices=known)
        return np.array([places[value] for value in values.tolist()], np.int64), known
    if values.dtype.kind == "U" or values.astype(np.int64).min() < 0:
        classes, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), tuple(map(str, classes.tolist()))
    numbers = values.astype(np.int64)
    return numbers, known if len(known) > int(numbers.max()) else ()


def _read_attributes(given: Any, count: int) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Return attributes as true or false ``[N, A]``, and their names."""
    if isinstance(given, Mapping) or hasattr(given, "columns"):
        names = tuple(map(str, given))
        columns = [np.asarray(given[name]) for name in given]
        if any(column.shape != (count,) for column in columns):
            wrong = next(name for name, column in zip(names, columns, strict=True) if column.shape != (count,))
            shape = list(columns[names.index(wrong)].shape)
            raise InputError(f"attributes: {wrong} has shape {shape} for {count:,} images", subject="attributes")
        values = np.stack(columns, 1) if columns else np.empty((count, 0))
    else:
        values = given.detach().cpu().numpy() if _is_tensor(given) else np.asarray(given)
        if values.ndim != 2 or len(values) != count:
            shape = list(values.shape)
            raise InputError(f"attributes must be [N, A] for {count:,} images; got shape {shape}", subject="attributes")
        names = tuple(f"attribute {number}" for number in range(values.shape[1]))
    is_binary = values.dtype.kind in "biuf" and (np.isin(values, (0, 1)).all() or np.isin(values, (-1, 1)).all())
    if not is_binary:
        raise InputError("attributes must be true or false (1 and 0, or 1 and −1)", subject="attributes")
    return values > 0, names
