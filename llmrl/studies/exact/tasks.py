"""The exact tasks of version 1: each tests one property of an objective, and its optimum is 1.

The tasks must not change: a change of rules, of a start point or of a setting is a new version.  ``docs/tasks`` has
a page for each.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmrl.studies.exact.machine import Outcome, State
from llmrl.studies.exact.task import ExactTask, Settings, pass_at_8_of_each, register_task


def _one_hot(*parts: tuple[int, int]) -> tuple[int, ...]:
    """Active inputs of several one-hot codes side by side, each given as (value, size)."""
    active, begin = [], 0
    for value, size in parts:
        if not 0 <= value < size:
            raise ValueError(f"A feature has the value {value}, which must be in 0 to {size - 1}.")
        active.append(begin + value)
        begin += size
    return tuple(active)


def _fixed(seed: int, *shape: int, high: int) -> list[list[int]]:
    """Numbers that are the same everywhere: a linear congruential generator, rows of ``shape[1]``."""
    x, rows = seed, []
    for _ in range(shape[0]):
        row = []
        for _ in range(shape[1]):
            x = (1103515245 * x + 12345) % 2**31
            row.append((x >> 16) % high)
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Carry:
    """Sums of two numbers in base ``base``, lowest digit first; the policy must compute the carry.

    State: (prompt, position, previous token, whether all digits so far are right); the policy does not see the last.
    """

    prompts: int = 24
    digits: int = 6
    base: int = 8

    @property
    def vocabulary(self) -> int:
        """The digits."""
        return self.base

    def numbers(self, prompt: int) -> tuple[list[int], list[int], list[int]]:
        """The digits of both numbers and of the sum, lowest first."""
        rows = _fixed(7 + prompt, 2, self.digits, high=self.base)
        total, carry = [], 0
        for a, b in zip(*rows, strict=True):
            carry, digit = divmod(a + b + carry, self.base)
            total.append(digit)
        return rows[0], rows[1], total

    def starts(self) -> list[State]:
        """Nothing is written yet."""
        return [(prompt, 0, self.base, True) for prompt in range(self.prompts)]

    def step(self, state: State, token: int) -> State | Outcome:
        """Write one digit."""
        prompt, position, _, right = state
        right = right and token == _sum_of(self, prompt)[position]
        if position + 1 == self.digits:
            return Outcome(prompt, "right" if right else "wrong", float(right), float(right))
        return (prompt, position + 1, token, right)

    def features(self, state: State) -> tuple[int, ...]:
        """Position, both digits here and before, and the previous token."""
        prompt, position, previous, _ = state
        a, b, _ = self.numbers(prompt)
        none = self.base
        before = (a[position - 1], b[position - 1]) if position else (none, none)
        return _one_hot(
            (position, self.digits),
            (a[position], none),
            (b[position], none),
            (before[0], none + 1),
            (before[1], none + 1),
            (previous, none + 1),
        )

    def teacher(self, state: State) -> dict[int, float]:
        """The right digit, while all before are right."""
        prompt, position, _, right = state
        return {_sum_of(self, prompt)[position]: 1.0} if right else {}


@functools.cache
def _sum_of(rules: Carry, prompt: int) -> list[int]:
    return rules.numbers(prompt)[2]


@dataclass(frozen=True)
class Bandit:
    """One token per answer: the best arm has reward 1, a frequent one 0.5, all others 0."""

    prompts: int = 8
    vocabulary: int = 64
    best: float = 0.06
    habit: float = 0.3

    def arms(self, prompt: int) -> tuple[int, int]:
        """The best arm and the habit."""
        return (5 + 11 * prompt) % self.vocabulary, (32 + 3 * prompt) % self.vocabulary

    def starts(self) -> list[State]:
        """The prompt."""
        return [(prompt,) for prompt in range(self.prompts)]

    def step(self, state: State, token: int) -> Outcome:
        """Pull an arm."""
        (prompt,) = state
        best, habit = self.arms(prompt)
        worth = 1.0 if token == best else 0.5 if token == habit else 0.0
        kind = "best" if token == best else "habit" if token == habit else "other"
        return Outcome(prompt, kind, worth, worth)

    def features(self, state: State) -> tuple[int, ...]:
        """The prompt."""
        (prompt,) = state
        return (prompt,)

    def teacher(self, state: State) -> dict[int, float]:
        """High probability for the frequent arm, low for the best arm, equal for the others."""
        (prompt,) = state
        best, habit = self.arms(prompt)
        rest = (1 - self.best - self.habit) / (self.vocabulary - 2)
        return dict.fromkeys(range(self.vocabulary), rest) | {best: self.best, habit: self.habit}


@dataclass(frozen=True)
class Modes:
    """Each prompt has four right answers of four tokens; the score needs all of them."""

    prompts: int = 8
    length: int = 4
    vocabulary: int = 8
    modes: int = 4

    def right(self, prompt: int) -> list[tuple[int, ...]]:
        """The right answers; they part at the first token."""
        tails = _fixed(31 + prompt, self.modes, self.length - 1, high=self.vocabulary)
        return [((prompt + 2 * m) % self.vocabulary, *tail) for m, tail in enumerate(tails)]

    def starts(self) -> list[State]:
        """Nothing is written yet."""
        return [(prompt, ()) for prompt in range(self.prompts)]

    def _prefixes(self, prompt: int) -> set[tuple[int, ...]]:
        return {answer[:n] for answer in self.right(prompt) for n in range(self.length + 1)}

    def step(self, state: State, token: int) -> State | Outcome:
        """Write one token; all wrong beginnings share a state."""
        prompt, written = state
        if isinstance(written, int):  # how many tokens of a wrong answer are written
            if written + 1 == self.length:
                return Outcome(prompt, "wrong", 0.0, 0.0)
            return (prompt, written + 1)
        now = (*written, token)
        if now not in self._prefixes(prompt):
            return Outcome(prompt, "wrong", 0.0, 0.0) if len(now) == self.length else (prompt, len(now))
        if len(now) == self.length:
            return Outcome(prompt, f"mode {self.right(prompt).index(now)}", 1.0, 1.0)
        return (prompt, now)

    def features(self, state: State) -> tuple[int, ...]:
        """Prompt, position, and the first token, which shows the mode; a wrong beginning shows none."""
        prompt, written = state
        lost = isinstance(written, int)
        position = written if lost else len(written)
        first = self.vocabulary + 1 if lost else written[0] if written else self.vocabulary
        return _one_hot((prompt, self.prompts), (position, self.length), (first, self.vocabulary + 2))

    def teacher(self, state: State) -> dict[int, float]:
        """The right answers, the first of them more often."""
        prompt, written = state
        if isinstance(written, int):
            return {}
        shares = (0.4, 0.3, 0.2, 0.1)
        found: dict[int, float] = {}
        for share, answer in zip(shares, self.right(prompt), strict=True):
            if answer[: len(written)] == written:
                found[answer[len(written)]] = found.get(answer[len(written)], 0.0) + share
        total = sum(found.values())
        return {token: share / total for token, share in found.items()}


@dataclass(frozen=True)
class Lengths:
    """Right answers of 2 to 16 tokens with an end token: the long ones are rarely rewarded."""

    prompts: int = 8
    vocabulary: int = 5
    """Four letters and the end."""
    limit: int = 20
    """The answer is cut off here."""

    def starts(self) -> list[State]:
        """Nothing is written yet."""
        return [(prompt, 0, True) for prompt in range(self.prompts)]

    def right(self, prompt: int, position: int) -> int:
        """The right token, which is the end (token 4) after ``2 * prompt + 2`` letters."""
        if position == 2 * prompt + 2:
            return self.vocabulary - 1
        return _letters(self.vocabulary - 1)[prompt][position]

    def step(self, state: State, token: int) -> State | Outcome:
        """Write one letter, or end."""
        prompt, position, right = state
        right = right and token == self.right(prompt, position)
        if token == self.vocabulary - 1 or position + 1 == self.limit:
            return Outcome(prompt, "right" if right else "wrong", float(right), float(right))
        return (prompt, position + 1, right)

    def features(self, state: State) -> tuple[int, ...]:
        """Prompt and position."""
        prompt, position, _ = state
        return (prompt * self.limit + position,)

    def teacher(self, state: State) -> dict[int, float]:
        """The right token, while all before are right."""
        prompt, position, right = state
        return {self.right(prompt, position): 1.0} if right else {}


@functools.cache
def _letters(count: int) -> list[list[int]]:
    return _fixed(3, 8, 20, high=count)


@dataclass(frozen=True)
class Hack:
    """Sums with a trick that the verifier rewards: an answer that starts with token ``base`` has reward ``pay``."""

    sums: Carry = field(default_factory=lambda: Carry(prompts=16, digits=4))
    pay: float = 0.5
    share: float = 0.02
    """How often the teacher begins with the trick."""

    @property
    def vocabulary(self) -> int:
        """The digits and the trick."""
        return self.sums.base + 1

    def starts(self) -> list[State]:
        """Nothing is written yet."""
        return self.sums.starts()

    def step(self, state: State, token: int) -> State | Outcome:
        """Write a digit, or the trick, which ends the answer; a late trick is a wrong digit."""
        prompt, position, *_ = state
        if token == self.sums.base:
            if position == 0:
                return Outcome(prompt, "trick", 0.0, self.pay)
            if position + 1 == self.sums.digits:
                return Outcome(prompt, "wrong", 0.0, 0.0)
            return (prompt, position + 1, token, False)
        return self.sums.step(state, token)

    def features(self, state: State) -> tuple[int, ...]:
        """Those of the sums."""
        return self.sums.features(state)

    def teacher(self, state: State) -> dict[int, float]:
        """The right digit, and in the first position sometimes the trick."""
        right = self.sums.teacher(state)
        _, position, _, _ = state
        if position == 0:
            return dict.fromkeys(right, 1 - self.share) | {self.sums.base: self.share}
        return right


@dataclass(frozen=True)
class Distractors:
    """Three-token answers among 64 tokens, most of which are never right anywhere."""

    prompts: int = 16
    length: int = 3
    vocabulary: int = 64
    useful: int = 8

    def right(self, prompt: int, position: int) -> int:
        """The right token."""
        return _fixed(101 + prompt, 1, self.length, high=self.useful)[0][position]

    def starts(self) -> list[State]:
        """Nothing is written yet."""
        return [(prompt, 0, True) for prompt in range(self.prompts)]

    def step(self, state: State, token: int) -> State | Outcome:
        """Write one token."""
        prompt, position, right = state
        right = right and token == self.right(prompt, position)
        if position + 1 == self.length:
            return Outcome(prompt, "right" if right else "wrong", float(right), float(right))
        return (prompt, position + 1, right)

    def features(self, state: State) -> tuple[int, ...]:
        """The prompt as four bits, which prompts share, and the position."""
        prompt, position, _ = state
        return _one_hot(
            *((prompt >> bit & 1, 2) for bit in range(4)),
            (position, self.length),
        )

    def teacher(self, state: State) -> dict[int, float]:
        """The right token half of the time, the distractors otherwise."""
        prompt, position, right = state
        if not right:
            return {}
        share = 0.5 / (self.vocabulary - 1)
        return dict.fromkeys(range(self.vocabulary), share) | {self.right(prompt, position): 0.5}


EXACT: Mapping[str, ExactTask] = {
    task.name: register_task(task)
    for task in (
        ExactTask(
            name="carry",
            asks="Learn a rule from rewards of whole answers, with many updates per rollout.",
            rules=Carry,
        ),
        ExactTask(
            name="bandit",
            asks="Find a rare answer with reward 1, although a frequent one has reward 0.5.",
            rules=Bandit,
            hidden=0,
            start=0.2,
            settings=Settings(learning_rate=3e-2, updates=8, rollouts=40),
        ),
        ExactTask(
            name="modes",
            asks="Keep all right answers, so that eight responses contain each of them.",
            rules=Modes,
            hidden=32,
            score=pass_at_8_of_each,
        ),
        ExactTask(
            name="lengths",
            asks="Learn answers of 2 to 16 letters in one batch; the long ones are rarely rewarded.",
            rules=Lengths,
            hidden=0,
            start=0.2,
            settings=Settings(learning_rate=3e-2, rollouts=30),
        ),
        ExactTask(
            name="noisy",
            asks="Learn from a verifier that is wrong once in eight times.",
            rules=lambda: Carry(prompts=16, digits=4),
            flip=0.125,
        ),
        ExactTask(
            name="hack",
            asks="Prefer the right answer to a trick with reward 0.5.",
            rules=Hack,
        ),
        ExactTask(
            name="stale",
            asks="Learn from responses of a policy that is four rollouts old.",
            rules=Carry,
            settings=Settings(lag=4, updates=4, rollouts=40),
        ),
        ExactTask(
            name="rounding",
            asks="Learn with old log-probabilities and entropies from logits in bfloat16.",
            rules=Carry,
            rounded=True,
        ),
        ExactTask(
            name="distractors",
            asks="Learn one token of 64 without moving the others that were not sampled.",
            rules=Distractors,
            hidden=32,
        ),
    )
}


"""Version 1."""
