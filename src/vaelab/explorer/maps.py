"""The columns that a map may be drawn along, and the maps that are worth a look."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from vaelab.explorer import axes
from vaelab.explorer.groups import Attribute
from vaelab.models.codes import Codes
from vaelab.system.seeds import derive_seed

NEIGHBOURS, FITTED = 5_000, 20_000
"""Points whose neighbours are looked up, and others to which LDA is fitted for it."""
PARALLEL = 0.95
"""Cosine of the angle between two directions from which on they are no map."""

Labels = Integer[np.ndarray, " n"] | None
Covariance = Float[np.ndarray, "latent latent"]


class Column(NamedTuple):
    """A vector of length 1 in the space of codes, with float32 numbers, as the page is told of it."""

    name: str
    kind: str
    vector: Float[np.ndarray, " latent"]
    latent: int | None = None

    def along(self, codes: axes.Codes) -> Float[np.ndarray, " n"]:
        """How far each code lies along it; float64."""
        if self.latent is not None:
            return codes[:, self.latent].astype(np.float64)
        return np.concatenate([part @ self.vector for _, part in axes.blocks(codes)])


def make_columns(codes: Codes, covariance: Covariance, labels: Labels, attributes: Sequence[Attribute]) -> list[Column]:
    """Every latent; of more than two latents also what shows them in a plane: LDA, PCA, directions of attributes."""
    width = codes.mean.shape[1]
    latents = [Column(f"z{i + 1}", "latent", unit, i) for i, unit in enumerate(np.eye(width))]
    if width == 2:
        return latents
    found: dict[str, Iterable[Any]] = {
        "LDA": _discriminants(codes, labels, slice(None)) if labels is not None else [],
        "PCA": axes.principal(covariance),
    }
    planes = [
        Column(f"{name} {i + 1}", name.lower(), _as_sent(vector))
        for name, vectors in found.items()
        for i, vector in enumerate(vectors)
    ]
    return [*latents, *planes, *(Column(a.name, "attribute", _as_sent(a.vector)) for a in attributes)]


def _discriminants(codes: Codes, labels: Integer[np.ndarray, " n"], which: Any) -> Float[np.ndarray, "_ latent"]:
    return axes.discriminants(codes.mean[which], labels[which], axes.mean_variance(codes.log_var[which]))


def _as_sent(vector: Float[np.ndarray, " latent"]) -> Float[np.ndarray, " latent"]:
    return vector.astype(np.float32).astype(np.float64)


def make_maps(
    codes: Codes, covariance: Covariance, labels: Labels, columns: Sequence[Column], order: Sequence[int]
) -> list[dict[str, Any]]:
    """Names, pairs of columns and notes, the best first: the two latents themselves, else LDA, PCA, the two latents
    that say most, the two attributes that are told apart best.

    ``order``: latents, the most informative first. A note says what of the codes a map shows.
    """
    if codes.mean.shape[1] == 2:
        return [{"name": "z1 and z2", "axes": [0, 1], "note": ""}]
    notes = _Notes(codes, covariance, labels)
    return [
        {"name": name, "axes": list(pair), "note": notes.of([columns[i] for i in pair])}
        for name, pair in _pairs(columns, order)
    ]


def _pairs(columns: Sequence[Column], order: Sequence[int]) -> Iterator[tuple[str, tuple[int, int]]]:
    places: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        places.setdefault(column.kind, []).append(i)
    lda, pca, attributes = (places.get(kind, []) for kind in ("lda", "pca", "attribute"))
    if pair := _first_pair(columns, lda):
        yield "LDA on labels", pair
    elif pair := _first_pair(columns, [*lda, *pca]) if lda else None:  # of two classes there is one direction
        yield "LDA on labels, and PCA", pair
    yield "PCA", (pca[0], pca[1])
    yield f"{columns[order[0]].name} and {columns[order[1]].name}, most informative", (order[0], order[1])
    if pair := _first_pair(columns, attributes):
        yield f"attributes {' × '.join(columns[i].name for i in pair)}", pair


def _first_pair(columns: Sequence[Column], places: Sequence[int]) -> tuple[int, int] | None:
    """The first of some columns and the first of the others that spans a map with it."""
    for other in places[1:]:
        if abs(axes.cosine(columns[places[0]].vector, columns[other].vector)) < PARALLEL:
            return places[0], other
    return None


class _Notes:
    """Honest words under a map: how much of the codes it shows."""

    def __init__(self, codes: Codes, covariance: Covariance, labels: Labels) -> None:
        self._codes, self._covariance, self._labels = codes, covariance, labels
        random = np.random.Generator(np.random.Philox(key=derive_seed(0, "neighbours")))
        mixed = random.permutation(len(codes.mean))
        count = min(NEIGHBOURS, len(mixed) // 2)
        self._seen, self._unseen = mixed[count : count + FITTED], mixed[:count]

    def of(self, pair: Sequence[Column]) -> str:
        """What two columns are, the variance that lies in their plane, and how alike neighbours are there."""
        plane = axes.plane(pair[0].vector, pair[1].vector)
        shown = f"Shows {_percent(axes.share_shown(self._covariance, plane))} of the variance of the codes"
        alike = self._alike(pair)
        if alike is not None:
            shown += f"; for {_percent(alike)} of the images the nearest on it has the same label"
        what = {"lda": "The linear view that sets labels farthest apart for their spread. "}
        return f"{what.get(pair[0].kind, '')}{shown}."

    def _alike(self, pair: Sequence[Column]) -> float | None:
        """Of points that LDA, where the map is one, was not fitted to; None without classes or with few points."""
        if self._labels is None or len(self._unseen) < 2:
            return None
        vectors = [column.vector for column in pair]
        if pair[0].kind == "lda":
            for i, fitted in enumerate(_discriminants(self._codes, self._labels, self._seen)):
                vectors[i] = fitted if pair[i].kind == "lda" else vectors[i]
        places = self._codes.mean[self._unseen].astype(np.float64) @ axes.plane(*vectors)
        return axes.share_alike(places, self._labels[self._unseen])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
