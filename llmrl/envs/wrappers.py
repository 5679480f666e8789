r"""Further parts of the reward, as Gymnasium wrappers; ``info["reward_parts"]`` shows each part.

    env = FormatReward(gymnasium.make("llmrl/MATH-v0"), pattern=r"\\boxed\{.+\}", weight=0.1)

In a vector environment: ``TextVectorEnv.make(env_id, 8, wrappers=[FormatReward])``. A wrapper
acts on every turn of an episode. Lengths are in characters, unless ``length`` counts in another unit:
``lambda text: len(tokenizer.encode(text))``.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import gymnasium

from llmrl.envs.text import TextEnv, find_verifier
from llmrl.errors import ConfigError, UserError
from llmrl.registry import load_object, suggest
from llmrl.verifiers.function import FunctionVerifier
from llmrl.verifiers.verdict import Verifier


class PartNameTaken(ConfigError):
    """Two parts of a reward have the same name."""


class RewardPart(gymnasium.Wrapper[str, str, str, str]):
    """Adds ``weight * part(response, info)`` to the reward.

    Args:
        env: the environment to wrap.
        name: its key in ``info["reward_parts"]``.
        part: (response, ``info`` of the step) -> number. This ``info`` also has the ``prompt``: the problem of a
            :class:`~llmrl.envs.text.TextEnv`, or the first observation of another environment.
        weight: factor of this number.

    Raises:
        PartNameTaken: another part around the environment has this name, or it is ``answer``, the environment's own.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        name: str,
        part: Callable[[str, dict[str, Any]], float],
        weight: float = 1.0,
    ) -> None:
        super().__init__(env)
        self.name = name
        self.part = part
        self.weight = weight
        self._asked = ""
        if name == "answer":
            raise PartNameTaken("'answer' is the environment's own part of the reward. Give this part another name.")
        inner = env
        while isinstance(inner, gymnasium.Wrapper):
            if isinstance(inner, RewardPart) and inner.name == name:
                raise PartNameTaken(
                    f"Two parts of the reward are called {name!r}. Give one of them another name, or leave it out."
                )
            inner = inner.env

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode of the wrapped environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        base = self.env.unwrapped
        self._asked = base.problem.problem if isinstance(base, TextEnv) and base.problem is not None else observation
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """The step of the wrapped environment, with this part added to the reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        parts = dict(info.get("reward_parts", {"answer": float(reward)}))
        if self.name in parts:
            raise PartNameTaken(
                f"The environment's reward has a part {self.name!r} already. Give this one another name."
            )
        added = self.weight * float(self.part(action, {**info, "prompt": self._asked}))
        parts[self.name] = added
        info = {**info, "reward_parts": parts}
        return observation, float(reward) + added, terminated, truncated, info


class FormatReward(RewardPart):
    r"""``weight`` for a response that contains ``pattern``.

    Args:
        env: the environment to wrap.
        pattern: a regular expression in which the dot matches line breaks too; by default one
            non-empty box.
        weight: the reward of a match.
        name: its key in ``info["reward_parts"]``.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        pattern: str = r"\\boxed\{\s*[^{}\s]",
        *,
        weight: float = 0.1,
        name: str = "format",
    ) -> None:
        try:
            self.pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ConfigError(f"pattern {pattern!r} is not a regular expression: {error}.") from error
        super().__init__(env, name, lambda text, _: bool(self.pattern.search(text)), weight)


class OverlongReward(RewardPart):
    """A penalty that grows linearly from 0 at length ``limit - window`` to ``weight`` at ``limit`` and beyond.

        part = clip((limit - window - length) / window, -1, 0)

    Source: DAPO, arXiv:2503.14476, eq. 13.

    Args:
        env: the environment to wrap.
        limit: the length from which the whole penalty is due.
        window: the length over which the penalty grows.
        length: response -> its length; by default in characters.
        weight: the whole penalty.
        name: its key in ``info["reward_parts"]``.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        limit: int,
        window: int,
        *,
        length: Callable[[str], int] = len,
        weight: float = 1.0,
        name: str = "overlong",
    ) -> None:
        if not 0 < window <= limit:
            raise ConfigError(f"window must be from 1 to limit = {limit}, got {window}.")

        def part(text: str, _: dict[str, Any]) -> float:
            return min(0.0, max(-1.0, (limit - window - length(text)) / window))

        super().__init__(env, name, part, weight)


class LengthReward(RewardPart):
    """``weight * min(length / scale, 1)``; a negative weight favours short responses.

    Args:
        env: the environment to wrap.
        scale: the length from which the whole weight counts.
        length: response -> its length; by default in characters.
        weight: the reward at length ``scale``.
        only_correct: give nothing to responses that are not correct.
        name: its key in ``info["reward_parts"]``.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        scale: int,
        *,
        length: Callable[[str], int] = len,
        weight: float = -0.1,
        only_correct: bool = False,
        name: str = "length",
    ) -> None:
        if scale < 1:
            raise ConfigError(f"scale must be 1 or more, got {scale}.")

        def part(text: str, info: dict[str, Any]) -> float:
            if only_correct and info.get("verdict") != "correct":
                return 0.0
            return min(1.0, length(text) / scale)

        super().__init__(env, name, part, weight)


class VerifierReward(RewardPart):
    """The score of another verifier, which grades against the answer in ``info``.

    Without a verdict, such as after a timeout, nothing is added.

    Args:
        env: the environment to wrap.
        verifier: name of a verifier, ``module:function``, or a verifier.
        weight: factor of the score.
        name: its key in ``info["reward_parts"]``.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        verifier: str | Verifier,
        *,
        weight: float = 1.0,
        name: str = "verifier",
    ) -> None:
        grade = find_verifier(verifier)

        def part(text: str, info: dict[str, Any]) -> float:
            if "answer" not in info:
                raise KeyError(f"{type(env.unwrapped).__name__} gives no 'answer' in info; a verifier needs one.")
            golds = [info["answer"]]
            if isinstance(grade, FunctionVerifier):
                (verdict,) = grade.grade([info["prompt"]], [text], golds)
            else:
                (verdict,) = grade([text], golds)
            return verdict.score if verdict.valid else 0.0

        super().__init__(env, name, part, weight)


class FunctionReward(RewardPart):
    """A reward that a function of prompt, response and gold answer computes.

    The gold answer is ``info["answer"]``; '' if the environment gives none.

    Args:
        env: the environment to wrap.
        function: (prompt, response, answer) -> number; a number that is not finite is an error.
        weight: factor of this number.
        name: its key in ``info["reward_parts"]``; by default the function's name.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        function: Callable[[str, str, str], float],
        *,
        weight: float = 1.0,
        name: str = "function",
    ) -> None:
        def part(text: str, info: dict[str, Any]) -> float:
            value = float(function(info["prompt"], text, str(info.get("answer", ""))))
            if not math.isfinite(value):
                raise ConfigError(f"The reward function {name!r} gave {value}; a finite number was expected.")
            return value

        super().__init__(env, name, part, weight)


REWARDS: dict[str, Callable[..., RewardPart]] = {
    "format": FormatReward,
    "length": functools.partial(LengthReward, scale=1000),
}
"""Parts of the reward by name. The length is in characters; 1,000 characters get the whole weight."""


def reward_wrapper(text: str) -> Callable[[gymnasium.Env], gymnasium.Env]:
    """A wrapper from a short text: ``format``, ``length=-0.2``, ``my_module:my_function=0.5``.

    Args:
        text: a name of :data:`REWARDS`, or ``module:function`` of prompt, response and answer; its weight follows after
            ``=``.

    Raises:
        UserError: there is no such reward, or the weight is no number.

    >>> env = reward_wrapper("format=0.25")(gymnasium.make("llmrl/Countdown-v0"))
    >>> env.reset(options={"problem_id": 0}) and env.step(r"\\boxed{1}")[1]
    0.25
    """
    name, equals, given = text.partition("=")
    options: dict[str, Any] = {}
    if equals:
        try:
            options["weight"] = float(given)
        except ValueError as error:
            raise UserError(f"The reward {text!r}: expected a number as the weight, got {given!r}.") from error
        if not math.isfinite(options["weight"]):
            raise UserError(f"The reward {text!r}: the weight must be finite.")
    if name in REWARDS:
        return functools.partial(REWARDS[name], **options)
    if ":" not in name:
        raise UserError(f"No reward is called {name!r}. {suggest(name, REWARDS)} Or give module:function.")
    function = load_object(name)
    if not callable(function):
        raise UserError(f"{name!r} is not a function (prompt, response, answer) -> number.")
    return functools.partial(FunctionReward, function=function, name=name.rpartition(":")[2], **options)


__all__ = [
    "REWARDS",
    "FormatReward",
    "FunctionReward",
    "LengthReward",
    "OverlongReward",
    "PartNameTaken",
    "RewardPart",
    "VerifierReward",
    "reward_wrapper",
]
