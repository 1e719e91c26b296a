"""Files with several pages: each page as a picture of its own."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, NonNegativeInt

from vaelab.data.memos import memoise
from vaelab.data.picture_cache import list_pages
from vaelab.data.scan import Entry, digest

PageChoice = Literal["first", "all"]


class Pages(BaseModel):
    """Which files have several pages."""

    numbers: dict[NonNegativeInt, list[NonNegativeInt]]
    """Position of a file → the numbers of its pages."""


def expand_pages(entries: Sequence[Entry]) -> list[Entry]:
    """The pages of all files, each as an entry; a file with one page stays as it is.

    Pages of a TIFF and frames of animated GIF, PNG, WebP and AVIF files count. Masks and smaller versions in a TIFF do
    not, nor what a JPEG or HEIC holds beside its picture.
    """

    def find_out() -> tuple[Pages, bool]:
        found = list_pages([entry.item for entry in entries])
        return Pages(numbers={i: pages for i, pages in enumerate(found) if len(pages) > 1}), all(found)

    several = memoise({"data": "folder", "pages": digest(list(entries))}, Pages, find_out).numbers
    expanded = []
    for i, entry in enumerate(entries):
        container, name = entry.item[:2]
        pages = several.get(i)
        expanded += [entry._replace(item=(container, name, page)) for page in pages] if pages else [entry]
    return expanded
