"""How the value of an option is found: defaults, a model's own settings, a file, the command line.

Values come, the later ones winning, from the defaults, from ``training.yaml`` in the policy's folder (settings that
suit that model travel with it), from ``--config``, and from the command line. The options of an algorithm or an
environment are the arguments of what its name stands for, so code outside the package brings its own.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import functools
import importlib
import inspect
import io
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
import gymnasium
import tyro
import yaml

from llmrl.errors import ConfigError
from llmrl.registry import load_object, suggest
from llmrl.training.config import SECTIONS, Config, PolicyConfig, check

DEFAULT_ENV = "llmrl/MATH-v0"


def options_of(section: str, thing: Callable[..., Any], name: str, skip: Sequence[str] = ()) -> type:
    """A dataclass of the options that ``thing`` takes, with its own defaults and explanations.

    Args:
        section: the prefix on the command line; the name itself is given as ``--section``.
        thing: a recipe, or the class of an environment.
        name: the value of that first field.
        skip: arguments that the caller sets.
    """
    hints = typing.get_type_hints(thing.__init__ if inspect.isclass(thing) else thing)
    texts = {
        entry.arg_name: entry.description or ""
        for source in (thing, getattr(thing, "__init__", None))
        for entry in docstring_parser.parse(getattr(source, "__doc__", None) or "").params
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
        hint = hints.get(parameter.name)
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


def _from_text(hint: Any) -> bool:
    """Whether a command line can spell a value of this type."""
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
    """What makes the environment called ``env_id``; ``module:id`` imports the module first."""
    module, _, name = env_id.rpartition(":")
    before = set(gymnasium.registry)
    try:
        if module:
            importlib.import_module(module)
        spec = gymnasium.spec(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--env {env_id}: {error}. Is the folder of that module the current one, or on the Python path?"
        ) from error
    except gymnasium.error.Error as error:
        known = [known for known in gymnasium.registry if known.startswith("llmrl/")]
        where = ""
        if module:
            known = [known for known in gymnasium.registry if known not in before or _is_of(module, known)]
            where = f" in {module}"
        raise ConfigError(f"No environment{where} is called {name!r}. {suggest(name, known)}") from error
    entry = spec.entry_point
    return load_object(entry) if isinstance(entry, str) else entry  # type: ignore[return-value]


def _is_of(module: str, env_id: str) -> bool:
    """Whether a module made an environment: it is registered under its name, or its class stands there."""
    entry = gymnasium.registry[env_id].entry_point
    return (entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")) == module


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names; ``algo: dapo`` is ``algo: {name: dapo}``, as on the command line."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if not prefix and key in _FLAG_NAMES and isinstance(value, str):
            flat[_FLAG_NAMES[key]] = value
        elif isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _as_arguments(flat: Mapping[str, Any]) -> list[str]:
    """Settings of a file as the command line that says the same."""
    arguments: list[str] = []
    for key, value in flat.items():
        flag = _NAME_FLAGS.get(key, key).replace("_", "-")
        if isinstance(value, bool):
            head, _, tail = flag.rpartition(".")
            arguments.append(f"--{head}{'.' if head else ''}{'' if value else 'no-'}{tail}")
        elif isinstance(value, (list, tuple)):
            arguments += [f"--{flag}", *map(str, value)]
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments


_NAME_FLAGS = {"algo.name": "algo", "env.id": "env", "policy.path": "policy"}
_FLAG_NAMES = {flag: name for name, flag in _NAME_FLAGS.items()}


def _normal(arguments: Sequence[str], lists: Set[str]) -> list[str]:
    """A command line in one spelling: ``--algo.name`` as ``--algo``, and ``--env.levels 1,2`` as two values.

    Args:
        arguments: as typed.
        lists: the options that take several values.
    """
    result: list[str] = []
    key = ""
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            key = flag[2:].replace("-", "_")
            if key in _NAME_FLAGS:
                flag = f"--{_NAME_FLAGS[key]}"
            if equals and key in lists and "," in value:
                result += [flag, *value.split(",")]
            else:
                result.append(f"{flag}{equals}{value}")
        elif key in lists and "," in argument:
            result += [part for part in argument.strip("[]()").split(",") if part]
        else:
            result.append(argument)
    return result


def _lists(schema: type) -> set[str]:
    """The options of a schema that take several values."""
    found: set[str] = set()
    for f in dataclasses.fields(schema):
        if inspect.isclass(f.type) and dataclasses.is_dataclass(f.type):
            hints = typing.get_type_hints(f.type)
            for inner in dataclasses.fields(f.type):
                hint = hints.get(inner.name, inner.type)
                if any(typing.get_origin(part) in (tuple, list) for part in (hint, *typing.get_args(hint))):
                    found.add(f"{f.name}.{inner.name}")
    return found


SUGGESTIONS = frozenset(
    f"{section}.{name}"
    for section, names in {
        "policy": "temperature max_prompt_length max_response_length",
        "train": "steps prompts_per_step group_size updates_per_step epochs learning_rate critic_learning_rate "
        "critic_warmup_steps warmup_steps weight_decay adam_betas max_grad_norm micro_batch_tokens",
        "env": "levels subjects",
        "eval": "problems samples every batch",
    }.items()
    for name in names.split()
)
"""What ``training.yaml`` in a model's folder may set: sizes, lengths, rates.

A folder that was downloaded suggests; it does not command. It names no code, no address, no file and no output."""


def read_tree(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, nested.

    Raises:
        ConfigError: there is no such file, or it does not hold settings.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {str(path)!r}.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path} must hold settings such as 'train: {{steps: 10}}', got {str(tree)[:80]!r}.")
    return dict(tree)


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases such as *{self.peek_event().anchor} are not read; write the value out")
        return super().compose_node(parent, index)


def _refuse_unknown(source: str, flat: Mapping[str, Any], known: set[str]) -> None:
    for key in flat:
        if key not in known:
            raise ConfigError(f"{source}: there is no option {key!r}. {suggest(key, known)}")


def _suggested(folder: Path | None, policy: str, env_id: str) -> tuple[str, dict[str, Any]] | None:
    """What the policy's folder suggests, and where it stands.

    The package's own models may set anything. Options of the environment are for the one that it names.

    Raises:
        ConfigError: another model's folder wants to set more than :data:`SUGGESTIONS`.
    """
    file = None if folder is None else folder / "training.yaml"
    if folder is None or file is None or not file.is_file():
        return None
    flat = _flatten(read_tree(file))
    source = f"{policy}/training.yaml"
    if not folder.resolve().is_relative_to(Path(__file__).resolve().parents[1]):
        for key, value in flat.items():
            if key not in SUGGESTIONS:
                raise ConfigError(
                    f"{source} sets {key} to {str(value)[:80]!r}, which the folder of a model may not: it may suggest "
                    f"sizes, lengths and rates. Delete that line; if you want it, give --{key.replace('_', '-')} "
                    "yourself."
                )
    if env_id != flat.pop("env.id", DEFAULT_ENV):
        flat = {key: value for key, value in flat.items() if not key.startswith("env.")}
    return source, flat


def _paths(cls: type, prefix: str = "") -> set[str]:
    paths: set[str] = set()
    for f in dataclasses.fields(cls):
        kind = f.type if inspect.isclass(f.type) else None
        if kind is not None and dataclasses.is_dataclass(kind):
            paths |= _paths(kind, f"{prefix}{f.name}.")
        else:
            paths.add(f"{prefix}{f.name}")
    return paths


def parse(
    arguments: Sequence[str] | None = None, prog: str = "llmrl train", settings: Mapping[str, Any] | None = None
) -> Config:
    """Resolve a command line into a :class:`Config`.

    Args:
        arguments: of the command line; None: those of this process.
        prog: what the help calls the program.
        settings: nested, in place of a file that ``--config`` names; see :func:`from_settings`.

    >>> config = parse(["--algo", "grpo", "--train.steps", "3"])
    >>> config.algo.name, config.train.steps, config.origins["train.steps"]
    ('grpo', 3, 'command line')
    """
    from llmrl.algorithms import find_algorithm  # torch is loaded only here
    from llmrl.policies.policy import local_folder

    arguments = _normal(sys.argv[1:] if arguments is None else arguments, frozenset())
    # The names decide which further options there are, so they are looked for first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--algo", "--env", "--policy", "--config"):
        first.add_argument(flag)
    named, _ = first.parse_known_args(arguments)
    source = "Python" if settings is not None else named.config
    file_tree = _flatten(settings or ({} if named.config is None else read_tree(Path(named.config))))
    policy = named.policy or file_tree.get("policy.path") or PolicyConfig.path
    algo_name = named.algo or file_tree.get("algo.name") or "espo"
    env_id = named.env or file_tree.get("env.id") or DEFAULT_ENV
    try:
        recipe = find_algorithm(algo_name)
    except ValueError as error:
        raise ConfigError(f"--algo {algo_name}: {error}") from error
    algo_options = options_of("algo", recipe, algo_name)
    env_options = options_of("env", env_class(env_id), env_id, skip=("split", "render_mode"))

    schema = _schema(algo_options, env_options)
    known = _paths(schema) - {"config"}
    layers: list[tuple[str, dict[str, Any]]] = []
    if (suggested := _suggested(local_folder(policy), policy, env_id)) is not None:
        # What another algorithm or environment would take does not apply.
        layers.append((suggested[0], {k: v for k, v in suggested[1].items() if k in known}))
    if source is not None:
        _refuse_unknown(source, file_tree, known)
        layers.append((source, file_tree))

    # Values of files become typed as those of a command line do: one reading of every value, and one message.
    every = [a for _, flat in layers for a in _as_arguments(flat)]
    from_files: Any = tyro.cli(schema, args=every, prog=prog)
    spoken = _normal(arguments, _lists(schema))
    # The help then shows the values that will be used.
    about = _DESCRIPTION.format(used=_used(from_files, spoken))
    parsed: Any = tyro.cli(schema, args=spoken, default=from_files, prog=prog, description=about)
    origins = {key: source for source, flat in layers for key in flat}
    flags = {value: key for key, value in _NAME_FLAGS.items()}
    for argument in spoken:
        if argument.startswith("--"):
            key = argument[2:].split("=")[0].replace("-", "_").replace(".no_", ".")
            origins[flags.get(key, key)] = "command line"
    values = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(parsed) if f.name != "config"}
    config = Config(**values, origins=origins)
    check(config)
    return config


def from_settings(settings: Mapping[str, Any]) -> Config:
    """Resolve settings given in Python, as :func:`parse` resolves a command line.

    Args:
        settings: nested, such as ``{"algo": {"name": "grpo"}, "train": {"steps": 3}}``.

    Raises:
        ConfigError: an option is unknown, or a value is not of its type.

    >>> from_settings({"algo": {"name": "grpo"}, "train": {"steps": 3}}).train.steps
    3
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return parse([], settings=settings)
    except SystemExit as error:
        text = " ".join(said.getvalue().translate(dict.fromkeys(map(ord, "╭╮╰╯│─"), " ")).split())
        raise ConfigError(text) from error


def _used(settings: Any, spoken: Sequence[str]) -> str:
    """The options that matter first, with their values so far."""
    rows = {
        "--policy": (settings.policy.path, "the model: a folder, an id of the hub, or a run"),
        "--env": (settings.env.id, "the problems: llmrl envs lists them"),
        "--algo": (settings.algo.name, "the algorithm: llmrl algos lists them"),
        "--train.steps": (settings.train.steps, "how many times to sample, then learn"),
        "--train.learning-rate": (settings.train.learning_rate, "the peak learning rate"),
        "--policy.max-response-length": (settings.policy.max_response_length, "tokens until a response is cut off"),
        "--output": ("runs/" + f"{settings.algo.name}-{settings.seed}".replace(":", "."), "the folder of the run"),
    }
    return "\n".join(f"    {flag + ' ' + str(value):<44} {text}" for flag, (value, text) in rows.items())


_DESCRIPTION = """Train a language model against a verifier by reinforcement learning.

What matters first, with the values that will be used:

{used}

Without options: the embedded policy llmrl/nano learns generated problems of llmrl/MATH-v0 with ESPO, offline, in
minutes. A real run names a model and data:

    --policy Qwen/Qwen2.5-0.5B-Instruct --env llmrl/GSM8K-v0 --policy.dtype bfloat16

The options under algo and env belong to the chosen algorithm and environment: give --algo or --env with --help to see
others. Any name may be module:name, from a file of your own. Exit status: 0 after a whole run, 2 for input that
cannot be used, 1 if training broke off, 3 if a signal stopped it (a checkpoint is written; --resume auto goes on), 130
if a second signal ended it at once."""


def _schema(algo: type, env: type) -> type:
    """The dataclass that tyro shows: :class:`Config` with the chosen names' own options."""
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
