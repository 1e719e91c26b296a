"""Metrics, one file each; every file has a ``METRIC``.

A ``Metric`` measures one run on one set of images, a ``SeedMetric`` several runs that differ in their seed. Both
declare what they need of the model and the images, when they are measured, and which of their numbers tables show, so
that ``evaluate``, ``compare`` and the docs follow from the file alone. Keyword arguments of ``measure`` are the
metric's options. Numbers are nats per image unless their unit says otherwise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from vaelab.evaluation.evaluation import Evaluation
from vaelab.system import registry

Result = dict[str, Any]
"""Finite numbers, lists and tables of them, and a ``"protocol"`` that says how they were made; all of it JSON."""
Verb = Literal["train", "evaluate", "compare"]
Question = Literal["fit", "latent space", "generation", "prediction", "disentanglement", "other"]
"""What a metric helps to answer; the report groups its tables by it."""


@dataclass(frozen=True)
class Quantity:
    """One number of a result as a row of tables and a panel of the comparison figure."""

    key: str
    """In the result; a standard error is under KEY_standard_error."""
    title: str
    unit: str = ""
    better: Literal["", "lower", "higher"] = ""
    digits: int = 2
    """After the point, in tables."""
    drawn: Literal["always", "if different", "never"] = "always"
    """Whether the figure has a panel: "if different" only if the runs differ in it."""
    baseline: str = ""
    """Key of another quantity that is drawn as a line in this one's panel."""
    order: int | None = None
    """Place among the rows, smallest first; None: that of the metric."""


@runtime_checkable
class Measure(Protocol):
    """A function ``measure(evaluation, *, …)``, every option with a default."""

    def __call__(self, evaluation: Evaluation, /) -> Result | None:
        """Numbers and their protocol; None if these images have nothing to measure. Undefined numbers are left out."""


@runtime_checkable
class MeasureSeeds(Protocol):
    """A function ``measure(evaluations, *, …)`` of models that were trained from other seeds on the same images."""

    def __call__(self, evaluations: Sequence[Evaluation], /) -> Sequence[Result | None]:
        """A result for each; None for one that there is nothing to say about."""


@dataclass(frozen=True)
class Metric:
    """What one file measures, and what it says about itself."""

    measure: Measure
    question: Question = "other"
    needs: frozenset[str] = frozenset()
    """Keys of ``evaluation.NEEDS``; where they are not met the metric is skipped, and refused if asked for by name."""
    by_default: frozenset[Verb] = frozenset({"evaluate", "compare"})
    """Verbs that measure it without being asked; ``compare`` shows others of runs that were evaluated by them."""
    quantities: tuple[Quantity, ...] = ()
    synonyms: tuple[str, ...] = ()
    """Other words for it that people type."""
    remark: Callable[[Result], str] | None = None
    """A clause that says what must be known to read the quantities of a result."""
    order: int = 500
    """Place among the metrics, smallest first."""


@dataclass(frozen=True)
class SeedMetric:
    """What one file measures of several seeds of a recipe; ``compare`` does."""

    measure: MeasureSeeds
    question: Question = "other"
    needs: frozenset[str] = frozenset()
    quantities: tuple[Quantity, ...] = ()
    order: int = 500


def load_metrics() -> dict[str, Metric | SeedMetric]:
    """Name → every metric there is, in the order of tables."""
    found = {name: _load(name) for name in registry.names("metrics")}
    return dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))


def load_metric(name: str) -> Metric:
    """A metric of one run by name; UnknownName lists the valid ones."""
    metric = _load(name) if name in registry.names("metrics") else None
    if not isinstance(metric, Metric):
        valid = [name for name, each in load_metrics().items() if isinstance(each, Metric)]
        raise registry.unknown("metric of a run", name, valid)
    return metric


def _load(name: str) -> Metric | SeedMetric:
    module = registry.load("metrics", name)
    metric = getattr(module, "METRIC", None)
    if not isinstance(metric, Metric | SeedMetric):
        raise ValueError(f"metric {name!r}: {module.__file__} has no METRIC = Metric(…)")
    return metric


def order_quantities(declared: Iterable[tuple[str, int, Iterable[Quantity]]]) -> dict[str, tuple[str, Quantity]]:
    """Key → (owner, quantity) in the order of tables, from each owner's name, place and quantities.

    ValueError if two owners, such as metrics, declare the same key.
    """
    found: dict[str, tuple[str, Quantity]] = {}
    places: dict[str, int] = {}
    for owner, place, quantities in declared:
        for quantity in quantities:
            if quantity.key in found:
                raise ValueError(f"{found[quantity.key][0]} and {owner} both declare the quantity {quantity.key!r}")
            found[quantity.key] = owner, quantity
            places[quantity.key] = place if quantity.order is None else quantity.order
    return {key: found[key] for key in sorted(found, key=places.__getitem__)}
