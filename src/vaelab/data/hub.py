"""Downloads the files of a data set from the Hugging Face hub and resumes interrupted downloads.

The hub's library (extra ``hub``) lists the files and finds the token. It downloads to files with random names, which a
new process does not resume, so the bytes are fetched here.
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

MAX_TRIES = 5
"""Successive tries without a new byte."""
PAUSE_SECONDS = 1.0
PIECE_BYTES = 1 << 16
"""Bytes written at a time; a broken connection loses at most as many."""


@dataclass(frozen=True)
class _File:
    """One file as the hub describes it."""

    name: str
    url: str
    size: int
    sha256: str | None
    """Digest of the content; None for small files, for which the hub has none."""

    def is_at(self, path: Path) -> bool:
        """Return whether ``path`` holds this file."""
        return path.is_file() and path.stat().st_size == self.size and self.sha256 in (None, _digest(path))


def download(
    repository: str,
    folder: Path,
    patterns: Sequence[str],
    advice: str,
    *,
    pause_seconds: float = PAUSE_SECONDS,
    piece_bytes: int = PIECE_BYTES,
) -> list[Path]:
    """Download the files of a data set that match ``patterns`` to ``folder``, except those that are there.

    DownloadFailed names the problem and ends in ``advice``; the same call resumes. DiskFull if there is no room.
    """
    try:
        files, headers = _describe(repository, patterns)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            missing = [file for file in files if not file.is_at(folder / file.name)]
            needed = sum(file.size - _size(_partial(folder / file.name)) for file in missing)
            check_free_space(folder, needed, f"downloading {repository}", "choose another folder")
            for file in missing:
                _fetch(file, folder / file.name, headers, pause_seconds, piece_bytes)
    except DownloadFailed as error:
        raise DownloadFailed(f"{error}. {advice}") from None
    return [folder / file.name for file in files]


def _describe(repository: str, patterns: Sequence[str]) -> tuple[list[_File], Mapping[str, str]]:
    """Return the matching files, and the headers to request them with."""
    try:
        from huggingface_hub import HfApi, get_token, hf_hub_url
    except ImportError:
        raise DownloadFailed(f"downloading {repository} needs the extra hub: pip install 'vaelab[hub]'") from None
    try:
        about = HfApi().dataset_info(repository, files_metadata=True, timeout=TIMEOUT_SECONDS)
        token = get_token()
    except Exception as error:  # the library passes on the errors of its HTTP client
        raise DownloadFailed(f"{repository} is not available ({_reason(error)})") from None
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


def _fetch(file: _File, target: Path, headers: Mapping[str, str], pause_seconds: float, piece_bytes: int) -> None:
    """Download one file, from the end of its partial file on; rename it once size and digest are right."""
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    partial, tries, reported = _partial(target), 0, 0
    with progress(f"downloading {target.name}", file.size) as bar:
        while _size(partial) < file.size and tries < MAX_TRIES:
            before, failure = _size(partial), "the connection broke"
            try:
                for size in _pieces(file, partial, headers, piece_bytes):
                    bar.advance(size - reported)
                    reported = size
            except requests.HTTPError as error:
                failure = f"answered {error.response.status_code}"
                if error.response.status_code < 500:  # trying again would not help
                    break
            except requests.RequestException as error:
                failure = f"the connection failed ({type(error).__name__})"
            tries = 0 if _size(partial) > before else tries + 1
            if _size(partial) == before:
                time.sleep(pause_seconds)
    if _size(partial) < file.size:
        kept = f"; {_size(partial) / 1e6:,.1f} of {file.size / 1e6:,.1f} MB are kept, the same command resumes"
        raise DownloadFailed(f"{file.name}: {failure}{kept if partial.exists() else ''}")
    if not file.is_at(partial):
        partial.unlink()
        raise DownloadFailed(
            f"{file.name}: the content differs from the hub's digest; the same command downloads it again"
        )
    partial.replace(target)


def _partial(target: Path) -> Path:
    """Return the path of the incomplete file."""
    return target.with_name(f".{target.name}.part")


def _pieces(file: _File, partial: Path, headers: Mapping[str, str], piece_bytes: int) -> Iterator[int]:
    """Append to the partial file until it is complete or the connection breaks; yield its size after each piece."""
    import requests

    begin = _size(partial)
    asked = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={begin}-"} if begin else {})}
    with requests.get(file.url, headers=asked, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:  # of another file
            partial.unlink()
        response.raise_for_status()
        resumes = response.status_code == requests.codes.partial_content
        with partial.open("ab" if resumes else "wb") as out:
            for piece in response.iter_content(piece_bytes):
                out.write(piece)
                yield out.tell()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path) -> Any:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
