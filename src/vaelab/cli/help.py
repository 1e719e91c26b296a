"""``vaelab help``: the help of a verb."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vaelab.cli import options


@options.app.command("help")
def show_help(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="VERB", help="A verb, such as train or data list.")
    ] = None,
) -> None:
    """Show the help of a verb.

    Example:
      vaelab help train
    """
    command: Any = typer.main.get_command(options.app)
    context = command.make_context("vaelab", [], resilient_parsing=True)
    context.resilient_parsing = False  # an unknown verb is an error again
    for word in words or []:
        if not isinstance(command, TyperGroup):
            raise typer.BadParameter(f"{command.name} has no verbs of its own", param_hint="VERB")
        name, command, _ = command.resolve_command(context, [word])
        context = type(context)(command, info_name=name, parent=context)
    print(context.get_help())
