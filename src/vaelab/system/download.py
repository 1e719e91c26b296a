"""Downloads from several mirrors, with timeouts, retries and a check of the content; a partial file is never used."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vaelab.system.partials import partial_folder
from vaelab.system.progress import progress

TIMEOUT_SECONDS = 20.0
"""Longest silence of a server, on connecting and between two pieces."""
TRIES = 2
"""Tries of a mirror whose connection broke; answers such as 404 are final."""
PAUSE_SECONDS = 1.0
PIECE_BYTES = 1 << 16


class DownloadFailed(OSError):
    """No mirror gave the file; ``failures`` says what happened with each (host: reason)."""

    def __init__(self, message: str, failures: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


def fetch(
    urls: Sequence[str], target: Path, check: Callable[[Path], None], *, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Download ``target`` from the first of ``urls`` whose file passes ``check``, which raises ValueError if not.

    Raises DownloadFailed if no mirror has the file.
    """
    failures = []
    for url in urls:
        for attempt in range(1, TRIES + 1):
            failure, is_final = _try(url, target, check, timeout)
            if failure is None:
                return
            if is_final or attempt == TRIES:
                failures.append(f"{urlsplit(url).netloc}: {failure}")
                break
            time.sleep(PAUSE_SECONDS)
    raise DownloadFailed("; ".join(failures), failures)


def _try(url: str, target: Path, check: Callable[[Path], None], timeout: float) -> tuple[str | None, bool]:
    """Try a mirror once; return what went wrong (None: nothing) and whether trying it again is pointless."""
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(target.parent, target.name) as folder:
        partial = folder / target.name
        try:
            _stream(url, partial, timeout)
            check(partial)
        except requests.HTTPError as error:
            return f"answered {error.response.status_code}", error.response.status_code < 500
        except requests.RequestException as error:
            # a silence in the middle of a file is hidden in another error
            if isinstance(error, requests.Timeout) or "timed out" in str(error):
                return f"did not answer within {timeout:g} s", False
            return f"the connection failed ({type(error).__name__})", False
        except ValueError as error:
            return f"sent something else ({error})", True
        partial.replace(target)
    return None, True


def _stream(url: str, path: Path, timeout: float) -> None:
    """Write the content of ``url`` to a file; raises RequestException if it is refused or incomplete."""
    import requests

    with (
        progress(f"downloading {path.name}", None) as task,
        requests.get(url, stream=True, timeout=timeout) as response,
        path.open("wb") as file,
    ):
        response.raise_for_status()
        if length := response.headers.get("Content-Length"):
            task.expect(int(length))
        for piece in response.iter_content(PIECE_BYTES):
            file.write(piece)
            task.advance(len(piece))
