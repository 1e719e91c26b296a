"""Progress of training and sweeps: bars on a terminal, lines elsewhere."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vaelab.cli.terminal import print_warning
from vaelab.system.bars import ProgressDisplay, format_duration
from vaelab.system.messages import count_of
from vaelab.system.progress import Task

if TYPE_CHECKING:
    import vaelab
    from vaelab.training.loop import ProgressRecord

MAX_VALIDATION_LINES = 20
"""Validations that are printed; if there are more, they are printed at equal intervals."""


def show_task(task: Task) -> None:
    """Show a task on stderr; of several processes only the first does."""
    global _display
    from vaelab.system.distributed import launched_group

    if launched_group().is_main:
        _display = _display or ProgressDisplay(to_stderr=True)
        _display(task)


_display: ProgressDisplay | None = None


class TrainingView:
    """Prints the events of ``vaelab.train``."""

    def __init__(self) -> None:
        self._display = ProgressDisplay(to_stderr=False)
        self._rate = 0.0
        self._last_validation = 0

    def __call__(self, event: "vaelab.Event") -> None:
        """Print one event."""
        import vaelab
        from vaelab.api.events import TrackerNote
        from vaelab.build import loss_terms

        if isinstance(event, vaelab.Started):
            self._started, self._loss_terms = event, loss_terms(event.recipe)
            self._print_start(event)
            is_bar = self._display.has_bars  # which has no room for a name beside the status
            self._display.begin("" if is_bar else event.run.name, event.num_steps, event.first_step)
        elif isinstance(event, TrackerNote) and event.warning and not self._display.has_bars:
            print_warning(event.text)
        elif isinstance(event, vaelab.Note):
            self._display.print_line(describe_note(event))
        elif isinstance(event, vaelab.Finished):
            self._print_end(event)
        else:
            self._print_record(event)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._display.end()

    def _print_start(self, event: "vaelab.Started") -> None:
        counts, machine = event.num_parameters, event.machine
        self._display.print_line(
            f"{event.run.path}: {event.recipe.title}\n"
            f"{count_of(event.num_images, 'image')}, {count_of(event.num_steps, 'step')} of "
            f"{event.recipe.training.batch_size}, {sum(counts.values()):,} parameters "
            f"(encoder {counts['encoder']:,}, decoder {counts['decoder']:,}), "
            f"{machine['device']} {machine['precision']}, {count_of(machine['threads'], 'thread')}"
        )

    def _print_record(self, record: "ProgressRecord") -> None:
        num_steps = self._started.num_steps
        status = self._describe(record)
        share = (record.step - self._last_validation) / num_steps
        if record.validation and (
            share >= 1 / MAX_VALIDATION_LINES or record.step == num_steps or record.finished_early
        ):
            self._last_validation = record.step
            means = record.validation.terms
            line = (
                f"epoch {record.epoch:>3}  held-out: loss {means['loss']:.2f}  reconstruction "
                f"{means['reconstruction']:.2f}  KL {means['kl']:.2f}  ELBO {means['elbo']:.2f}"
            )
            self._display.print_line(line if self._display.has_bars or not status else f"{line}  |  {status}")
        self._display.update(record.step, status)
        if record.step == num_steps or record.stopped or record.finished_early:
            self.close()

    def _describe(self, record: "ProgressRecord") -> str:
        """Return epoch, loss and speed; a short text if it stands beside a bar in 80 columns."""
        from vaelab.api.training_bar import describe_progress

        if self._display.has_bars or not len(record.terms["loss"]):
            return describe_progress(self._started, record)
        started, means = self._started, {name: float(values.mean()) for name, values in record.terms.items()}
        self._rate = 0.8 * (self._rate or record.images_per_second) + 0.2 * record.images_per_second
        epoch = f"epoch {record.epoch}/{-(-started.num_steps // started.steps_per_epoch)}"
        rate = f"{record.images_per_second:,.0f} images/s"
        images_left = (started.num_steps - record.step) * started.recipe.training.batch_size
        left = format_duration(images_left / max(self._rate, 1e-9))
        return f"{epoch}  {format_loss(means, self._loss_terms)}  {rate}  {left} left"

    def _print_end(self, event: "vaelab.Finished") -> None:
        from vaelab.build import loss_unit
        from vaelab.run import EVALUATION

        self.close()
        run, print_line = event.run, self._display.print_line
        if event.already:
            early = f" (finished early, at step {ended_at:,})" if (ended_at := run.machine.get("ended_at")) else ""
            longer = ", to train it longer --extend" if early and not run.machine.get("ended_by") else ""
            print_line(f"{run.path} is done already{early}; for another run use --run or --set{longer}")
        if loss := describe_closing_loss(run, run.measured()):
            unit = ", nats per image" if loss_unit(run.recipe) else ""
            print_line(f"{loss}, mean over {run.describe_closing()}{unit}")
        known = {} if any(error.path.name == EVALUATION for error in run.find_damage()) else run.evaluation
        elbo = known.get("elbo", {}).get("elbo")
        if isinstance(elbo, int | float):
            split = known["elbo"]["measured_on"].get("split", "held-out")
            images = split if "images" in split else f"{split} images"
            print_line(f"ELBO of {images}: {elbo:.2f} nats (with the likelihood's constant)")
        print_line(f"report: {run.path / 'report.html'}")
        print_line(f"next: vaelab explore {shlex.quote(str(run.path))}, or vaelab sample")


class SweepView:
    """Prints the events of ``vaelab.sweep``: a line for each run, and the progress of the current one."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._display = ProgressDisplay(to_stderr=to_stderr)

    def __call__(self, event: "vaelab.SweepEvent") -> None:
        """Print one event."""
        import vaelab
        from vaelab.training.loop import ProgressRecord

        if isinstance(event, vaelab.SweepPlan):
            self._display.print_line(describe_sweep(event))
        elif isinstance(event, vaelab.Started):
            self._display.begin(event.run.name, event.num_steps)
        elif isinstance(event, ProgressRecord):
            self._display.update(event.step)
        elif isinstance(event, vaelab.Note) and event.warning:
            self._display.print_line(describe_note(event))
        elif isinstance(event, vaelab.MemberEnded):
            self.close()
            self._display.print_line(_describe_end(event))

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._display.end()


def describe_note(note: "vaelab.Note") -> str:
    """Return the text of a note, marked if it is a warning."""
    return f"warning: {note.text}" if note.warning else note.text


def print_event_warning(event: "vaelab.Event") -> None:
    """Print training warnings on stderr and ignore other events, for output that a script reads."""
    import vaelab

    if isinstance(event, vaelab.Note) and event.warning:
        print_warning(event.text)


def describe_sweep(plan: "vaelab.SweepPlan") -> str:
    """Return the runs, threads and jobs of a sweep in one line."""
    seeds = len({member.seed for member in plan.members})
    done = sum(member.state == "done" for member in plan.members)
    grid = ", ".join(f"{count_of(len(values), 'value')} of {key}" for key, values in plan.over.items())
    return (
        f"{plan.path}: {plan.recipe.name}, {grid}, {count_of(seeds, 'seed')}: {count_of(len(plan.members), 'run')}, "
        f"{done} of them done; {plan.jobs} at a time, {count_of(plan.threads, 'thread')} each"
    )


def _describe_end(event: "vaelab.MemberEnded") -> str:
    words = f"{event.position:>{len(str(event.of))}}/{event.of}  {event.member.run.name}"
    if event.state == "failed":
        return f"{words}  failed: {event.reason}"
    measured = event.member.run.measured()
    duration = f"  {format_duration(measured['seconds'])}" if "seconds" in measured else ""
    done = "  (done already)" if event.state == "done" else ""
    return f"{words}  {describe_closing_loss(event.member.run, measured) or 'trained'}{duration}{done}"


def describe_closing_loss(run: "vaelab.Run", measured: Mapping[str, float]) -> str:
    """Return the mean loss at the end of a run and its terms; empty if they are unknown."""
    from vaelab.build import loss_terms

    means = {name.removesuffix("_at_end"): value for name, value in measured.items() if name.endswith("_at_end")}
    is_known = {"loss", "reconstruction", "kl"} <= means.keys()
    return format_loss(means, loss_terms(run.recipe)) if is_known else ""


def format_loss(means: Mapping[str, float], loss_terms: Mapping[str, str]) -> str:
    """Return the loss and its terms, as a sum if they add up to it."""
    if not loss_terms or not loss_terms.keys() <= means.keys():
        return "  ".join(f"{word} {means[word.lower()]:.2f}" for word in ("loss", "reconstruction", "KL"))
    total = " + ".join(f"{title} {means[name]:.2f}" for name, title in loss_terms.items())
    return f"loss {means['loss']:.2f} = {total}" + ("" if "kl" in loss_terms else f" (KL {means['kl']:.2f})")
