"""A table that grows while it is read: only new rows are parsed."""

from pathlib import Path

import numpy as np

from vaelab.run.tables import Table, parse_rows
from vaelab.system.files import check_file


class Tail:
    """Follows one table of a run; a table that was written anew is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._columns: list[str] = []
        self._offset, self._rows = 0, np.empty((0, 0))

    def read(self) -> Table:
        """Return column → values so far; empty if there are none yet."""
        try:
            check_file(self._path)
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._forget()
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            self._forget()
            return {}
        complete = new[: new.rfind(b"\n") + 1]
        self._offset += len(complete)
        lines = [f"{line}\n" for line in complete.decode("utf-8", "replace").split("\n")[:-1]]
        if lines and not self._columns:
            self._columns = lines.pop(0).strip().split(",")
            self._rows = np.empty((0, len(self._columns)))
        parsed = parse_rows(lines, len(self._columns))
        if parsed is not None:
            self._rows = np.concatenate([self._rows, parsed])
        return {name: self._rows[:, i] for i, name in enumerate(self._columns)} if len(self._rows) else {}
