"""Collect: prompts from an environment, responses from the policy, rewards from the verifier.

One row per episode, however many turns it has, a group of rows per problem.  Text stays beside the tensors, for
the files that people read.  What the rewards mean for learning is credit's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from llmrl import keys
from llmrl.envs.vector import TextVectorEnv
from llmrl.policies.episode import pack
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.policies.scoring.forward import PADDED, ForwardPass, Sequences
from llmrl.rollouts.play import info_rows, play


@dataclass
class Rollouts:
    """Finished episodes: the tensors of :mod:`llmrl.keys`, and one record of text per row."""

    data: TensorDict
    records: list[dict[str, Any]]
    dropped_prompts: int = 0
    """Problems left out because their prompt was too long."""

    def __len__(self) -> int:
        return len(self.records)

    def select(self, rows: torch.Tensor) -> Rollouts:
        """The rows where a bool tensor [N] is true."""
        records = [record for record, keep in zip(self.records, rows.tolist(), strict=True) if keep]
        return Rollouts(self.data[rows], records, self.dropped_prompts)


class Environments:
    """Vector environments of one kind, one for each number of rows that was asked for.

    Args:
        env_id: a Gymnasium id; an environment without a vector form of its own is batched for us.
        options: what ``gymnasium.make`` passes to it.
    """

    def __init__(self, env_id: str, options: dict[str, Any]) -> None:
        self.env_id = env_id
        self.options = options
        self._by_size: dict[int, TextVectorEnv] = {}

    def of_size(self, rows: int) -> TextVectorEnv:
        """A vector environment of ``rows`` episodes."""
        if rows not in self._by_size:
            env = TextVectorEnv.make(self.env_id, rows, **self.options)
            env.tolerant = True  # one environment that raises must not cost the others their work
            for one in env.envs:
                # Those that heed the seed of reset begin anew there; the others would draw from a
                # generator that nobody has seeded.
                one.unwrapped.np_random = np.random.default_rng(np.random.randint(2**31))
            self._by_size[rows] = env
        return self._by_size[rows]

    def made(self) -> dict[int, TextVectorEnv]:
        """Those that exist, by their number of rows."""
        return dict(self._by_size)

    def num_problems(self) -> int | None:
        """How many problems there are; None where they never end."""
        return self.of_size(1).num_problems

    def close(self) -> None:
        """Close all of them."""
        for env in self._by_size.values():
            env.close()
        self._by_size.clear()


PassRates = Sequence[tuple[int, float]]
"""Problem id and share of correct responses, for each group that was sampled."""


class Rule(Protocol):
    """Decides which problems of a stream are asked; see :mod:`llmrl.training.curriculum`."""

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
    """Which problem comes next: every problem once, in an order drawn anew for each pass.

    The order is a function of seed and position alone, so the position is all there is to save, and
    the state of the rules that leave problems out.

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

    def _at(self, position: int) -> int:
        if self.size is None:
            return position
        epoch, place = divmod(position, self.size)
        if self._pass is None or self._pass[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            self._pass = epoch, order
        return int(self._pass[1][place])


def problem_seed(seed: int, problem_id: int) -> int:
    """A seed that depends on its arguments alone: environments without problem ids draw by it."""
    digest = hashlib.blake2b(f"{seed}/{problem_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def response_seed(seed: int, group: int, member: int, turn: int) -> int:
    """The seed of one response, from 0 to 2**63 - 1; it depends on its arguments alone."""
    digest = hashlib.blake2b(f"{seed}/{group}/{member}/{turn}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def collect(
    policy: Policy,
    environments: Environments,
    problem_ids: Sequence[int],
    *,
    seed: int,
    group_size: int = 1,
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    first_group: int = 0,
) -> Rollouts:
    """Play each problem ``group_size`` times, each time to the end of the episode.

    Several turns become one row: see :mod:`llmrl.rollouts.play`.

    Args:
        policy: what answers.
        environments: where the problems and rewards come from.
        problem_ids: one per group.
        seed: of environments that draw their problem instead of looking it up, and of the responses.
        options: how responses are sampled.
        first_group: the group id of the first problem; the next ones count on.

    Returns:
        One row per episode, the rows of a group together.  Problems whose prompt is longer than the
        policy allows are left out and counted.
    """
    ids = [i for i in problem_ids for _ in range(group_size)]
    rows = len(ids)
    env = environments.of_size(rows)
    problems, first = env.reset(seed=[problem_seed(seed, i) for i in ids], options={"problem_id": ids})

    def seed_of(row: int, turn: int) -> int:
        return response_seed(seed, first_group + row // group_size, row % group_size, turn)

    games = play(policy, env, problems, options=options, seeds=seed_of)
    data = pack([game.episode for game in games], policy.pad_id).to(policy.device).exclude("finish_reason")
    groups = torch.arange(rows) // group_size + first_group
    data[keys.GROUP] = groups
    data[keys.REWARD] = torch.tensor([[game.reward] for game in games], dtype=torch.float32)
    data[keys.TERMINATED] = torch.tensor([[game.terminated] for game in games])
    data[keys.TRUNCATED] = torch.tensor([[game.truncated or game.episode.cut] for game in games])
    data[keys.VALID] = torch.tensor([game.valid for game in games])
    records = [
        {
            "group": int(groups[row]),
            "problem_id": ids[row],
            "problem": problems[row],
            "response": game.turns[-1]["response"],
            "reward": game.reward,
            "finish_reason": "length" if game.episode.cut else "end",
            "tokens": sum(game.episode.sampled),
            "turns": len(game.turns),
            "transcript": game.turns,
            **{k: v for k, v in {**shown, **game.info}.items() if k not in ("problem_id",)},
        }
        for row, (game, shown) in enumerate(zip(games, info_rows(first, rows), strict=True))
    ]
    fits = torch.tensor([not game.episode.refused for game in games])
    dropped = int((~fits).sum()) // group_size
    return Rollouts(data, records, dropped).select(fits) if dropped else Rollouts(data, records)


def trim(data: TensorDict) -> TensorDict:
    """Without the columns that are padding in every row."""
    used = data[keys.ATTENTION].any(0).nonzero()
    if not len(used):
        return data
    columns = slice(int(used[0]), int(used[-1]) + 1)
    width = data[keys.ATTENTION].shape[1]
    return data.apply(
        lambda x: x[:, columns] if x.ndim == 2 and x.shape[1] == width else x,
        batch_size=data.batch_size,
    )


def concatenate(parts: Sequence[Rollouts]) -> Rollouts:
    """One batch of several, aligned where the responses begin."""
    begins = [_begin(part.data) for part in parts]
    widths = [part.data[keys.ATTENTION].shape[1] for part in parts]
    begin = max(begins)
    tail = max(w - b for w, b in zip(widths, begins, strict=True))
    padded = []
    for part, b, w in zip(parts, begins, widths, strict=True):
        left, right = begin - b, tail - (w - b)

        def pad(x: torch.Tensor, width: int = w, sides: tuple[int, int] = (left, right)) -> torch.Tensor:
            return torch.nn.functional.pad(x, sides) if x.ndim == 2 and x.shape[1] == width else x

        padded.append(part.data.apply(pad, batch_size=part.data.batch_size))
    records = [record for part in parts for record in part.records]
    return Rollouts(torch.cat(padded), records, sum(part.dropped_prompts for part in parts))


def _begin(data: TensorDict) -> int:
    sampled = data[keys.MASK].any(0).nonzero()
    return int(sampled[0]) if len(sampled) else data[keys.MASK].shape[1]


def micro_batches(data: TensorDict, budget: int, forward_pass: ForwardPass = PADDED) -> list[torch.Tensor]:
    """Row numbers, in parts of which a forward pass gives a model at most ``budget`` tokens with their padding.

    A single row that is longer than the budget gets a batch of its own.
    """
    sequences = Sequences.of(data[keys.TOKENS], data[keys.ATTENTION], data[keys.MASK])
    return [torch.tensor(part, device=data.device) for part in forward_pass.batches(sequences, budget)]


def by_rows(
    score: Callable[[TensorDict], TensorDict],
    data: TensorDict,
    names: Sequence[str],
    budget: int,
    forward_pass: ForwardPass = PADDED,
) -> TensorDict:
    """``score`` applied to micro-batches; its entries ``names`` put back in place, [N, T].

    Returns:
        A TensorDict of those entries alone, 0 in trimmed columns.
    """
    rows, width = data[keys.ATTENTION].shape
    out: dict[str, torch.Tensor] = {}
    for index in micro_batches(data, budget, forward_pass):
        part = data[index]
        used = part[keys.ATTENTION].any(0).nonzero()
        left, right = int(used[0]), width - int(used[-1]) - 1
        scored = score(trim(part))
        for name in names:
            value = scored[name]
            if value.shape[1] == width - left - right and value.shape[1] != 1:
                value = torch.nn.functional.pad(value, (left, right))
            if name not in out:
                out[name] = value.new_zeros((rows, value.shape[1]))
            out[name][index] = value
    return TensorDict(out, batch_size=[rows])


def put_back(part: TensorDictBase, data: TensorDict, rows: torch.Tensor, names: Sequence[str]) -> None:
    """Copy the entries ``names`` [n, t] of trimmed rows to where their sampled tokens are in ``data``.

    Args:
        part: ``trim(data[rows])`` with those entries; their gradient is left behind.
        data: has the entries too, [N, T]; changed in place.
        rows: [n], the row numbers in ``data``.
    """
    row, column = data[keys.MASK][rows].nonzero(as_tuple=True)
    for name in names:
        data[name][rows[row], column] = part[name].detach()[part[keys.MASK]]
