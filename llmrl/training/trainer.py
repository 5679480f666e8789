"""The trainer: the calls of a step in their order. ``learner`` has the gradients, ``run_state`` the checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.distributed.world import World
from llmrl.keys import Key
from llmrl.losses import PolicyLoss
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy
from llmrl.rollouts.batch import Batch
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.records import Record
from llmrl.rollouts.stream import ProblemStream
from llmrl.training.config import Config
from llmrl.training.curriculum import rules_of
from llmrl.training.drift import Drift
from llmrl.training.faults import Memory
from llmrl.training.gathering import Gathered, Gatherer
from llmrl.training.incidents import Counters, Incidents
from llmrl.training.learner import Learner
from llmrl.training.measures import credited, fetch, first_advantage
from llmrl.training.mismatch import Watch
from llmrl.training.old_scores import OldScores
from llmrl.training.past_rewards import PastRewards
from llmrl.training.process import started_thread
from llmrl.training.sums import Sums
from llmrl.training.writer import Writer


@dataclass
class Trainer:
    """All objects of a run.

    Args:
        config: the resolved settings.
        policy: the model that learns and samples.
        algorithm: the recipe.
        environments: training problems.
        critic: for algorithms that read ``"value"``.
        reference: for algorithms that read ``"ref_log_prob"``.
        note: is called with a sentence about each failure that does not end the training.
        world: the ranks that train together; each of them makes every step.
    """

    config: Config
    policy: Policy
    algorithm: Algorithm
    environments: Environments
    critic: Critic | None = None
    reference: Policy | None = None
    counters: Counters = field(default_factory=Counters)
    note: Callable[[str], object] = logging.getLogger(__name__).warning
    world: World = field(default_factory=World)

    incidents: Incidents = field(init=False)
    learner: Learner = field(init=False)
    memory: Memory = field(init=False)
    problems: ProblemStream = field(init=False)
    shuffling: torch.Generator = field(init=False)
    """The order of rows."""
    past_rewards: PastRewards = field(init=False, default_factory=PastRewards)
    kl_coefficient: float | None = field(init=False, default=None)
    """The weight of a KL penalty that adapts it; None before the first step."""
    records: list[Record] = field(init=False, default_factory=list)
    """The records of the step's rows, for reports of bad updates."""
    writer: Writer = field(init=False)
    gatherer: Gatherer = field(init=False)
    ahead: ThreadPoolExecutor | None = field(init=False)
    """Gathers the batch of the next step, if ``train.ahead`` asks for that."""
    pending: Gathered | None = field(init=False, default=None)
    """The batch of the next step, if ``train.ahead`` has gathered it."""
    old_scores: OldScores = field(init=False)
    watch: Watch = field(init=False)
    """Compares sampler and scorer."""
    drift: Drift | None = field(init=False)
    """How far updates move the distributions, where ``train.drift`` asks for that."""
    seconds: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        train = self.config.train
        self.incidents = Incidents(self.counters, train, self.environments.env_id, note=lambda text: self.note(text))
        self.memory = Memory(train.micro_batch_tokens, lambda text: self.note(text), self.world)
        self.learner = Learner(
            self.policy,
            self.algorithm.loss(),
            train,
            self.memory,
            self.critic,
            world=self.world,
            seed=self.config.seed,
        )
        self.old_scores = OldScores(
            self.policy,
            self.critic,
            self.reference,
            self.memory,
            self.world,
            rescore=train.rescore,
            scores_first=self.algorithm.scores_first,
        )
        self.watch = Watch(self.policy, train, self.world)
        self.drift = Drift(self.policy, PolicyLoss(self.algorithm)) if train.drift else None
        self.shuffling = torch.Generator().manual_seed(self.config.seed + 1)
        self.problems = ProblemStream(
            self.config.seed,
            self.environments.num_problems(),
            rules=rules_of(self.config, self.environments),
        )
        self.writer = Writer(self.world, self.config.checkpoint.background)
        self.ahead = started_thread("llmrl-ahead") if train.ahead else None
        self.gatherer = Gatherer(
            self.policy,
            self.environments,
            self.problems,
            self.algorithm.credit,
            train,
            self.config.seed,
            self.world.beside() if train.ahead else self.world,
        )

    def step(self) -> tuple[dict[str, float], Rollouts]:
        """Sample, grade, credit, learn; returns the metrics and the rollouts of the step.

        The rollouts hold every tensor that the update read, and ``"log_prob"`` (``"entropy"`` where
        :meth:`noted_scores` names it) as the update last scored each row, before that row's last gradient.
        """
        began = time.perf_counter()
        self.seconds = {}
        self.policy.eval()
        rollouts, metrics = self.gather()
        with self.meanwhile():
            if len(rollouts):
                self.update(self.before_update(rollouts, metrics), metrics)
        with self.timed("sync"):
            self.policy.sync()
            self.counters.step += 1
            self.watch.check(metrics, rollouts.records, self.counters.step)
        elapsed = time.perf_counter() - began
        metrics |= {f"time/{name}": seconds for name, seconds in self.seconds.items()}
        metrics |= {
            "time/step": elapsed,
            "perf/tokens_per_second": metrics.pop("sampled_tokens") / elapsed,
            "progress/tokens": float(self.counters.tokens),
            "actor/skipped_updates": float(self.counters.skipped_updates),
            "groups/lost": float(self.counters.lost_groups),
            "perf/micro_batch_tokens": float(self.memory.budget),
        }
        return metrics, rollouts

    def gather(self) -> tuple[Rollouts, dict[str, float]]:
        """The batch to train on: the one that was gathered during the step before, or a new one."""
        if self.pending is None:
            self.pending = self.counted(self.gatherer.gather(self.counters.step, self.counters.groups))
        gathered, self.pending = self.pending, None
        self.incidents.of_gathering(gathered)
        self.counters.tokens += gathered.tokens
        return gathered.rollouts, {
            **gathered.metrics,
            "rollout/staleness": float(self.policy.version - gathered.version),
        }

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """Gather the next step's batch during the block, if ``train.ahead`` asks for that.

        The sampler has weights of its own, which do not change before the block ends. So the batch would be the same if
        it were gathered before the block or after it.
        """
        step = self.counters.step + 1
        if self.ahead is None or step >= self.config.train.steps:
            yield
            return
        asked = self.ahead.submit(self.gatherer.gather, step, self.counters.groups)
        try:
            yield
            with self.timed("wait"):
                gathered = asked.result()
        except Exception:
            wait([asked])  # nothing may run there any more; who interrupts the process does not wait, the call may hang
            raise
        self.pending = self.counted(gathered)

    def counted(self, gathered: Gathered) -> Gathered:
        """The batch itself, after counting its groups: their numbers are not used again."""
        self.counters.groups += gathered.groups
        return gathered

    def before_update(self, rollouts: Rollouts, metrics: dict[str, float]) -> Batch:
        """Compute what is fixed during the update: old scores, values, advantages."""
        batch = Batch.of(rollouts.data)
        data = batch.whole
        with self.timed("score"):
            measures = self.old_scores.write(data, [batch.take(i) for i in self.mini_batches(len(batch), peek=True)])
        if keys.PAST_REWARDS in self.algorithm.in_keys:
            ids = [record["problem_id"] for record in rollouts.records]
            data[keys.PAST_REWARDS] = self.past_rewards.recall(ids, data)
        if self.kl_coefficient is not None:
            coefficient = torch.full((len(data), 1), self.kl_coefficient, dtype=torch.float64)
            data[keys.KL_COEFFICIENT] = coefficient.to(data[keys.MASK].device)
        data = self.algorithm.credit.advantage(data)
        self.old_scores.fill_filtered(data)
        metrics |= fetch({**measures, **credited(data)})
        if keys.KL_COEFFICIENT in self.algorithm.in_keys:
            self.kl_coefficient = metrics["reward/kl_coefficient"]
        for record, advantage in zip(rollouts.records, first_advantage(data), strict=True):
            record["advantage"] = advantage
        self.records = rollouts.records
        # OverlongFilter empties rows of the mask; the copy on the CPU must say so too.
        batch = Batch.of(data, batch.layout.copy().set(keys.MASK, data[keys.MASK].to("cpu")))
        rollouts.data = batch.whole
        return batch

    def mini_batches(self, count: int, *, peek: bool = False) -> tuple[torch.Tensor, ...]:
        """Rows in a random order, in as many parts as there are updates in an epoch.

        Args:
            count: of rows.
            peek: leave the generator as it is, so that the next call gives the same rows.
        """
        state = self.shuffling.get_state()
        order = torch.randperm(count, generator=self.shuffling)
        if peek:
            self.shuffling.set_state(state)
        return order.tensor_split(self.config.train.updates_per_step)

    def update(self, batch: Batch, metrics: dict[str, float]) -> None:
        """Optimiser steps on mini-batches of the rows, each in micro-batches."""
        train, wanted, step = self.config.train, self.loss_keys(), self.counters.step
        self.policy.pause()
        notes: dict[Key, Key] = {name: name for name in self.noted_scores()}
        for name in notes:
            batch.whole[name] = torch.zeros_like(batch.whole[keys.OLD_LOG_PROB])
        done: Sums | None = None
        with self.timed("update"):
            if self.drift is not None:
                self.drift.begin(batch)
            self.policy.train()
            mini_batches = self.mini_batches(len(batch))
            for epoch in range(train.epochs):
                for rows in mini_batches if epoch == 0 else self.shuffled(mini_batches):
                    part = batch.take(rows)
                    part = part.having(self.algorithm.weigh(part.data.select(*wanted, strict=False)))
                    first = done is None  # no update has changed the weights: those before were empty
                    fills = first and self.old_scores.left_to_first_update
                    measure = partial(self.old_scores.measured_in_first_update, batch, rows)
                    sums = self.learner.update(part, step, notes, fills, measure if first else dict)
                    if sums.tokens:
                        if done is None:
                            done = sums
                        else:
                            done.join(sums)
                    self.incidents.of_update(sums, part, self.records)
                    if self.drift is not None:
                        self.drift.note(part)
            self.policy.eval()
        if done is not None:
            metrics |= done.result()
            if self.drift is not None:
                metrics |= fetch(self.drift.result())
        metrics["actor/learning_rate"] = self.learner.learning_rate

    def shuffled(self, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The same mini-batches in another order: in new ones the old scores would be those of other micro-batches."""
        return [parts[i] for i in torch.randperm(len(parts), generator=self.shuffling).tolist()]

    def loss_keys(self) -> set[Key]:
        """The entries that an update reads."""
        return {keys.TOKENS, keys.ATTENTION, keys.MASK, keys.SAMPLER_LOG_PROB, *self.algorithm.in_keys}

    def keeps_rollouts(self, step: int) -> bool:
        """Whether the rollouts of a step (1, 2, ...) are written: the first, the last, every ``rollouts_every``-th."""
        every = self.config.checkpoint.rollouts_every
        return every > 0 and (step % every == 0 or step in (1, self.config.train.steps))

    def noted_scores(self) -> list[str]:
        """The scores of the update that are written into the rollouts.

        Entropies are among them if the algorithm reads them, if nothing else computes them, and for rollouts that are
        kept, where another algorithm may read them. They do not change the gradient.
        """
        entropy = (
            keys.ENTROPY in self.algorithm.in_keys
            or not self.config.train.rescore
            or self.config.train.drift
            or self.keeps_rollouts(self.counters.step + 1)
        )
        return [keys.LOG_PROB, *([keys.ENTROPY] * entropy)]

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of a block to ``seconds[name]``."""
        began = time.perf_counter()
        yield
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
