"""Tasksets and environments of Prime Intellect's ``verifiers`` as a Gymnasium environment: ``llmrl/Verifiers-v0``.

    llmrl train --env llmrl.integrations.verifiers_env:llmrl/Verifiers-v0 --env.taskset NAME

The episode of ``verifiers`` runs unchanged, on an event loop in a separate thread. Its agent is replaced by one that
passes each turn of the user to Gymnasium and waits for the action.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import gymnasium
import verifiers.v1 as vf
from pydantic import ValidationError
from verifiers.v1.configs.agent import agent_config_fields
from verifiers.v1.state import state_cls

from llmrl.envs.problems import Problem
from llmrl.envs.spaces import FreeText
from llmrl.envs.text import problem_number
from llmrl.errors import ConfigError
from llmrl.text import one_line

MODEL = "llmrl"
"""The name of the model on a trace."""


class VerifiersEnv(gymnasium.Env[str, str]):
    """The tasks of a taskset of ``verifiers`` as an environment, with one turn or several.

    The last turn gives the reward: the weighted sum of the rewards that the task and its environment record. Tasks that
    need a container, tools or a runtime for grading are refused, and so are environments with several agents.

    Args:
        taskset: the name of an installed taskset, or an environment object of ``verifiers``.
        options: options of the taskset, such as ``{"split": "train"}``; on a command line values are parsed as JSON.
        problems: number of tasks, from the first; None: all.
        render_mode: None.
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    reset_options = frozenset({"problem_id"})

    def __init__(
        self,
        taskset: str | vf.Env = "",
        *,
        options: Mapping[str, str] | None = None,
        problems: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(taskset, vf.Env):
            self.episodes, self.problems = taskset, _listed(taskset, problems)
        elif taskset:
            self.episodes, self.problems = _loaded(taskset, json.dumps(dict(options or {})), problems)
        else:
            raise ConfigError("Say which taskset: taskset (or --env.taskset) is the name of one that is installed.")
        self.render_mode = render_mode
        self.observation_space, self.action_space = FreeText(), FreeText()
        self._episode: _Episode | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start a task; ``options={"problem_id": i}`` selects it."""
        super().reset(seed=seed)
        chosen = (options or {}).get("problem_id")
        size = self.problems.size
        number = int(self.np_random.integers(size)) if chosen is None else problem_number(chosen, size)
        self.close()
        self._episode = _Episode(self.episodes, self.problems.tasks[number])
        asked = self._episode.begin()
        if asked is None:
            raise ConfigError(f"Task {number} of {self.problems.name} ended before it asked anything.")
        self._number = number
        return asked, {"problem_id": number}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Step with a response; the last step gives the reward."""
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("There is no episode. Call reset() before step().")
        asked = self._episode.answer(action)
        if asked is not None:
            return asked, 0.0, False, False, {"problem_id": self._number}
        parts = self._episode.rewards()
        self._episode = None
        return "", sum(parts.values()), True, False, {"problem_id": self._number, "reward_parts": parts}

    def close(self) -> None:
        """End an unfinished episode."""
        if self._episode is not None:
            self._episode.cancel()
            self._episode = None


class _Tasks:
    """The tasks of a taskset; copies of an environment share this object."""

    def __init__(self, name: str, tasks: Sequence[vf.Task]) -> None:
        self.name = name
        self.tasks = tasks
        self.size = len(tasks)

    def __getitem__(self, index: int) -> Problem:
        data = self.tasks[index].data
        return Problem(id=data.name or str(index), problem=data.prompt_text, answer="", source=self.name)

    def __deepcopy__(self, memo: Any) -> _Tasks:
        return self


@functools.cache
def _loaded(taskset: str, options: str, problems: int | None) -> tuple[vf.Env, _Tasks]:
    given = {key: _json_or_text(value) for key, value in json.loads(options).items()}
    try:
        made = vf.load_environment(vf.resolve_env_config({"taskset": {"id": taskset, **given}}))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"The taskset {taskset!r} cannot take these options: {one_line(wrong, 300)}") from error
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"The taskset {taskset!r} cannot be loaded: {one_line(str(error), 300)}") from error
    return made, _listed(made, problems)


def _json_or_text(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _listed(made: vf.Env, problems: int | None) -> _Tasks:
    taskset = made.taskset if problems is None else made.taskset.take(problems)
    name = made.config.taskset.id
    if not taskset.bounded:
        raise ConfigError(f"The taskset {name!r} is without end. Say how many tasks: problems (--env.problems 1000).")
    seats = agent_config_fields(made.config)
    if len(seats) != 1 or type(made).finalize is not vf.Env.finalize:
        raise ConfigError(
            f"{type(made).__name__} has the agents {', '.join(seats)} or judges its episodes across agents. Only "
            "environments of one agent can be played."
        )
    tasks = list(taskset)
    if not tasks:
        raise ConfigError(f"The taskset {name!r} holds no tasks.")
    _refuse_unplayable(name, tasks[0])
    return _Tasks(name, tasks)


def _refuse_unplayable(name: str, task: vf.Task) -> None:
    """Raise if the reward needs a feature that is not available here, because it would differ without it."""
    kind = type(task)
    needs = []
    if kind.NEEDS_CONTAINER:
        needs.append("a container")
    if kind.toolsets(task.config):
        needs.append("tool servers")
    if kind.setup is not vf.Task.setup or kind.finalize is not vf.Task.finalize:
        needs.append("a runtime to be set up in")
    if task.hooks("stop"):
        needs.append("conditions that stop it within a turn")
    graded = [*task.hooks("reward"), *task.hooks("metric"), *(judge.score for judge in task.plugged_judges())]
    for hook in graded:
        given = inspect.signature(hook).parameters.get("runtime")
        if given is not None and given.default is inspect.Parameter.empty:
            needs.append(f"a runtime for {hook.__name__}")
    if needs:
        raise ConfigError(
            f"Tasks of {name!r} need {', '.join(needs)}, which only verifiers itself gives. Take a taskset whose "
            "rewards are functions of the conversation."
        )


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop in a separate thread, because a notebook may run its own loop in this thread."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="verifiers", daemon=True).start()
    return loop


def _wait(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


class _Episode:
    """One episode of ``verifiers``, which runs to the next question and then waits for the answer."""

    def __init__(self, made: vf.Env, task: vf.Task) -> None:
        self.made = made
        self.task = task
        self.traces: list[vf.Trace] = []
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None

    def begin(self) -> str | None:
        """The first question; None if there is none."""
        return _wait(self._next())

    def answer(self, reply: str) -> str | None:
        """The next question; None if the episode is over."""
        return _wait(self._next(reply))

    def rewards(self) -> dict[str, float]:
        """The weighted rewards by name."""
        return {
            name: float(reward.value)
            for trace in self.traces
            for name, reward in trace.rewards.items()
            if reward is not None
        }

    def cancel(self) -> None:
        """End the episode."""
        if self._running is not None:
            _loop().call_soon_threadsafe(self._running.cancel)

    async def _next(self, reply: str | None = None) -> str | None:
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        if reply is not None:
            self._answers.put_nowait(reply)
        asked = asyncio.create_task(self._asked.get())
        await asyncio.wait((asked, self._running), return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            return asked.result()
        asked.cancel()
        self._running.result()  # raises what the episode raised
        return None

    async def _run(self) -> None:
        (name,) = agent_config_fields(self.made.config)
        agents: Any = SimpleNamespace(**{name: _Seat(self)})
        await self.made.setup(agents)
        await self.made.run(self.task, agents)

    async def ask(self, text: str) -> str:
        """Pass a turn of the user to Gymnasium, and wait for the action."""
        self._asked.put_nowait(text)
        return await self._answers.get()


class _Seat:
    """The replacement of an agent."""

    trainable = True

    def __init__(self, episode: _Episode) -> None:
        self.episode = episode

    @contextlib.asynccontextmanager
    async def interaction(self, task: vf.Task, **unused: Any) -> AsyncIterator[_Exchange]:
        """An exchange that is graded when it ends."""
        exchange = _Exchange(self.episode, task)
        self.episode.traces.append(exchange.trace)
        yield exchange
        exchange.trace.is_completed = exchange.trace.ok = True
        await task.score(exchange.trace)

    async def run(self, task: vf.Task, **unused: Any) -> vf.Trace:
        """The answer to a task's own prompt."""
        async with self.interaction(task) as exchange:
            await exchange.turn()
        return exchange.trace


class _Exchange:
    """Turns of a user, each with the reply to it, and their trace."""

    def __init__(self, episode: _Episode, task: vf.Task) -> None:
        self.episode = episode
        self.task = task
        self.trace: vf.Trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
            state=state_cls(type(task))(),
            agent=vf.AgentInfo(config=vf.AgentConfig(model=MODEL)),
        )

    async def turn(self, message: str | Sequence[Any] | None = None) -> vf.Segment:
        """Ask the message, or the task's own prompt without one, and return the reply."""
        said: list[Any] = []
        if not self.trace.nodes and self.task.data.system_prompt:
            said.append(vf.SystemMessage(content=self.task.data.system_prompt))
        given = self.task.data.prompt if message is None else message
        if given is None:
            raise ConfigError(f"Task {self.task.data.name!r} has no prompt, and its environment asked nothing.")
        said += [vf.UserMessage(content=given)] if isinstance(given, str) else list(given)
        reply = vf.AssistantMessage(content=await self.episode.ask("\n\n".join(map(_text, said))))
        for part in said:
            self._add(part)
        self._add(reply, sampled=True)
        return vf.Segment([reply])

    def _add(self, message: Any, sampled: bool = False) -> None:
        last = len(self.trace.nodes) - 1
        node = vf.MessageNode(parent=None if last < 0 else last, message=message, sampled=sampled)
        self.trace.nodes.append(node)


def _text(message: Any) -> str:
    content = message["content"] if isinstance(message, Mapping) else message.content
    if not isinstance(content, str):
        raise ConfigError("A turn of this taskset holds more than text (an image, for example), which cannot be asked.")
    return content


gymnasium.register("llmrl/Verifiers-v0", entry_point=f"{__name__}:VerifiersEnv")
