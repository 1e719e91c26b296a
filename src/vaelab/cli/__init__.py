"""The command line: parses, calls the lab, explains errors. It and view.py are the only places that print."""

import errno
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from vaelab import streams
from vaelab.cli.options import DONE, FAILED, INTERRUPTED, app, complain, data_app

__all__ = ["app", "data_app", "main"]

# in this order --help lists their verbs
for part in ("runs", "results", "comparisons", "outputs", "explore", "exports", "data"):
    import_module(f"vaelab.cli.{part}")

ADVICE = {
    errno.ENOSPC: "free some space, then the same command begins again or goes on",
    errno.EROFS: "choose another place with --run or --out",
    errno.EACCES: "choose another place with --run or --out",
}
"""What to do about what the system refuses."""


def _show_version(wanted: bool) -> bool:
    if wanted:
        print(version("vaelab"))
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails; any verb.")] = False,
) -> None:
    """Options of the whole; ``--debug`` is read by ``main`` wherever it stands."""


def main() -> NoReturn:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (saved, resumable)."""
    streams.protect()
    debug = "--debug" in sys.argv
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code = app(arguments, standalone_mode=False) or DONE
        if code == INTERRUPTED:  # what typer makes of a Ctrl-C outside of training
            complain("interrupted; the same command begins again or goes on")
    except Exception as error:
        code = _explain(error, debug)
    if lost := streams.failure():
        complain(f"standard output could not be written to its end ({lost})")
        code = code or FAILED
    raise SystemExit(code)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """A polite kill is a Ctrl-C."""
    raise KeyboardInterrupt


def _explain(error: Exception, debug: bool) -> int:
    """One clear line for an error, and the exit code that goes with it."""
    if debug:
        import traceback

        traceback.print_exception(error)
    if hasattr(error, "format_message"):  # the parser's own errors, of which typer exports no class
        if error.format_message():  # empty where the help has just been shown
            complain(f"{error.format_message()} (see vaelab --help)")
    elif isinstance(error, OSError) and error.errno in ADVICE:
        complain(f"{error.filename or 'this disk'}: {error.strerror}; {ADVICE[error.errno]}")
    elif isinstance(error, ValueError | OSError | RuntimeError) or hasattr(error, "exit_code"):
        complain(str(error) or type(error).__name__)
    else:
        complain(f"{type(error).__name__}: {error} (for a traceback: the same command with --debug)")
    return int(getattr(error, "exit_code", FAILED))
