"""How things look on a terminal and in a pipe: tables, JSON, progress."""

import json
import math
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vaelab.system.messages import VaelabWarning

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    import vaelab
    from vaelab.recipe import Recipe
    from vaelab.run import Run

PLAIN_SECONDS = 10.0
"""Where there is no terminal, a line at least this far apart."""
MOST_LINES = 20
"""Validations that get a line of their own; of more, every so many."""


def _console(to_stderr: bool = False) -> "Console":
    """A console that prints text as it stands: names may contain what rich reads as markup."""
    from rich.console import Console

    return Console(stderr=to_stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_json(content: Any) -> None:
    """Content as JSON, for scripts; escaped as JSON does it where the output's encoding lacks a character."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content, indent=2, default=str)
    print(text)


def print_note(text: str) -> None:
    """One sentence for the person, on stderr."""
    print(text, file=sys.stderr)


def print_warning(text: str) -> None:
    """One warning on stderr."""
    print(f"vaelab: warning: {text}", file=sys.stderr)


def table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table on the terminal; tab-separated lines for a pipe."""
    console = _console()
    if not console.is_terminal:
        for row in (headers, *rows):
            print("\t".join(row))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


# -- progress ---------------------------------------------------------------------------------------------------------


def _bar(console: "Console") -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}{task.fields[status]}", markup=False),
        BarColumn(bar_width=12),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )


class _PlainProgress:
    """Work without a terminal: a line now and then."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total, self._done, self._said = label, total, 0, time.monotonic()

    def expect(self, total: int) -> None:
        self._total = total

    def advance(self, amount: int) -> None:
        self._done += amount
        if time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            print(f"{self._label}: {self._done:,}" + (f" of {self._total:,}" if self._total else ""), file=sys.stderr)


class _BarProgress:
    """Work on a terminal: a bar."""

    def __init__(self, bar: "Progress", label: str, total: int | None) -> None:
        self._bar, self._task = bar, bar.add_task(label, total=total, status="")

    def expect(self, total: int) -> None:
        self._bar.update(self._task, total=total)

    def advance(self, amount: int) -> None:
        self._bar.update(self._task, advance=amount)


def show_progress() -> None:
    """Let vaelab's long pieces of work be seen, on stderr."""
    from vaelab.system import progress

    console = _console(to_stderr=True)

    @contextmanager
    def factory(label: str, total: int | None) -> Iterator[progress.Progress]:
        if not console.is_terminal:
            yield _PlainProgress(label, total)
            return
        with _bar(console) as bar:
            yield _BarProgress(bar, label, total)

    progress.show_progress(factory)


def print_warnings(event: "vaelab.Event") -> None:
    """The warnings of a training on stderr, where its output is for a script."""
    import vaelab

    if isinstance(event, vaelab.Note) and event.warning:
        print_warning(event.text)


@contextmanager
def print_vaelab_warnings() -> Iterator[None]:
    """Print each VaelabWarning as one line on stderr; leave other warnings to Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", VaelabWarning)
        show = warnings.showwarning

        def print_or_show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, VaelabWarning):
                print_warning(str(message))
            else:
                show(message, category, *place, **more)

        warnings.showwarning = print_or_show
        yield


class TrainingView:
    """Renders what ``vaelab.train`` reports: a bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = _console()
        self._progress: Progress | None = None
        self._said = 0.0
        self._said_step = 0
        self._rate: float | None = None
        self._started: vaelab.Started | None = None
        self._loss_terms: dict[str, str] = {}

    def __call__(self, event: "vaelab.Event") -> None:
        import vaelab
        from vaelab.training import loop as training

        if isinstance(event, vaelab.Started):
            self._start(event)
        elif isinstance(event, training.ProgressRecord):
            self._record(event)
        elif isinstance(event, vaelab.Note):
            _say(self._console, event)
        else:
            self._finish(event)

    def _start(self, event: "vaelab.Started") -> None:
        self._started = event
        self._loss_terms = _titles_of_loss_terms(event.recipe)
        counts = event.num_parameters
        machine = event.machine
        self._console.print(
            f"{event.run.path}: {event.recipe.title}\n"
            f"{event.num_images:,} images, {event.num_steps:,} steps of {event.recipe.training.batch_size}, "
            f"{sum(counts.values()):,} parameters (encoder {counts['encoder']:,}, decoder {counts['decoder']:,}), "
            f"{machine['device']} {machine['precision']}, {machine['threads']} threads"
        )
        if self._console.is_terminal:
            self._progress = _bar(self._console)
            self._progress.start()
            self._task = self._progress.add_task("", total=event.num_steps, completed=event.first_step, status="")

    def _record(self, record: Any) -> None:
        assert self._started is not None
        status = self._status(record)
        if self._progress is not None:
            self._progress.update(self._task, completed=record.step, status=status)
        share = (record.step - self._said_step) / self._started.num_steps
        if record.validation and (share >= 1 / MOST_LINES or record.step == self._started.num_steps):
            self._said_step = record.step
            values = record.validation.terms
            line = (
                f"epoch {record.epoch:>3}  held-out images: loss {values['loss']:.2f}  reconstruction "
                f"{values['reconstruction']:.2f}  KL {values['kl']:.2f}  ELBO {values['elbo']:.2f}"
            )
            self._console.print(line if self._progress is not None else f"{line}  |  {status}")
            self._said = time.monotonic()
        elif self._progress is None and time.monotonic() - self._said > PLAIN_SECONDS:
            self._console.print(f"step {record.step:,}/{self._started.num_steps:,}  {status}")
            self._said = time.monotonic()
        if (record.step == self._started.num_steps or record.stopped) and self._progress is not None:
            self.close()

    def _status(self, record: Any) -> str:
        assert self._started is not None
        if not len(record.terms["loss"]):
            return ""
        means = {name: float(values.mean()) for name, values in record.terms.items()}
        epochs = -(-self._started.num_steps // self._started.steps_per_epoch)
        seconds = (self._started.num_steps - record.step) * self._started.recipe.training.batch_size
        self._rate = (
            record.images_per_second if self._rate is None else 0.8 * self._rate + 0.2 * record.images_per_second
        )
        left = seconds / max(self._rate, 1e-9)
        rate = f"{record.images_per_second:,.0f} images/s"
        if self._progress is not None:  # must fit beside a bar into 80 columns
            return f"epoch {record.epoch}/{epochs} loss {means['loss']:.2f} KL {means['kl']:.2f} {rate}"
        return f"epoch {record.epoch}/{epochs}  {_equation(means, self._loss_terms)}  {rate}  {_duration(left)} left"

    def _finish(self, event: "vaelab.Finished") -> None:
        from vaelab.run import EVALUATION

        self.close()
        run = event.run
        measured = run.measured()
        if event.already:
            self._console.print(f"{run.path} is done already; for another run choose --run or --set")
        if equation := _describe_last_epoch(run, measured):
            self._console.print(f"{equation}, mean of the last epoch, nats per image")
        known = {} if any(error.path.name == EVALUATION for error in run.find_damage()) else run.evaluation
        elbo = known.get("elbo", {}).get("elbo")
        if isinstance(elbo, int | float):
            split = known["elbo"]["measured_on"].get("split", "held-out")
            which = split if "images" in split else f"{split} images"
            self._console.print(f"ELBO of {which}: {elbo:.2f} nats (with the likelihood's constant)")
        self._console.print(f"report: {run.path / 'report.html'}")
        self._console.print(f"next: vaelab sample {shlex.quote(str(run.path))}", style="dim")

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _say(console: "Console", note: "vaelab.Note") -> None:
    """A sentence for the person, which is marked if it is a warning."""
    from rich.text import Text

    console.print(Text.assemble(("warning: ", "bold"), note.text) if note.warning else note.text)


def _titles_of_loss_terms(recipe: "Recipe") -> dict[str, str]:
    """Name → title of the logged terms that add up to the loss."""
    from vaelab.build import declared_objective, logged_terms

    titles = {term.name: term.title for term in logged_terms(recipe)}
    return {name: titles[name] for name in declared_objective(recipe).loss_terms}


def _describe_last_epoch(run: "Run", measured: Mapping[str, float]) -> str:
    """Mean loss and terms of the last epoch; empty if they are not known."""
    last = {name.removesuffix("_last_epoch"): value for name, value in measured.items() if "_last_epoch" in name}
    is_known = {"loss", "reconstruction", "kl"} <= last.keys()
    return _equation(last, _titles_of_loss_terms(run.recipe)) if is_known else ""


def _equation(means: Mapping[str, float], loss_terms: Mapping[str, str]) -> str:
    """The loss and its terms, as a sum if it is one."""
    if not loss_terms or not loss_terms.keys() <= means.keys():
        return "  ".join(f"{word} {means[word.lower()]:.2f}" for word in ("loss", "reconstruction", "KL"))
    total = " + ".join(f"{title} {means[name]:.2f}" for name, title in loss_terms.items())
    return f"loss {means['loss']:.2f} = {total}" + ("" if "kl" in loss_terms else f" (KL {means['kl']:.2f})")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


# -- several runs -----------------------------------------------------------------------------------------------------


class SweepView:
    """Renders what ``vaelab.sweep`` reports: a line for each run, and a bar for the one under way on a terminal."""

    def __init__(self, to_stderr: bool = False) -> None:
        from rich.console import Console

        self._console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._started: vaelab.Started | None = None
        self._said = time.monotonic()

    def __call__(self, event: "vaelab.SweepEvent") -> None:
        import vaelab
        from vaelab.training import loop as training

        if isinstance(event, vaelab.SweepPlan):
            self._console.print(_describe_sweep(event))
        elif isinstance(event, vaelab.Started):
            self._started = event
            if self._console.is_terminal:
                self._progress = _bar(self._console)
                self._progress.start()
                self._task = self._progress.add_task(event.run.name, total=event.num_steps, status="")
        elif isinstance(event, training.ProgressRecord):
            self._record(event)
        elif isinstance(event, vaelab.Note) and event.warning:
            _say(self._console, event)
        elif isinstance(event, vaelab.MemberEnded):
            self.close()
            self._said = time.monotonic()
            self._console.print(_describe_end(event))

    def _record(self, record: Any) -> None:
        assert self._started is not None
        if self._progress is not None:
            self._progress.update(self._task, completed=record.step)
            if record.step == self._started.num_steps or record.stopped:
                self.close()
        elif time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            run = self._started.run
            self._console.print(f"{run.name}: step {record.step:,}/{self._started.num_steps:,}")

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _describe_sweep(plan: "vaelab.SweepPlan") -> str:
    seeds = len({member.seed for member in plan.members})
    done = sum(member.state == "done" for member in plan.members)
    grid = ", ".join(f"{len(values)} values of {key}" for key, values in plan.over.items())
    return (
        f"{plan.path}: {plan.recipe.name}, {grid}, {_count(seeds, 'seed')}: {_count(len(plan.members), 'run')}, "
        f"{done} of them done; {plan.jobs} at a time, {_count(plan.threads, 'thread')} each"
    )


def print_sweep_plan(plan: "vaelab.SweepPlan", as_json: bool) -> None:
    """What a sweep would do: every run and its state."""
    if as_json:
        runs = [{"run": str(m.run.path), **m.point, "seed": m.seed, "state": m.state} for m in plan.members]
        print_json({"out": str(plan.path), "jobs": plan.jobs, "threads": plan.threads, "runs": runs})
        return
    print(_describe_sweep(plan))
    table(("run", "state"), [(str(member.run.path), member.state) for member in plan.members])


def _describe_end(event: "vaelab.MemberEnded") -> str:
    run = event.member.run
    words = f"{event.position:>{len(str(event.of))}}/{event.of}  {run.name}"
    if event.state == "failed":
        return f"{words}  failed: {event.reason}"
    measured = run.measured()
    equation = _describe_last_epoch(run, measured) or "trained"
    time_taken = f"  {_duration(measured['seconds'])}" if "seconds" in measured else ""
    return f"{words}  {equation}{time_taken}{'  (done already)' if event.state == 'done' else ''}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def print_comparison(comparison: "vaelab.Comparison") -> None:
    """Quantities down, recipes across (on a terminal as many as fit, then the others below), and what ± means."""
    groups = comparison.groups
    has_seeds = any(len(rows) > 1 for rows in groups.values())
    columns = [
        [label + (f" ({_members(rows)})" if has_seeds else "")]
        + [
            _cell([row[q.key] for row in rows], rows[0].get(f"{q.key}_standard_error"), q.digits)
            for q in comparison.quantities
        ]
        for label, rows in groups.items()
    ]
    titles = ["", *(f"{q.title}, {q.unit}" if q.unit else q.title for q in comparison.quantities)]
    kept = [0, *(i for i in range(1, len(titles)) if any(column[i] != "–" for column in columns))]
    console = _console()
    room = console.width - max(map(len, titles)) if console.is_terminal else sys.maxsize
    while columns:
        fitting, width = 0, 0
        while fitting < len(columns) and (not fitting or width + max(map(len, columns[fitting])) + 2 <= room):
            width += max(map(len, columns[fitting])) + 2
            fitting += 1
        shown, columns = columns[:fitting], columns[fitting:]
        rows = [(titles[i], *(column[i] for column in shown)) for i in kept]
        table(rows[0], rows[1:])
    over = "the seeds of a recipe" if has_seeds else "images, or samples for the parts of the KL"
    remarks = "".join(f"; {remark}" for remark in comparison.remarks)
    print(f"nats per image, of the held-out images; ±: standard error over {over}{remarks}")


def _members(rows: Sequence[Mapping[str, Any]]) -> str:
    is_copied = len({row["seed"] for row in rows}) < len(rows)
    return _count(len(rows), "run" if is_copied else "seed")


def _cell(values: Sequence[float | None], error: float | None, digits: int) -> str:
    """The mean of what is known, with its standard error."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = sum(known) / len(known)
    if len(values) > 1:
        error = math.sqrt(sum((value - mean) ** 2 for value in known) / max(len(known) - 1, 1) / len(known)) or None
        digits = max(digits, 1) if error else digits
    if error and error >= 0.5e-6:  # a digit that is not 0
        digits = max(digits, min(6, -math.floor(math.log10(error))))
    shown = f"{mean:,.{digits}f}" + (f" ± {error:,.{digits}f}" if error is not None else "")
    return shown.replace("-", "−")


def print_plan(plan: Mapping[str, Any], as_json: bool) -> None:
    """What a training would do: the resolved recipe and what follows from it."""
    recipe, parameters = plan["recipe"], plan["parameters"]
    if as_json:
        facts = {key: value for key, value in plan.items() if key not in ("recipe", "run")}
        print_json({"run": str(plan["run"].path), "recipe": recipe.sections(), **facts})
        return
    print(recipe.to_toml())
    images = ", ".join(f"{count:,} {split.removeprefix(f'{count} images ')}" for split, count in plan["images"].items())
    print(f"# images: {images}; {plan['steps']:,} steps")
    parts = ", ".join(f"{part} {count:,}" for part, count in parameters.items())
    print(f"# parameters: {sum(parameters.values()):,} ({parts})")
    if plan["equivalents"]:
        print(f"# in other papers' terms: {', '.join(f'{k} {v:.4g}' for k, v in plan['equivalents'].items())}")
    print(f"# run: {plan['run'].path} ({plan['state']})")
