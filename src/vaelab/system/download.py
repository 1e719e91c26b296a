"""Downloads: several mirrors in turn, timeouts, retries, own check of the content, never half a file."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vaelab.system.partials import partial_folder
from vaelab.system.progress import Progress, progress

TIMEOUT_SECONDS = 20.0
"""How long a server may stay silent, on connecting and between two pieces."""
TRIES = 2
"""Tries of one mirror whose connection broke; an answer such as 404 is not asked for again."""
PAUSE_SECONDS = 1.0


class DownloadFailed(OSError):
    """No mirror gave the file; the message says what each of them answered."""


def fetch(
    urls: Sequence[str], target: Path, check: Callable[[bytes], None], *, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Fetch ``target`` from the first of ``urls`` whose content passes ``check`` (which raises ValueError if not)."""
    failures = []
    for url in urls:
        for attempt in range(1, TRIES + 1):
            failure, final = _try(url, target, check, timeout)
            if failure is None:
                return
            if final or attempt == TRIES:
                failures.append(f"{urlsplit(url).netloc}: {failure}")
                break
            time.sleep(PAUSE_SECONDS)
    raise DownloadFailed("; ".join(failures))


def _try(url: str, target: Path, check: Callable[[bytes], None], timeout: float) -> tuple[str | None, bool]:
    """One try of one mirror: (what went wrong or None, whether it is pointless to ask this mirror again)."""
    import pooch
    import requests

    target.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(target.parent, target.name) as folder:
        partial = folder / target.name
        try:
            with progress(f"downloading {target.name}", None) as bar:
                pooch.HTTPDownloader(progressbar=_Bar(bar), timeout=timeout)(url, str(partial), None)
            check(partial.read_bytes())
        except requests.HTTPError as error:
            return f"answered {error.response.status_code}", error.response.status_code < 500
        except requests.Timeout:
            return f"did not answer within {timeout:g} s", False
        except requests.RequestException as error:
            if "timed out" in str(error):  # requests hides a silence in the middle of a file in another error
                return f"did not answer within {timeout:g} s", False
            return f"the connection failed ({type(error).__name__})", False
        except ValueError as error:
            return f"sent something else ({error})", True
        partial.replace(target)
    return None, True


class _Bar:
    """The part of tqdm's interface that pooch reports to, passed on to vaelab's own progress."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._done = self._total = 0

    @property
    def total(self) -> int:
        """Bytes that the server announced; pooch sets it (0: unknown)."""
        return self._total

    @total.setter
    def total(self, amount: int) -> None:
        self._total = amount
        if amount:
            self._bar.expect(amount)

    def update(self, amount: int) -> None:
        """pooch rounds up to whole pieces, and at the end reports the total once more: neither is counted twice."""
        if self.total:
            amount = min(amount, self.total - self._done)
        self._done += amount
        self._bar.advance(amount)

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass
