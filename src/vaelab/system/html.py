"""HTML fragments with which objects show themselves in a notebook; pictures are inline, text is escaped."""

import base64
from collections.abc import Iterable, Mapping
from html import escape


def picture(png: bytes, alt: str, width: int | None = None) -> str:
    """Return an inline picture with a caption."""
    size = f' width="{width}"' if width else ""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    style = "margin:0 12px 8px 0;display:inline-block;vertical-align:top;max-width:100%"
    image = f'<img src="{source}" alt="{escape(alt)}"{size} style="max-width:100%;image-rendering:pixelated">'
    return f'<figure style="{style}">{image}<figcaption>{escape(alt)}</figcaption></figure>'


def fragment(title: str, facts: Mapping[str, object], parts: Iterable[str] = ()) -> str:
    """Return a title, a table of facts and ``parts``, which are HTML already."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    table = f"<table>{rows}</table>" if rows else ""
    return f"<div><p><strong>{escape(title)}</strong></p>{table}<div>{''.join(parts)}</div></div>"


def preformatted(text: str, summary: str) -> str:
    """Return text in a fixed-width font that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


FRAME = "width:100%;height:680px;border:0"


def frame_url(url: str, title: str, otherwise: str) -> str:
    """Return a frame with the page at ``url``, or with a sentence where the browser does not reach it."""
    about = f'data="{escape(url)}" title="{escape(title)}" style="{FRAME}"'
    return f'<object type="text/html" {about}><p>{escape(otherwise)}</p></object>'


def frame_page(page: str, title: str) -> str:
    """Return a frame that contains a page, which cannot reach the notebook around it."""
    about = f'title="{escape(title)}" style="{FRAME}"'
    return f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts allow-downloads" {about}></iframe>'
