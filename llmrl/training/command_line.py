"""How the value of an option is found: defaults, a model's own settings, a file, the command line.

Values come from the defaults, from the policy's folder (``training.yaml`` with settings that suit that model, or the
``config.yaml`` of the run that made it), from the run that is resumed, from ``--config``, and from the command line;
the later wins. The options of an algorithm or an environment are the arguments of the function or class of that name,
so code outside the package brings its own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import sys
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import tyro

from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.training.complaints import one_sentence
from llmrl.training.config import Config, PolicyConfig
from llmrl.training.config_checks import check_config
from llmrl.training.files import (
    DEFAULT_ENV,
    FLAG_NAMES,
    NAME_FLAGS,
    as_arguments,
    flatten,
    read_tree,
    refuse_switches,
    refuse_unknown,
    suggested_by,
)
from llmrl.training.options import env_class, hints_of, lists_of, options_of, paths_of, schema_of

DATA_ENV = "llmrl/Data-v0"
"""The environment that ``--data`` stands for."""


def _expanded(arguments: Sequence[str]) -> list[str]:
    """Arguments with ``--data X`` replaced by the environment that asks X, and several ``--reward`` joined into one.

    Raises:
        ConfigError: ``--data`` has no value, or another environment is given too.
    """
    rest: list[str] = []
    data: list[str] = []
    rewards: list[str] = []
    within_rewards = False
    following = iter(arguments)
    for argument in following:
        name, equals, value = argument.partition("=")
        if name == "--data":
            value = value if equals else next(following, "")
            if not value or value.startswith("--"):
                raise ConfigError("--data: give a file, a folder, or a data set of the hub such as openai/gsm8k.")
            data += ["--env", DATA_ENV, "--env.source", value]
        elif name == "--reward" or (within_rewards and not argument.startswith("--")):
            within_rewards = True
            rewards += [value] if argument.startswith("--reward=") else [argument] * (argument != "--reward")
        else:
            within_rewards = False
            rest.append(argument)
    if data and any(argument.split("=")[0] == "--env" for argument in rest):
        raise ConfigError(f"--data stands for --env {DATA_ENV} --env.source ...: give --data or --env, not both.")
    return [*data, *rest, *(["--reward", *rewards] if rewards else [])]


def _normal(arguments: Sequence[str], lists: Set[str]) -> list[str]:
    """A command line in a uniform spelling: ``--algo.name`` as ``--algo``, and ``--env.levels 1,2`` as two values.

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
            if key in NAME_FLAGS:
                flag = f"--{NAME_FLAGS[key]}"
            if equals and key in lists and "," in value:
                result += [flag, *value.split(",")]
            else:
                result.append(f"{flag}{equals}{value}")
        elif key in lists and "," in argument:
            result += [part for part in argument.strip("[]()").split(",") if part]
        else:
            result.append(argument)
    return result


def _refuse_unknown_flags(arguments: Sequence[str], known: Set[str]) -> None:
    """Raise for an unknown option; the message suggests the nearest known one.

    Args:
        arguments: the command line.
        known: dotted names of the options.
    """
    for argument in arguments:
        if argument.startswith("--") and not argument.startswith("--tyro-"):  # these flags write shell completions
            flag = argument[2:].split("=")[0]
            key = flag.replace("-", "_")
            head, dot, last = key.rpartition(".")
            names = {key, FLAG_NAMES.get(key, key), f"{head}{dot}{last.removeprefix('no_')}"}
            if names.isdisjoint(known):
                spelt = {f"--{NAME_FLAGS.get(name, name).replace('_', '-')}" for name in known}
                raise ConfigError(f"There is no option --{flag}. {suggest(f'--{flag}', spelt)}")


def _options_in(arguments: Sequence[str]) -> list[str]:
    """The dotted names of the options on a command line."""
    keys = [a[2:].split("=")[0].replace("-", "_").replace(".no_", ".") for a in arguments if a.startswith("--")]
    return [FLAG_NAMES.get(key, key) for key in keys]


def parse(
    arguments: Sequence[str] | None = None,
    prog: str = "llmrl train",
    settings: Mapping[str, Any] | None = None,
    objects: Collection[str] = (),
) -> Config:
    """Resolve a command line into a :class:`Config`.

    Args:
        arguments: arguments of the command line; None: those of this process.
        prog: name of the program in the help.
        settings: nested settings, in place of the file of ``--config``; see :func:`from_settings`.
        objects: those of ``algo``, ``env`` and ``eval_env`` that are given as objects.

    >>> config = parse(["--algo", "grpo", "--train.steps", "3"])
    >>> config.algo.name, config.train.steps, config.origins["train.steps"]
    ('grpo', 3, 'command line')
    """
    from llmrl.algorithms import find_algorithm  # imported here, so that torch is not loaded earlier
    from llmrl.policies.policy import local_folder

    arguments = _normal(_expanded(sys.argv[1:] if arguments is None else arguments), frozenset())
    # The names decide which further options exist, so they are looked up first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--algo", "--env", "--policy", "--config", "--resume", "--output", "--seed"):
        first.add_argument(flag, dest=FLAG_NAMES.get(flag[2:], flag[2:]), nargs="?")
    named = {key: value for key, value in vars(first.parse_known_args(arguments)[0]).items() if value}
    source = "Python" if settings is not None else named.get("config")
    file_tree = flatten(settings or ({} if source is None else read_tree(Path(source).expanduser())))
    run = _resumed({**dict.fromkeys(_options_in(arguments)), **file_tree, **named}, objects)
    chosen = {**(run[1] if run else {}), **file_tree, **named}
    policy = chosen.get("policy.path") or PolicyConfig.path
    algo_name = chosen.get("algo.name") or "espo"
    env_id = chosen.get("env.id") or DEFAULT_ENV
    try:
        recipe = find_algorithm(algo_name)
    except ValueError as error:
        raise ConfigError(f"--algo {algo_name}: {error}") from error
    algo_options = options_of("algo", recipe, algo_name)
    env_options = options_of("env", env_class(env_id), env_id, skip=("split", "render_mode"))

    schema = schema_of(algo_options, env_options)
    known = paths_of(schema) - {"config"}
    layers: list[tuple[str, dict[str, Any]]] = []
    if (suggested := suggested_by(local_folder(policy), policy, env_id)) is not None:
        # Options of another algorithm or environment do not apply.
        layers.append((suggested[0], {k: v for k, v in suggested[1].items() if k in known}))
    if run is not None:  # an option of an earlier version is one that has changed
        layers.append((run[0], {k: v for k, v in run[1].items() if k in known}))
    for file, flat in layers:
        refuse_switches(file, flat, hints_of(schema))
    if source is not None:
        refuse_unknown(source, file_tree, known)
        refuse_switches(source, file_tree, hints_of(schema))
        layers.append((source, file_tree))

    # Values of files are parsed as those of a command line, so that every value is read in one way, with one message.
    every = [a for _, flat in layers for a in as_arguments(flat)]
    from_files: Any = tyro.cli(schema, args=every, prog=prog)
    spoken = _normal(arguments, lists_of(schema))
    _refuse_unknown_flags(spoken, known | {"config", "help", "data"})
    # The help then shows the values that will be used.
    about = _DESCRIPTION.format(used=_used(from_files, spoken))
    parsed: Any = tyro.cli(schema, args=spoken, default=from_files, prog=prog, description=about)
    origins = {key: source for source, flat in layers for key in flat}
    origins |= dict.fromkeys(_options_in(spoken), "command line")
    values = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(parsed) if f.name != "config"}
    config = Config(**values, origins=origins)
    config.output = None if config.output is None else config.output.expanduser()
    config.resume = None if config.resume is None else str(Path(config.resume).expanduser())
    check_config(config)
    return config


def _resumed(given: Mapping[str, Any], objects: Collection[str]) -> tuple[str, dict[str, Any]] | None:
    """The settings of the run that is resumed, and their file; None if there is no such run."""
    if not given.get("resume"):
        return None
    from llmrl.training.folder import run_meant
    from llmrl.training.resumed_settings import settings_of

    output = given.get("output")
    where = None if output is None else Path(output).expanduser()
    resume = str(Path(given["resume"]).expanduser())
    run = run_meant(resume, where, given.get("algo.name") or "espo", given.get("seed") or 0)
    return settings_of(run, given, objects)


def from_settings(settings: Mapping[str, Any], objects: Collection[str] = ()) -> Config:
    """Resolve settings given in Python, as :func:`parse` resolves a command line.

    Args:
        settings: nested, such as ``{"algo": {"name": "grpo"}, "train": {"steps": 3}}``.
        objects: those of ``algo``, ``env`` and ``eval_env`` that are given as objects.

    Raises:
        ConfigError: an option is unknown, or a value is not of its type.

    >>> from_settings({"algo": {"name": "grpo"}, "train": {"steps": 3}}).train.steps
    3
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return parse([], settings=settings, objects=objects)
    except SystemExit as error:
        raise ConfigError(one_sentence(said.getvalue())) from error


def _used(settings: Any, spoken: Sequence[str]) -> str:
    """The most important options, with their values so far."""
    rows = {
        "--policy": (settings.policy.path, "the model: a folder, an id of the hub, or a run"),
        "--env": (settings.env.id, "the problems: llmrl envs lists them"),
        "--algo": (settings.algo.name, "the algorithm: llmrl algos lists them"),
        "--train.steps": (settings.train.steps, "the number of steps; each samples, then learns"),
        "--train.learning-rate": (settings.train.learning_rate, "the peak learning rate"),
        "--policy.max-response-length": (
            settings.policy.max_response_length,
            "the maximum number of tokens of a response",
        ),
        "--output": ("runs/" + f"{settings.algo.name}-{settings.seed}".replace(":", "."), "the folder of the run"),
    }
    return "\n".join(f"    {flag + ' ' + str(value):<44} {text}" for flag, (value, text) in rows.items())


_DESCRIPTION = """Train a language model against a verifier by reinforcement learning.

The most important options, with the values that will be used:
{used}

Without options, llmrl/nano is trained on generated problems with ESPO, offline, in minutes.

A real run names a model and data:
    --policy Qwen/Qwen2.5-0.5B-Instruct --env llmrl/GSM8K-v0 --policy.dtype bfloat16
    --policy Qwen/Qwen2.5-0.5B-Instruct --data my_problems.jsonl --eval.data openai/gsm8k

A file, a folder or a hub name X: --data X is short for --env llmrl/Data-v0 --env.source X.

The options under algo and env depend on --algo and --env: give those with --help.

Any name may be module:name, from a file of your own.

Exit status:
    0    the run is complete
    1    training failed
    2    an input cannot be used
    3    a signal stopped the run after a checkpoint; --resume auto continues it
    130  a second signal, or one before the first step, ended the run at once"""
