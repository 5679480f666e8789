"""Run a table of named checks, with the same form of message for all three kinds."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from llmrl.registry import suggest

Subject = TypeVar("Subject")
Thing = TypeVar("Thing")


def run_checks(
    what: str, checks: Mapping[str, Callable[[Subject], None]], subject: Subject, except_for: Iterable[str]
) -> None:
    """Run every check but those named in ``except_for``.

    Raises:
        ValueError: ``except_for`` has a name that no check has.
        AssertionError: a check failed, or the thing under test raised; the message begins with ``what``.
    """
    left_out = set(except_for)
    for name in left_out:
        if name not in checks:
            raise ValueError(f"There is no check {name!r} to leave out. {suggest(name, checks)}")
    for name, check in checks.items():
        if name in left_out:
            continue
        try:
            check(subject)
        except AssertionError as error:
            raise AssertionError(f"{what}, check {name!r}: {error}") from error
        except Exception as error:
            raise AssertionError(
                f"{what}, check {name!r}: it raised {type(error).__name__}: {error}; no error was expected."
            ) from error


def require(holds: bool, message: str) -> None:
    """Raise an ``AssertionError`` with ``message`` unless ``holds``; ``assert`` would vanish under ``python -O``."""
    if not holds:
        raise AssertionError(message)


def pickled(thing: Thing) -> Thing:
    """``thing`` after pickling and unpickling."""
    try:
        return pickle.loads(pickle.dumps(thing))
    except Exception as error:
        raise AssertionError(
            f"pickling raised {type(error).__name__}: {error}; worker processes need objects that can be pickled, "
            "so use functions and classes of a module, no lambdas."
        ) from error
