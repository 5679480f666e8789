"""Errors that a user can act on: one base class, so that every command reports them in one way."""

from __future__ import annotations


class UserError(Exception):
    """What was given cannot be used, or what was asked could not be done.

    The message says what was given, what was expected and what to do.  A command prints it as one
    line and exits with :attr:`exit_status`; from Python it is an ordinary exception.
    """

    exit_status = 2
    """2: bad input, nothing was done.  1: something that had begun broke off."""


class EngineError(UserError, RuntimeError):
    """What samples in the policy's place cannot go on; the message says why."""

    exit_status = 1


class ConfigError(UserError, ValueError):
    """The settings cannot be used; the message says which one, and what to do."""


class PolicyError(UserError, ValueError):
    """A policy cannot be made as asked; the message says why, and what to do."""


class ArgumentError(ConfigError, TypeError):
    """An argument is not of a kind that is taken, or there is none of its name."""
