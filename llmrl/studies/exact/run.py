"""One run of one algorithm on one exact task, through the recipe's own ``weigh()``, ``loss()`` and credit.

An algorithm keeps its ratio, clip, gates, averaging and advantage. Refills, the choice of groups and reward shaping
are left out, so that every algorithm gets the same number of responses and the same rewards. The response limit is the
task's length. The limit of the gradient's norm holds for policy and critic together; the trainer limits each apart.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.credit.groups import KeepAll
from llmrl.errors import ConfigError
from llmrl.keys import Key
from llmrl.studies.exact.machine import divergence, entropies
from llmrl.studies.exact.start import start_policy
from llmrl.studies.exact.task import ExactTask, Settings, mean_success
from llmrl.training.past_rewards import PastRewards

BAND = (0.95, 1.05)
"""The band of ERC's entropy ratio; the share of tokens inside it is reported for every algorithm."""
DECILES = 10

CURVE = (
    "score",
    "success",
    "entropy",
    "kl",
    "kl_sampled",
    "kl_unsampled",
    "zero_grad",
    "kept",
    "in_band",
    "grad_norm",
    "tokens",
)
"""The numbers of each rollout; score, success and entropy are also measured after the last one."""


PROVIDED: frozenset[Key] = frozenset(
    (
        keys.MASK,
        keys.GROUP,
        keys.REWARD,
        keys.SHAPED_REWARD,
        keys.VALID,
        keys.TERMINATED,
        keys.TRUNCATED,
        keys.PAST_REWARDS,
        keys.ADVANTAGE,
        keys.SAMPLER_LOG_PROB,
        keys.LOG_PROB,
        keys.OLD_LOG_PROB,
        keys.REF_LOG_PROB,
        keys.ENTROPY,
        keys.OLD_ENTROPY,
        keys.MAX_ENTROPY,
        keys.VALUE,
        keys.OLD_VALUE,
        keys.VALUE_TARGET,
    )
)
"""The entries that an algorithm may read here."""


@dataclass
class RunResult:
    """The results of one run."""

    curves: dict[str, list[float]]
    """By name, see ``CURVE``.  Score, success and entropy are exact and have one value more than rollouts."""
    summary: dict[str, float]
    """The numbers of the whole run."""
    detail: dict[str, list[float]] = field(default_factory=dict)
    """By update of a rollout (``*_by_update``) and by decile of old entropy (``*_by_decile``)."""
    seconds: float = 0.0


class Broken(RuntimeError):
    """The weights are no longer finite."""


def compared(algorithm: Algorithm) -> Algorithm:
    """The algorithm without refills, choice of groups and shaping."""
    credit = dataclasses.replace(algorithm.credit, shape=(), keep=KeepAll(), max_refills=0)
    return dataclasses.replace(algorithm, credit=credit)


def check(algorithm: Algorithm, spec: str) -> None:
    """Raise ConfigError if the algorithm, which ``spec`` names, reads what exact tasks do not have."""
    lacking = [key for key in compared(algorithm).in_keys if key not in PROVIDED]
    if lacking:
        raise ConfigError(f"{spec} reads {lacking[0]!r}, which the exact tasks do not have. Study it with llmrl train.")


@dataclass
class _Tables:
    """A policy's log-probabilities and entropies in every state, float64, and those of its sampler."""

    log_probs: Tensor
    sampler: Tensor
    entropy: Tensor
    values: Tensor

    @classmethod
    def of(cls, task: ExactTask, policy: nn.Module, critic: nn.Module) -> _Tables:
        features = task.machine.features
        with torch.no_grad():
            logits = policy(features)
            exact = logits.double().log_softmax(-1)
            sampler = logits.bfloat16().double().log_softmax(-1) if task.rounded else exact
            return cls(exact, sampler, entropies(sampler), critic(features)[:, 0])


class _Run:
    """The state of a run, and its steps."""

    def __init__(self, task: ExactTask, algorithm: Algorithm, settings: Settings, seed: int) -> None:
        self.task, self.settings, self.machine = task, settings, task.machine
        self.algorithm = compared(algorithm).resolve(task.machine.length)
        self.loss = self.algorithm.loss()
        self.wanted = self.algorithm.in_keys
        self.policy = start_policy(task)
        self.critic = nn.Linear(self.machine.features.shape[1], 1)
        nn.init.zeros_(self.critic.weight)
        nn.init.zeros_(self.critic.bias)
        parameters = [*self.policy.parameters(), *(self.critic.parameters() if keys.VALUE in self.wanted else ())]
        self.optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        self.parameters = parameters
        self.draws = torch.Generator().manual_seed(seed)
        self.past = PastRewards()
        self.curves: dict[str, list[float]] = {name: [] for name in CURVE}
        self.by_update: dict[str, list[list[float]]] = {"zero_grad": [], "kept": [], "in_band": [], "ratio_max": []}
        self.band_count = torch.zeros(2, DECILES)
        self.grad_norms: list[float] = []
        self.rewards = torch.tensor([o.reward for o in self.machine.outcomes])
        self.tables = _Tables.of(task, self.policy, self.critic)
        self.reference = self.tables.log_probs
        self.sampling = collections.deque([self.tables], maxlen=settings.lag + 1)

    def sample(self) -> TensorDict:
        """Responses of the policy of ``lag`` rollouts ago, with their rewards and old scores.

        The random numbers depend only on the seed and the rollout, so all algorithms share them.
        """
        machine, settings, old = self.machine, self.settings, self.sampling[0]
        order = torch.randperm(len(machine.starts), generator=self.draws)
        prompts = order.repeat(-(-settings.prompts // len(order)))[: settings.prompts]
        rows = prompts.repeat_interleave(settings.group_size)
        chance = torch.rand(len(rows), machine.length, generator=self.draws, dtype=torch.float64)
        wrong = torch.rand(len(rows), generator=self.draws) < self.task.flip
        cumulative = old.sampler.exp().cumsum(-1)
        now = machine.starts[rows]
        states, tokens, masks = [], [], []
        for t in range(machine.length):
            live = now < machine.decisions
            at = torch.where(live, now, 0)
            token = (cumulative[at] < chance[:, t, None] * cumulative[at, -1:]).sum(-1)
            states.append(at)
            tokens.append(token)
            masks.append(live)
            now = torch.where(live, machine.after[at, token], now)
        state, token, mask = torch.stack(states, 1), torch.stack(tokens, 1), torch.stack(masks, 1)
        reward = self.rewards[now - machine.decisions]
        reward = torch.where(wrong, 1 - reward, reward)
        return TensorDict(
            {
                "state": state,
                "token": token,
                keys.MASK: mask,
                keys.GROUP: torch.arange(settings.prompts).repeat_interleave(settings.group_size),
                "problem": rows,
                keys.REWARD: reward[:, None],
                keys.VALID: torch.ones(len(rows), dtype=torch.bool),
                keys.TERMINATED: torch.ones(len(rows), 1, dtype=torch.bool),
                keys.TRUNCATED: torch.zeros(len(rows), 1, dtype=torch.bool),
                keys.SAMPLER_LOG_PROB: old.sampler[state, token].float(),
                keys.OLD_LOG_PROB: old.sampler[state, token].float(),
                keys.OLD_ENTROPY: old.entropy[state].float(),
                keys.REF_LOG_PROB: self.reference[state, token].float(),
                keys.VALUE: self.tables.values[state],
                keys.OLD_VALUE: self.tables.values[state],
                keys.MAX_ENTROPY: torch.full((len(rows), 1), math.log(machine.after.shape[1])),
            },
            batch_size=[len(rows)],
        )

    def rollout(self) -> None:
        """Sample, compute advantages, update, and record the numbers."""
        batch = self.sample()
        sampled = torch.zeros_like(self.machine.after, dtype=torch.bool)
        mask = batch[keys.MASK]
        sampled[batch["state"][mask], batch["token"][mask]] = True
        if keys.PAST_REWARDS in self.wanted:
            batch[keys.PAST_REWARDS] = self.past.recall(batch["problem"].tolist(), batch)
        batch = self.algorithm.credit.advantage(batch)
        self.note_state()
        edges = batch[keys.OLD_ENTROPY][mask].quantile(torch.linspace(0, 1, DECILES + 1)[1:-1])
        order = torch.randperm(len(batch), generator=self.draws)
        read = {"state", "token", keys.MASK, keys.OLD_LOG_PROB, keys.OLD_ENTROPY, *self.wanted}
        batch = batch.select(*read, strict=False)
        rows: dict[str, list[Tensor]] = {name: [] for name in (*self.by_update, "grad_norm")}
        for part in order.tensor_split(self.settings.updates):
            self.update(batch[part], edges, rows)
        norms = torch.stack(rows.pop("grad_norm")).tolist()
        if not all(map(math.isfinite, norms)):
            raise Broken(f"The gradient is not finite in rollout {len(self.curves['score'])}.")
        self.grad_norms += norms
        for name, values in rows.items():
            self.by_update[name].append(torch.stack(values).double().tolist())
        new = _Tables.of(self.task, self.policy, self.critic)
        inside, outside = divergence(self.machine, self.tables.log_probs, new.log_probs, sampled)
        self.tables = new
        self.sampling.append(new)
        noted = {name: sum(v[-1]) / len(v[-1]) for name, v in self.by_update.items() if name != "ratio_max"}
        noted |= {"kl": inside + outside, "kl_sampled": inside, "kl_unsampled": outside}
        noted |= {"grad_norm": sum(norms) / len(norms), "tokens": float(mask.sum())}
        for name, value in noted.items():
            self.curves[name].append(value)

    def update(self, part: TensorDict, edges: Tensor, rows: dict[str, list[Tensor]]) -> None:
        """One step of the optimiser on some rows."""
        part = self.algorithm.weigh(part)
        log_probs = self.policy(self.machine.features[part["state"]]).log_softmax(-1)
        entropy = entropies(log_probs)
        scores: dict[Key, Tensor] = {
            keys.LOG_PROB: log_probs.gather(-1, part["token"][..., None])[..., 0],
            keys.ENTROPY: entropy,
        }
        if keys.VALUE in self.wanted:
            scores[keys.VALUE] = self.critic(self.machine.features[part["state"]])[..., 0]
        for name, value in scores.items():
            part[name] = value
        out = self.loss(part)
        losses = [value for name, value in out.items() if name.startswith("loss_")]
        self.optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.grad_norm)
        self.optimizer.step()
        mask, old = part[keys.MASK], part[keys.OLD_ENTROPY]
        ratio = (entropy.detach() + 1e-8) / (old + 1e-8)
        inside = ((ratio > BAND[0]) & (ratio < BAND[1]))[mask]
        decile = torch.bucketize(old[mask], edges)
        self.band_count[0].index_add_(0, decile, inside.float())
        self.band_count[1].index_add_(0, decile, torch.ones_like(inside, dtype=torch.float32))
        rows["zero_grad"].append(out["zero_grad_fraction"])
        rows["kept"].append(out["gate_fraction"])
        rows["in_band"].append(inside.float().mean())
        rows["ratio_max"].append(out["ratio_max"])
        rows["grad_norm"].append(norm)

    def note_state(self) -> None:
        """The exact numbers of the current policy."""
        states, ends = self.machine.reach(self.tables.log_probs.exp())
        self.curves["score"].append(self.task.score(self.machine, ends))
        self.curves["success"].append(mean_success(self.machine, ends))
        self.curves["entropy"].append(float((states * entropies(self.tables.log_probs)).sum()))


def run(task: ExactTask, algorithm: Algorithm, seed: int, settings: Settings | None = None) -> RunResult:
    """Train on a task from its start point.

    Args:
        task: one of ``llmrl.studies.exact.tasks``, or your own.
        algorithm: a recipe; its refills, choice of groups and shaping are left out.
        seed: the seed of prompts, samples, the verifier's errors and the order of rows.
        settings: by default the task's.

    Raises:
        Broken: a gradient was not finite.
    """
    began = time.perf_counter()
    settings = settings or task.settings
    with torch.random.fork_rng(devices=[]):
        state = _Run(task, algorithm, settings, seed)
        torch.manual_seed(seed)  # for recipes that draw random numbers, such as clip_cov
        for _ in range(settings.rollouts):
            state.rollout()
    state.note_state()
    detail = {
        f"{name}_by_update": [sum(column) / len(column) for column in zip(*rollouts, strict=True)]
        for name, rollouts in state.by_update.items()
        if name != "ratio_max"
    }
    detail["in_band_by_decile"] = (state.band_count[0] / state.band_count[1].clamp_min(1)).tolist()
    return RunResult(state.curves, summarise(state), detail, time.perf_counter() - began)


def estimate(task: ExactTask, algorithm: Algorithm, settings: Settings) -> float:
    """Estimated seconds of a run, from a run of two rollouts."""
    short = dataclasses.replace(settings, rollouts=2)
    began = time.perf_counter()
    run(task, algorithm, 0, short)
    return (time.perf_counter() - began) / short.rollouts * settings.rollouts


def summarise(state: _Run) -> dict[str, float]:
    """The numbers that a study compares."""
    score, entropy = state.curves["score"], state.curves["entropy"]
    norms = torch.tensor(state.grad_norms, dtype=torch.float64)
    logs = norms.clamp_min(1e-12).log()
    best = max(score)
    return {
        "start": score[0],
        "final": score[-1],
        "best": best,
        "area": sum(score[1:]) / len(score[1:]),
        "success": state.curves["success"][-1],
        "entropy": entropy[-1],
        "collapsed": float(score[-1] < best / 2),
        "kl": sum(state.curves["kl"]) / len(state.curves["kl"]),
        "kl_max": max(state.curves["kl"]),
        "kl_unsampled_share": sum(state.curves["kl_unsampled"]) / max(sum(state.curves["kl"]), 1e-12),
        "zero_grad": sum(state.curves["zero_grad"]) / len(state.curves["zero_grad"]),
        "kept": sum(state.curves["kept"]) / len(state.curves["kept"]),
        "in_band": sum(state.curves["in_band"]) / len(state.curves["in_band"]),
        "ratio_max": max(max(row) for row in state.by_update["ratio_max"]),
        "grad_norm_cv": variation(norms),
        "grad_norm_jump": float(logs.diff().abs().sum()) / max(1, len(logs) - 1),
        "entropy_variation": sum(abs(b - a) for a, b in itertools.pairwise(entropy)),
    }


def variation(norms: Tensor) -> float:
    """Sample standard deviation of gradient norms, divided by their mean; 0 for a single one.

    >>> round(variation(torch.tensor([1.0, 3.0])), 4), variation(torch.tensor([2.0]))
    (0.7071, 0.0)
    """
    return float(norms.std() / norms.mean().clamp_min(1e-12)) if len(norms) > 1 else 0.0


def as_dict(result: RunResult, digits: int = 6) -> dict[str, Any]:
    """Numbers for JSON, rounded to significant digits."""

    def short(x: float) -> float:
        return float(f"{x:.{digits}g}")

    return {
        "summary": {name: short(x) for name, x in result.summary.items()},
        "curves": {name: [short(x) for x in xs] for name, xs in result.curves.items()},
        "detail": {name: [short(x) for x in xs] for name, xs in result.detail.items()},
        "seconds": round(result.seconds, 3),
    }
