"""Options derived from code: the arguments of a recipe or an environment, and the fields of the settings."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
import gymnasium
import tyro

from llmrl.envs.hub import NAME
from llmrl.envs.tables import is_data
from llmrl.errors import ConfigError
from llmrl.registry import import_named, load_object, suggest
from llmrl.training.config import SECTIONS, Config


def options_of(section: str, thing: Callable[..., Any], name: str, skip: Sequence[str] = ()) -> type:
    """A dataclass of the options that ``thing`` takes, with its own defaults and explanations.

    Args:
        section: the prefix of the options on the command line; ``--section`` itself gives the name.
        thing: a recipe, or the class of an environment.
        name: the value of the first field, the name.
        skip: arguments that the caller sets.
    """
    hints = typing.get_type_hints(thing.__init__ if inspect.isclass(thing) else thing)
    texts = {
        entry.arg_name: entry.description or ""
        for source in ((thing, thing.__init__) if inspect.isclass(thing) else (thing,))
        for entry in docstring_parser.parse(source.__doc__ or "").params
    }
    key = "id" if section == "env" else "name"
    about = {"env": "Environment to train on", "algo": "Algorithm to train with"}[section]
    fields: list[tuple[str, Any, Any]] = [
        (
            key,
            Annotated[str, tyro.conf.arg(name=section, prefix_name=False, help=f"{about}.")],
            field(default=name),
        )
    ]
    for parameter in inspect.signature(thing).parameters.values():
        hint = _text_part(hints.get(parameter.name))
        if parameter.name in (*skip, "self", key) or parameter.default is parameter.empty or not _from_text(hint):
            continue
        text = " ".join(texts.get(parameter.name, "").split())
        fields.append(
            (
                parameter.name,
                _explained(hint, text),
                field(default_factory=functools.partial(copy.copy, parameter.default)),
            )
        )
    return dataclasses.make_dataclass(section, fields)


def _explained(hint: Any, text: str) -> Any:
    """A type with the explanation that ``--help`` shows."""
    return Annotated[hint, tyro.conf.arg(help=text)]


def _text_part(hint: Any) -> Any:
    """The part of a type whose values can be written on a command line."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if _from_text(part)]
        if any(part is not type(None) for part in parts):
            return typing.Union[tuple(parts)]  # noqa: UP007
    return hint


def _from_text(hint: Any) -> bool:
    """Whether values of this type can be written on a command line."""
    if hint in (str, int, float, bool, Path, type(None)):
        return True
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return all(_from_text(part) for part in typing.get_args(hint))
    if origin is Literal:
        return True
    if origin in (tuple, list, Sequence):
        return all(_from_text(part) for part in typing.get_args(hint) if part is not Ellipsis)
    return False


def env_class(env_id: str) -> Callable[..., Any]:
    """The class or function that makes the environment ``env_id``; ``module:id`` imports the module first."""
    module, _, name = env_id.rpartition(":")
    before = set(gymnasium.registry)
    try:
        if module:
            import_named(module)
        spec = gymnasium.spec(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--env {env_id}: {error}. Put that module into the current folder or on the Python path."
        ) from error
    except gymnasium.error.Error as error:
        known = [known for known in gymnasium.registry if known.startswith("llmrl/")]
        where = ""
        if module:
            known = [known for known in gymnasium.registry if known not in before or _is_of(module, known)]
            where = f" in {module}"
        data = f"Data are given as --data {name}, in Python as env='llmrl/Data-v0', env_options={{'source': {name!r}}}."
        of_hub = NAME.fullmatch(name) and re.search(r"-v\d+$", name) is None and not name.startswith("llmrl/")
        advice = data if is_data(Path(name)) or of_hub else suggest(name, known)
        raise ConfigError(f"No environment{where} is called {name!r}. {advice}") from error
    entry = spec.entry_point
    return load_object(entry) if isinstance(entry, str) else entry  # type: ignore[return-value]


def refuse_unknown_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Raise for an option that the environment ``env_id`` does not take."""
    known = inspect.signature(env_class(env_id)).parameters.values()
    names = {parameter.name for parameter in known} - {"self"}
    for name in options:
        if name not in names and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
            raise ConfigError(f"{env_id} has no option {name!r}. {suggest(name, names)}")


def _is_of(module: str, env_id: str) -> bool:
    """Whether an environment belongs to a module: the module registered it, or defines its class."""
    entry = gymnasium.registry[env_id].entry_point
    return (entry.partition(":")[0] if isinstance(entry, str) else entry.__module__) == module


def hints_of(schema: type) -> dict[str, Any]:
    """The types of the options in a schema's sections, by dotted names."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(schema):
        if inspect.isclass(f.type) and dataclasses.is_dataclass(f.type):
            hints = typing.get_type_hints(f.type)
            found |= {
                f"{f.name}.{inner.name}": hints.get(inner.name, inner.type) for inner in dataclasses.fields(f.type)
            }
    return found


def lists_of(schema: type) -> set[str]:
    """The names of a schema's options that take several values."""
    return {
        name
        for name, hint in hints_of(schema).items()
        if any(typing.get_origin(part) in (tuple, list) for part in (hint, *typing.get_args(hint)))
    }


def paths_of(cls: type, prefix: str = "") -> set[str]:
    paths: set[str] = set()
    for f in dataclasses.fields(cls):
        kind = f.type if inspect.isclass(f.type) else None
        if kind is not None and dataclasses.is_dataclass(kind):
            paths |= paths_of(kind, f"{prefix}{f.name}.")
        else:
            paths.add(f"{prefix}{f.name}")
    return paths


def schema_of(algo: type, env: type) -> type:
    """The dataclass that tyro parses: :class:`Config` with the options of the chosen algorithm and environment."""
    fields: list[tuple[str, Any, Any]] = [
        ("algo", algo, field(default_factory=algo)),
        ("env", env, field(default_factory=env)),
    ]
    about_file = "YAML file with the same options, nested; the command line wins over it."
    fields.append(("config", _explained(str | None, about_file), field(default=None)))
    texts = {name: " ".join(text.split()) for name, text in _field_texts(Config).items()}
    hints = typing.get_type_hints(Config)
    for f in dataclasses.fields(Config):
        if f.name in SECTIONS:
            fields.append((f.name, SECTIONS[f.name], field(default_factory=SECTIONS[f.name])))
        elif f.name not in ("algo", "env", "origins"):
            fields.append((f.name, _explained(hints[f.name], texts[f.name]), field(default=f.default)))
    return dataclasses.make_dataclass("Options", fields)


def _field_texts(cls: type) -> dict[str, str]:
    """The string under each field of a dataclass."""
    return {entry.arg_name: entry.description or "" for entry in docstring_parser.parse_from_object(cls).params}
