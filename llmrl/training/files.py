"""Settings in YAML files, read without executing code; and the settings that a model's folder may suggest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.text import LARGEST_YAML, one_line, parse_yaml
from llmrl.training.config import PROMPT, PolicyConfig

DEFAULT_ENV = "llmrl/MATH-v0"
MARKER = "run.json"
"""A folder with this file is that of a run."""
NAME_FLAGS = {"algo.name": "algo", "env.id": "env", "policy.path": "policy"}
FLAG_NAMES = {flag: name for name, flag in NAME_FLAGS.items()}
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
"""Settings that ``training.yaml`` in a model's folder may have: sizes, lengths, rates.

A downloaded folder must not control the machine, so it may name no code, no address, no file and no output."""


def read_tree(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, nested.

    Raises:
        ConfigError: the file does not exist, or does not hold settings.
    """
    try:
        with path.open(encoding="utf-8") as file:
            tree = parse_yaml(file.read(LARGEST_YAML + 1))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {str(path)!r}.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path} must hold settings such as 'train: {{steps: 10}}', got {str(tree)[:80]!r}.")
    return dict(tree)


def section(path: Path, tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of the settings in a file, such as those of ``env``; empty if it has none.

    Raises:
        ConfigError: what stands there is no mapping.
    """
    value = tree.get(name, {})
    if name in FLAG_NAMES and isinstance(value, str):
        value = {FLAG_NAMES[name].partition(".")[2]: value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: {name} is {one_line(str(value), 80)}, expected options such as '{name}: {{a: 1}}'.")
    return dict(value)


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted names; ``algo: dapo`` means ``algo: {name: dapo}``, as on the command line.

    >>> flatten({"algo": "dapo", "policy": {"template_arguments": {"enable_thinking": False}}})
    {'algo.name': 'dapo', 'policy.template_arguments': {'enable_thinking': False}}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if key in FLAG_NAMES and isinstance(value, str):
            flat[FLAG_NAMES[key]] = value
        elif isinstance(value, Mapping):
            flat |= {f"{key}.{option}": given for option, given in value.items()}
        else:
            flat[str(key)] = value
    return flat


def as_arguments(flat: Mapping[str, Any]) -> list[str]:
    """Settings of a file as a command line with the same meaning."""
    arguments: list[str] = []
    for key, value in flat.items():
        flag = NAME_FLAGS.get(key, key).replace("_", "-")
        if isinstance(value, bool):
            head, _, tail = flag.rpartition(".")
            arguments.append(f"--{head}{'.' if head else ''}{'' if value else 'no-'}{tail}")
        elif isinstance(value, (list, tuple, Mapping)):
            pairs = value.items() if isinstance(value, Mapping) else ()
            texts = [v if isinstance(v, str) else json.dumps(v) for pair in pairs for v in pair] or [*map(str, value)]
            if any(re.match("-[-a-zA-Z]", text) for text in texts):  # it would be read as another option
                raise ConfigError(f"{key}: a value of a list must not begin with a dash, got {one_line(str(value))}.")
            arguments += [f"--{flag}", *texts]
        else:
            arguments.append(f"--{flag}={value}")
    return arguments


def refuse_unknown(source: str, flat: Mapping[str, Any], known: set[str]) -> None:
    for key in flat:
        if key not in known:
            raise ConfigError(f"{source}: there is no option {key!r}. {suggest(key, known)}")


def refuse_switches(source: str, flat: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Raise for ``true`` or ``false`` where an option takes another kind of value."""
    for key, value in flat.items():
        hint = hints.get(key, bool)
        if isinstance(value, bool) and bool not in (hint, *get_args(hint)):
            raise ConfigError(f"{source}: {key} takes a value that is not true or false, got {value}.")


def settings_of_run(folder: Path) -> Path | None:
    """The file with the settings of the run that made a checkpoint; None for the folder of another model."""
    run = folder.resolve().parent
    return file if (run / MARKER).is_file() and (file := run / "config.yaml").is_file() else None


def made_by(folder: Path | None, policy: str) -> tuple[str, dict[str, Any]] | None:
    """The settings of the run that made a policy, by dotted names, and the name of their file; None for other models.

    Args:
        folder: of the policy; None: on the hub.
        policy: its name.

    Raises:
        ConfigError: the file does not hold settings.
    """
    file = None if folder is None else settings_of_run(folder)
    if file is None:
        return None
    tree = read_tree(file)
    home = Path(policy) if (Path(policy) / file.name).is_file() else Path(policy).parent
    flat = {f"policy.{name}": value for name, value in section(file, tree, "policy").items()}
    return str(home / file.name), flatten(tree) | flat


def _ways_of_asking(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the prompt in the settings of a run that are not at their defaults; no template that is a file."""
    usual = vars(PolicyConfig())
    found = {name: flat[f"policy.{name}"] for name in PROMPT if f"policy.{name}" in flat}
    return {
        f"policy.{name}": value
        for name, value in found.items()
        if value != usual[name] and not (name == "chat_template" and Path(str(value)).is_file())
    }


def suggested_by(folder: Path | None, policy: str, env_id: str) -> tuple[str, dict[str, Any]] | None:
    """The settings that the policy's folder suggests, and their file.

    The package's own models may set any option. Options of the environment apply only to the environment named there.
    A checkpoint of a run suggests how its policy is asked: the prompt options, lengths and temperature of that run.

    Raises:
        ConfigError: the folder of another model sets an option that is not in :data:`SUGGESTIONS`.
    """
    file = None if folder is None else folder / "training.yaml"
    if folder is None or file is None or not file.is_file():
        return None if (run := made_by(folder, policy)) is None else (run[0], _ways_of_asking(run[1]))
    flat = flatten(read_tree(file))
    source = f"{policy}/training.yaml"
    if not folder.resolve().is_relative_to(Path(__file__).resolve().parents[1]):
        for key, value in flat.items():
            if key not in SUGGESTIONS:
                raise ConfigError(
                    f"{source} sets {key} to {str(value)[:80]!r}, but the folder of a model may only suggest "
                    f"sizes, lengths and rates. Delete that line; if you want it, give --{key.replace('_', '-')} "
                    "yourself."
                )
    if env_id != flat.pop("env.id", DEFAULT_ENV):
        flat = {key: value for key, value in flat.items() if not key.startswith("env.")}
    return source, flat
