"""The explorer as a folder that any web server can serve: the page, a model, and the runtime."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.explorer.payload import Payload
from vaelab.explorer.security import policy_text
from vaelab.explorer.server import STATIC
from vaelab.exporters import onnxruntime_web
from vaelab.exporters.modules import read_modules
from vaelab.exporters.points import compress_images
from vaelab.exporters.target import make_manifest, read_template

MARK = '<meta name="vaelab" content="static">'
"""Element in the head of an exported page, by which the page knows that it has no server."""
HEAD = '<meta charset="utf-8">'
DISK = Path(__file__).parent / "disk.js"
"""Script that explains why a folder does not open from the disk."""
REFERENCE = re.compile(r'\b(href|src)="([^":]+)"')
"""A reference of index.html to a file beside it."""
INCLUDED = "It includes the runtime, {package} {version} (MIT licence): nothing is fetched from elsewhere."
LINKED = """\
It does not include the runtime, {package} {version} (MIT licence): the page fetches it from {cdn} and checks its
SHA-256. To include it, export again where npm is available, or with `--runtime FOLDER`."""


def make_folder(payload: Payload, graphs: Mapping[str, bytes], runtime: onnxruntime_web.Runtime) -> dict[str, bytes]:
    """Return path → content of every file of the export, with all points of the payload."""
    images, predictor = compress_images(np.asarray(payload.pixels[np.arange(len(payload.means))]))
    arrays = {
        "codes": payload.means.astype("<f4").tobytes(),
        "groups": b"".join(group.members.tobytes() for group in payload.groups),
        "images": images,
        **({"samples": payload.samples.astype("<f4").tobytes()} if len(payload.samples) else {}),
        **({} if payload.conditions is None else {"conditions": payload.conditions.tobytes()}),
    }
    parts = {f"{name}.bin": content for name, content in arrays.items()} | dict(graphs)
    index = (STATIC / "index.html").read_text(encoding="utf-8")
    styles = [name for _, name in REFERENCE.findall(index) if not name.endswith(".js")]
    files = {
        "index.html": _make_index(index, runtime).encode(),
        "page/disk.js": DISK.read_bytes(),
        **{f"page/{name}": (STATIC / name).read_bytes() for name in styles},
        **{f"page/{name}": text.encode() for name, text in read_modules().items()},
        **{f"model/{name}": content for name, content in parts.items()},
        **{f"runtime/{name}": content for name, content in (runtime.files or {}).items()},
    }
    files["README.md"] = _make_readme(payload.manifest, files, runtime).encode()
    contents: dict[str, Any] = {
        "explorer": payload.manifest,
        "model": {**{name.partition(".")[0]: f"model/{name}" for name in parts}, "images_predictor": predictor},
        "runtime": runtime.describe(),
    }
    return {**files, "manifest.json": make_manifest("web", payload.manifest["run"], contents, files)}


def mark_head(html: str, policy: Mapping[str, str]) -> str:
    """Return a page with the mark of an export and changes of the server's policy, before anything that it loads."""
    assert html.count(HEAD) == 1, f"index.html has no {HEAD}"
    text = policy_text({**policy, "frame-ancestors": ""})  # which is ignored in a meta element
    metas = (HEAD, f'<meta http-equiv="Content-Security-Policy" content="{text}">', MARK)
    return html.replace(HEAD, "\n    ".join(metas))


def sum_parts(files: Mapping[str, bytes]) -> dict[str, int]:
    """Return the bytes of each part of an exported page."""
    kinds = {"runtime": "runtime", "model": "networks"}
    sums: dict[str, int] = {}
    for name, content in files.items():
        part = kinds.get(name.partition("/")[0], "page")
        if name.endswith(".bin"):
            part = "images" if name.endswith("/images.bin") else "points"
        sums[part] = sums.get(part, 0) + len(content)
    return sums


def _make_index(index: str, runtime: onnxruntime_web.Runtime) -> str:
    """Return index.html with its files in page/, and a policy that allows the network only for a linked runtime."""
    network = "" if runtime.files else f" {onnxruntime_web.CDN}"
    policy = {"script-src": "'self' 'wasm-unsafe-eval'", "connect-src": f"'self'{network}"}
    html = index.replace("  </body>", f'    <script src="{DISK.name}"></script>\n  </body>')
    return mark_head(REFERENCE.sub(r'\1="page/\2"', html), policy)


def _make_readme(manifest: Mapping[str, Any], files: Mapping[str, bytes], runtime: onnxruntime_web.Runtime) -> str:
    package = {"package": onnxruntime_web.PACKAGE, "version": onnxruntime_web.VERSION, "cdn": onnxruntime_web.CDN}
    words = (INCLUDED if runtime.files else LINKED).format(**package)
    sizes = "\n".join(f"| {part} | {size:,} |" for part, size in sum_parts(files).items())
    return read_template("web_readme.md").format(**manifest, runtime=words, sizes=sizes)
