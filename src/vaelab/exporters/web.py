"""The explorer as a folder of files that any web server can serve: the page, a model, the runtime."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.explorer.payload import Payload
from vaelab.explorer.security import POLICY
from vaelab.exporters import onnxruntime_web
from vaelab.exporters.modules import STATIC, read_modules
from vaelab.exporters.points import pack_images
from vaelab.exporters.readmes import write_web_readme
from vaelab.exporters.target import make_manifest

MARK = '<meta name="vaelab" content="static">'
"""In the head of an exported page: by it the page knows that there is no server behind it."""
HEAD = '<meta charset="utf-8">'
DISK = Path(__file__).parent / "disk.js"
"""What the page runs where it was opened from the disk."""
REFERENCE = re.compile(r'\b(href|src)="([^":]+)"')
"""How index.html names the files beside it."""


def make_folder(payload: Payload, graphs: Mapping[str, bytes], runtime: onnxruntime_web.Runtime) -> dict[str, bytes]:
    """Path → content of every file of the export; the scene's points are those that it carries."""
    images, predictor = pack_images(payload.pixels[np.arange(len(payload.means))])
    groups = [group.members for group in payload.groups]
    arrays = {
        "codes": payload.means.astype("<f4").tobytes(),
        "groups": np.concatenate(groups).tobytes() if groups else b"",
        "images": images,
        **({"samples": payload.samples.astype("<f4").tobytes()} if len(payload.samples) else {}),
        **({} if payload.conditions is None else {"conditions": payload.conditions.tobytes()}),
    }
    parts = {f"{name}.bin": content for name, content in arrays.items()} | dict(graphs)
    files = {
        "index.html": _make_index(_policy(runtime)).encode(),
        **page_files(),
        **{f"model/{name}": content for name, content in parts.items()},
        **{f"runtime/{name}": content for name, content in (runtime.files or {}).items()},
    }
    files["README.md"] = write_web_readme(payload.manifest, files, runtime).encode()
    model = {name.partition(".")[0]: f"model/{name}" for name in parts}
    contents: dict[str, Any] = {
        "explorer": payload.manifest,
        "model": {**model, "images_predictor": predictor},
        "runtime": _describe_runtime(runtime),
    }
    return {**files, "manifest.json": make_manifest("web", payload.manifest["run"], contents, files)}


def page_files() -> dict[str, bytes]:
    """The page: what index.html names, and every module that those need."""
    named = [name for _, name in REFERENCE.findall(_index_text()) if not name.endswith(".js")]
    styles = {f"page/{name}": (STATIC / name).read_bytes() for name in named}
    return (
        styles
        | {"page/disk.js": DISK.read_bytes()}
        | {f"page/{name}": text.encode() for name, text in read_modules().items()}
    )


def policy_text(changes: Mapping[str, str]) -> str:
    """The server's content security policy with some changes, as a page can hold it."""
    policy = {key: value for key, value in POLICY.items() if key != "frame-ancestors"}  # of no effect within a page
    return "; ".join(f"{key} {value}" for key, value in {**policy, **changes}.items())


def mark_head(html: str, policy: str) -> str:
    """A page with the mark of an export and its policy, before anything that it loads."""
    assert html.count(HEAD) == 1, f"index.html has no {HEAD}"
    metas = (HEAD, f'<meta http-equiv="Content-Security-Policy" content="{policy}">', MARK)
    return html.replace(HEAD, "\n    ".join(metas))


def _index_text() -> str:
    return (STATIC / "index.html").read_text(encoding="utf-8")


def _make_index(policy: str) -> str:
    html = _index_text().replace("  </body>", f'    <script src="{DISK.name}"></script>\n  </body>')
    return mark_head(REFERENCE.sub(r'\1="page/\2"', html), policy)


def _policy(runtime: onnxruntime_web.Runtime) -> str:
    """What the page may load: its own files, and a runtime that it has to fetch."""
    network = "" if runtime.files else f" {onnxruntime_web.CDN}"
    return policy_text({"script-src": "'self' 'wasm-unsafe-eval'", "connect-src": f"'self'{network}"})


def _describe_runtime(runtime: onnxruntime_web.Runtime) -> dict[str, Any]:
    """What the page must know to load it; with digests where it comes over the network."""
    linked = {} if runtime.files else {"integrity": runtime.integrity}
    base = "runtime/" if runtime.files else onnxruntime_web.CDN_FOLDER
    about = {"package": onnxruntime_web.PACKAGE, "version": onnxruntime_web.VERSION}
    return {**about, "base": base, "module": onnxruntime_web.MODULE, "wasm": onnxruntime_web.WASM, **linked}
