"""Paths of pictures that show themselves in a notebook."""

import sys

if sys.platform == "win32":
    from pathlib import WindowsPath as SystemPath
else:
    from pathlib import PosixPath as SystemPath


class Picture(SystemPath):
    """The path of a PNG file. As the last value of a notebook's cell it shows the picture."""

    def _repr_png_(self) -> bytes | None:
        """Return the content of the file; None for anything but a PNG file."""
        return self.read_bytes() if self.suffix == ".png" and self.is_file() else None
