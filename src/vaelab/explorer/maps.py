"""Columns that a map may be drawn along, and the pairs of them that are offered as maps."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from vaelab.explorer import projections
from vaelab.explorer.groups import Attribute
from vaelab.models.codes import Codes
from vaelab.system.seeds import derive_seed

NUM_TESTED, NUM_FITTED = 5_000, 20_000
"""Points whose nearest neighbours are looked up, and other points to which LDA is fitted for that."""
MAX_COSINE = 0.95
"""Above this cosine of their angle, two directions span no map."""

Labels = Integer[np.ndarray, " n"] | None
Covariance = Float[np.ndarray, "latent latent"]


class Column(NamedTuple):
    """A unit vector in latent space, rounded to float32 as the page receives it."""

    name: str
    kind: str
    vector: Float[np.ndarray, " latent"]
    latent: int | None = None

    def project(self, codes: projections.CodeArray) -> Float[np.ndarray, " n"]:
        """Return the coordinate of each code along the column, float64."""
        if self.latent is not None:
            return codes[:, self.latent].astype(np.float64)
        return np.concatenate([block @ self.vector for _, block in projections.iterate_blocks(codes)])


def make_columns(codes: Codes, covariance: Covariance, labels: Labels, attributes: Sequence[Attribute]) -> list[Column]:
    """Return every latent; for more than two latents also LDA, PCA and the directions of attributes."""
    width = codes.mean.shape[1]
    latents = [Column(f"z{i + 1}", "latent", unit, i) for i, unit in enumerate(np.eye(width))]
    if width == 2:
        return latents
    found: dict[str, Iterable[Any]] = {
        "LDA": _find_discriminants(codes, labels, slice(None)) if labels is not None else [],
        "PCA": projections.find_principal_axes(covariance),
    }
    planes = [
        Column(f"{name} {i + 1}", name.lower(), _round_to_float32(vector))
        for name, vectors in found.items()
        for i, vector in enumerate(vectors)
    ]
    return [*latents, *planes, *(Column(a.name, "attribute", _round_to_float32(a.vector)) for a in attributes)]


def _find_discriminants(codes: Codes, labels: Integer[np.ndarray, " n"], rows: Any) -> Float[np.ndarray, "_ latent"]:
    variance = np.exp(codes.log_var[rows]).mean(0, dtype=np.float64)
    return projections.find_discriminants(codes.mean[rows], labels[rows], variance)


def _round_to_float32(vector: Float[np.ndarray, " latent"]) -> Float[np.ndarray, " latent"]:
    return vector.astype(np.float32).astype(np.float64)


def make_maps(
    codes: Codes, covariance: Covariance, labels: Labels, columns: Sequence[Column], order: Sequence[int]
) -> list[dict[str, Any]]:
    """Return name, pair of columns and note of each map: the two latents of a two-latent model, else the default first.

    ``order`` lists the latents, most informative first; it is empty if no map of two latents is wanted. A note says how
    much of the codes the map shows.
    """
    if codes.mean.shape[1] == 2:
        return [{"name": "z1 and z2", "axes": [0, 1], "note": ""}]
    notes = _Notes(codes, covariance, labels)
    return [
        {"name": name, "axes": list(pair), "note": notes.describe([columns[i] for i in pair])}
        for name, pair in _choose_pairs(columns, order)
    ]


def _choose_pairs(columns: Sequence[Column], order: Sequence[int]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the maps: LDA, PCA, the two most informative latents, the two attributes that codes separate best."""
    by_kind: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        by_kind.setdefault(column.kind, []).append(i)
    lda, pca, attributes = (by_kind.get(kind, []) for kind in ("lda", "pca", "attribute"))
    if pair := _find_pair(columns, lda):
        yield "LDA on labels", pair
    elif pair := _find_pair(columns, [*lda, *pca]) if lda else None:  # two classes have one discriminant
        yield "LDA on labels, and PCA", pair
    yield "PCA", (pca[0], pca[1])
    if order:
        yield f"{columns[order[0]].name} and {columns[order[1]].name}, most informative", (order[0], order[1])
    if pair := _find_pair(columns, attributes):
        yield f"attributes {' × '.join(columns[i].name for i in pair)}", pair


def _find_pair(columns: Sequence[Column], candidates: Sequence[int]) -> tuple[int, int] | None:
    """Return the first candidate and the first other one that is not nearly parallel to it."""
    for other in candidates[1:]:
        if abs(columns[candidates[0]].vector @ columns[other].vector) < MAX_COSINE:
            return candidates[0], other
    return None


class _Notes:
    """Describes how much of the codes a map shows."""

    def __init__(self, codes: Codes, covariance: Covariance, labels: Labels) -> None:
        self._codes, self._covariance, self._labels = codes, covariance, labels
        random = np.random.Generator(np.random.Philox(key=derive_seed(0, "neighbours")))
        shuffled = random.permutation(len(codes.mean))
        count = min(NUM_TESTED, len(shuffled) // 2)
        self._fitted, self._tested = shuffled[count : count + NUM_FITTED], shuffled[:count]

    def describe(self, pair: Sequence[Column]) -> str:
        """Return the share of variance in the plane and, for labelled images, how often neighbours agree there."""
        plane = projections.orthonormalise(pair[0].vector, pair[1].vector)
        share = projections.compute_explained_variance(self._covariance, plane)
        note = f"Shows {100 * share:.0f} % of the variance of the codes"
        agreement = self._measure_agreement(pair)
        if agreement is not None:
            note += f"; the nearest image on the map has the same label for {100 * agreement:.0f} % of the images"
        method = "The linear projection that separates the labels best. " if pair[0].kind == "lda" else ""
        return f"{method}{note}."

    def _measure_agreement(self, pair: Sequence[Column]) -> float | None:
        """Return the neighbour agreement of held-out points; None without labels or with too few points."""
        if self._labels is None or len(self._tested) < 2:
            return None
        vectors = [column.vector for column in pair]
        if pair[0].kind == "lda":
            for i, fitted in enumerate(_find_discriminants(self._codes, self._labels, self._fitted)):
                vectors[i] = fitted if pair[i].kind == "lda" else vectors[i]
        positions = self._codes.mean[self._tested].astype(np.float64) @ projections.orthonormalise(*vectors)
        return projections.compute_neighbour_agreement(positions, self._labels[self._tested])
