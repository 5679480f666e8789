"""Many text environments at once, graded together in one call of the verifier."""

from __future__ import annotations

import contextlib
import functools
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from llmrl.envs.problems import AsksProblems, NamesResetOptions, Problems
from llmrl.envs.text import TextEnv, grade
from llmrl.envs.waiting import TookTooLong, at_most
from llmrl.errors import ConfigError

NO_PROBLEM = "(no problem: the environment raised an error)"
"""The observation of an environment after its reset raised an error, if ``tolerant`` is set."""


class TextVectorEnv(gymnasium.vector.VectorEnv[tuple[str, ...], Sequence[str | None], np.ndarray]):
    """Many text environments side by side, graded together in one call.

    There is no automatic reset: with episodes of one turn it would waste every second step. Episodes may end
    at different steps: give None as the action of an episode that is over.

    With ``tolerant`` the others continue when an environment or its verifier raises an error. The failed episode is
    then over, with reward 0, ``info["valid"]`` False and the traceback in ``info["fault"]``.

    ``time_limit`` is the number of seconds that one call of an environment or verifier may take; a longer call
    raises an error. After one late call, all other environments together have the same time once more.

    Args:
        envs: the environments. Environments other than :class:`TextEnv` are stepped one by one. They get only those
            reset options that they name in ``reset_options``. Since all rows of a group have the same seed, they
            still ask the same problem in all of them.
    """

    metadata = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.DISABLED,
        "render_modes": ["human", "ansi"],
        "render_fps": 1,
    }

    def __init__(self, envs: Sequence[gymnasium.Env[str, str]]) -> None:
        if not envs:
            raise ValueError("TextVectorEnv needs at least one environment, got none.")
        self.envs = list(envs)
        self.num_envs = len(self.envs)
        self.tolerant = False
        self.time_limit: float | None = None
        self._late: float | None = None
        self._faults: dict[int, str] = {}
        self.reported: list[dict[str, Any]] = [{} for _ in self.envs]
        """The ``info`` of each environment in the latest reset or step, as JSON holds it."""
        first = self.envs[0]
        self.render_mode = first.render_mode
        self.spec = first.spec
        self.single_observation_space, self.single_action_space = _spaces(first)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._observations = [""] * self.num_envs
        self._terminated = np.zeros(self.num_envs, dtype=bool)
        self._truncated = np.zeros(self.num_envs, dtype=bool)
        self._running = np.zeros(self.num_envs, dtype=bool)

    @classmethod
    def make(
        cls,
        env_id: str,
        num_envs: int,
        *,
        wrappers: Sequence[Callable[[gymnasium.Env], gymnasium.Env]] = (),
        **options: Any,
    ) -> TextVectorEnv:
        """Like ``gymnasium.make_vec``, for any text environment and with wrappers.

        Args:
            env_id: a Gymnasium id, also ``module:id``.
            num_envs: number of episodes at once.
            wrappers: applied to each environment, the first one innermost.
            options: options of the environment.
        """

        def one() -> gymnasium.Env:
            env = gymnasium.make(env_id, disable_env_checker=True, **options)
            for wrapper in wrappers:
                env = wrapper(env)
            return env

        return cls([one() for _ in range(num_envs)])

    @property
    def num_problems(self) -> int | None:
        """The number of problems; None if it is unlimited or unknown."""
        env: object = self.envs[0].unwrapped
        return env.problems.size if isinstance(env, AsksProblems) and isinstance(env.problems, Problems) else None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: one per environment; from a single seed, environment i gets seed + i.
            options: ``problem_id``: one for all or one per environment. ``reset_mask``: bool [N], the
                environments to reset; by default all. Other options are passed on.
        """
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + row for row in range(self.num_envs)]
        else:
            seeds = self._per_env("seed", seed)
        ids = options.pop("problem_id", None)
        if ids is not None:
            ids = [ids] * self.num_envs if np.ndim(ids) == 0 else self._per_env("problem_id", ids)
        self.reported = [{} for _ in self.envs]
        self._late = None
        for row in np.flatnonzero(mask):
            env = self.envs[row]
            own = dict(options) if ids is None else {**options, "problem_id": ids[row]}
            bare: object = env.unwrapped
            if not isinstance(bare, TextEnv):
                known = bare.reset_options if isinstance(bare, NamesResetOptions) else ()
                own = {key: value for key, value in own.items() if key in known}
            self._faults.pop(int(row), None)
            try:
                with self._limited("reset"):
                    result = env.reset(seed=seeds[row], options=own)
                if not isinstance(result, tuple) or len(result) != 2:
                    raise ValueError(f"reset must return observation and info, got {result!r:.80}.")
                observation, info = result
                self.reported[row] = _checked_report(observation, info)
            except (Exception, SystemExit) as error:
                self._note_fault(int(row), error)
                observation = NO_PROBLEM
            self._observations[row] = observation
        self._terminated[mask] = self._truncated[mask] = False
        self._running[mask] = True
        return tuple(self._observations), _vector_form(self.reported)

    def step(
        self, actions: Sequence[str | None]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one response per environment; None for those whose episode is over.

        Returns:
            Observations, rewards [N] float64, terminated [N], truncated [N] bool, and infos in
            Gymnasium's vector form. The row of an episode that is over keeps its flags, with reward 0 and no info.
        """
        actions = self._per_env("actions", actions)
        over = [row for row, a in enumerate(actions) if a is not None and not self._running[row]]
        if over:
            raise gymnasium.error.ResetNeeded(
                f"The episodes of environments {_short(over)} are over or never began. Give None "
                'as their action, or begin new ones with reset(options={"reset_mask": mask}).'
            )
        silent = [row for row, a in enumerate(actions) if a is None and self._running[row]]
        if silent:
            raise ValueError(
                f"The episodes of environments {_short(silent)} go on, so their action must be a str, got None."
            )
        self._late = None
        self._grade(actions)
        rewards = np.zeros(self.num_envs)
        self.reported = [{} for _ in self.envs]
        for row, action in enumerate(actions):
            if action is None:
                self._observations[row] = ""
                continue
            observation, reward, terminated, truncated, self.reported[row] = self._step_one(row, action)
            self._observations[row] = observation
            rewards[row] = float(reward)
            self._terminated[row], self._truncated[row] = terminated, truncated
        self._running &= ~(self._terminated | self._truncated)
        flags = self._terminated.copy(), self._truncated.copy()
        return tuple(self._observations), rewards, *flags, _vector_form(self.reported)

    def _step_one(self, row: int, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Step one environment; if it raises an error, now or earlier, end its episode."""
        if row not in self._faults:
            try:
                with self._limited("step"):
                    result = self.envs[row].step(action)
                return _checked(result)
            except (Exception, SystemExit) as error:
                self._note_fault(row, error)
        return "", 0.0, True, False, {"valid": False, "fault": self._faults[row]}

    @contextlib.contextmanager
    def _limited(self, what: str) -> Iterator[None]:
        """Limit the time of a call of foreign code."""
        if self._late is None:
            limit = self.time_limit
        else:  # another call was late: do not wait as long for each of the remaining calls
            limit = max(self._late - time.monotonic(), 0.01)
        name = self.spec.id if self.spec is not None else type(self.envs[0].unwrapped).__name__
        try:
            with at_most(limit, f"{what} of {name}"):
                yield
        except TookTooLong:
            if self._late is None and self.time_limit is not None:
                self._late = time.monotonic() + self.time_limit
            raise

    def _note_fault(self, row: int, error: BaseException) -> None:
        """Remember that an environment raised an error; without ``tolerant`` raise it."""
        if not self.tolerant:
            raise error
        self._faults[row] = "".join(traceback.format_exception(error)).strip()

    def truncate(self, mask: Sequence[bool] | np.ndarray) -> None:
        """Cut episodes off: their action is None from now on.

        Args:
            mask: bool [N], the episodes to cut off; those that are over stay as they are.
        """
        cut = self._mask(mask, "mask") & self._running
        self._truncated[cut] = True
        self._running[cut] = False

    def _grade(self, actions: Sequence[str | None]) -> None:
        """Grade all responses with one call per verifier, and tell each environment its verdict."""
        waiting: dict[int, list[tuple[TextEnv, str, str]]] = {}
        for row, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            base = env.unwrapped
            if isinstance(base, TextEnv) and isinstance(action, str) and row not in self._faults:
                base._check(action)
                try:
                    text = base.answer_text(action)
                except (Exception, SystemExit) as error:
                    self._note_fault(row, error)
                    continue
                if text is None:
                    base.grade_ahead(action, None)
                else:
                    waiting.setdefault(id(base.verifier), []).append((base, action, text))
        for batch in waiting.values():
            verifier = batch[0][0].verifier
            problems = [base.problem for base, _, _ in batch if base.problem is not None]
            try:
                with self._limited("the verifier"):
                    verdicts = grade(verifier, problems, [text for _, _, text in batch])
            except (Exception, SystemExit):
                if not self.tolerant:
                    raise
                continue  # each environment grades its own response in its step, and the one at fault raises there
            for (base, action, _), verdict in zip(batch, verdicts, strict=True):
                base.grade_ahead(action, verdict)

    def render(self) -> tuple[Any, ...] | None:
        """The rendering of each environment."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()

    def _mask(self, given: Any, name: str = "reset_mask") -> np.ndarray:
        if given is None:
            return np.ones(self.num_envs, dtype=bool)
        mask = np.asarray(given)
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(
                f"{name} must be bool of shape ({self.num_envs},), got {mask.dtype} of shape {mask.shape}."
            )
        return mask

    def _per_env(self, name: str, given: Any) -> list[Any]:
        values = [given] if isinstance(given, (str, Mapping)) else list(given)
        if len(values) != self.num_envs or isinstance(given, (str, Mapping)):
            raise ValueError(
                f"{name} must have one entry for each of the {self.num_envs} environments, got "
                + (f"{given!r:.80}." if isinstance(given, (str, Mapping)) else f"{len(values)}.")
            )
        return values


def _spaces(env: gymnasium.Env[str, str]) -> tuple[gymnasium.Space[str], gymnasium.Space[str]]:
    """The observation and action spaces of an environment.

    Raises:
        ConfigError: it has none.
    """
    missing = ConfigError(
        f"{type(env.unwrapped).__name__} has no observation_space or no action_space. Set both in its __init__ to "
        "llmrl.envs.spaces.FreeText()."
    )
    try:
        spaces = env.observation_space, env.action_space
    except AttributeError as error:
        raise missing from error
    if not all(isinstance(space, gymnasium.Space) for space in spaces):
        raise missing
    return spaces


def _short(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:8]))
    return shown if len(rows) <= 8 else f"{shown} and {len(rows) - 8} more"


def _checked(result: Any) -> tuple[str, float, bool, bool, dict[str, Any]]:
    """The result of ``step``, checked.

    Raises:
        ValueError: it is not five values, or the reward is not finite in float32.
        TypeError: a value has another type, or ``info`` cannot be written as JSON.
    """
    if not isinstance(result, tuple) or len(result) != 5:
        raise ValueError(
            "step must return observation, reward, terminated, truncated and info, got "
            + (f"{len(result)} values." if isinstance(result, tuple) else f"{result!r:.80}.")
        )
    observation, reward, terminated, truncated, info = result
    number = isinstance(reward, (int, float, np.number, np.bool_))
    if not number or not abs(float(reward)) <= float(np.finfo(np.float32).max):
        raise ValueError(f"step must return a finite number as the reward, got {reward!r:.80}.")
    return observation, float(reward), bool(terminated), bool(truncated), _checked_report(observation, info)


def _checked_report(observation: Any, info: Any) -> dict[str, Any]:
    """``info`` as JSON holds it.

    Raises:
        TypeError: the observation is not text, or ``info`` cannot be written as JSON.
    """
    if not isinstance(observation, str):
        raise TypeError(f"An observation must be a str, got {observation!r:.80}.")
    if not isinstance(info, dict):
        raise TypeError(f"info must be a dict, got {info!r:.80}.")
    try:
        report: dict[str, Any] = json.loads(json.dumps(info, default=_number))
    except (TypeError, ValueError) as error:
        raise TypeError(f"info cannot be written as JSON: {error}. It has {', '.join(map(str, info))}.") from error
    parts = report.get("reward_parts", {})
    if not isinstance(parts, dict) or not all(isinstance(part, (int, float)) for part in parts.values()):
        raise TypeError(f"info['reward_parts'] must be a dict of numbers, got {parts!r:.80}.")
    return report


def _vector_form(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Gymnasium's vector form: for each key the values of all rows, and under ``_key`` the rows that have it.

    Unlike Gymnasium's own function it changes no value: an array has a type of numbers only if all values have it.

    >>> infos = _vector_form([{"level": 1}, {"level": 0.5}])
    >>> infos["level"], infos["_level"]
    (array([1, 0.5], dtype=object), array([ True,  True]))
    """
    infos: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        has = np.array([key in row for row in rows])
        values = [row.get(key) for row in rows]
        kinds = {type(row[key]) for row in rows if key in row}
        if kinds == {dict}:
            infos[key] = _vector_form([{} if value is None else value for value in values])
        else:
            (kind,) = kinds if len(kinds) == 1 else (object,)
            fits = kind in (bool, float) or (kind is int and all(-(2**63) <= (v or 0) < 2**63 for v in values))
            infos[key] = np.full(len(rows), 0 if fits else None, dtype=kind if fits else object)
            for row in np.flatnonzero(has):
                infos[key][row] = values[row]
        infos[f"_{key}"] = has
    return infos


def _number(value: Any) -> Any:
    """A NumPy number as a Python number."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"an object of type {type(value).__name__}")


def vector_of(env_class: Callable[..., gymnasium.Env]) -> Callable[..., TextVectorEnv]:
    """A ``vector_entry_point`` for an environment class; it can be pickled if the class can."""
    return functools.partial(_vector, env_class)


def _vector(
    env_class: Callable[..., gymnasium.Env],
    num_envs: int = 1,
    max_episode_steps: int | None = None,
    **options: Any,
) -> TextVectorEnv:
    envs: list[gymnasium.Env] = [env_class(**options) for _ in range(num_envs)]
    if max_episode_steps is not None:
        envs = [gymnasium.wrappers.TimeLimit(env, max_episode_steps) for env in envs]
    return TextVectorEnv(envs)
