"""The explorer as one HTML file that opens from the disk: the files of an exported folder, inlined."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from vaelab.exporters.modules import read_modules
from vaelab.exporters.web import MARK, mark_head

LOADER = Path(__file__).parent / "loader.js"
STYLE = re.compile(r'\s*<link rel="stylesheet" href="([^"]+)">')
ICON = re.compile(r'href="([^"]+\.svg)"')
REMOVED = re.compile(
    r'\s*(<script [^>]*src="[^"]+"></script>|<meta http-equiv="Content-Security-Policy" content="[^"]+">)'
)


def join_files(files: Mapping[str, bytes]) -> bytes:
    """Return one page made from the files of a folder that contains its runtime.

    The style sheets become one element and the icon a data URL. Everything that scripts request is gzipped in base64 in
    elements of its own, which loader.js unpacks: modules, manifest, arrays, networks and runtime. The policy allows the
    style sheet and the loader by their digests, and no network access.
    """
    html = files["index.html"].decode()
    style = "\n".join(files[name].decode() for name in STYLE.findall(html))
    loader = LOADER.read_text(encoding="utf-8")
    html = REMOVED.sub("", STYLE.sub("", html.replace(f"\n    {MARK}", "")))
    html = ICON.sub(lambda icon: f'href="data:image/svg+xml;base64,{_encode(files[icon[1]])}"', html)
    policy = {
        "script-src": f"'{_digest(loader)}' blob: data: 'wasm-unsafe-eval'",
        "style-src": f"'{_digest(style)}'",
        "img-src": "blob: data:",
        "connect-src": "'none'",
        "worker-src": "blob:",
    }
    modules = [f"page/{name}" for name in read_modules()]
    inlined = [name for name in files if name in (*modules, "manifest.json") or name.startswith(("model/", "runtime/"))]
    body = [
        f'<script type="application/json" id="modules">{json.dumps(modules)}</script>',
        *(f'<script type="text/plain" data-part="{name}">{_pack(files[name])}</script>' for name in inlined),
        f"<script>{loader}</script>",
    ]
    html = mark_head(html, policy).replace("</head>", f"<style>{style}</style>\n  </head>")
    return html.replace("</body>", "\n".join(body) + "\n  </body>").encode()


def _digest(text: str) -> str:
    return f"sha256-{_encode(hashlib.sha256(text.encode()).digest())}"


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _pack(content: bytes) -> str:
    return _encode(gzip.compress(content, mtime=0))
