"""Registries: algorithms, verifiers and problem sources by name.

A name is looked up among those that the package registered, then among installed entry points. A name with a
colon is imported: ``my_module:my_thing`` needs no registration.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import PurePath
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar

from llmrl.errors import ArgumentError, UserError
from llmrl.other_names import OPTIONS, WITHOUT

T = TypeVar("T")
P = ParamSpec("P")


class UnknownName(UserError, LookupError):
    """Nothing has this name. The message lists the nearest known names."""


LISTED = 12
"""If there are more names than this, only the nearest few are listed."""
ALIKE, ALIKE_SHORT, SHORT = 0.75, 0.6, 4
"""Least similarity of a spelling that is suggested, and that of names of at most ``SHORT`` characters."""
KINDS = {"algo": "algorithm", "env": "environment"}
"""Sections whose options depend on what is chosen."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Advice on an unknown name: the nearest known name, then all of them, or the nearest of many.

    Nearest is a name that differs in case or hyphens alone; else the name here of an option of another library; else
    the same name in another section; else a name that begins with the given words; else the name with the most similar
    spelling, if only a letter or two differ. For an option that has no equal among the known ones it says why.

    >>> suggest("dapoo", ["dapo", "grpo"])
    "Did you mean 'dapo'? Known: dapo, grpo."
    >>> suggest("train.lr", ["train.steps", "train.learning_rate"])
    "Did you mean 'train.learning_rate'? Known: train.learning_rate, train.steps."
    >>> suggest("llmrl/Math-v0", ["llmrl/MATH-v0", "llmrl/MathTool-v0"])
    "Did you mean 'llmrl/MATH-v0'? Known: llmrl/MATH-v0, llmrl/MathTool-v0."
    """
    known = sorted(known)
    nearest = _nearest(name, known)
    if nearest is None and (reason := _without(name, known)) is not None:
        return reason
    advice = f"Did you mean {nearest!r}? " if nearest is not None else ""
    if len(known) <= LISTED:
        return f"{advice}Known: {', '.join(known) or 'none'}."
    near = [] if nearest is not None else difflib.get_close_matches(_plain(name), map(_plain, known), n=5, cutoff=0.5)
    others = f"Others like it: {', '.join(k for k in known if _plain(k) in near)}. " if near else ""
    return f"{advice}{others}There are {len(known)} names."


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").strip("_ ")


def _nearest(name: str, known: Sequence[str]) -> str | None:
    wanted, plain = _plain(name), {_plain(k): k for k in known}
    if wanted in plain:
        return plain[wanted]
    section, _, last = wanted.rpartition(".")
    for option in _here(wanted):
        place, _, bare = option.rpartition(".")
        # The typed section wins, so that eval.max_tokens stays with eval; a command without sections has bare names.
        for candidate in (f"{section}.{bare}", f"{place}.{bare}" if place else bare):
            if candidate in plain:
                return plain[candidate]
    if _without(name, known) is not None:
        return None
    ends = {k: k.rpartition(".")[2] for k in plain}
    # An evaluation has options of the policy too; the policy's are meant for training.
    for k in sorted(plain, key=lambda k: (k.startswith("eval."), k)):
        if ends[k] == last:
            return plain[k]
    inside = [k for k in plain if section and k.startswith(f"{section}.")] or list(plain)
    if longer := [k for k in inside if ends[k].startswith(f"{last}_")]:
        return plain[min(longer, key=len)]
    spelt = last.removeprefix("no_")  # as a switch is turned off
    alike = {k: difflib.SequenceMatcher(None, spelt, ends[k]).ratio() for k in inside}
    best = max(alike, key=lambda k: (alike[k], "." not in k), default="")
    # One letter of three is a smaller share than two letters of ten.
    return plain[best] if best and alike[best] >= (ALIKE if len(spelt) > SHORT else ALIKE_SHORT) else None


def _here(wanted: str) -> tuple[str, ...]:
    """The options here of a name of another library, which may begin with the names of sections there."""
    parts = wanted.split(".")
    names = (".".join(parts[i:]) for i in range(len(parts)))
    return next((OPTIONS[name] for name in names if name in OPTIONS), ())


def _without(name: str, known: Sequence[str]) -> str | None:
    """Why an option of another library has no equal among the known options; None for other names."""
    wanted = _plain(name)
    places = {_plain(k).partition(".")[0] for k in known if "." in k}
    if places and (last := wanted.rpartition(".")[2]) in WITHOUT:
        return WITHOUT[last]
    for option in _here(wanted):
        place = option.partition(".")[0]
        if place in places and place in KINDS and "." in option:
            return f"Here it is --{option.replace('_', '-')}, which this {KINDS[place]} does not have."
    return None


def refuses_unknown_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function, so that an argument that it does not have is a user's error with the nearest name.

    >>> @refuses_unknown_arguments
    ... def evaluate(*, problems=256): ...
    >>> evaluate(problem=3)
    Traceback (most recent call last):
    llmrl.errors.ArgumentError: evaluate() has no argument 'problem'. Did you mean 'problems'? Known: problems.
    """
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        for name in kwargs:
            if name not in known:
                raise ArgumentError(f"{function.__name__}() has no argument {name!r}. {suggest(name, known)}")
        return function(*args, **kwargs)

    return checked


SEARCHED: list[str] = []
"""Folders in which ``module:name`` is searched if the Python path has no such module; a command adds the current one.

The folder is not on the path before: it may be one that was downloaded, whose files pass for optional packages."""


def import_named(name: str) -> ModuleType:
    """Import a module that the user named.

    Raises:
        UnknownName: it is the path of a file.
        ModuleNotFoundError: neither the Python path nor :data:`SEARCHED` has it.
    """
    if name.endswith(".py") or "/" in name or "\\" in name:
        module = PurePath(name).name.removesuffix(".py")
        raise UnknownName(
            f"{name!r} is the path of a file, and a module is expected. Write {module}:NAME, and start llmrl in the "
            f"folder that holds {module}.py."
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        more = [folder for folder in SEARCHED if folder not in sys.path]
        if not more or error.name is None or not name.startswith(error.name):
            raise
        sys.path.extend(more)
        return importlib.import_module(name)


def load_object(reference: str) -> Any:
    """Import ``module:attribute``; an error says whether the module or the attribute is wrong.

    >>> load_object("math:pi") > 3
    True
    """
    module_name, _, attribute = reference.partition(":")
    try:
        module = import_named(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the module exists, but a module that it imports does not
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
        kind: the word for such a thing in error messages, such as ``"algorithm"``.
        entry_point_group: the entry-point group through which installed packages add names.

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
        if ":" in name or name.endswith(".py"):
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
