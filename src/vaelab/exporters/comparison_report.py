"""report.html of several runs: what ``compare`` and ``sweep`` found, on one self-contained page."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaelab.evaluation.metrics import Quantity, Question
from vaelab.exporters.page import QUESTIONS, Number, Picture, render_page
from vaelab.system.messages import count_of

MOST_CARDS = 4
CLEAR = 2
"""Number of standard errors by which a clear difference differs from 0."""

Groups = Mapping[str, Sequence[Mapping[str, Any]]]
"""Label → rows of the runs that differ only in their seed."""


@dataclass(frozen=True)
class Lead:
    """The recipe that is best in one quantity, and its distance from the next best one."""

    quantity: Quantity
    best: str
    next: str
    difference: float
    error: float | None
    """Standard error of the difference, from those of the two; None if one of them is unknown."""

    @property
    def is_clear(self) -> bool:
        """Whether the difference is larger than ``CLEAR`` standard errors."""
        return self.error is not None and self.difference > CLEAR * self.error

    @property
    def margin(self) -> str:
        """The difference with its standard error and unit."""
        unit = f" {self.quantity.unit}" if self.quantity.unit else ""
        return f"{format_cell([self.difference], self.error, self.quantity.digits)}{unit}"


def find_lead(quantity: Quantity, groups: Groups) -> Lead | None:
    """Return the lead in a quantity; None if it has no better direction, is never drawn, or is known for one recipe."""
    found = {label: summarise(rows, quantity.key) for label, rows in groups.items()}
    known = [(label, *each) for label, each in found.items() if each is not None]
    if not quantity.better or quantity.drawn == "never" or len(known) < 2:
        return None
    (best, first, one), (second, other, two), *_ = sorted(
        known, key=lambda each: each[1], reverse=quantity.better == "higher"
    )
    error = None if one is None or two is None else math.hypot(one, two)
    return Lead(quantity, best, second, abs(first - other), error)


def summarise(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[float, float | None] | None:
    """Return the mean over the runs of a recipe and its standard error, over seeds if there are several."""
    known = [float(row[key]) for row in rows if row.get(key) is not None]
    if not known:
        return None
    if len(rows) > 1:
        return statistics.fmean(known), statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None
    return known[0], rows[0].get(f"{key}_standard_error")


def format_cell(values: Sequence[float | None], error: float | None, digits: int) -> str:
    """Return the mean of the known values with its standard error, which is ``error`` for a single value."""
    rows = [{"value": value, "value_standard_error": error} for value in values]
    summary = summarise(rows, "value")
    if summary is None:
        return "–"
    mean, error = summary[0], summary[1] or None if len(values) > 1 else summary[1]
    digits = max(digits, 1) if error and len(values) > 1 else digits
    if error and error >= 0.5e-6:  # shows the first digit of the error that is not 0
        digits = max(digits, min(6, -math.floor(math.log10(error))))
    shown = f"{mean:,.{digits}f}" + (f" ± {error:,.{digits}f}" if error is not None else "")
    return shown.replace("-", "−")


def render_comparison(
    *,
    title: str,
    lead: str,
    groups: Groups,
    quantities: Sequence[tuple[Question | None, Quantity]],
    obstacles: Sequence[str],
    remarks: Sequence[str],
    pictures: Sequence[Picture],
    charts: Sequence[Picture],
    explore: str,
    commands: Sequence[str],
) -> str:
    """Return the page.

    ``quantities``: rows of the tables with the question that each answers, None for facts of the training. ``pictures``
    come first, ``charts`` before the tables. No recipe is called better if there are obstacles to the comparison.
    """
    leads = [] if obstacles else [each for _, quantity in quantities if (each := find_lead(quantity, groups))]
    has_seeds = any(len(rows) > 1 for rows in groups.values())
    return render_page(
        "comparison.html.jinja",
        name=title,
        lead=lead,
        cards=list(_cards(groups, [quantity for _, quantity in quantities], leads)),
        leads=leads,
        obstacles=obstacles,
        remarks=remarks,
        verdict=_judge(leads),
        pictures=pictures,
        charts=charts,
        columns=[f"{label} ({_count_runs(rows)})" if has_seeds else label for label, rows in groups.items()],
        tables=list(_tables(groups, quantities, {each.quantity.key: each.best for each in leads if each.is_clear})),
        has_seeds=has_seeds,
        clear=CLEAR,
        runs=[(label, row) for label, rows in groups.items() for row in rows],
        explore=explore,
        commands=commands,
    )


def _count_runs(rows: Sequence[Mapping[str, Any]]) -> str:
    return count_of(len(rows), "seed" if len({row["seed"] for row in rows}) == len(rows) else "run")


def _cards(groups: Groups, quantities: Sequence[Quantity], leads: Sequence[Lead]) -> Iterator[Number]:
    """Yield the key metrics: those of the best recipe, or of the only one."""
    found = {lead.quantity.key: lead for lead in leads}
    only = next(iter(groups)) if len(groups) == 1 else None
    shown = [quantity for quantity in quantities if quantity.decides and (only is not None or quantity.key in found)]
    for quantity in shown[:MOST_CARDS]:
        lead = found.get(quantity.key)
        rows = groups[lead.best if lead else only or ""]
        error = rows[0].get(f"{quantity.key}_standard_error")
        text = format_cell([row.get(quantity.key) for row in rows], error, quantity.digits)
        if text == "–":
            continue
        value, _, error_text = text.partition(" ± ")
        better = f"{quantity.better.capitalize()} is better." if quantity.better else ""
        meaning = f"{_describe_lead(lead)} {better}" if lead else f"Mean of {_count_runs(rows)}. {better}"
        yield Number(quantity.title, value, error_text, quantity.unit, quantity.better, meaning.strip())


def _judge(leads: Sequence[Lead]) -> str:
    """Say which recipe is clearly best by which key metrics, and by which none is."""
    clear: dict[str, list[str]] = {}
    open_questions = []
    for lead in leads:
        if lead.quantity.decides and lead.is_clear:
            clear.setdefault(lead.best, []).append(lead.quantity.title)
        elif lead.quantity.decides:
            open_questions.append(lead.quantity.title)
    sentences = [f"{label} is clearly best by {', '.join(titles)}." for label, titles in clear.items()]
    if open_questions:
        sentences.append(f"The best two do not differ clearly in {', '.join(open_questions)}.")
    return " ".join(sentences)


def _describe_lead(lead: Lead) -> str:
    """Say in one sentence which recipe is best, and whether the difference is clear."""
    if lead.is_clear:
        return f"{lead.best} is best, by {lead.margin} over {lead.next}."
    if lead.difference == 0:
        return f"{lead.best} and {lead.next} are equal."
    reason = "the standard error is unknown" if lead.error is None else "the difference is not clear"
    return f"{lead.best} is best by {lead.margin} over {lead.next}, but {reason}."


def _tables(
    groups: Groups, quantities: Sequence[tuple[Question | None, Quantity]], best: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield a table for each question: a row per quantity that is known of any run, a cell per recipe."""
    titles: list[tuple[Question | None, tuple[str, str]]] = [*QUESTIONS.items()]
    titles.append((None, ("Size and time", "Properties of the training runs.")))
    for question, (title, sentence) in titles:
        rows = []
        for of, quantity in quantities:
            key = quantity.key
            cells = [
                (
                    format_cell(
                        [row.get(key) for row in of_label], of_label[0].get(f"{key}_standard_error"), quantity.digits
                    ),
                    best.get(key) == label,
                )
                for label, of_label in groups.items()
            ]
            if of == question and any(text != "–" for text, _ in cells):
                rows.append((quantity, cells))
        if rows:
            yield {"title": title, "lead": sentence, "anchor": title.lower().replace(" ", "-"), "rows": rows}
