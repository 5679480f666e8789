"""The command line from Python: :func:`train` and :func:`evaluate`, with names or with objects.

No call ends the interpreter. When a call returns, ``sys.path``, the signal handlers, torch's number of threads,
progress bars and the random generators of the process are as before. Errors that a user can correct are exceptions of
:class:`llmrl.errors.UserError`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from os import PathLike, fspath
from typing import Any

import gymnasium

from llmrl.algorithms import Algorithm
from llmrl.errors import ArgumentError, ConfigError
from llmrl.evaluation.outcomes import Evaluation
from llmrl.evaluation.running import evaluate as run_evaluation
from llmrl.policies.policy import Policy
from llmrl.registry import refuses_unknown_arguments, suggest
from llmrl.rollouts.environments import CopiedEnvironments, Environments
from llmrl.terminal import Terminal
from llmrl.text import visible
from llmrl.training.build import held_out_environments
from llmrl.training.command_line import DATA_ENV, from_settings
from llmrl.training.config import SECTIONS
from llmrl.training.display import Display
from llmrl.training.files import DEFAULT_ENV
from llmrl.training.given import Given, describe
from llmrl.training.options import refuse_unknown_options
from llmrl.training.process import borrowed
from llmrl.training.session import Callback, RunResult
from llmrl.training.session import train as run_session
from llmrl.training.trained import Trained
from llmrl.verifiers import FunctionVerifier


@borrowed()  # the parser of settings draws random numbers too
def train(
    policy: str | PathLike[str] | Policy | None = None,
    env: Any = None,
    algo: str | Algorithm | None = None,
    *,
    reward: Any = None,
    reward_parts: Sequence[str] | None = None,
    eval_env: Any = None,
    output: str | PathLike[str] | None = None,
    resume: str | PathLike[str] | None = None,
    force: bool = False,
    seed: int | None = None,
    threads: int | None = None,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
    algo_options: Mapping[str, Any] | None = None,
    env_options: Mapping[str, Any] | None = None,
    policy_options: Mapping[str, Any] | None = None,
    **sections: Any,
) -> RunResult:
    """Train a policy against a verifier, as ``llmrl train`` does.

    Wherever a run is taken, this may be its folder or what this function returned.

    Args:
        policy: a folder, a run, an id of the hub, or a :class:`~llmrl.policies.Policy`; by default ``"llmrl/nano"``.
        env: an environment's id, an environment, or data: a ``datasets.Dataset`` or a list of dicts with problems
            and answers; by default ``"llmrl/MATH-v0"``.
        algo: an algorithm's name, or an :class:`~llmrl.algorithms.Algorithm`; by default ``"espo"``.
        reward: for data: the name of a verifier, or a function ``(prompt, response, answer) -> float``.
        reward_parts: further parts of the reward, as ``--reward`` of ``llmrl train`` takes them: ``["format=0.1"]``.
        eval_env: an environment or data to evaluate on; by default the test problems of ``env``.
        output: folder of the run; by default ``runs/ALGORITHM-SEED``.
        resume: ``"auto"``, or a run or checkpoint to continue, with its own settings wherever none are given here.
        force: see ``llmrl train --help``.
        seed: seed of the problems, the sampling and the order of mini-batches; by default 0.
        threads: number of CPU threads of torch.
        quiet: print nothing.
        callbacks: objects that are called after every step and evaluation.
        algo_options: options of the algorithm that ``algo`` names.
        env_options: options of the environment that ``env`` names.
        policy_options: options of the section ``policy``, such as ``{"max_response_length": 64}``.
        sections: ``train=``, ``eval=``, ``checkpoint=``, ``log=``, ``curriculum=``, ``filter=``: dicts, or the option
            dataclasses of :mod:`llmrl.training.config`.

    Returns:
        The folder, the policy, the metrics of each step, and the evaluations before and after.

    Raises:
        ConfigError: an argument cannot be used; nothing has been written.
        TrainingError: training stopped with an error; the last checkpoint is intact.

    >>> import tempfile
    >>> run = train(algo="grpo", train={"steps": 1, "prompts_per_step": 1}, eval={"problems": 0},
    ...             output=tempfile.mkdtemp(), quiet=True)
    >>> len(run.metrics)
    1
    """
    for name in sections:
        if name not in SECTIONS or name == "policy":
            raise ConfigError(f"train() has no argument {name!r}. {_meant(name)}")
    settings: dict[str, Any] = {name: _plain(value, name) for name, value in sections.items()}
    settings["force"] = force
    if seed is not None:
        settings["seed"] = seed
    if reward_parts is not None:
        settings["reward"] = _parts(reward_parts)
    policy_options = _options(policy_options, "policy_options", isinstance(policy, Policy), "A Policy")
    env_options = _options(env_options, "env_options", isinstance(env, (gymnasium.Env, Environments)), "An environment")
    algo_options = _options(algo_options, "algo_options", isinstance(algo, Algorithm), "An Algorithm")
    callbacks = _callbacks(callbacks)
    for name, folder in (("output", output), ("resume", resume)):
        if folder is not None:
            if not isinstance(folder, (str, PathLike)):
                raise ArgumentError(f"{name} must be the path of a folder, got {_shown(folder)}.")
            settings[name] = fspath(folder)
    if threads is not None:
        settings["threads"] = threads
    settings["policy"] = policy_options
    if isinstance(policy, Policy):
        if resume is not None:
            raise ConfigError(
                "resume loads the weights of a checkpoint: give policy as a folder or a name, not a Policy."
            )
    elif policy is not None:
        settings["policy"]["path"] = _named(policy)
    if not isinstance(algo, (str, Algorithm, type(None))):
        raise ArgumentError(f"algo must be a name such as 'espo' or an Algorithm, got {_shown(algo)}.")
    if not isinstance(algo, Algorithm):
        settings["algo"] = {**({} if algo is None else {"name": algo}), **algo_options}
    environments = _environments(env, env_options, reward)
    if environments is None:
        settings["env"] = {**({} if env is None else {"id": env}), **env_options}
    # Rows to evaluate on are all asked; a mapping of them has a test part.
    eval_options = {"split": "test" if isinstance(eval_env, Mapping) else "all"}
    held_out = None if eval_env is None else _environments(eval_env, eval_options, reward)
    if eval_env is not None and any(settings.get("eval", {}).get(name) is not None for name in ("env", "data")):
        raise ConfigError("eval_env and eval={'env': ...} or {'data': ...} both say what to evaluate on. Give one.")
    if isinstance(eval_env, str):
        settings.setdefault("eval", {})["env"] = eval_env
    objects = [name for name in ("algo", "env") if name not in settings] + ["eval_env"] * (held_out is not None)
    config = from_settings(settings, objects)
    given = Given(
        policy=policy if isinstance(policy, Policy) else None,
        algorithm=algo if isinstance(algo, Algorithm) else None,
        environments=environments,
        held_out=held_out,
    )
    describe(config, given)
    outcome = run_session(config, _display(quiet), given, callbacks, signals=False)
    assert outcome is not None  # dry_run is not among the arguments
    return outcome


@refuses_unknown_arguments
@borrowed()
def evaluate(
    policy: str | PathLike[str] | Policy = "llmrl/nano",
    env: Any = None,
    *,
    problems: int | None = 256,
    samples: int = 4,
    batch: int = 512,
    seed: int = 0,
    reward: Any = None,
    env_options: Mapping[str, Any] | None = None,
    allow_code: bool = False,
) -> Evaluation:
    """The accuracy of a policy on fixed problems: greedy, avg@k, pass@k, maj@k, with intervals.

    A policy that is named has the prompt, the temperature and the lengths of its training, as in ``llmrl eval``.

    Args:
        policy: a folder, a run or what :func:`train` returned, an id of the hub, ``"llmrl/nano"``, or a
            :class:`~llmrl.policies.Policy`.
        env: an environment's id, or data, whose test problems are asked; or an environment. By default the training
            environment of a policy that is named, else ``llmrl/MATH-v0``.
        problems: number of problems; None: all.
        samples: number of sampled responses per problem, in addition to the greedy one.
        batch: number of responses generated at once.
        seed: seed of the sampling.
        reward: for data, as in :func:`train`.
        env_options: options of the environment; those of the policy's training are the defaults.
        allow_code: import code and open addresses that the policy's files name.

    Raises:
        ConfigError: an argument cannot be used.
    """
    for name, value, least in (("problems", problems, 1), ("samples", samples, 0), ("batch", batch, 1)):
        if name == "problems" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{name} must be a whole number of at least {least}, got {_shown(value)}.")
    env_options = _options(env_options, "env_options", isinstance(env, (gymnasium.Env, Environments)), "An environment")
    if not isinstance(policy, Policy):
        trained = Trained(_named(policy), allow_code=allow_code)
        env = trained.env_id() if env is None else env
        if isinstance(env, str):
            env_options = trained.env_options(env, env_options)
        policy = trained.load()
    env = DEFAULT_ENV if env is None else env
    environments = _environments(env, {"split": "test", **env_options}, reward)
    if environments is None:
        environments = held_out_environments(env, env_options)
    try:
        return run_evaluation(policy, environments, problems, samples=samples, batch=batch, seed=seed)
    finally:
        environments.close()


def _meant(name: str) -> str:
    """A suggestion for an argument that train() does not have: another argument, or an option of a section."""
    arguments = [known for known in inspect.signature(train).parameters if known != "sections"]
    sections = {section: kind for section, kind in SECTIONS.items() if section != "policy"}
    options = [f"{section}.{f.name}" for section, kind in SECTIONS.items() for f in fields(kind)]
    advice = suggest(name, [*arguments, *sections, *options])
    if (meant := re.match(r"Did you mean '(\w+)\.(\w+)'\?", advice)) is not None:
        if meant[2] == "path":
            return "Did you mean policy?"
        section = "policy_options" if meant[1] == "policy" else meant[1]
        return f"Did you mean {section}={{{meant[2]!r}: ...}}?"
    return advice


def _shown(value: Any) -> str:
    """A value for a message, on one line: the value if it is plain, otherwise its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if value is None or isinstance(value, (str, int, float)) else type(value).__name__


def _named(policy: Any) -> str:
    if not isinstance(policy, (str, PathLike)):
        raise ArgumentError(
            f"policy must be a folder, a run, an id of the hub or a Policy, got {_shown(policy)}. "
            "Make a Policy of a model with llmrl.Policy(model, tokenizer)."
        )
    return fspath(policy)


def _parts(given: Any) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(part, str) for part in given):
        raise ArgumentError(f"reward_parts must be a list of texts such as ['format=0.1'], got {_shown(given)}.")
    return list(given)


def _options(given: Any, name: str, is_object: bool, what: str) -> dict[str, Any]:
    """The options of a thing that is given by its name; an object already has its own."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{name} must be a dict, got {_shown(given)}.")
    if given and is_object:
        raise ConfigError(
            f"{name} apply to what is given by its name. {what} is an object: give it the options when you make it."
        )
    for option, value in given.items():
        if callable(value):
            raise ArgumentError(
                f"{name}[{option!r}] must be a value that a file can hold, got {_shown(value)}. Give a name such as "
                f"'module:function', or make {what.lower()} with it and give that."
            )
    return dict(given)


def _callbacks(given: Any) -> list[Callback]:
    if isinstance(given, Callback):
        raise ArgumentError(
            "callbacks must be a list of Callback objects, got a single Callback. Write callbacks=[callback]."
        )
    if not isinstance(given, Iterable):
        raise ArgumentError(f"callbacks must be a list of Callback objects, got {_shown(given)}.")
    for one in given:
        if not isinstance(one, Callback):
            raise ArgumentError(f"callbacks must be a list of Callback objects, got a list with {_shown(one)}.")
        for method, arguments in (
            (one.on_step, "(trainer, metrics, rollouts)"),
            (one.on_evaluation, "(name, evaluation)"),
        ):
            signature = inspect.signature(method)
            try:
                signature.bind(*arguments.split(","))
            except TypeError as error:
                raise ArgumentError(
                    f"{type(one).__name__}.{method.__name__} is called with {arguments}, and takes {signature}."
                ) from error
    return list(given)


def _plain(section: Any, name: str) -> dict[str, Any]:
    if is_dataclass(section) and not isinstance(section, type):
        return asdict(section)
    if not isinstance(section, Mapping):
        none = " No evaluation is eval={'problems': 0}." if section is False and name == "eval" else ""
        raise ConfigError(
            f"{name} must be a dict or an object of {SECTIONS[name].__name__}, got {_shown(section)}.{none}"
        )
    return dict(section)


def _environments(env: Any, options: Mapping[str, Any] | None, reward: Any) -> Environments | None:
    """The environments of an object; None if ``env`` is a name that the settings can hold."""
    if isinstance(env, str | None):
        if reward is not None:
            raise ConfigError(
                "reward is for data; an environment that is named takes env_options={'verifier': ...}. To add to its "
                "reward, give reward_parts."
            )
        return None
    if isinstance(env, Environments):
        return env
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise ConfigError(
            "env is a vector environment of a fixed size. Give a single environment; it is copied as often as needed."
        )
    if isinstance(env, gymnasium.Env):
        if reward is not None:
            raise ConfigError("reward is for data; an environment pays its own reward.")
        return CopiedEnvironments(env)
    if not isinstance(env, Iterable):
        raise ConfigError(f"env must be an id such as 'llmrl/MATH-v0', a gymnasium.Env, or data, got {_shown(env)}.")
    grade = "math" if reward is None else reward
    verifier = grade if isinstance(grade, (str, FunctionVerifier)) else FunctionVerifier(grade)
    source = {k: _again(v) for k, v in env.items()} if isinstance(env, Mapping) else _again(env)
    refuse_unknown_options(DATA_ENV, options or {})
    environments = Environments(DATA_ENV, {"source": source, "verifier": verifier, **(options or {})})
    try:
        environments.of_size(1)
    except (ValueError, TypeError, LookupError) as error:  # Gymnasium's messages hold all rows
        raise ConfigError(f"env: {visible(str(error), 2000)}") from error
    return environments


def _again(rows: Any) -> Any:
    """Rows that can be read twice: for training and for the evaluation."""
    return list(rows) if isinstance(rows, Iterator) else rows


def _display(quiet: bool) -> Display:
    return Display(Terminal(quiet=True)) if quiet else Display()
