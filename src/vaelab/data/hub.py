"""The Hugging Face hub: files of a data set, each whole under its name or half in a hidden file that is gone on with.

The hub's library (extra ``hub``) knows where they lie and who may have them. It begins a broken file anew, so the bytes
are fetched here.
"""

import fnmatch
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from vaelab.system.download import TIMEOUT_SECONDS, DownloadFailed
from vaelab.system.files import check_free_space
from vaelab.system.progress import progress

TRIES = 5
"""In a row that bring nothing new."""
PAUSE_SECONDS = 1.0
PIECE = 1 << 16
"""Bytes that go to the disk at a time, and are lost at most where a connection breaks."""


@dataclass(frozen=True)
class _File:
    """One file as the hub describes it."""

    name: str
    url: str
    size: int
    sha256: str | None
    """Of the content; None for small files, whose digest the hub does not tell."""

    def is_at(self, path: Path) -> bool:
        """Whether ``path`` holds this file."""
        return path.is_file() and path.stat().st_size == self.size and self.sha256 in (None, _digest(path))


def download(repository: str, folder: Path, patterns: Sequence[str], otherwise: str) -> list[Path]:
    """The files of a data set on the hub that match ``patterns``, in ``folder``; whole ones are not fetched again.

    DownloadFailed says what went wrong, and ``otherwise``, what a person may do. The same call goes on.
    """
    try:
        files, headers = _describe(repository, patterns)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            missing = [file for file in files if not file.is_at(folder / file.name)]
            needed = sum(file.size - _size(_half(folder / file.name)) for file in missing)
            check_free_space(folder, needed, f"downloading {repository}", "choose another folder")
            for file in missing:
                _fetch(file, folder / file.name, headers)
    except DownloadFailed as error:
        raise DownloadFailed(f"{error}. {otherwise}") from None
    return [folder / file.name for file in files]


def _describe(repository: str, patterns: Sequence[str]) -> tuple[list[_File], Mapping[str, str]]:
    """The files wanted, and the headers that their server may ask for."""
    try:
        from huggingface_hub import HfApi, get_token, hf_hub_url
    except ImportError:
        raise DownloadFailed(f"downloading {repository} needs the extra hub: pip install 'vaelab[hub]'") from None
    try:
        about = HfApi().dataset_info(repository, files_metadata=True, timeout=TIMEOUT_SECONDS)
        token = get_token()
    except Exception as error:  # the library passes on whatever its HTTP client and the system raise
        raise DownloadFailed(f"{repository} could not be asked for ({_reason(error)})") from None
    files = []
    for entry in about.siblings or ():
        name: str = entry.rfilename
        is_wanted = entry.size and any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
        if is_wanted and ".." not in PurePosixPath(name).parts and not name.startswith("/"):
            url = hf_hub_url(repository, name, repo_type="dataset", revision=about.sha)
            files.append(_File(name, url, int(entry.size or 0), entry.lfs.sha256 if entry.lfs else None))
    if not files:
        raise DownloadFailed(f"{repository} holds no files {', '.join(patterns)}")
    return sorted(files, key=lambda file: file.name), {"Authorization": f"Bearer {token}"} if token else {}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _fetch(file: _File, target: Path, headers: Mapping[str, str]) -> None:
    """One file, from where its hidden half ends; it gets its name when its size and digest are right."""
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    half, tries, reported = _half(target), 0, 0
    with progress(f"downloading {target.name}", file.size) as bar:
        while _size(half) < file.size and tries < TRIES:
            before, failure = _size(half), "the connection broke"
            try:
                for size in _pieces(file, half, headers):
                    bar.advance(size - reported)
                    reported = size
            except requests.HTTPError as error:
                failure = f"answered {error.response.status_code}"
                if error.response.status_code < 500:  # asking again would not help
                    break
            except requests.RequestException as error:
                failure = f"the connection failed ({type(error).__name__})"
            tries = 0 if _size(half) > before else tries + 1
            if _size(half) == before:
                time.sleep(PAUSE_SECONDS)
    if _size(half) < file.size:
        kept = f"; {_size(half) / 1e6:,.1f} of {file.size / 1e6:,.1f} MB are kept, the same command goes on"
        raise DownloadFailed(f"{file.name}: {failure}{kept if half.exists() else ''}")
    if not file.is_at(half):
        half.unlink()
        raise DownloadFailed(f"{file.name}: other content came than the hub describes; the same command begins it anew")
    half.replace(target)


def _half(target: Path) -> Path:
    """Where a file lies until it is whole."""
    return target.with_name(f".{target.name}.part")


def _pieces(file: _File, half: Path, headers: Mapping[str, str]) -> Iterator[int]:
    """Append to the half until it is whole or the connection breaks; its size after each piece."""
    import requests

    begin = _size(half)
    asked = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={begin}-"} if begin else {})}
    with requests.get(file.url, headers=asked, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:  # half of another file
            half.unlink()
        response.raise_for_status()
        goes_on = response.status_code == requests.codes.partial_content
        with half.open("ab" if goes_on else "wb") as out:
            for piece in response.iter_content(PIECE):
                out.write(piece)
                yield out.tell()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path) -> Any:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
