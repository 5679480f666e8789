"""Serve Gymnasium environments of texts with OpenEnv, with one turn or several.

:mod:`llmrl.integrations.openenv_env` uses an OpenEnv server as an environment.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from fastapi import FastAPI
from openenv.core import Action, Environment, Observation, State, create_app

import llmrl  # noqa: F401  registers the environments

HIDDEN = ("answer",)
"""Entries of ``info`` that are not sent, because a client may show the observation to a model."""


class TextAction(Action):
    """A response."""

    text: str


class TextObservation(Observation):
    """The problem, or the reply to a response."""

    text: str


class GymnasiumEnvironment(Environment[TextAction, TextObservation, State]):
    """Serve a Gymnasium environment.

    ``reset(index=i)`` starts problem i. ``metadata`` holds ``info`` without the gold answer, and ``truncated``.

    Args:
        env_id: a Gymnasium id, also ``module:id``.
        options: arguments of ``gymnasium.make``.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env_id: str, **options: Any) -> None:
        super().__init__()
        self._env = gymnasium.make(env_id, **options)
        self._state = State()

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> TextObservation:
        """Start a problem."""
        index = kwargs.get("index")
        text, info = self._env.reset(seed=seed, options=None if index is None else {"problem_id": index})
        self._state = State(episode_id=episode_id, step_count=0)
        return TextObservation(text=text, metadata=_sent(info))

    def step(self, action: TextAction, timeout_s: float | None = None, **kwargs: Any) -> TextObservation:
        """Step with a response."""
        text, reward, terminated, truncated, info = self._env.step(action.text)
        self._state.step_count += 1
        return TextObservation(
            text=text,
            reward=float(reward),
            done=terminated or truncated,
            metadata={**_sent(info), "truncated": bool(truncated)},
        )

    @property
    def state(self) -> State:
        """The episode's id and its number of steps."""
        return self._state

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _sent(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name not in HIDDEN}


def app(env_id: str, *, sessions: int = 256, **options: Any) -> FastAPI:
    """The server, for uvicorn.

    Args:
        env_id: a Gymnasium id, also ``module:id``.
        sessions: maximum number of parallel episodes.
        options: what ``gymnasium.make`` passes to it.
    """
    return create_app(
        lambda: GymnasiumEnvironment(env_id, **options),
        TextAction,
        TextObservation,
        env_name=env_id.rpartition("/")[2],
        max_concurrent_envs=sessions,
    )
