"""``vaelab help``: the help of a command."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaelab.cli import options


@options.app.command("help")
def show_help(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="A command, such as train or data list.")
    ] = None,
) -> None:
    """Show the help of a command.

    Example:
      vaelab help train
    """
    command: Any = typer.main.get_command(options.app)
    context = command.make_context("vaelab", [], resilient_parsing=True)
    context.resilient_parsing = False  # an unknown command is an error again
    for word in words or []:
        if not isinstance(command, TyperGroup):
            raise typer.BadParameter(f"{command.name} has no subcommands", param_hint="COMMAND")
        name, command, _ = command.resolve_command(context, [word])
        context = type(context)(command, info_name=name, parent=context)
    print(context.get_help())
