"""Names and units of logged quantities."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A quantity that training logs besides loss, reconstruction and KL; a column of history.csv."""

    name: str
    """Name of the column."""
    title: str
    """Label in figures and on the terminal."""
    unit: str = "nats"
    """Empty for a quantity without a unit."""


COMMON_TERMS = (Term("reconstruction", "reconstruction"), Term("kl", "KL"))
"""Quantities that every objective logs besides its loss."""
