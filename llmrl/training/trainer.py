"""The trainer: one step after the other, read from top to bottom.

It owns the order of things and the state that a checkpoint holds.  What an algorithm is, it asks the
recipe; what a model is, the policy; what is right, the environment.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy
from llmrl.rollouts.collect import (
    Environments,
    NoProblemLeft,
    ProblemStream,
    Rollouts,
    by_rows,
    collect,
    concatenate,
    micro_batches,
    put_back,
    trim,
)
from llmrl.training import checkpoint, faults, randomness
from llmrl.training.config import Config
from llmrl.training.curriculum import pass_rates, rules_of
from llmrl.training.faults import Memory, TrainingError, sized
from llmrl.training.metrics import MetricsFile
from llmrl.training.past_rewards import PastRewards

ROW = "row"
"""Where a row of a minibatch stands among the step's records; no loss reads it."""


@dataclass
class Counters:
    """What has happened so far; part of every checkpoint."""

    step: int = 0
    tokens: int = 0
    groups: int = 0
    skipped_updates: int = 0
    bad_in_a_row: int = 0
    lost_groups: int = 0
    lost_in_a_row: int = 0


@dataclass
class Trainer:
    """Everything that a run consists of.

    Args:
        config: the resolved settings.
        policy: the model that learns and samples.
        algorithm: the recipe.
        environments: training problems.
        critic: for algorithms that read ``"value"``.
        reference: for algorithms that read ``"ref_log_prob"``.
        note: is told, in words, of what went wrong and did not end the training.
        faults: folder for batches and tracebacks to look into; None: they are not kept.
    """

    config: Config
    policy: Policy
    algorithm: Algorithm
    environments: Environments
    critic: Critic | None = None
    reference: Policy | None = None
    counters: Counters = field(default_factory=Counters)
    note: Callable[[str], object] = logging.getLogger(__name__).warning
    faults: Path | None = None

    def __post_init__(self) -> None:
        train = self.config.train
        self.loss = self.algorithm.loss().to(self.policy.device)
        self.parameters = [p for p in self.policy.model.parameters() if p.requires_grad]
        # A step of 1e-6 is lost in bfloat16, so the optimiser works on float32 copies of such weights.
        self.masters = [p if p.dtype == torch.float32 else p.detach().float().requires_grad_() for p in self.parameters]
        self.critic_parameters = [] if self.critic is None else list(self.critic.parameters())
        groups = [{"params": self.masters, "peak": train.learning_rate}]
        if self.critic_parameters:
            groups.append({"params": self.critic_parameters, "peak": train.critic_learning_rate})
        # Fused: one pass over each weight and its moments, several times faster than one per operation.
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=train.learning_rate,
            betas=train.adam_betas,
            weight_decay=train.weight_decay,
            fused=True,
        )
        self.shuffling = torch.Generator().manual_seed(self.config.seed + 1)
        self.memory = Memory(train.micro_batch_tokens, lambda text: self.note(text))
        self.past_rewards = PastRewards()
        self.last_fault: str | None = None
        self.records: list[dict[str, Any]] = []
        self.problems = ProblemStream(
            self.config.seed,
            self.environments.num_problems(),
            rules=rules_of(self.config, self.environments),
        )
        self.seconds: dict[str, float] = {}

    # The step, in the order of docs/architecture.md.

    def step(self) -> tuple[dict[str, float], Rollouts]:
        """Sample, grade, credit, learn; returns the metrics and what was trained on.

        The rollouts hold every tensor that the update read, and ``"log_prob"`` (``"entropy"`` where
        :meth:`noted_scores` names it) as the update last scored each row, before that row's last gradient.
        """
        began = time.perf_counter()
        self.seconds = {}
        self.policy.eval()
        rollouts, metrics = self.gather()
        if len(rollouts):
            self.records = rollouts.records
            data = self.before_update(rollouts, metrics)
            self.update(data, metrics)
            rollouts.data.update(data.select(keys.LOG_PROB, keys.ENTROPY, strict=False))
        with self.timed("sync"):
            self.policy.sync()
        self.counters.step += 1
        elapsed = time.perf_counter() - began
        metrics |= {f"time/{name}": seconds for name, seconds in self.seconds.items()}
        metrics |= {
            "time/step": elapsed,
            "perf/tokens_per_second": metrics.pop("sampled_tokens") / elapsed,
            "progress/tokens": float(self.counters.tokens),
            "progress/problems": float(self.problems.position),
            "actor/skipped_updates": float(self.counters.skipped_updates),
            "groups/lost": float(self.counters.lost_groups),
            "perf/micro_batch_tokens": float(self.memory.budget),
        }
        return metrics, rollouts

    def gather(self) -> tuple[Rollouts, dict[str, float]]:
        """Groups to train on: sampled, shaped, filtered, and refilled while the recipe allows."""
        train, credit = self.config.train, self.algorithm.credit
        self.last_fault = None
        sampled: list[Rollouts] = []
        kept: list[Rollouts] = []
        missing, rounds = train.prompts_per_step, 0
        with self.timed("generate"):
            while missing > 0 and rounds <= credit.max_refills:
                rollouts = collect(
                    self.policy,
                    self.environments,
                    self.next_problems(missing),
                    seed=self.config.seed,
                    group_size=train.group_size,
                    first_group=self.counters.groups,
                )
                rounds += 1
                self.counters.groups += missing
                rollouts = self.without_faults(rollouts)
                sampled.append(rollouts)
                self.problems.observe(self.counters.step, pass_rates(rollouts.records))
                if not len(rollouts):
                    continue  # every prompt was too long
                keep = credit.keep(rollouts.data)  # by what the verifier said, before any shaping
                for shape in credit.shape:
                    rollouts.data[keys.REWARD] = shape(rollouts.data)
                if keep.any():
                    kept.append(rollouts.select(keep))
                    missing -= int(rollouts.data[keys.GROUP][keep].unique().numel())
        everything = concatenate(sampled)
        self.stop_if_all_is_lost(len(everything))
        self.counters.tokens += int(everything.data[keys.MASK].sum())
        metrics = describe(everything)
        for rule in self.problems.rules:
            metrics |= rule.metrics()
        metrics["dynamic_sampling/rounds"] = float(rounds)
        groups = sum(part.data[keys.GROUP].unique().numel() for part in sampled)
        metrics["dynamic_sampling/acceptance"] = (train.prompts_per_step - missing) / max(groups, 1)
        return (concatenate(kept) if kept else Rollouts(everything.data[:0], [])), metrics

    def without_faults(self, rollouts: Rollouts) -> Rollouts:
        """The groups in which no environment raised; the others are counted and written down."""
        whole, broken = faults.split_faults(rollouts)
        if broken:
            step, counters = self.counters.step + 1, self.counters
            lost = len({record["group"] for record in broken})
            counters.lost_groups += lost
            first = broken[0]
            where = ""
            if self.faults is not None:
                path = self.faults / f"step_{step:06d}_environment.jsonl"
                with self.unless_disk_is_full():
                    faults.write_records(path, step, broken)
                    where = f" Tracebacks: {path}."
            self.note(
                f"Step {step}: {lost} groups left out, because their environment raised an error, first "
                f"{faults.last_line(first['fault'])!r} at problem {first['problem_id']}.{where}"
            )
            self.last_fault = first["fault"]
        return whole

    def stop_if_all_is_lost(self, rows: int) -> None:
        """Count the steps in a row that an environment's errors left without a response."""
        counters = self.counters
        lost = rows == 0 and self.last_fault is not None
        counters.lost_in_a_row = counters.lost_in_a_row + 1 if lost else 0
        if counters.lost_in_a_row >= self.config.train.max_lost_steps:
            raise TrainingError(
                f"The environment {self.environments.env_id} raised an error in every group of "
                f"{counters.lost_in_a_row} steps in a row (up to step {counters.step + 1}), so there is nothing "
                f"to learn from. The last error:\n{self.last_fault}"
            )

    @contextmanager
    def unless_disk_is_full(self) -> Iterator[None]:
        """Write something that training can do without."""
        try:
            yield
        except OSError as error:
            self.note(f"Could not be written, going on without: {error}")

    def next_problems(self, count: int) -> list[int]:
        """Problem ids from the stream.

        Raises:
            TrainingError: curriculum and filter leave none.
        """
        try:
            return self.problems.take(count)
        except NoProblemLeft as error:
            raise TrainingError(f"{error} Give --filter.revisit above 0, or other problems.") from error

    def before_update(self, rollouts: Rollouts, metrics: dict[str, float]) -> TensorDict:
        """Everything that is fixed during the update: old scores, values, advantages."""
        data = trim(rollouts.data)
        needs = self.algorithm.in_keys
        with self.timed("score"), torch.no_grad():
            if self.config.train.rescore:
                names = [keys.LOG_PROB, keys.ENTROPY, keys.MAX_ENTROPY]
                # The entropy costs little here and is the first thing that anyone looks at.
                old = self.by_rows(lambda part: self.policy.score(part, entropy=True), data, names)
                data[keys.OLD_LOG_PROB] = old[keys.LOG_PROB]
                data[keys.OLD_ENTROPY] = old[keys.ENTROPY]
                data[keys.MAX_ENTROPY] = old[keys.MAX_ENTROPY]
                metrics |= entropy_and_mismatch(data, old)
            else:
                data[keys.OLD_LOG_PROB] = data[keys.SAMPLER_LOG_PROB]
            if self.reference is not None:
                reference = self.by_rows(self.reference.score, data, [keys.LOG_PROB])
                data[keys.REF_LOG_PROB] = reference[keys.LOG_PROB]
            if self.critic is not None:
                data[keys.VALUE] = self.by_rows(self.critic, data, [keys.VALUE])[keys.VALUE]
                data[keys.OLD_VALUE] = data[keys.VALUE]
        if keys.PAST_REWARDS in needs:
            ids = [record["problem_id"] for record in rollouts.records]
            data[keys.PAST_REWARDS] = self.past_rewards.recall(ids, data)
        data = self.algorithm.credit.advantage(data)
        mask = data[keys.MASK]
        advantage = data[keys.ADVANTAGE][mask]
        metrics |= {
            "advantage/mean": float(advantage.mean()),
            "advantage/std": float(advantage.std(correction=0)),
            "groups/zero_std": _zero_std(data),
        }
        if keys.VALUE_TARGET in data.keys():  # noqa: SIM118  a TensorDict is no mapping
            target, value = data[keys.VALUE_TARGET][mask], data[keys.VALUE][mask]
            left = float((target - value).var(correction=0) / target.var(correction=0).clamp_min(1e-12))
            metrics["critic/explained_variance"] = 1 - left
        for record, first in zip(rollouts.records, _first_advantage(data), strict=True):
            record["advantage"] = first
        rollouts.data = data
        wanted = {keys.TOKENS, keys.ATTENTION, keys.MASK, keys.SAMPLER_LOG_PROB, *needs}
        return data.select(*wanted, strict=False)

    def by_rows(self, score: Callable[[TensorDict], TensorDict], data: TensorDict, names: Sequence[str]) -> TensorDict:
        """:func:`rollout.by_rows` in micro-batches that fit into memory."""
        forward_pass = self.policy.forward_pass

        def measured(part: TensorDict) -> TensorDict:
            with sized(part, forward_pass):
                return score(part)

        return self.memory.fit(lambda budget: by_rows(measured, data, names, budget, forward_pass))

    def update(self, data: TensorDict, metrics: dict[str, float]) -> None:
        """Optimiser steps on minibatches of the rows, each in micro-batches."""
        train = self.config.train
        self.policy.pause()
        for name in self.noted_scores():
            data[name] = torch.zeros_like(data[keys.OLD_LOG_PROB])
        with self.timed("update"):
            self.policy.train()
            data = data.set(ROW, torch.arange(len(data), device=data.device))
            totals: dict[str, float] = {}
            unscored = not train.rescore  # until the first rows are, with the weights that sampled
            for _ in range(train.epochs):
                order = torch.randperm(len(data), generator=self.shuffling)
                for rows in order.tensor_split(train.updates_per_step):
                    if len(rows):
                        rows = rows.to(data.device)
                        batch = self.algorithm.weigh(trim(data[rows]))
                        self.update_once(batch, data, totals)
                        if unscored:
                            metrics |= entropy_and_mismatch(data[rows], data[rows])
                            unscored = False
            self.policy.eval()
        tokens, updates = max(totals.pop("tokens", 0.0), 1.0), max(totals.pop("updates", 0.0), 1.0)
        ratio_min, ratio_max = totals.pop("ratio_min", 1.0), totals.pop("ratio_max", 1.0)
        for name, total in totals.items():
            per = updates if name in ("loss", "grad_norm", "critic_loss", "critic_grad_norm") else tokens
            metrics[_metric_name(name)] = total / per
        metrics |= {
            "actor/ratio_min": ratio_min,
            "actor/ratio_max": ratio_max,
            "actor/learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def keeps_rollouts(self, step: int) -> bool:
        """Whether the rollouts of a step (1, 2, ...) are written down: the first, the last, every so many."""
        every = self.config.checkpoint.rollouts_every
        return every > 0 and (step % every == 0 or step in (1, self.config.train.steps))

    def noted_scores(self) -> list[str]:
        """What the update scores of each token, and notes in the rollouts.

        Entropies if the algorithm reads them, if nothing else tells them, and for rollouts that are kept:
        another algorithm may read them there.  They change nothing of the gradient.
        """
        entropy = (
            keys.ENTROPY in self.algorithm.in_keys
            or not self.config.train.rescore
            or self.keeps_rollouts(self.counters.step + 1)
        )
        return [keys.LOG_PROB, *([keys.ENTROPY] * entropy)]

    def update_once(self, batch: TensorDict, data: TensorDict, totals: dict[str, float]) -> None:
        """One optimiser step: the gradients of the micro-batches are summed, clipped and applied.

        Args:
            batch: rows of ``data``, trimmed and weighed.
            data: all rows; the scores of those that are trained on are written into it.
            totals: what the metrics are added to.
        """
        sums = self.memory.fit(lambda budget: self.accumulate(batch, data, budget))
        if not self.apply_gradient(sums):
            self.report_bad_update(batch)
        for name, amount in sums.items():
            if name in ("ratio_min", "ratio_max"):
                pick = min if name == "ratio_min" else max
                totals[name] = pick(totals.get(name, amount), amount)
            else:
                totals[name] = totals.get(name, 0.0) + amount
        totals["updates"] = totals.get("updates", 0.0) + 1

    def accumulate(self, batch: TensorDict, data: TensorDict, budget: int) -> dict[str, float]:
        """Add up the gradients of all micro-batches, from zero; returns the sums of the metrics.

        From zero, since a backward pass that broke off has reached some of the weights and not others.
        """
        noted, forward_pass = self.noted_scores(), self.policy.forward_pass
        for parameter in (*self.parameters, *self.masters, *self.critic_parameters):
            parameter.grad = None
        sums: dict[str, float] = {}
        for rows in micro_batches(batch, budget, forward_pass):
            part = trim(batch[rows])
            with sized(part, forward_pass):
                part = self.policy.score(part, entropy=keys.ENTROPY in noted)
                put_back(part, data, part[ROW], noted)
                if self.critic is not None:
                    part = self.critic(part)
                out = self.loss(part)
                loss = sum(value for name, value in out.items() if name.startswith("loss_"))
                loss.backward()
            tokens = float(part[keys.MASK].sum())
            for name, value in out.items():
                amount = float(value.detach())
                if name in ("ratio_min", "ratio_max"):
                    pick = min if name == "ratio_min" else max
                    sums[name] = pick(sums.get(name, amount), amount)
                elif name == "loss_value":
                    sums["critic_loss"] = sums.get("critic_loss", 0.0) + amount
                elif name.startswith("loss_"):
                    sums["loss"] = sums.get("loss", 0.0) + amount
                elif name != "tokens":
                    # The loss modules report means over the call's sampled tokens.
                    sums[name] = sums.get(name, 0.0) + amount * tokens
            sums["tokens"] = sums.get("tokens", 0.0) + tokens
        return sums

    def apply_gradient(self, sums: dict[str, float]) -> bool:
        """Clip and step; False, and no step, if the loss or the gradient is not finite."""
        train, counters = self.config.train, self.counters
        warm = min((counters.step + 1) / max(train.warmup_steps, 1), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * warm
        if self.critic_parameters and counters.step < train.critic_warmup_steps:
            self.optimizer.param_groups[0]["lr"] = 0.0
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter and parameter.grad is not None:
                master.grad, parameter.grad = parameter.grad.float(), None
        norms = [torch.nn.utils.clip_grad_norm_(self.masters, train.max_grad_norm)]
        if self.critic_parameters:
            norms.append(torch.nn.utils.clip_grad_norm_(self.critic_parameters, train.max_grad_norm))
        for name, norm in zip(("grad_norm", "critic_grad_norm"), norms, strict=False):
            sums[name] = float(norm)
        judged = ("loss", "critic_loss", "grad_norm", "critic_grad_norm")
        if all(math.isfinite(sums[name]) for name in judged if name in sums):
            self.optimizer.step()
            self.adopt_masters()
            counters.bad_in_a_row = 0
            return True
        counters.skipped_updates += 1
        counters.bad_in_a_row += 1
        return False

    def report_bad_update(self, data: TensorDict) -> None:
        """Keep the batch of an update that was left out; stop after too many in a row."""
        counters, step = self.counters, self.counters.step + 1
        where = ""
        if self.faults is not None:
            with self.unless_disk_is_full():
                records = [self.records[row] for row in data[ROW].tolist()]
                path = faults.dump(self.faults, step, data, records)
                where = f" Its batch: {path}." if path else ""
        self.note(f"Step {step}: an update was left out, because its loss or gradient was not finite.{where}")
        if counters.bad_in_a_row >= self.config.train.max_bad_steps:
            raise TrainingError(
                f"The loss or the gradient was not finite in {counters.bad_in_a_row} updates in a row (step "
                f"{step}). The weights are those of the last good update. Try a lower "
                f"--train.learning-rate, or look at the batch.{where}"
            )

    @torch.no_grad()
    def adopt_masters(self) -> None:
        """Give the model the values of the float32 copies."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a block to ``seconds[name]``."""
        began = time.perf_counter()
        yield
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    # State

    @property
    def keeps_masters(self) -> bool:
        """Whether the saved model alone does not give back the weights that are trained."""
        all_parameters = sum(1 for _ in self.policy.model.parameters())
        return len(self.parameters) < all_parameters or any(
            m is not p for m, p in zip(self.masters, self.parameters, strict=True)
        )

    def state(self, metrics_position: int) -> dict[str, Any]:
        """All that a run needs to go on, beside the weights of the policy."""
        return {
            "counters": vars(self.counters).copy(),
            "problems": self.problems.position,
            "rules": {type(rule).__name__: rule.state() for rule in self.problems.rules},
            "past_rewards": self.past_rewards.of_problem.copy(),
            "optimizer": self.optimizer.state_dict(),
            # Where the checkpoint's own weights are rounded or merged, the exact ones are kept here.
            "masters": [m.detach() for m in self.masters] if self.keeps_masters else None,
            "critic": None if self.critic is None else self.critic.state_dict(),
            "shuffling": self.shuffling.get_state(),
            "random": randomness.state(self.environments),
            "micro_batch_tokens": self.memory.budget,
            "policy_version": self.policy.version,
            "metrics_position": metrics_position,
            "config": json.dumps(self.config.to_dict()),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave; the policy's weights are loaded by whoever made it."""
        self.counters = Counters(**state["counters"])
        self.problems.position = state["problems"]
        for rule in self.problems.rules:
            if (saved := state["rules"].get(type(rule).__name__)) is not None:
                rule.load(saved)
        self.past_rewards.of_problem = dict(state["past_rewards"])
        if state["masters"] is not None:
            with torch.no_grad():
                for master, saved in zip(self.masters, state["masters"], strict=True):
                    master.copy_(saved)
            self.adopt_masters()
        self.optimizer.load_state_dict(state["optimizer"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
        self.shuffling.set_state(state["shuffling"])
        randomness.load(state["random"], self.environments)
        self.memory.budget = state["micro_batch_tokens"]
        self.policy.sync(state["policy_version"])

    def save(self, folder: Path, metrics: MetricsFile, score: checkpoint.Score | None = None) -> Path:
        """Write a checkpoint."""
        metrics.flush()
        return checkpoint.save(
            folder,
            self.counters.step,
            self.policy.save,
            self.state(metrics.position),
            self.config.checkpoint.keep,
            score,
        )


def _metric_name(name: str) -> str:
    owner, _, rest = name.partition("_")
    return f"critic/{rest}" if owner in ("critic", "value") else f"actor/{name}"


def describe(rollouts: Rollouts) -> dict[str, float]:
    """Metrics of everything that was sampled in a step, before any filter."""
    records, data = rollouts.records, rollouts.data
    dropped = {"prompt_length/dropped": float(rollouts.dropped_prompts)}
    if not records:
        return {**dropped, "sampled_tokens": 0.0}
    reward = torch.tensor([record["reward"] for record in records])
    verdicts = [record.get("verdict") for record in records]
    lengths = data[keys.MASK].sum(1).float()
    before = data[keys.MASK].cumsum(1) == 0  # later turns are no part of the prompt
    prompts = (data[keys.ATTENTION] & before).sum(1).float()
    turns = [record["turns"] for record in records]
    groups: dict[int, list[float]] = {}
    for record in records:
        groups.setdefault(record["group"], []).append(record["reward"])
    best = float(reward.max())
    mixed = [min(values) < max(values) for values in groups.values()]
    solved = [min(values) == max(values) == best for values in groups.values()]
    correct = [v == "correct" if v is not None else r["reward"] >= 1 for v, r in zip(verdicts, records, strict=True)]
    return {
        "reward/mean": float(reward.mean()),
        "reward/std": float(reward.std(correction=0)),
        "reward/shaped_mean": float(data[keys.REWARD].mean()),
        "reward/accuracy": _mean(correct),
        "verifier/no_answer": _mean([v == "no_answer" for v in verdicts]),
        "verifier/invalid": 1 - float(data[keys.VALID].float().mean()),
        "groups/mixed": _mean(mixed),
        "groups/solved_all": _mean(solved),
        "response_length/mean": float(lengths.mean()),
        "response_length/max": float(lengths.max()),
        "response_length/truncated": float(data[keys.TRUNCATED].float().mean()),
        "prompt_length/mean": float(prompts.mean()),
        **dropped,
        "turns/mean": sum(turns) / len(turns),
        "turns/max": float(max(turns)),
        "sampled_tokens": float(lengths.sum()),
    }


def _mean(flags: list[bool]) -> float:
    return sum(flags) / max(len(flags), 1)


def entropy_and_mismatch(data: TensorDict, scored: TensorDict) -> dict[str, float]:
    """What scores say of the weights that sampled: entropy, and how far off the sampler's probabilities are.

    Args:
        data: rollouts [N, T].
        scored: their log-probabilities and entropies [N, T] by those weights.
    """
    mask = data[keys.MASK]
    gap = (data[keys.SAMPLER_LOG_PROB] - scored[keys.LOG_PROB])[mask]
    return {
        "actor/entropy": float(scored[keys.ENTROPY][mask].mean()),
        "rollout/mismatch_kl": float(gap.mean()),
        "rollout/mismatch_max": float(gap.abs().max()),
    }


def _zero_std(data: TensorDict) -> float:
    """Share of groups in which no response has an advantage."""
    group, reward = data[keys.GROUP], data[keys.REWARD][:, 0]
    same = [bool((reward[group == g] == reward[group == g][0]).all()) for g in group.unique()]
    return _mean(same)


def _first_advantage(data: TensorDict) -> list[float]:
    """The advantage of each row's first sampled token."""
    first = data[keys.MASK].int().argmax(1)
    return data[keys.ADVANTAGE].gather(1, first[:, None])[:, 0].tolist()


OnStep = Callable[[Trainer, dict[str, float], Rollouts], None]
