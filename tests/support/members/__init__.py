"""Small members of open folders that need everything an interface carries; ``registered`` adds them by entry point.

Each stands for a kind of member. ``spatial``: a network with spatial latents. ``judged``: an objective with a
frozen and an adversarial network.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDERS = {
    "networks": ("spatial",),
    "objectives": ("judged",),
}


@contextmanager
def registered(folder: Path) -> Iterator[None]:
    """Within this context vaelab knows the members, as if a package with their entry points were installed."""
    groups = [
        f"[vaelab.{group}]\n" + "".join(f"{name} = members.{name}\n" for name in names)
        for group, names in FOLDERS.items()
    ]
    package = folder / "members-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: members\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("\n".join(groups))
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
