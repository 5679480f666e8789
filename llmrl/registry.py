"""One way to find a thing by name, for algorithms, verifiers and problem sources alike.

A name is looked up among what the package registered, then among installed entry points, and a name
with a colon is imported: ``my_module:my_thing`` needs no registration at all.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from llmrl.errors import UserError

T = TypeVar("T")


class UnknownName(UserError, LookupError):
    """Nothing goes by this name.  The message names the nearest known ones."""


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence that helps who mistyped: the nearest name, then all of them.

    >>> suggest("dapoo", ["dapo", "grpo"])
    "Did you mean 'dapo'? Known: dapo, grpo."
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(known) or 'none'}."


def load_object(reference: str) -> Any:
    """Import ``module:attribute``; an error says which of the two halves is wrong.

    >>> load_object("math:pi") > 3
    True
    """
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the module exists; something that it imports does not
        raise UnknownName(
            f"{reference!r} names the module {module_name!r}, which cannot be found. Put it on the "
            "Python path (the current folder is searched) or correct the name."
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UnknownName(f"The module {module_name!r} has no {attribute!r}. {suggest(attribute, public)}") from error


class Registry(Generic[T]):
    """Names of one kind of thing.

    Args:
        kind: what error messages call it, such as ``"algorithm"``.
        entry_point_group: other installed packages add names through this entry-point group.

    >>> colours = Registry[str]("colour")
    >>> colours.add("red", "#f00")
    >>> colours["red"]
    '#f00'
    >>> colours["rad"]
    Traceback (most recent call last):
    llmrl.registry.UnknownName: No colour is called 'rad'. Did you mean 'red'? Known: red.
    """

    def __init__(self, kind: str, entry_point_group: str | None = None) -> None:
        self.kind = kind
        self.entry_point_group = entry_point_group
        self._known: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Register ``thing``; a name that is already taken is an error, not an overwrite."""
        if self._known.get(name, thing) is not thing:
            raise ValueError(f"The {self.kind} name {name!r} is taken by {self._known[name]!r}. Choose another.")
        self._known[name] = thing

    def register(self, name: str) -> Callable[[T], T]:
        """:meth:`add` as a decorator."""

        def decorate(thing: T) -> T:
            self.add(name, thing)
            return thing

        return decorate

    def __getitem__(self, name: str) -> T:
        if name in self._known:
            return self._known[name]
        if ":" in name:
            return load_object(name)
        installed = self._installed()
        if name in installed:
            return installed[name].load()
        raise UnknownName(f"No {self.kind} is called {name!r}. {suggest(name, self)}")

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._known, *self._installed()}))

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._installed()

    def _installed(self) -> dict[str, Any]:
        if self.entry_point_group is None:
            return {}
        return {point.name: point for point in entry_points(group=self.entry_point_group)}
