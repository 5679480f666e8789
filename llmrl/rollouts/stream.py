"""The order of the problems of a run, and the seeds of its responses.

Nothing here draws from a stateful generator: order and seeds are functions of their arguments alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

PassRates = Sequence[tuple[int, float]]
"""Problem id and share of correct responses, for each sampled group."""


class Rule(Protocol):
    """Decides which problems of a stream are asked; see :mod:`llmrl.training.curriculum`."""

    name: ClassVar[str]
    """Its name in a checkpoint; each rule of a stream has another name."""

    def admits(self, problem_id: int, position: int) -> bool:
        """Whether the problem at this position is asked."""

    def observe(self, step: int, rates: PassRates) -> None:
        """Update the rule with the groups that were sampled in a step, counted from 0."""

    def metrics(self) -> dict[str, float]:
        """The metrics of a step."""

    def state(self) -> dict[str, Any]:
        """The state, for a checkpoint."""

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`state` returned."""


class NoProblemLeft(RuntimeError):
    """The rules of a stream refuse every problem."""


class ProblemStream:
    """The problems in order: every problem once per pass, in a new order for each pass.

    The order is a function of seed and position alone. So a checkpoint holds only the position,
    and the state of the rules that leave problems out.

    Args:
        seed: seed of the order.
        size: number of problems; None: unlimited.
        position: number of problems that were already passed.
        rules: a problem that one of them refuses is passed over.

    >>> stream = ProblemStream(seed=0, size=4)
    >>> sorted(stream.take(4)), stream.position
    ([0, 1, 2, 3], 4)
    """

    PATIENCE = 100
    """Passes, or thousands of unlimited problems, after which it gives up if no problem was admitted."""

    def __init__(self, seed: int, size: int | None, position: int = 0, rules: Sequence[Rule] = ()) -> None:
        self.seed = seed
        self.size = size
        self.position = position
        self.rules = rules
        self._pass: tuple[int, np.ndarray] | None = None

    def take(self, count: int) -> list[int]:
        """The next ``count`` admitted problem ids.

        Raises:
            NoProblemLeft: the rules refuse all problems.
        """
        ids: list[int] = []
        refused = 0
        while len(ids) < count:
            problem_id = self._at(self.position)
            if all(rule.admits(problem_id, self.position) for rule in self.rules):
                ids.append(problem_id)
                refused = 0
            else:
                refused += 1
            self.position += 1
            if refused > self.PATIENCE * (1000 if self.size is None else self.size):
                raise NoProblemLeft(
                    f"{refused} problems in a row were passed over by {', '.join(map(str, self.rules))}."
                )
        return ids

    def observe(self, step: int, rates: PassRates) -> None:
        """Pass the outcomes of a step to the rules."""
        for rule in self.rules:
            rule.observe(step, rates)

    def state(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"position": self.position, "rules": {rule.name: rule.state() for rule in self.rules}}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`state` returned.

        Raises:
            ValueError: the state of a rule is missing, because the rule was added or renamed since.
        """
        missing = [rule.name for rule in self.rules if rule.name not in state["rules"]]
        if missing:
            raise ValueError(
                f"The checkpoint has no state of {', '.join(map(repr, missing))}; it has the state of "
                f"{', '.join(map(repr, state['rules'])) or 'no rule'}. Resume with the --curriculum and --filter "
                "options of the run, or begin a new run."
            )
        self.position = state["position"]
        for rule in self.rules:
            rule.load(state["rules"][rule.name])

    def _at(self, position: int) -> int:
        if self.size is None:
            return position
        epoch, place = divmod(position, self.size)
        if self._pass is None or self._pass[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            self._pass = epoch, order
        return int(self._pass[1][place])


def problem_seed(seed: int, stream: str, problem_id: int) -> int:
    """A seed in [0, 2**31) that depends on the arguments alone, for environments that draw their problems.

    An evaluation draws others than training, because its stream has another name.
    """
    return _digest(f"{seed}/{stream}/{problem_id}", 4)


def row_seed(seed: int, stream: str, group: int, member: int, turn: int) -> int:
    """The seed in [0, 2**63) of one response.

    It depends on the arguments alone, so a response does not depend on the rows that are sampled with it, nor on their
    order.

    Args:
        seed: seed of the run.
        stream: name of the purpose, such as ``"train"``.
        group: number of the group in the stream.
        member: number of the response in its group.
        turn: number of the response in its episode.
    """
    return _digest(f"{seed}/{stream}/{group}/{member}/{turn}", 8)


def _digest(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big") >> 1
