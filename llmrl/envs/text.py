"""The environment that asks a problem and grades the response.

An episode asks one problem. Here it ends with the first response; environments of several turns override
:meth:`TextEnv.answer_text` and :meth:`TextEnv.respond`. The verifier decides what is correct.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium

from llmrl.envs.problems import Problem, Problems
from llmrl.envs.spaces import FreeText
from llmrl.errors import ArgumentError, ConfigError, UserError
from llmrl.registry import suggest
from llmrl.text import visible
from llmrl.verifiers.function import FunctionVerifier
from llmrl.verifiers.verdict import Verdict, Verifier

RANDOM_PROBLEMS = 4096
"""If the number of problems is unlimited, a reset without a problem id draws one of the first so many."""


class UnknownProblem(UserError, IndexError):
    """There is no problem with this number."""


class Turn(NamedTuple):
    """The environment's reaction to one response."""

    reply: str
    """The reply, which the model reads next; empty when the episode is over."""
    reward_parts: dict[str, float]
    """Parts of the reward by name; the reward is their sum."""
    terminated: bool
    """Whether the episode has ended."""
    truncated: bool = False
    """Whether the episode was cut off."""


class TextEnv(gymnasium.Env[str, str]):
    """Asks a problem and grades the response.

    ``reset(options={"problem_id": i})`` asks problem i; without it the environment's own random
    generator chooses. The keys of ``info`` are always the same and always of the same type:
    ``problem_id``, ``subject``, ``level`` (0: unknown), ``source``, ``answer``, and after a step
    ``extracted``, ``verdict``, ``valid``, ``detail``, ``reward_parts``.

    Args:
        problems: the source of the problems.
        verifier: name of a verifier, ``module:function``, or a verifier.
        render_mode: ``human`` prints each turn, ``ansi`` returns it as text from ``render``.
    """

    metadata = {"render_modes": ["human", "ansi"], "render_fps": 1}  # noqa: RUF012
    reset_options = frozenset({"problem_id"})
    """The keys that ``reset(options=...)`` accepts."""
    source_name: str = ""
    """The source of the problems, for titles; a subclass sets it."""

    def __init__(
        self,
        problems: Problems,
        verifier: str | Verifier = "math",
        *,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(f"render_mode must be 'human', 'ansi' or None, got {render_mode!r}.")
        self.problems = problems
        self.verifier = find_verifier(verifier)
        self.render_mode = render_mode
        self.observation_space = FreeText()
        self.action_space: FreeText = FreeText()
        self.problem: Problem | None = None
        self.turns: list[tuple[str, str]] = []
        """The responses so far, each with the reply to it."""
        self._rendered: list[str] = []
        self._problem_id = -1
        self._running = False
        self._info: dict[str, Any] = {}
        self._ahead: tuple[str, Verdict | None] | None = None

    @classmethod
    def resolve(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with every automatic choice replaced by its result on this machine."""
        return dict(options)

    def title(self, env_id: str) -> str:
        """The name of the problems in reports: the environment's id and the source."""
        return f"{env_id} ({self.source_name})" if self.source_name else env_id

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Ask a problem.

        Args:
            seed: seed of the random choice of problems.
            options: ``problem_id``: which problem to ask.
        """
        super().reset(seed=seed)
        options = options or {}
        for key in options:
            if key not in self.reset_options:
                raise ConfigError(f"reset got the unknown option {key!r}. {suggest(str(key), self.reset_options)}")
        size = self.problems.size
        if options.get("problem_id") is None:
            self._problem_id = int(self.np_random.integers(size or RANDOM_PROBLEMS))
        else:
            self._problem_id = problem_number(options["problem_id"], size)
        self.problem = self.problems[self._problem_id]
        self.turns = []
        self._rendered = []
        self._running = True
        self._ahead = None
        self._info = {}
        self._show(self._render_problem)
        return self.prompt(self.problem), self._about()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Take a response. The class describes ``info``."""
        problem = self._check(action)
        if self._ahead is not None and self._ahead[0] == action:
            verdict = self._ahead[1]
        else:
            text = self.answer_text(action)
            verdict = None if text is None else grade(self.verifier, [problem], [text])[0]
        self._ahead = None
        turn = self._checked(self.respond(action, verdict))
        self.turns.append((action, turn.reply))
        self._running = not (turn.terminated or turn.truncated)
        self._info = {
            **self._about(),
            "extracted": (verdict.extracted or "") if verdict else "",
            "verdict": verdict.status if verdict else "",
            "valid": verdict.valid if verdict else True,
            "detail": (verdict.detail or "") if verdict else "",
            "reward_parts": dict(turn.reward_parts),
        }
        reward = float(sum(turn.reward_parts.values()))
        self._show(self._render_turn)
        info = {**self._info, "reward_parts": dict(turn.reward_parts)}
        return turn.reply, reward, turn.terminated, turn.truncated, info

    def prompt(self, problem: Problem) -> str:
        """The first observation; chat and prompt templates are the policy's."""
        return problem.problem

    def answer_text(self, response: str) -> str | None:
        """The text of this turn that the verifier grades; None: nothing yet."""
        return response

    def respond(self, response: str, verdict: Verdict | None) -> Turn:
        """The reaction to a response.

        Args:
            response: the text of the model.
            verdict: the verdict on the text of :meth:`answer_text`; None if that was None.
        """
        assert verdict is not None
        return Turn("", {"answer": verdict.score}, terminated=True)

    def grade_ahead(self, action: str, verdict: Verdict | None) -> None:
        """Set the verdict on ``action`` before the step with it, since many responses are graded in one call."""
        self._ahead = (action, verdict)

    def render(self) -> str | None:
        """The episode so far as text; in ``human`` mode None, since it has been printed already."""
        return "\n".join(self._rendered) if self.render_mode == "ansi" else None

    def _show(self, render: Callable[[], str]) -> None:
        if self.render_mode is not None:
            self._rendered.append(render())
        if self.render_mode == "human":
            print(visible(self._rendered[-1]))

    def _check(self, action: str) -> Problem:
        if self.problem is None or not self._running:
            raise gymnasium.error.ResetNeeded(
                "The episode is over. Call reset() before the next step()."
                if self.problem is not None
                else "No problem has been asked yet. Call reset() before step()."
            )
        if not isinstance(action, str):
            raise ArgumentError(f"An action is the response as a str, got {type(action).__name__}: {action!r:.80}.")
        if action not in self.action_space:
            raise ConfigError(
                f"An action may have {self.action_space.max_length:,} characters, got {len(action):,}. Shorten it."
            )
        return self.problem

    def _checked(self, turn: Any) -> Turn:
        """What :meth:`respond` returned, which a subclass may get wrong."""
        if not isinstance(turn, Turn):
            raise ArgumentError(f"{type(self).__name__}.respond must return a Turn, got {turn!r:.80}.")
        if not isinstance(turn.reward_parts, Mapping):
            raise ArgumentError(
                f"{type(self).__name__}.respond: the reward_parts of its Turn must be a dict such as "
                f"{{'answer': 1.0}}, got {turn.reward_parts!r:.80}."
            )
        return turn

    def _about(self) -> dict[str, Any]:
        assert self.problem is not None
        return {
            "problem_id": self._problem_id,
            "subject": self.problem.subject or "",
            "level": self.problem.level or 0,
            "source": self.problem.source,
            "answer": self.problem.answer,
        }

    def _render_problem(self) -> str:
        about = self._about()
        head = [f"Problem {about['problem_id']}", about["subject"]]
        head += [f"level {about['level']}"] if about["level"] else []
        line = " | ".join(part for part in (*head, about["source"]) if part)
        return f"{line}\n{_indent(self.problem.problem if self.problem else '')}"

    def _render_turn(self) -> str:
        response, reply = self.turns[-1]
        lines = [f"Response {len(self.turns)}", _indent(response)]
        if reply:
            lines += ["Reply", _indent(reply)]
        if self._info["verdict"]:
            parts = self._info["reward_parts"]
            lines.append(
                f"{self._info['verdict']}: extracted {self._info['extracted']!r}, "
                f"answer {self._info['answer']!r}, reward {sum(parts.values()):g}"
            )
        return "\n".join(lines)


def grade(verifier: Verifier, problems: Sequence[Problem], responses: Sequence[str]) -> list[Verdict]:
    """One verdict per response; a reward function also gets the text of the problem.

    Raises:
        ValueError: the number of verdicts is not the number of responses.
    """
    golds = [problem.answer for problem in problems]
    if isinstance(verifier, FunctionVerifier):
        return verifier.grade([problem.problem for problem in problems], responses, golds)
    verdicts = verifier(list(responses), golds)
    if len(verdicts) != len(responses):
        raise ValueError(f"The verifier was given {len(responses)} responses and returned {len(verdicts)} verdicts.")
    return verdicts


def find_verifier(verifier: str | Verifier) -> Verifier:
    """A verifier by name, the same object in every call; a verifier object is returned as it is."""
    return _named_verifier(verifier) if isinstance(verifier, str) else verifier


@functools.cache
def _named_verifier(name: str) -> Verifier:
    from llmrl import verifiers  # imported here, so that graders are loaded with the first environment

    return verifiers.verifier(name)


def problem_number(given: Any, size: int | None) -> int:
    """The number of a problem from ``reset(options={"problem_id": ...})``.

    Args:
        given: the value.
        size: the number of problems; None: unlimited.

    Raises:
        ArgumentError: it is no whole number.
        UnknownProblem: it is below 0 or beyond the last problem.
    """
    try:
        index = operator.index(given)
    except TypeError as error:
        raise ArgumentError(f"problem_id must be an integer, got {given!r}.") from error
    if index < 0 or (size is not None and index >= size):
        end = "or more" if size is None else f"to {size - 1}"
        raise UnknownProblem(f"There is no problem {index}: problem_id must be 0 {end}.")
    return index


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
