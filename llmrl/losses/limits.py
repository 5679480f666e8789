"""Components with a number that is set to the response limit of a run, unless the user gives it."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

Component = TypeVar("Component")


@runtime_checkable
class FollowsLimit(Protocol):
    """A component with a number that follows the response limit."""

    def resolve(self, max_response_length: int) -> FollowsLimit:
        """The component with its number set by the limit, in tokens; a number that was given stays."""


def resolved(component: Component, max_response_length: int) -> Component:
    """The component itself, or what it becomes under a response limit."""
    if isinstance(component, FollowsLimit):
        return component.resolve(max_response_length)  # type: ignore[return-value]
    return component
