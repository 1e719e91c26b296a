"""``vaelab finish``: complete a run at its current step."""

import time
from pathlib import Path

from vaelab import recipe as recipes
from vaelab.api.events import Finished, Note, Watch, warn_only
from vaelab.api.session import Session
from vaelab.api.train import train_run
from vaelab.api.training_bar import showing_bar
from vaelab.run import Run, RunInUse
from vaelab.system.arguments import AnyPath
from vaelab.system.errors import InputError

POLL_SECONDS = 0.5
"""Time between two looks at a run that another process is training."""


def finish(
    run_path: AnyPath,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    watch: Watch = warn_only,
    progress: bool = True,
) -> Run:
    """Finish a run at its current step: evaluate it, draw its figures and write its report; return the run.

    If another process is training the run, it is asked to finish, and this function waits for it. Otherwise the newest
    checkpoint becomes the model. machine.json (``ended_at``) and the report state that training ended early.
    ``train(…, extend=True)`` continues the run.

    Raises InputError if there is no checkpoint yet and no process is training the run.
    """
    run, place = Run(run_path), recipes.check_place(data)
    is_asked = False
    with showing_bar(watch, is_wanted=progress) as shown:
        try:
            while True:
                if run.is_finished:
                    shown(Finished(run, already=not is_asked))
                    return run
                try:
                    _finish_here(run, place, device, shown)
                    return run
                except RunInUse:
                    run.ask_to_finish()
                if not is_asked:
                    shown(Note(f"{run.path} is being trained: it is asked to finish at its current step"))
                is_asked = True
                time.sleep(POLL_SECONDS)
        finally:
            run.withdraw_request()


def _finish_here(run: Run, place: Path | None, device: str, watch: Watch) -> None:
    """Complete a run that nobody is training."""
    typed = run.machine.get("command", "")
    session = Session(run, run.recipe, place, device, typed, watch, finish=True)
    if not run.is_trained and not run.checkpoints.newest_step:
        with run.locked():
            raise InputError(f"{run.path}: there is no checkpoint yet, so there is nothing to finish", subject=run.path)
    train_run(run, place, session)
