"""Exceptions for input that vaelab cannot use. Their fields carry the facts; their message is one line for people."""

from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used: the message says what is wrong, where, and what to do.

    ``subject`` is the path, recipe key or argument concerned, ``value`` what was given there, and ``choices`` the valid
    values where they can be listed.
    """

    exit_code = 1
    """Exit code of the command line."""

    def __init__(
        self, message: str, *, subject: object = None, value: object = None, choices: Iterable[object] = ()
    ) -> None:
        super().__init__(message)
        self.subject, self.value, self.choices = subject, value, tuple(choices)


class UsageError(InputError):
    """A request that cannot be carried out as written; the command line exits with 2."""

    exit_code = 2


class UnknownName(UsageError):
    """A name, key or value that does not exist; ``choices`` are those that do."""


class RecipeError(UsageError):
    """A recipe or an override that cannot be used; ``subject`` is the key."""
