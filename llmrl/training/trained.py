"""What a policy was trained with: the defaults of its evaluation, on the command line and from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmrl.envs.data import is_hub_name
from llmrl.errors import ConfigError
from llmrl.policies.policy import Policy, local_folder
from llmrl.policies.prompts import json_or_text
from llmrl.text import one_line
from llmrl.training.config import NUMBERS, PROMPT, TEXTS, PolicyConfig
from llmrl.training.files import DEFAULT_ENV, read_tree, section, settings_of_run
from llmrl.training.given import OBJECT

_TRUST = "Give --allow-code (in Python allow_code=True) if you trust where the policy comes from"


class Trained:
    """Settings of the run that made a checkpoint, or those in the model's folder; empty if there are none.

    Args:
        policy: the name of the policy.
        allow_code: accept code to import and addresses to open that only the policy's files name.
    """

    def __init__(self, policy: str, *, allow_code: bool = False) -> None:
        self.name = policy
        self._allow_code = allow_code
        found = _settings_of(policy)
        self.policy: dict[str, Any] = found.get("policy", {})
        self._env: dict[str, Any] = dict(found.get("env", {}))
        self._env_id = str(self._env.pop("id", DEFAULT_ENV))
        self._env.pop("split", None)  # an evaluation is on the test problems

    def env_id(self) -> str:
        """The environment that the policy was trained on.

        Raises:
            ConfigError: it is code that only the policy's files name, and that is not accepted.
        """
        if ":" in self._env_id and not self._allow_code:
            raise ConfigError(
                f"The files of {self.name} name the environment {one_line(self._env_id)}, which is code. {_TRUST}, or "
                "another environment."
            )
        return self._env_id

    def env_options(self, env_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of an environment: those of training if it was trained on, and the given ones, which win.

        Raises:
            ConfigError: the policy's files name code, an address or data that cannot be used.
        """
        if env_id != self._env_id:
            return dict(given)
        for name, value in self._env.items():
            if name not in given:
                self._refuse_foreign(name, str(value))
        return {**self._env, **given}

    def load(self, given: Mapping[str, Any] | None = None, **how: Any) -> Policy:
        """The policy with the prompts, the temperature and the lengths of its training.

        Args:
            given: options of :data:`~llmrl.training.config.PROMPT` that win over those of training.
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

    def _refuse_foreign(self, name: str, value: str) -> None:
        if name == "verifier" and ":" in value and not self._allow_code:
            raise ConfigError(f"The files of {self.name} name the verifier {one_line(value)}. {_TRUST}.")
        if name != "source" or value in ("auto", "generated") or Path(value).expanduser().exists():
            return
        give = "Give --env-options source=PATH (in Python env_options={'source': PATH}, or rows as env)."
        if value.startswith(OBJECT):
            raise ConfigError(
                f"{self.name} was trained on problems given in Python, which its files do not hold. {give}"
            )
        if not is_hub_name(value):
            raise ConfigError(f"{self.name} was trained on {one_line(value)}, which does not exist here. {give}")
        if not self._allow_code:
            raise ConfigError(
                f"The files of {self.name} name the data set {one_line(value)}, which is not on this machine. {_TRUST}"
                ", or --env-options source=..."
            )


def _settings_of(policy: str) -> dict[str, Any]:
    folder = local_folder(policy)
    if folder is None:
        return {}
    for file in filter(None, (folder / "training.yaml", settings_of_run(folder))):
        tree = read_tree(file) if file.is_file() else {}
        if {"policy", "env"} & tree.keys():
            return {name: section(file, tree, name) for name in ("policy", "env")}
    return {}


def _unusable(name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(f"{name} is {one_line(str(value), 80)}, expected {expected}. Give --{name.replace('_', '-')}.")
