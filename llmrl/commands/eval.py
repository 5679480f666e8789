"""``llmrl eval``: evaluate a policy on a set of environments; a stopped evaluation can be continued.

Files of an evaluation: ``settings.json  ENVIRONMENT.jsonl  results.json``. :mod:`llmrl.evaluation` runs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from transformers.utils import logging as transformers_logging

from llmrl.errors import ConfigError
from llmrl.evaluation.outcomes import SUMMARIZED, Evaluation
from llmrl.evaluation.running import count_problems, evaluate, shortage
from llmrl.evaluation.tables import show_summaries
from llmrl.policies.policy import Policy
from llmrl.registry import suggest
from llmrl.rollouts.environments import Environments
from llmrl.text import DamagedFile, one_line, parse_yaml, read_json
from llmrl.training.build import held_out_environments
from llmrl.training.config import PROMPT, TEXTS
from llmrl.training.display import Display
from llmrl.training.folder import content_of, held, set_aside
from llmrl.training.options import env_class
from llmrl.training.resuming import changes
from llmrl.training.trained import Trained

AS_TRAINED = "as in training"
"""Value of an option that may be None: take it from the policy's training."""


@dataclass
class EvalOptions:
    """Measure the accuracy of a policy: greedy, avg@k, pass@k and maj@k, with 95 % intervals.

    The same command continues a stopped evaluation. Defaults for the environment, its options, the prompt, the
    temperature and the lengths come from the policy's training: the config.yaml of its run, or the training.yaml in
    its folder.
    """

    policy: str = "llmrl/nano"
    """Folder or hub id of a causal language model, or the folder of a run; llmrl/nano comes with llmrl."""
    env: tuple[str, ...] = ()
    """Environments whose test problems are used; by default the one that the policy was trained on."""
    env_options: tuple[str, ...] = ()
    """Options such as source=generated levels=[1,2]; each goes to every environment that has it."""
    problems: int | None = 256
    """Number of problems of each environment, the same for every policy; None: all."""
    samples: int = 4
    """Sampled responses per problem, in addition to the greedy one."""
    k: tuple[int, ...] = ()
    """Values of k for pass@k and maj@k; by default the number of samples."""
    temperature: float | None = None
    """Sampling temperature; by default as in training, else 1."""
    max_prompt_length: int | None = None
    """Problems whose prompt has more tokens are dropped and counted; by default as in training, else 1024."""
    max_response_length: int | None = None
    """Maximum number of tokens of a response; by default as in training, else 256."""
    chat_template: str | None = AS_TRAINED
    """As in llmrl train: auto, a template of the tokenizer, the path of a Jinja file, or None for prompt_template."""
    prompt_template: str = AS_TRAINED
    """Form of the prompt without a chat template."""
    system_prompt: str | None = AS_TRAINED
    """System message before the problem; None: none."""
    instruction: str | None = AS_TRAINED
    """Text after each problem; None: none."""
    template_arguments: dict[str, str] | None = None
    """Arguments of the chat template, such as enable_thinking false; by default as in training."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    device: str | None = None
    """Device of the model, such as cpu or cuda:0; by default a GPU if there is one."""
    batch: int = 512
    """Number of responses generated at once; a stopped evaluation loses at most this many."""
    env_timeout: float = 600.0
    """Seconds that one call of an environment or its verifier may take; 0: no limit."""
    seed: int = 0
    """Seed of the sampling."""
    allow_code: bool = False
    """Import code and open addresses that the policy's files name. Use it only for policies that you trust."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the evaluation; by default evals/POLICY."""
    force: bool = False
    """If the folder holds an evaluation with other settings, move that one aside."""


def parse(arguments: list[str], prog: str) -> EvalOptions:
    """The options of a command line."""
    return tyro.cli(EvalOptions, args=arguments, prog=prog)


def run(options: EvalOptions) -> int:
    """Evaluate and show the results; the same command continues a stopped evaluation."""
    evaluate_policy(options)
    return 0


def evaluate_policy(options: EvalOptions, display: Display | None = None) -> Path:
    """Run the evaluation; returns the folder with its files.

    Raises:
        ConfigError: the options cannot be used, or the folder holds another evaluation.
    """
    _check(options)
    transformers_logging.disable_progress_bar()  # it would break into ours
    trained = Trained(options.policy, allow_code=options.allow_code)
    chosen = _environments_of(options, trained)
    folder = options.output or Path("evals") / _slug(options.policy.removeprefix("runs/"))
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(display or Display())
        opened: dict[str, Environments] = {}
        for env_id, env_options in chosen.items():
            opened[env_id] = held_out_environments(env_id, env_options)
            opened[env_id].time_limit = options.env_timeout or None
            stack.callback(opened[env_id].close)
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(held(folder))
        given = {name: getattr(options, name) for name in PROMPT}
        given = {name: value for name, value in given.items() if value != (AS_TRAINED if name in TEXTS else None)}
        policy = trained.load(given, dtype=options.dtype, device=options.device)
        settings = _settings(options, policy, opened)
        _claim(folder, settings, options.force)
        results = _results(folder)
        for number, (env_id, environments) in enumerate(opened.items(), 1):
            file = folder / f"{_slug(env_id)}.jsonl"
            if (finished := results["environments"].get(env_id)) is not None:
                done = Evaluation.read(file, SUMMARIZED)
                done.dropped_prompts = finished["dropped_prompts"]
            else:
                title = f"{environments.title}, {number} of {len(opened)}"
                done = _measure(options, policy, environments, file, display, title)
            summary = {
                "responses": file.name,
                "title": environments.title,
                "asked": options.problems,
                **done.summary(options.k or None),
            }
            results["environments"][env_id] = summary
            _write(folder / "results.json", results)
        shown = {opened[env_id].title: results["environments"][env_id] for env_id in opened}
        show_summaries(display.console, shown)
        display.note(f"files: {folder}")
    return folder


def _measure(
    options: EvalOptions,
    policy: Policy,
    environments: Environments,
    file: Path,
    display: Display,
    title: str,
) -> Evaluation:
    count = count_problems(environments, options.problems)
    if options.problems is not None and (said := shortage(environments, options.problems)) is not None:
        display.note(said)
    move = display.bar(title, count * (1 + options.samples))
    return evaluate(
        policy,
        environments,
        count,
        samples=options.samples,
        batch=options.batch,
        seed=options.seed,
        on_batch=lambda done, total: move(done),
        file=file,
    )


def _check(options: EvalOptions) -> None:
    if options.problems is not None and options.problems < 1:
        raise ConfigError(f"--problems must be at least 1, or None for all, got {options.problems}.")
    for name in ("samples", "env_timeout"):
        if getattr(options, name) < 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be 0 or more, got {getattr(options, name)}.")
    if options.batch < 1:
        raise ConfigError(f"--batch must be 1 or more, got {options.batch}.")
    for k in options.k:
        if not 1 <= k <= options.samples:
            raise ConfigError(
                f"--k {k}: pass@k and maj@k take k of the --samples {options.samples} responses, so k "
                f"must be from 1 to {options.samples}."
            )


def _environments_of(options: EvalOptions, trained: Trained) -> dict[str, dict[str, Any]]:
    """The options of each environment: for the training environment those of training, then those of the command."""
    given: dict[str, Any] = {}
    for text in options.env_options:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--env-options {text}: give name=value, such as source=generated.")
        try:
            given[name.replace("-", "_")] = parse_yaml(
                f"[{value}]" if "," in value and value[:1] not in "[{" else value
            )
        except ValueError as error:
            raise ConfigError(f"--env-options {one_line(text)}: no value of YAML ({error}).") from error
    chosen: dict[str, dict[str, Any]] = {}
    known: set[str] = set()
    for env_id in options.env or (trained.env_id(),):
        takes = set(inspect.signature(env_class(env_id)).parameters) - {"self", "render_mode"}
        known |= takes
        chosen[env_id] = trained.env_options(env_id, {name: value for name, value in given.items() if name in takes})
    for name in given:
        if name not in known:
            raise ConfigError(f"--env-options {name}: none of these environments takes it. {suggest(name, known)}")
    return chosen


def _settings(options: EvalOptions, policy: Policy, opened: dict[str, Environments]) -> dict[str, Any]:
    """All settings on which the responses depend."""
    plain = dataclasses.asdict(options)
    for name in ("k", "device", "output", "force", "env_options", "allow_code", "env_timeout"):
        del plain[name]
    settings = plain | {
        "env": {env_id: environments.options for env_id, environments in opened.items()},
        "temperature": policy.temperature,
        "max_prompt_length": policy.max_prompt_length,
        "max_response_length": policy.max_response_length,
        **{name: getattr(policy.options, name) for name in (*TEXTS, "template_arguments")},
        "weights": fingerprint(policy),
    }
    return json.loads(json.dumps(settings))


def fingerprint(policy: Policy) -> str:
    """A short hash of a policy's weights, from a few numbers of each tensor."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in policy.model.state_dict().items():
        some = tensor.detach().flatten()[:: max(tensor.numel() // 256, 1)][:512]
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(some.to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()


def _claim(folder: Path, settings: dict[str, Any], force: bool) -> None:
    """Make sure that the folder is empty, or holds the same evaluation."""
    file = folder / "settings.json"
    if file.is_file():
        old = read_json(file)
        if not isinstance(old, dict) or not isinstance(old.get("env"), dict):
            raise DamagedFile(f"{file} does not hold the settings of an evaluation. Give another --output.")
        # Further environments may join.
        shared = {i: o for i, o in old["env"].items() if i in settings["env"]}
        shared_now = {i: o for i, o in settings["env"].items() if i in old["env"]}
        lines = [line for _, line in changes({**old, "env": shared}, {**settings, "env": shared_now})]
        if not lines:
            settings = {**settings, "env": {**old["env"], **settings["env"]}}
        elif not force:
            raise ConfigError(
                f"{folder} holds an evaluation with other settings:\n"
                + "\n".join(lines)
                + "\nGive another --output, or --force to set it aside."
            )
        else:
            set_aside(folder)
    elif set(content_of(folder)) - {_aside(file)}:  # which is left if the settings could not be written
        raise ConfigError(f"{folder} is not empty and holds no evaluation. Give another --output.")
    _write(file, settings)


def _results(folder: Path) -> dict[str, Any]:
    """The finished results; an environment in them is not evaluated again."""
    file = folder / "results.json"
    results = read_json(file) if file.is_file() else {"environments": {}}
    environments = results.get("environments") if isinstance(results, dict) else None
    if not isinstance(environments, dict) or not all(
        isinstance(one, dict) and isinstance(one.get("dropped_prompts"), int) for one in environments.values()
    ):
        raise DamagedFile(f"{file} does not hold the results of an evaluation. Delete it and give the command again.")
    return results


def _aside(file: Path) -> Path:
    """Where a file is written before it gets its name."""
    return file.with_name(f".{file.name}")


def _write(file: Path, content: dict[str, Any]) -> None:
    aside = _aside(file)
    aside.write_text(json.dumps(content, indent=2) + "\n")
    aside.replace(file)


def _slug(name: str) -> str:
    return name.strip("./").replace("/", "-").replace(":", ".")
