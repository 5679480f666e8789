"""A task as a finite-state machine, and the exact numbers of a policy on it.

A state is everything that the policy sees before it samples a token. There are few states, so the probability of
each can be enumerated. From these follow success, entropy and KL without sampling noise.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

State = tuple[Any, ...]
"""A state in the rules of a task; hashable."""


@dataclass(frozen=True)
class Outcome:
    """The end of an answer."""

    prompt: int
    """The number of the prompt, 0, 1, ..."""
    kind: str
    """The kind of the answer; answers of one prompt and kind are counted together."""
    success: float
    """The true success of the answer, in [0, 1]."""
    reward: float
    """The reward that the verifier gives."""


class Rules(Protocol):
    """The rules of a task: prompts, transitions, inputs of the policy, and the target of the start point."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        ...

    def starts(self) -> list[State]:
        """The first state of each prompt."""
        ...

    def step(self, state: State, token: int) -> State | Outcome:
        """The state or the end after a token."""
        ...

    def features(self, state: State) -> tuple[int, ...]:
        """The inputs of the policy that are 1 in a state; the others are 0."""
        ...

    def teacher(self, state: State) -> dict[int, float]:
        """Target token probabilities of the start point; empty if the state has no target."""
        ...


@dataclass(frozen=True)
class Machine:
    """D states in which a token is chosen, E ends, V tokens, P prompts; states are ordered by position."""

    features: Tensor
    """float32 [D, F]: the inputs of the policy."""
    after: Tensor
    """int64 [D, V]: the next state; D + e is the end e."""
    starts: Tensor
    """int64 [P]."""
    layers: tuple[int, ...]
    """The first state of each position, and D: position t has the states ``layers[t]`` to ``layers[t + 1]``."""
    outcomes: tuple[Outcome, ...]
    """The E ends."""
    teacher: Tensor
    """float32 [D, V]: the target probabilities of the start point; a row of zeros has no target."""

    @property
    def decisions(self) -> int:
        """D."""
        return len(self.after)

    @property
    def length(self) -> int:
        """The largest number of tokens of an answer."""
        return len(self.layers) - 1

    def reach(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        """The probability of each state [D] and each end [E], with equally likely prompts.

        Args:
            probs: float64 [D, V].
        """
        mass = probs.new_zeros(self.decisions + len(self.outcomes))
        mass[self.starts] = 1 / len(self.starts)
        for first, last in itertools.pairwise(self.layers):
            flow = mass[first:last, None] * probs[first:last]
            mass.index_add_(0, self.after[first:last].flatten(), flow.flatten())
        return mass[: self.decisions], mass[self.decisions :]

    def kind_probability(self, ends: Tensor) -> dict[int, dict[str, float]]:
        """The probability of each kind of answer, by prompt.

        Args:
            ends: [E], from :meth:`reach`.
        """
        found: dict[int, dict[str, float]] = {p: {} for p in range(len(self.starts))}
        for outcome, mass in zip(self.outcomes, ends.tolist(), strict=True):
            found[outcome.prompt][outcome.kind] = mass * len(self.starts)
        return found


def build(rules: Rules) -> Machine:
    """The machine of a task: every state that can be reached."""
    layers, after = [0], []
    outcomes: dict[Outcome, int] = {}
    order: list[State] = []
    layer = list(dict.fromkeys(rules.starts()))
    starts = [layer.index(state) for state in rules.starts()]
    steps: list[list[State | Outcome]] = []
    places: list[dict[State, int]] = []
    while layer:
        places.append({state: len(order) + i for i, state in enumerate(layer)})
        order += layer
        rows = [[rules.step(state, token) for token in range(rules.vocabulary)] for state in layer]
        steps += rows
        layers.append(len(order))
        layer = list(dict.fromkeys(n for row in rows for n in row if not isinstance(n, Outcome)))
    for t, (first, last) in enumerate(itertools.pairwise(layers)):
        for row in steps[first:last]:
            targets = []
            for n in row:
                if isinstance(n, Outcome):
                    targets.append(len(order) + outcomes.setdefault(n, len(outcomes)))
                else:
                    targets.append(places[t + 1][n])
            after.append(targets)
    active = [rules.features(state) for state in order]
    features = torch.zeros(len(order), 1 + max(max(row) for row in active))
    teacher = torch.zeros(len(order), rules.vocabulary)
    for i, (state, row_of_ones) in enumerate(zip(order, active, strict=True)):
        features[i, list(row_of_ones)] = 1.0
        for token, p in rules.teacher(state).items():
            teacher[i, token] = p
    return Machine(
        features=features,
        after=torch.tensor(after),
        starts=torch.tensor(starts),
        layers=tuple(layers),
        outcomes=tuple(outcomes),
        teacher=teacher,
    )


def entropies(log_probs: Tensor) -> Tensor:
    """The entropy of each row in nats, [D].

    >>> entropies(torch.tensor([[0.5, 0.5]]).log()).item() == torch.tensor(2.0).log().item()
    True
    """
    return -(log_probs.exp() * log_probs).sum(-1)


def divergence(machine: Machine, old: Tensor, new: Tensor, sampled: Tensor) -> tuple[float, float]:
    """KL(old, new) of whole answers in nats, split into sampled tokens and all others.

    Each token of each state adds ``p log(p / q) - p + q``, which is never negative; over a state they sum to its
    KL.

    Args:
        old: float64 [D, V] log-probabilities.
        new: the same after the update.
        sampled: bool [D, V]: whether the rollout has this token in this state.
    """
    p, q = old.exp(), new.exp()
    states, _ = machine.reach(p)
    terms = states[:, None] * (p * (old - new) - p + q)
    return float(terms[sampled].sum()), float(terms[~sampled].sum())
