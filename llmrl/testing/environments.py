"""Properties that every text environment must have: Gymnasium's checks, and what rollouts rely on."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from llmrl.testing.running import pickled, require, run_checks

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]
RESPONSES = ("", "So it is \\boxed{4}.", "\x00", "答案是四", "9" * 5000)
SEEDS = (0, 1, 2, 12345)
TURNS = 1000
"""An episode with more turns counts as endless."""


@dataclass(frozen=True)
class Case:
    """The function that makes environments under test."""

    make: MakeEnv

    def play(self, env: gymnasium.Env[Any, Any], seed: int, response: str) -> list[Any]:
        """The parts of an episode that must repeat: observations, rewards and ends."""
        observation, _ = env.reset(seed=seed)
        seen: list[Any] = [observation]
        for _ in range(TURNS):
            observation, reward, terminated, truncated, _ = env.step(response)
            seen.append((observation, reward, terminated, truncated))
            if terminated or truncated:
                return seen
        raise AssertionError(f"an episode had not ended after {TURNS} turns of {response!r:.40}; it must end.")


def _gymnasium(case: Case) -> None:
    """``gymnasium.utils.env_checker.check_env`` passes."""
    env = case.make()
    try:
        check_env(env.unwrapped, skip_render_check=True)
    finally:
        env.close()


def _reset(case: Case) -> None:
    """``reset`` returns a text of the observation space and a dict."""
    env = case.make()
    for seed in SEEDS:
        given = env.reset(seed=seed)
        require(
            isinstance(given, tuple) and len(given) == 2, f"reset gave {given!r:.80}; (observation, info) was expected."
        )
        observation, info = given
        require(
            isinstance(observation, str),
            f"reset gave an observation of type {type(observation).__name__}; text was expected.",
        )
        require(
            observation in env.observation_space,
            f"reset gave {observation!r:.60}, which is not in the observation space.",
        )
        require(isinstance(info, dict), f"reset gave info of type {type(info).__name__}; a dict was expected.")
    env.close()


def _step(case: Case) -> None:
    """``step`` takes any text and returns a text, a finite number, two bools and a dict."""
    env = case.make()
    for response in RESPONSES:
        env.reset(seed=0)
        given = env.step(response)
        shown = f"step({response!r:.30}) gave"
        require(isinstance(given, tuple) and len(given) == 5, f"{shown} {given!r:.80}; five values were expected.")
        observation, reward, terminated, truncated, info = given
        require(
            isinstance(observation, str),
            f"{shown} an observation of type {type(observation).__name__}; text was expected.",
        )
        number = isinstance(reward, numbers.Real) and not isinstance(reward, bool) and math.isfinite(reward)
        require(number, f"{shown} the reward {reward!r:.40}; a finite number was expected.")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            require(isinstance(flag, bool), f"{shown} {name}={flag!r:.40}; True or False was expected.")
        require(isinstance(info, dict), f"{shown} info of type {type(info).__name__}; a dict was expected.")
    env.close()


def _seeds(case: Case) -> None:
    """The same seed and the same responses give the same episode, in a new environment too."""
    env, other = case.make(), case.make()
    for seed in SEEDS:
        one = case.play(env, seed, RESPONSES[1])
        for again in (env, other):
            episode = case.play(again, seed, RESPONSES[1])
            require(
                episode == one,
                f"seed {seed} gave {one!r:.80} and then {episode!r:.80}; the same episode was expected "
                "(draw from self.np_random alone).",
            )
    env.close()
    other.close()


def _pickle(case: Case) -> None:
    """A copy by pickle continues as the original does."""
    env = case.make()
    env.reset(seed=3)
    other = pickled(env)
    require(
        env.step(RESPONSES[1])[:4] == other.step(RESPONSES[1])[:4],
        "a pickled copy answered a step differently; the same answer was expected.",
    )
    env.close()
    other.close()


def _vector(case: Case) -> None:
    """Worker processes give the same results as one process."""
    seeds: list[int | None] = list(SEEDS[:2])
    seen = []
    for build in (SyncVectorEnv, partial(AsyncVectorEnv, context="spawn", shared_memory=False)):
        try:
            vector = build([case.make] * len(seeds))
        except (EOFError, ConnectionError) as error:
            raise AssertionError(
                f"a worker process could not make the environment ({type(error).__name__}); it was expected to: put "
                "the environment into a module, and name it as 'module:id' or by its class."
            ) from error
        try:
            observations, _ = vector.reset(seed=seeds)
            after, rewards, terminated, truncated, _ = vector.step((RESPONSES[1],) * len(seeds))
            seen.append((tuple(observations), tuple(after), list(rewards), list(terminated), list(truncated)))
        finally:
            vector.close()
    require(
        seen[0] == seen[1],
        f"in worker processes a step gave {seen[1]!r:.120}, in one process {seen[0]!r:.120}; the same was expected.",
    )


ENVIRONMENT_CHECKS: dict[str, Callable[[Case], None]] = {
    "reset": _reset,
    "step": _step,
    "seeds": _seeds,
    "pickle": _pickle,
    "gymnasium": _gymnasium,
    "vector": _vector,
}
"""The checks by name, in the order in which they run."""


def check_environment(subject: str | MakeEnv, *, except_for: Iterable[str] = (), **options: Any) -> None:
    """Raise unless a text environment has the properties that rollouts rely on.

    The check ``vector`` starts two processes; in a script, call it under ``if __name__ == "__main__":``.

    Args:
        subject: an id, with ``module:`` before it if a module registers it, or a function that makes an environment.
        except_for: checks that do not hold for this environment; :data:`ENVIRONMENT_CHECKS` has the names.
        options: options of the environment.

    Raises:
        AssertionError: a check failed; the message says what was tried, what happened, what was expected.
        ValueError: ``except_for`` has a name that no check has.

    >>> check_environment("llmrl/MATH-v0", source="generated", except_for=("vector",))
    """
    if isinstance(subject, str):  # a worker process does not know the id until it imports the module
        make: MakeEnv = partial(gymnasium.make, subject if ":" in subject else f"llmrl:{subject}", **options)
    else:
        make = partial(subject, **options)
    name = subject if isinstance(subject, str) else repr(subject)
    run_checks(f"Environment {name}", ENVIRONMENT_CHECKS, Case(make), except_for)
