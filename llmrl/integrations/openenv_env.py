"""An OpenEnv server as a Gymnasium environment: ``llmrl/OpenEnv-v0``.

llmrl train --env llmrl.integrations.openenv_env:llmrl/OpenEnv-v0 --env.url http://HOST:8000
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gymnasium
import httpx
from openenv import GenericEnvClient

from llmrl.envs.problems import Problem
from llmrl.envs.spaces import FreeText
from llmrl.envs.text import problem_number
from llmrl.errors import ConfigError
from llmrl.text import one_line

BESIDE = ("done", "reward", "metadata")
"""Fields of an observation that the model does not read."""


class OpenEnvEnv(gymnasium.Env[str, str]):
    """The environment of an OpenEnv server; each copy has its own session.

    If an observation has one text field, the model reads that text, otherwise its fields as JSON. If an action has one
    required field, the response is its value. If it has several, the response must be a JSON object of them; another
    response ends the episode without a reward.

    Args:
        url: address of the server, such as http://HOST:8000.
        problems: number of problems, if the server's ``reset`` takes an ``index``; None: the seed selects a problem.
        timeout: maximum number of seconds for a message.
        render_mode: None.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self, *, url: str = "", problems: int | None = None, timeout: float = 60.0, render_mode: str | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"url (--env.url) must be the address of a server, such as http://HOST:8000, got {url!r}."
            )
        if problems is not None and problems < 1:
            raise ConfigError(f"problems must be 1 or more, got {problems}.")
        self.url, self.timeout = url.rstrip("/"), timeout
        self.fields = _required_fields(self.url, timeout)
        self.problems = Numbered(self.url, problems)
        self.reset_options = frozenset() if problems is None else frozenset({"problem_id"})
        self.render_mode = render_mode
        self.observation_space, self.action_space = FreeText(), FreeText()
        self._client: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode; with ``problems``, ``options={"problem_id": i}`` selects the problem."""
        super().reset(seed=seed)
        if self._client is None:
            self._client = GenericEnvClient(base_url=self.url, message_timeout_s=self.timeout).sync()
        asked: dict[str, Any] = {"seed": int(self.np_random.integers(2**31)) if seed is None else int(seed)}
        if (size := self.problems.size) is not None:
            chosen = (options or {}).get("problem_id")
            asked["index"] = int(self.np_random.integers(size)) if chosen is None else problem_number(chosen, size)
        result = self._client.reset(**asked)
        info = {} if "index" not in asked else {"problem_id": asked["index"]}
        return _text(result.observation), {**_metadata(result.observation), **info}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Step with a response."""
        if self._client is None:
            raise gymnasium.error.ResetNeeded("There is no episode. Call reset() before step().")
        given = self._action(action)
        if given is None:
            return "", 0.0, True, False, {"detail": f"the response is no JSON object of {', '.join(self.fields)}"}
        result = self._client.step(given)
        info = _metadata(result.observation)
        cut = bool(info.pop("truncated", False))
        reward = 0.0 if result.reward is None else float(result.reward)
        return _text(result.observation), reward, bool(result.done) and not cut, cut, info

    def _action(self, response: str) -> dict[str, Any] | None:
        if len(self.fields) == 1:
            return {self.fields[0]: response}
        try:
            given = json.loads(response)
        except ValueError:
            return None
        return given if isinstance(given, dict) and set(self.fields) <= set(given) else None

    def close(self) -> None:
        """End the session."""
        if self._client is not None:
            self._client.close()
            self._client = None


@dataclass(frozen=True)
class Numbered:
    """Problems that only the server knows, with their number if it is known."""

    url: str
    size: int | None

    def __getitem__(self, index: int) -> Problem:
        return Problem(id=str(index), problem=f"problem {index} of {self.url}", answer="", source=self.url)


def _required_fields(url: str, timeout: float) -> list[str]:
    try:
        answer = httpx.get(f"{url}/schema", timeout=timeout)
        answer.raise_for_status()
        schema = answer.json()["action"]
        return list(schema.get("required") or schema["properties"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{url} does not answer as a server of OpenEnv does: {one_line(str(error), 200)}") from error


def _text(observation: dict[str, Any]) -> str:
    shown = {name: value for name, value in observation.items() if name not in BESIDE}
    if len(shown) == 1 and isinstance(only := next(iter(shown.values())), str):
        return only
    return json.dumps(shown, ensure_ascii=False)


def _metadata(observation: dict[str, Any]) -> dict[str, Any]:
    found = observation.get("metadata")
    return dict(found) if isinstance(found, dict) else {}


gymnasium.register("llmrl/OpenEnv-v0", entry_point=f"{__name__}:OpenEnvEnv")
