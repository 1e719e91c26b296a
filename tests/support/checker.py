"""The run-time type checks that the tests hook into vaelab, of the first calls of every function in every test."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

CHECKED_CALLS = 5
"""Calls of a function that are checked in each test; a training run of a test spent half of its time in checks."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int passes where a float is asked for (PEP 484)
_jaxtyped: Any = jaxtyping.jaxtyped
_test = 0


def start_test() -> None:
    """Check the next calls of every function again."""
    global _test
    _test += 1


def _check_first_calls(function: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    """``function`` with checks, which are compiled when it is called for the first time."""
    checked: Callable[..., Any] | None = None
    test = calls = 0

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked, test, calls
        if test != _test:
            test, calls = _test, 0
        is_exempt = getattr(call, "__no_type_check__", False) or jaxtyping.config.jaxtyping_disable
        if is_exempt or calls >= CHECKED_CALLS:
            return function(*args, **kwargs)
        calls += 1
        if checked is None:
            checked = _jaxtyped(function, typechecker=typechecker)
        return checked(*args, **kwargs)

    return call


def _decorate(*, typechecker: Any) -> Callable[[Any], Any]:
    """Take the place of ``jaxtyping.jaxtyped``, with which the import hook decorates functions and classes."""

    def decorate(item: Any) -> Any:
        if inspect.isfunction(item):
            return _check_first_calls(item, typechecker)
        return _jaxtyped(item, typechecker=typechecker)

    return decorate


def install() -> None:
    """Check the types and shapes of vaelab from its first import on."""
    jaxtyping.jaxtyped = _decorate
    jaxtyping.install_import_hook("vaelab", "checker.check")
