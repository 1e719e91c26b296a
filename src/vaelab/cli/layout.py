"""The layout of ``--help``: paragraphs that the terminal wraps, one example on each line."""

from typing import Any

from typer.core import HAS_RICH, TyperCommand, TyperGroup


class Command(TyperCommand):
    """A command; its help shows no type for flags and no braces around arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = arrange(self.help or "")

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, flags with an empty type."""
        return _hide_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line, ``RUN`` instead of ``{RUN}``."""
        pieces = super().collect_usage_pieces(ctx)
        return [piece.replace("{", "").replace("}", "").replace("......", "...") for piece in pieces]


class Group(TyperGroup):
    """The program or a group of commands; its help shows no type for flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, flags with an empty type."""
        return _hide_types(super().get_params(ctx))


def _hide_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def arrange(text: str) -> str:
    """Return a docstring with each paragraph on one line, which the terminal wraps, and one example on each line."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        _mark_examples(part) if part.startswith("Example") else " ".join(part.split()) for part in paragraphs
    )


def _mark_examples(paragraph: str) -> str:
    """Return the lines of examples so that typer keeps them: by markup of rich, or by click's mark without rich."""
    if not HAS_RICH:
        return f"\b\n{paragraph}"
    title, *lines = paragraph.replace("[", r"\[").splitlines()
    return "\n".join((title, *(f"[bold]  {line.strip()}[/bold]" for line in lines)))
