"""The command line: parses arguments, calls the API, prints results and errors."""

import atexit
import errno
import gc
import os
import re
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vaelab.cli.layout import Command
from vaelab.cli.options import DONE, FAILED, INTERRUPTED, app, complain, data_app
from vaelab.cli.progress import show_task
from vaelab.cli.terminal import print_warnings
from vaelab.system import streams
from vaelab.system.progress import show_progress

__all__ = ["app", "data_app", "main"]

for group in ("runs", "results", "comparisons", "outputs", "explore", "exports", "data", "help"):  # the order of --help
    import_module(f"vaelab.cli.{group}")
for verb in (*app.registered_commands, *data_app.registered_commands):
    verb.cls = Command


@app.callback(invoke_without_command=True)
def _show_version(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="With --version: also print package versions and devices, for bug reports."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback if a command fails; allowed at any position.")
    ] = False,
) -> None:
    """Show the version; ``main`` reads --debug."""
    if verbose and not show_version:
        raise typer.BadParameter("it belongs to --version", param_hint="--verbose")
    if verbose:
        import vaelab

        for name, found in vaelab.versions().items():
            print(f"{name}: {found}")
    elif show_version:
        print(version("vaelab"))
    if show_version:
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (saved, resumable)."""
    streams.protect()
    atexit.register(gc.freeze)  # the last garbage collection would walk through all of torch, 0.3 s
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        with print_warnings(), show_progress(show_task):
            code = app(arguments, standalone_mode=False) or DONE
        if code == INTERRUPTED:  # typer's result of a Ctrl-C outside training
            complain("interrupted; run the same command again")
    except Exception as error:
        if "--debug" in sys.argv:
            import traceback

            traceback.print_exception(error)
        if message := _describe(error, arguments):
            complain(message)
        code = int(getattr(error, "exit_code", FAILED))
    if lost := streams.failure():
        complain(f"standard output could not be written completely ({lost})")
        code = code or FAILED
    raise SystemExit(code)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """Treat SIGTERM as Ctrl-C."""
    raise KeyboardInterrupt


def _describe(error: Exception, arguments: list[str]) -> str:
    """Return one line about an error; empty if the parser has just shown its help."""
    from vaelab.system.failures import describe_error, is_out_of_memory

    if hasattr(error, "format_message"):  # an error of the parser, whose class typer does not export
        message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
        place = context.command_path.removeprefix(context.find_root().command_path).strip() if context else ""
        return message and f"{message}{' See' if message.endswith('?') else '; see'} vaelab help {place}".rstrip()
    if is_out_of_memory(error):
        return describe_error(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        path = _find_target(error)
        return "; ".join(filter(None, (f"{path}: {error.strerror}", _advise(error, path, arguments))))
    if isinstance(error, ValueError | OSError | RuntimeError) or hasattr(error, "exit_code"):
        return str(error) or type(error).__name__
    return f"{describe_error(error)} (run the command with --debug for a traceback)"


def _advise(error: OSError, path: Path, arguments: list[str]) -> str:
    """Return what to do if the system refuses access or the disk is full."""
    from vaelab.system.paths import cache_dir

    if error.errno == errno.ENOSPC:
        return "free some space and run the same command again"
    if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ""
    if path.exists() and not os.access(path, os.R_OK):
        return "this user may not read it"
    if path.is_relative_to(cache_dir()):
        return "choose another cache with $XDG_CACHE_HOME"
    verb = next((word for word in arguments if not word.startswith("-")), "")
    return f"choose another place with {({'train': '--run', 'data': '--to'}).get(verb, '--out')}"


def _find_target(error: OSError) -> Path:
    """Return the file that an error is about; for a partial file, the name that it was to get."""
    path = Path(os.fsdecode(error.filename))
    partial = re.fullmatch(r"\.(.+)\.[^.]+\.part", path.name)
    return path.with_name(partial[1]) if partial else path
