"""``vaelab.fit``: train on images in memory, with all settings chosen automatically."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from vaelab.api.events import Watch, warn_only
from vaelab.api.short_forms import ShortFormsAndSeed
from vaelab.api.train import train
from vaelab.run import Run


def fit(
    images: Any,
    labels: Any = None,
    set: Mapping[str, Any] | None = None,
    *,
    attributes: Any = None,
    valid: Any = None,
    run: str | Path | None = None,
    device: str = "auto",
    track: Sequence[str] = (),
    watch: Watch = warn_only,
    progress: bool = True,
    **short: Unpack[ShortFormsAndSeed],
) -> Run:
    """Train on images in memory with the recipe ``folder``, which adapts to the images; return the run.

    Without ``run``, the run is in a temporary folder, which is removed with the returned object. The other arguments
    are those of ``train``.
    """
    holder = Run.temporary() if run is None else None
    trained = train(
        "folder",
        set,
        images=images,
        labels=labels,
        attributes=attributes,
        valid=valid,
        run=holder.path if holder else run,
        device=device,
        track=track,
        watch=watch,
        progress=progress,
        **short,
    )
    return holder or trained
