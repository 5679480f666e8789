"""The problems of a run: which one comes next, and the seeds that follow from its place.

Nothing here draws from a running generator: order and seeds are functions of their arguments alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

PassRates = Sequence[tuple[int, float]]
"""Problem id and share of correct responses, for each group that was sampled."""


class Rule(Protocol):
    """Decides which problems of a stream are asked; see :mod:`llmrl.training.curriculum`."""

    name: ClassVar[str]
    """What a checkpoint calls it; no two rules of a stream have the same."""

    def admits(self, problem_id: int, position: int) -> bool:
        """Whether the problem at this position is asked."""

    def observe(self, step: int, rates: PassRates) -> None:
        """Learn from what was sampled in a step, counted from 0."""

    def metrics(self) -> dict[str, float]:
        """What to report of a step."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""

    def load(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave."""


class NoProblemLeft(RuntimeError):
    """The rules of a stream refuse every problem."""


class ProblemStream:
    """Which problem comes next: every problem once, in a new order for each pass.

    The order is a function of seed and position alone. So a checkpoint holds the position, and the state of
    the rules that leave problems out.

    Args:
        seed: of the order.
        size: how many problems there are; None: they never end.
        position: how many came before.
        rules: a problem that one of them refuses is passed over.

    >>> stream = ProblemStream(seed=0, size=4)
    >>> sorted(stream.take(4)), stream.position
    ([0, 1, 2, 3], 4)
    """

    PATIENCE = 100
    """Passes, or thousands of endless problems, without an admitted one until it gives up."""

    def __init__(self, seed: int, size: int | None, position: int = 0, rules: Sequence[Rule] = ()) -> None:
        self.seed = seed
        self.size = size
        self.position = position
        self.rules = rules
        self._pass: tuple[int, np.ndarray] | None = None

    def take(self, count: int) -> list[int]:
        """The next ``count`` problem ids that are admitted.

        Raises:
            NoProblemLeft: the rules refuse all of them.
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
        """Tell the rules what came of the problems."""
        for rule in self.rules:
            rule.observe(step, rates)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"position": self.position, "rules": {rule.name: rule.state() for rule in self.rules}}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave.

        Raises:
            ValueError: it has not the state of every rule: one was added or renamed since.
        """
        missing = [rule.name for rule in self.rules if rule.name not in state["rules"]]
        if missing:
            raise ValueError(
                f"The checkpoint has no state of {', '.join(map(repr, missing))}, it has that of "
                f"{', '.join(map(repr, state['rules'])) or 'no rule'}."
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


def problem_seed(seed: int, problem_id: int) -> int:
    """A seed in [0, 2**31) that depends on its arguments alone: environments without problem ids draw by it."""
    return _digest(f"{seed}/{problem_id}", 4)


def row_seed(seed: int, stream: str, group: int, member: int, turn: int) -> int:
    """The seed in [0, 2**63) of one response.

    It depends on its arguments alone, so neither the rows that are sampled together nor their order change a
    response.

    Args:
        seed: of the run.
        stream: what the responses are for, such as ``"train"``.
        group: number of the group in the stream.
        member: number of the response in its group.
        turn: number of the response in its episode.
    """
    return _digest(f"{seed}/{stream}/{group}/{member}/{turn}", 8)


def _digest(text: str, size: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big") >> 1
