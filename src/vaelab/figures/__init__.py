"""Figures, one file each, in one style.

Every file has ``draw(arrays) -> Figure``, which never sees a model, and one of

- ``compute(model, images, generator) -> arrays``, with ``SPLIT`` ("train" or "valid") saying which images it wants, or
- ``collect(history, validation, terms) -> arrays``, from the two tables of a run and the terms that it logs,

either of which returns None where the figure has no meaning (a plane for three latents, say), or neither: then it is a
figure of several runs, whose arrays ``lab`` gathers. ``TITLE`` and ``caption(arrays)`` go beside the picture in the
report: ``SECTION`` is the section ("overview", "training", "latent space", "data", "comparison") and ``ORDER`` the
place in it.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

Arrays = dict[str, Any]

INK, FAINT = "#1d2433", "#6b7384"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""Three colours that colour-blind readers tell apart (Okabe & Ito 2008)."""
CLASS_COLOURS = (
    "#332288",
    "#88ccee",
    "#44aa99",
    "#117733",
    "#999933",
    "#ddcc77",
    "#cc6677",
    "#882255",
    "#aa4499",
    "#7f7f7f",
)
"""Nine colours that colour-blind readers tell apart (P. Tol's scheme "muted"), and a grey."""
DPI = 150
MOST_LOST = 0.75
"""Grey levels, of 255, by which a figure may differ in the mean when it is kept in 256 colours."""


LITERAL_TEXT: dict[Any, Any] = {"text.parse_math": False, "text.usetex": False}
"""Matplotlib's settings under which every text is drawn as it stands: a class may be called ``a$$b``."""


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's settings for every figure of vaelab. No text is read as mathematics."""
    settings: dict[Any, Any] = {
        **LITERAL_TEXT,
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titlelocation": "left",
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "legend.frameon": False,
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
        "figure.constrained_layout.use": True,
    }
    with matplotlib.rc_context(settings):
        yield


def show_picture(axes: Axes, picture: NDArray[Any]) -> None:
    """A picture ``[H, W, C]`` in exact pixels, without a frame."""
    if picture.shape[2] == 1:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()


def picture_figure(picture: NDArray[Any], width: float) -> tuple[Figure, Axes]:
    """A figure ``width`` inches wide that is filled by one picture."""
    figure = Figure(figsize=(width, width * picture.shape[0] / picture.shape[1]))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    show_picture(axes, picture)
    return figure, axes


@contextmanager
def missing_letters() -> Iterator[None]:
    """People name things in every script; letters that the font lacks come out as boxes, without a warning each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def render(figure: Figure, words: dict[str, str]) -> bytes:
    """The figure as the bytes of a PNG with ``words`` as its texts; of 256 colours, a third of the size, where it keeps
    its looks (photographs do not)."""
    canvas: Any = FigureCanvasAgg(figure)
    packed, texts = io.BytesIO(), PngInfo()
    with missing_letters(), matplotlib.rc_context(LITERAL_TEXT):
        canvas.draw()
    for key, value in {"Software": "vaelab", **words}.items():
        texts.add_itxt(key, clean_text(value))
    whole = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    few = whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    lost = np.abs(np.asarray(few.convert("RGB"), np.int16) - np.asarray(whole)).mean()
    (few if lost < MOST_LOST else whole).save(packed, "PNG", pnginfo=texts, dpi=(DPI, DPI))
    return packed.getvalue()


def clean_text(text: str) -> str:
    """``text`` without what no font can draw: lone surrogates (names that are not UTF-8) and control characters."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in whole)


def latent_name(latent: int) -> str:
    """The name of a latent, counted from 0, with its number as a subscript: z₁ for 0."""
    return "z" + str(latent + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def class_colormap(count: int) -> ListedColormap:
    """Colours for ``count`` classes; beyond ten, evenly spaced shades."""
    if count <= len(CLASS_COLOURS):
        return ListedColormap(CLASS_COLOURS[:count])
    return ListedColormap(matplotlib.colormaps["viridis"].resampled(count).colors)  # type: ignore[attr-defined]
