"""Figures, one file each, in one style.

Every file has ``draw(arrays) -> Figure``, which never sees a model, and one of

- ``compute(model, images, generator, [sampler]) -> arrays``, with ``SPLIT`` ("train" or "valid") for the images, or
- ``collect(history, validation, terms) -> arrays``, from the two tables of a run and the terms that it logs,

Both return None if the figure has no meaning for the model, such as a plane of three latents. A file with neither is a
figure of several runs; ``compare`` and ``sweep`` make its arrays. The report shows ``TITLE`` and ``caption(arrays)``
beside the picture. ``SECTION`` is its section ("overview", "training", "latent space", "data", "comparison") and
``ORDER`` its place there. ``SHOWS_IMAGES = False`` says that what ``compute`` returns holds no images of the data set,
so that the figure may be published without them.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unicodedata import bidirectional

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vaelab.data.images import drawable

Arrays = dict[str, Any]

INK, FAINT = "#1d2433", "#6b7384"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""Three colours that colour-blind readers distinguish (Okabe & Ito 2008)."""
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
"""Nine colours that colour-blind readers distinguish (P. Tol's scheme "muted"), and a grey."""
DPI = 150
SMALLEST = 9.0
"""Font size in CSS pixels that is still read without effort."""
MOST_NAMED = 20
"""Largest number of classes that a figure names."""
MOST_LOST = 0.75
"""Largest mean error, in grey levels of 255, of a figure that is stored with 256 colours."""


LITERAL_TEXT: dict[Any, Any] = {"text.parse_math": False, "text.usetex": False}
"""Matplotlib settings that draw every text literally: a class may be called ``a$$b``."""


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of all figures of vaelab. Texts are never parsed as mathematics."""
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
    """Draw a picture ``[H, W, C]`` in exact pixels, without a frame."""
    picture = drawable(picture)
    if picture.shape[2] == 1:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    else:
        axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()


def picture_figure(picture: NDArray[Any], width: float) -> tuple[Figure, Axes]:
    """Return a figure ``width`` inches wide that one picture fills."""
    figure = Figure(figsize=(width, width * picture.shape[0] / picture.shape[1]))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    show_picture(axes, picture)
    return figure, axes


@contextmanager
def missing_letters() -> Iterator[None]:
    """Suppress Matplotlib's warning for each letter that the font lacks; such letters are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def render(figure: Figure, words: dict[str, str]) -> bytes:
    """Return the figure as a PNG file with ``words`` as its text entries.

    The entry "Legible" is the width in CSS pixels at which the smallest letters have the size ``SMALLEST``. It has
    256 colours, a third of the size, unless that changes the picture visibly, as it does for photographs.
    """
    canvas: Any = FigureCanvasAgg(figure)
    packed, texts = io.BytesIO(), PngInfo()
    with missing_letters(), matplotlib.rc_context(LITERAL_TEXT):
        canvas.draw()
    for key, value in {"Software": "vaelab", "Legible": str(legible_width(figure)), **words}.items():
        texts.add_itxt(key, clean_text(value))
    whole = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    few = whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    lost = np.abs(np.asarray(few.convert("RGB"), np.int16) - np.asarray(whole)).mean()
    (few if lost < MOST_LOST else whole).save(packed, "PNG", pnginfo=texts, dpi=(DPI, DPI))
    return packed.getvalue()


def legible_width(figure: Figure) -> int:
    """Return the width in CSS pixels at which the smallest letters have the size ``SMALLEST``; 0 without letters."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible()]
    sizes = [float(text.get_fontsize()) for text in texts if text.get_text().strip()]
    return round(SMALLEST * figure.get_figwidth() * 72 / min(sizes)) if sizes else 0


def clean_text(text: str) -> str:
    """Replace what no font can draw in ``text``: lone surrogates (names that are not UTF-8) and control characters."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in whole)


def number_names(names: Mapping[int, str], what: str) -> tuple[dict[int, str], str]:
    """Return number → the text that a figure shows for each name, and a sentence about them for its caption.

    The texts are the names if the font has all their letters, and the sentence is empty. Otherwise the texts are the
    numbers, and the sentence says which is which; also for Arabic and Hebrew, whose letters Matplotlib cannot join and
    turn. ``what``: "classes" or "attributes".
    """
    if all(_can_draw(name) for name in names.values()):
        return dict(names), ""
    listed = ", ".join(f"{number} {name}" for number, name in sorted(names.items()))
    return {number: str(number) for number in names}, f" Numbers stand for {what}: {listed}."


def _can_draw(text: str) -> bool:
    """Return whether Matplotlib's default font has all letters of a text, read from left to right."""
    font = get_font(findfont(FontProperties())).get_charmap()
    return all(
        ord(letter) in font and bidirectional(letter) not in ("R", "AL")
        for letter in clean_text(text)
        if letter != "\n"
    )


def latent_name(latent: int) -> str:
    """Return the name of a latent, counted from 0, with its number as a subscript: z₁ for 0."""
    return "z" + str(latent + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def class_colormap(count: int) -> ListedColormap:
    """Return colours for ``count`` classes; beyond ten, evenly spaced shades."""
    if count <= len(CLASS_COLOURS):
        return ListedColormap(CLASS_COLOURS[:count])
    return ListedColormap(matplotlib.colormaps["viridis"].resampled(count).colors)  # type: ignore[attr-defined]
