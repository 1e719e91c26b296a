"""The Hugging Face hub: files of a data set, downloaded by its own library (extra ``hub``), which resumes."""

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaelab.downloads import DownloadFailed
from vaelab.runtime import Progress, progress


def download(repository: str, folder: Path, patterns: Sequence[str], otherwise: str) -> list[Path]:
    """The files of a data set on the hub that match ``patterns``, in ``folder``; whole ones are not fetched again.

    A file has its name only when it is whole; half of one lies in ``.cache`` below and is gone on with. DownloadFailed
    says what went wrong, and ``otherwise``, what a person may do.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise DownloadFailed(
            f"downloading {repository} needs the extra hub: pip install 'vaelab[hub]'. {otherwise}"
        ) from None
    paths = []
    try:
        api = HfApi()
        commit = api.dataset_info(repository).sha
        names = api.list_repo_files(repository, repo_type="dataset", revision=commit)
        for name in sorted(name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)):
            with progress(f"downloading {name}", None) as bar:
                path = hf_hub_download(
                    repository,
                    name,
                    repo_type="dataset",
                    revision=commit,
                    local_dir=folder,
                    tqdm_class=_bar_class(bar),
                )
            paths.append(Path(path))
    except Exception as error:  # the library passes on whatever its HTTP client and the system raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DownloadFailed(f"{repository} could not be downloaded ({reason}). {otherwise}") from None
    if not paths:
        raise DownloadFailed(f"{repository} holds no files {', '.join(patterns)}. {otherwise}")
    return paths


def _bar_class(bar: Progress) -> Any:
    """A class with the part of tqdm's interface that the library uses, which reports to ``bar``."""

    class Bar:
        def __init__(self, *_args: Any, total: int | None = None, initial: int = 0, **_options: Any) -> None:
            self.total, self.n = total, initial
            if total:
                bar.expect(int(total))
            bar.advance(initial)

        def update(self, amount: float | None = 1) -> None:
            bar.advance(int(amount or 0))

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_error: object) -> None:
            pass

        def __getattr__(self, _name: str) -> Any:
            return lambda *_args, **_options: None

    return Bar
