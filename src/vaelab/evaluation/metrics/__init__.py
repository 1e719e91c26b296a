"""Metrics, one file each; every file defines ``METRIC``.

A ``Metric`` measures one model on one set of images, a ``SeedMetric`` several models that differ in their seed. Each
declares what it needs, which commands measure it by default and which of its numbers tables show. ``evaluate``,
``compare`` and the docs follow from these declarations. The keyword arguments of ``measure`` are the metric's options.
Numbers are nats per image unless their unit says otherwise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from vaelab.evaluation.evaluation import Evaluation
from vaelab.system import registry

Result = dict[str, Any]
"""Finite numbers, lists and mappings of them, and a ``"protocol"`` that says how they were measured; all of it JSON."""
Verb = Literal["train", "evaluate", "compare"]
Question = Literal["fit", "latent space", "generation", "prediction", "disentanglement", "other"]
"""The question that a metric helps to answer; the report groups its tables by it."""
AtLeastTwo = Annotated[int, Ge(2)]


@dataclass(frozen=True)
class Quantity:
    """A number of a result, as a row of tables and a panel of the comparison figure."""

    key: str
    """Key in the result; its standard error is under KEY_standard_error."""
    title: str
    unit: str = ""
    better: Literal["", "lower", "higher"] = ""
    digits: int = 2
    """Decimal places in tables."""
    decides: bool = False
    """Whether comparisons of runs lead with it: a large panel of the figure and a card of the report."""
    drawn: Literal["always", "if different", "never"] = "always"
    """Whether the figure has a panel for it; "if different": only if the runs differ in it."""
    baseline: str = ""
    """Key of another quantity, drawn as a line in this one's panel."""
    order: int | None = None
    """Position among the rows, smallest first; None: the position of the metric."""


@dataclass(frozen=True)
class Metric:
    """A metric of one model."""

    measure: Callable[[Evaluation], Result]
    """``measure(evaluation, *, …)`` with a default for every option.

    It leaves out undefined numbers and raises NotMeasurable if nothing can be measured.
    """
    question: Question = "other"
    needs: frozenset[str] = frozenset()
    """Keys of ``evaluation.NEEDS``. A metric whose needs are not met is skipped, or refused if requested by name."""
    by_default: frozenset[Verb] = frozenset({"evaluate", "compare"})
    """Commands that measure it unasked. ``compare`` also shows other metrics of runs that were evaluated with them."""
    quantities: tuple[Quantity, ...] = ()
    synonyms: tuple[str, ...] = ()
    """Other names that users type."""
    remark: Callable[[Result], str] | None = None
    """Return a clause that readers need in order to interpret a result."""
    order: int = 500
    """Position among the metrics, smallest first."""

    @property
    def needs_train_images(self) -> bool:
        """Whether it needs the training images."""
        return bool(self.needs & {"train_images", "train_labels", "features"})


@dataclass(frozen=True)
class SeedMetric:
    """A metric of several models trained with different seeds on the same images, measured by ``compare``."""

    measure: Callable[[Sequence[Evaluation]], Sequence[Result | str]]
    """Return for each model a result, or the reason why it has none."""
    question: Question = "other"
    needs: frozenset[str] = frozenset()
    quantities: tuple[Quantity, ...] = ()
    order: int = 500


def load_metrics() -> dict[str, Metric | SeedMetric]:
    """Return every metric by name, in the order of tables."""
    found = {name: _load(name) for name in registry.names("metrics")}
    return dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))


def load_metric(name: str) -> Metric:
    """Return a metric of one model by name; UnknownName lists the valid names."""
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
    """Return key → (owner, quantity) in the order of tables, from the name, position and quantities of each owner.

    Raises ValueError if two owners declare the same key.
    """
    found: dict[str, tuple[str, Quantity]] = {}
    positions: dict[str, int] = {}
    for owner, position, quantities in declared:
        for quantity in quantities:
            if quantity.key in found:
                raise ValueError(f"{found[quantity.key][0]} and {owner} both declare the quantity {quantity.key!r}")
            found[quantity.key] = owner, quantity
            positions[quantity.key] = position if quantity.order is None else quantity.order
    return {key: found[key] for key in sorted(found, key=positions.__getitem__)}
