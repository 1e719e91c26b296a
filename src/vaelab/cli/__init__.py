"""The command line: parses, calls the lab, explains errors. It and view.py are the only places that print."""

import errno
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vaelab.cli.options import DONE, FAILED, INTERRUPTED, app, complain, data_app
from vaelab.cli.terminal import print_vaelab_warnings
from vaelab.system import streams

__all__ = ["app", "data_app", "main"]

# in this order --help lists their verbs
for part in ("runs", "results", "comparisons", "outputs", "explore", "exports", "data"):
    import_module(f"vaelab.cli.{part}")

REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says where something may not be written or read."""


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
        with print_vaelab_warnings():
            code = app(arguments, standalone_mode=False) or DONE
        if code == INTERRUPTED:  # what typer makes of a Ctrl-C outside of training
            complain("interrupted; the same command begins again or goes on")
    except Exception as error:
        code = _explain(error, debug, arguments)
    if lost := streams.failure():
        complain(f"standard output could not be written to its end ({lost})")
        code = code or FAILED
    raise SystemExit(code)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """A polite kill is a Ctrl-C."""
    raise KeyboardInterrupt


def _explain(error: Exception, debug: bool, arguments: Sequence[str]) -> int:
    """One clear line for an error, and the exit code that goes with it."""
    from vaelab.system.failures import describe_error, is_out_of_memory

    if debug:
        import traceback

        traceback.print_exception(error)
    if hasattr(error, "format_message"):  # the parser's own errors, of which typer exports no class
        if error.format_message():  # empty where the help has just been shown
            complain(f"{error.format_message()} (see vaelab --help)")
    elif is_out_of_memory(error):
        complain(describe_error(error))
    elif isinstance(error, OSError) and error.filename is not None and error.strerror:
        advice = _advise(error, arguments)
        complain(f"{_target_of(error)}: {error.strerror}{f'; {advice}' if advice else ''}")
    elif isinstance(error, ValueError | OSError | RuntimeError) or hasattr(error, "exit_code"):
        complain(str(error) or type(error).__name__)
    else:
        complain(f"{describe_error(error)} (for a traceback: the same command with --debug)")
    return int(getattr(error, "exit_code", FAILED))


def _advise(error: OSError, arguments: Sequence[str]) -> str:
    """What to do about what the system refuses."""
    from vaelab.system.paths import cache_dir

    if error.errno == errno.ENOSPC:
        return "free some space, then the same command begins again or goes on"
    if error.errno not in REFUSED:
        return ""
    path = _target_of(error)
    if path.exists() and not os.access(path, os.R_OK):
        return "this user may not read it"
    if path.is_relative_to(cache_dir()):
        return "name another cache with $XDG_CACHE_HOME"
    verb = next((word for word in arguments if not word.startswith("-")), "")
    option = {"train": "--run", "data": "--to"}.get(verb, "--out")
    return f"choose another place with {option}"


def _target_of(error: OSError) -> Path:
    """The file that an error is about; where it was still hidden under another name, the name that it was to have."""
    path = Path(os.fsdecode(error.filename))
    hidden = re.fullmatch(r"\.(.+)\.[^.]+\.part", path.name)
    return path.with_name(hidden[1]) if hidden else path
