"""Errors that a user can correct: one base class, so that every command reports them in the same way."""

from __future__ import annotations

DIVERGED = (
    "give log-probabilities that are not finite: training has diverged. Go on from an earlier checkpoint with a "
    "smaller learning rate."
)
"""The end of a sentence about weights."""


class UserError(Exception):
    """An input cannot be used, or a task could not be done.

    The message says what was given, what was expected and what to do. A command prints it as one
    line and exits with :attr:`exit_status`; in Python it is an ordinary exception.
    """

    exit_status = 2
    """2: the input is bad and nothing was done. 1: a task had begun and stopped with an error."""


class EngineError(UserError, RuntimeError):
    """An engine that samples for the policy has failed; the message says why."""

    exit_status = 1


class ConfigError(UserError, ValueError):
    """A setting cannot be used; the message says which one, and what to do."""


class PolicyError(UserError, ValueError):
    """The policy cannot be made; the message says why, and what to do."""


class ArgumentError(ConfigError, TypeError):
    """An argument has the wrong type or value, or an unknown name."""
