"""What a policy was trained with: the defaults of its evaluation, on the command line and from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import ConfigError
from llmrl.policies.policy import Policy, local_folder
from llmrl.policies.prompts import json_or_text
from llmrl.text import one_line
from llmrl.training.config import PolicyConfig
from llmrl.training.files import DEFAULT_ENV, read_tree, section

NUMBERS = ("temperature", "max_prompt_length", "max_response_length")
TEXTS = ("chat_template", "prompt_template", "system_prompt", "instruction")
PROMPT = (*NUMBERS, *TEXTS, "template_arguments")
"""Options of a policy on which its prompts and responses depend."""


class Trained:
    """Settings of the run that made a checkpoint, or those in the model's folder; empty if there are none.

    Args:
        policy: the name of the policy.
        allow_code: accept code to import and addresses to open that only the policy's files name.
        env_named: whether the user names an environment.

    Raises:
        ConfigError: the files name code or addresses, and that is not accepted.
    """

    def __init__(self, policy: str, *, allow_code: bool = False, env_named: bool = False) -> None:
        self.name = policy
        found = _settings_of(policy)
        self.policy: dict[str, Any] = found.get("policy", {})
        self.env: dict[str, Any] = dict(found.get("env", {}))
        self.env_id = str(self.env.pop("id", DEFAULT_ENV))
        self.env.pop("split", None)  # an evaluation is on the test problems
        if not allow_code:
            self._refuse_foreign(env_named)

    def load(self, given: Mapping[str, Any] | None = None, **how: Any) -> Policy:
        """The policy with the prompts, the temperature and the lengths of its training.

        Args:
            given: options of :data:`PROMPT` that win over those of training.
            how: further arguments of :meth:`Policy.from_pretrained`.

        Raises:
            ConfigError: an option cannot be used.
        """
        defaults = PolicyConfig()
        options = {name: self.policy.get(name, getattr(defaults, name)) for name in PROMPT} | dict(given or {})
        for name in NUMBERS:
            if not isinstance(options[name], int | float) or not options[name] > 0:
                raise _unusable(name, options[name], "a number above 0")
        for name in TEXTS:
            if not isinstance(options[name], str | None):
                raise _unusable(name, options[name], "a text")
        arguments = options.pop("template_arguments") or {}
        if not isinstance(arguments, Mapping):
            raise _unusable("template_arguments", arguments, "names and values")
        plain = {key: json_or_text(value) if isinstance(value, str) else value for key, value in arguments.items()}
        return Policy.from_pretrained(self.name, template_arguments=plain, **options, **how)

    def _refuse_foreign(self, env_named: bool) -> None:
        trust = "Give --allow-code (in Python allow_code=True) if you trust where the policy comes from"
        if ":" in self.env_id and not env_named:
            raise ConfigError(
                f"The files of {self.name} name the environment {one_line(self.env_id)}, which is code. {trust}, or "
                "another environment."
            )
        for name, value in self.env.items():
            if name == "verifier" and ":" in str(value):
                raise ConfigError(f"The files of {self.name} name the verifier {one_line(str(value))}. {trust}.")
            if name == "source" and str(value) not in ("auto", "generated") and not Path(str(value)).exists():
                raise ConfigError(
                    f"The files of {self.name} name the source {one_line(str(value))}, which is not on this machine. "
                    f"{trust}, or --env-options source=..."
                )


def _settings_of(policy: str) -> dict[str, Any]:
    folder = local_folder(policy)
    if folder is None:
        return {}
    for file in (folder / "training.yaml", folder.resolve().parent / "config.yaml"):
        tree = read_tree(file) if file.is_file() else {}
        if {"policy", "env"} & tree.keys():
            return {name: section(file, tree, name) for name in ("policy", "env")}
    return {}


def _unusable(name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{name} is {one_line(str(value), 80)}, expected {expected}. Give --{name.replace('_', '-')}.")
