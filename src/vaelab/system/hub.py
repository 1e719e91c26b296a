"""Models on the Hugging Face hub: addresses, downloads into the library's cache, commits, errors in one line.

The library is the extra ``hub``. It finds token and endpoint and keeps the cache. Its own output is suppressed.
"""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from logging import CRITICAL
from pathlib import Path, PurePath
from typing import Any

from vaelab.system.errors import InputError, UsageError
from vaelab.system.progress import progress

SCHEME = "hub:"
NAMES = r"(?P<owner>\w[\w.-]*)/(?P<name>\w[\w.-]*)"
SNAPSHOT = re.compile(r".*/models--(?P<owner>.+)--(?P<name>.+)/snapshots/(?P<commit>[0-9a-f]{40})", re.DOTALL)
"""Folder of one version of a repository in the library's cache."""
MAX_SHOWN = 300
"""Number of characters of an unknown error that a message shows."""


class HubError(InputError):
    """A request that the hub refused or did not answer; ``subject`` is the address, ``value`` the HTTP status."""


@dataclass(frozen=True)
class Address:
    """A model on the hub, as in ``hub:USER/NAME`` or ``hub:USER/NAME@REVISION``."""

    owner: str
    name: str
    revision: str | None = None
    """A branch, tag or commit; None for the newest version."""

    @property
    def repository(self) -> str:
        """USER/NAME."""
        return f"{self.owner}/{self.name}"

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}{f'@{self.revision}' if self.revision else ''}"


@dataclass(frozen=True)
class Published:
    """The present files of a repository, and who may see them."""

    files: tuple[str, ...]
    is_private: bool


def parse_address(path: PurePath) -> Address | None:
    """Return the address in a path that begins with ``hub:``, None for another path; UsageError for a wrong one."""
    text = path.as_posix()
    if not text.startswith(SCHEME):
        return None
    found = re.fullmatch(rf"{SCHEME}{NAMES}(?:@(?P<revision>.+))?", text)
    if found is None:
        message = f"{text}: a model on the hub has the form hub:USER/NAME or hub:USER/NAME@REVISION"
        raise UsageError(message, subject="run", value=text)
    return Address(**found.groupdict())


def parse_repository(text: str) -> Address:
    """Return the address of a repository to write to, USER/NAME; UsageError for anything else."""
    found = re.fullmatch(NAMES, text.removeprefix(SCHEME))
    if found is None or "--" in text or ".." in text or text.endswith((".git", "-", ".")):
        message = f"{text}: expected USER/NAME with letters, digits, single hyphens, dots and underscores"
        raise UsageError(message, subject="repository", value=text)
    return Address(**found.groupdict())


def identify_snapshot(folder: Path) -> tuple[Address, str] | None:
    """Return address and commit of a folder in the library's cache; None for any other folder."""
    found = SNAPSHOT.fullmatch(folder.as_posix())
    return (Address(found["owner"], found["name"], found["commit"]), found["commit"]) if found else None


def download(address: Address, first: Sequence[str], others: Sequence[str]) -> Path:
    """Return the folder of a model in the library's cache, after downloading what is not there.

    ``first`` are the patterns of the files that show what the repository holds, ``others`` those of large files. Raises
    HubError if the hub does not give them, or if it is no repository of vaelab. Offline, the cache is used.
    """
    with _asking(address), progress(f"downloading {address}", None):
        from huggingface_hub import snapshot_download

        def fetch(revision: str | None, patterns: Sequence[str]) -> Path:
            return Path(snapshot_download(address.repository, revision=revision, allow_patterns=list(patterns)))

        folder = fetch(address.revision, first)
        if not (folder / first[0]).is_file():
            raise HubError(f"{address} is not a vaelab model: it has no {first[0]}", subject=str(address))
        return fetch(folder.name, [*first, *others])


def look_up(address: Address) -> Published | None:
    """Return what a repository holds, None if there is none; HubError if there is no token to write with."""
    with _asking(address):
        from huggingface_hub import HfApi, errors, get_token

        if not get_token():
            message = "pushing needs a hub token with write access: run hf auth login, or set HF_TOKEN"
            raise HubError(message, subject=str(address))
        try:
            found = HfApi().model_info(address.repository)
        except errors.RepositoryNotFoundError as error:
            if isinstance(error, errors.GatedRepoError):
                raise
            return None
        return Published(tuple(entry.rfilename for entry in found.siblings or ()), bool(found.private))


def commit(
    address: Address, files: Mapping[str, bytes], message: str, *, obsolete: Collection[str] = (), private: bool = False
) -> str:
    """Write files to a repository in one commit and return the address of its page.

    A repository that does not exist is made. ``obsolete`` files are removed from it.
    """
    with _asking(address), progress(f"uploading to {address}", None):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        hub = HfApi()
        page = str(hub.create_repo(address.repository, private=private or None, exist_ok=True))
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        removed = [CommitOperationDelete(name) for name in obsolete]
        hub.create_commit(address.repository, [*added, *removed], commit_message=message)
        return page


def matches(name: str, patterns: Collection[str]) -> bool:
    """Return whether the name of a file matches any of the patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def check_library(address: Address) -> None:
    """Raise HubError if the hub's library is not installed."""
    if find_spec("huggingface_hub") is None:
        message = f"{address} needs the extra hub: pip install 'vaelab[hub]'"
        raise HubError(message, subject=str(address))


@contextmanager
def _asking(address: Address) -> Iterator[None]:
    """Silence the hub's library, and turn its errors into a HubError."""
    check_library(address)
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    level, had_bars = logging.get_verbosity(), not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.set_verbosity(CRITICAL)
        disable_progress_bars()
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            if not _is_of_hub(error):
                raise
            reason, status = _explain(error, address)
            raise HubError(f"{address}: {reason}", subject=str(address), value=status) from None
        finally:
            logging.set_verbosity(level)
            if had_bars:
                enable_progress_bars()


def _is_of_hub(error: Exception) -> bool:
    """Return whether an error comes from the hub or its library, not from a full disk or a mistake."""
    package = type(error).__module__.partition(".")[0]
    return package.startswith(("huggingface_hub", "httpx")) or (
        isinstance(error, ValueError | RuntimeError | OSError) and getattr(error, "errno", None) is None
    )


def _explain(error: BaseException, address: Address) -> tuple[str, int | None]:
    """Return why the hub did not do what was asked, without the token, and its HTTP status."""
    from huggingface_hub import constants, errors, get_token

    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    response = next((found for e in reversed(chain) if (found := getattr(e, "response", None)) is not None), None)
    status: int | None = getattr(response, "status_code", None)
    if any(isinstance(e, errors.OfflineModeIsEnabled) for e in chain):
        return "it is not in the cache, and HF_HUB_OFFLINE forbids all connections", None
    if any(isinstance(e, UnicodeEncodeError) for e in chain):
        return "the token contains characters that are not allowed", None
    if any(isinstance(e, errors.RevisionNotFoundError) for e in chain):
        return f"there is no revision {address.revision or 'main'}", status
    if any(isinstance(e, errors.GatedRepoError) for e in chain):
        return f"its author asks for consent first, at {constants.ENDPOINT}/{address.repository}", status
    if any(isinstance(e, errors.RepositoryNotFoundError) for e in chain):
        advice = "to which the token has no access" if get_token() else "that needs a token (hf auth login)"
        return f"there is no such model, or it is a private one {advice}", status
    if status is None and any(_is_unreachable(e) for e in chain):
        return f"{constants.ENDPOINT} cannot be reached ({type(chain[-1]).__name__}); try again later", None
    if status is not None and (reason := _explain_status(status, address, constants.ENDPOINT)):
        return reason, status
    text = " ".join(str(error).split())
    for secret in (get_token() or "", *re.findall(r"\bhf_\w+", text)):
        text = text.replace(secret, "…") if secret else text
    return text[:MAX_SHOWN] or type(error).__name__, status


def _explain_status(status: int, address: Address, endpoint: str) -> str:
    """Return what an HTTP status means; empty for one that says little."""
    if status == 401:
        return f"the hub does not accept the token; make a new one at {endpoint}/settings/tokens"
    if status == 403:
        return f"the token has no permission for it; it needs write access to repositories of {address.owner}"
    if status == 429:
        return "the rate limit of the hub is reached; try again later"
    return f"{endpoint} fails with status {status}; try again later" if status >= 500 else ""


def _is_unreachable(error: Any) -> bool:
    return type(error).__module__.startswith("httpx") or isinstance(error, ConnectionError | TimeoutError)
