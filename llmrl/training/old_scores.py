"""Scores of the weights before the update: of the policy, of the reference, of the critic.

Owns which of them a step computes before its update, in which micro-batches, and what they say of the sampler. Where
the recipe allows it, the first update computes the old scores of its own rows. Without ``train.rescore`` the sampler's
log-probabilities take their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from llmrl import keys
from llmrl.distributed.world import World
from llmrl.keys import Key
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy
from llmrl.rollouts.batch import Batch
from llmrl.training.faults import Memory, sized
from llmrl.training.learner import OLD
from llmrl.training.measures import Measures, mismatch


@dataclass(frozen=True)
class OldScores:
    """Computes old scores and writes them into a batch."""

    policy: Policy
    critic: Critic | None
    reference: Policy | None
    memory: Memory
    """How many tokens a micro-batch may have."""
    world: World
    """The ranks that share the micro-batches."""
    rescore: bool
    """Whether the policy scores with the weights before the update."""
    scores_first: bool
    """Whether the recipe needs the old scores of all rows before its first update."""

    @property
    def left_to_first_update(self) -> bool:
        """Whether the first update's own pass gives the old scores of its rows."""
        return self.rescore and not self.scores_first

    @torch.no_grad()
    def write(self, data: TensorDict, parts: Sequence[Batch]) -> Measures:
        """Write what is known before the update.

        If the first update gives the old scores of its rows, they are NaN until then.

        Args:
            data: all rows; the scores are written here.
            parts: its mini-batches.

        Returns:
            Measures of the sampler from the scores; empty if they are not complete yet.
        """
        measures: Measures = {}
        if self.rescore:
            self.write_policy(data, parts)
            if not self.left_to_first_update:
                measures |= mismatch(data, data[keys.OLD_LOG_PROB], data[keys.OLD_ENTROPY])
        else:
            data[keys.OLD_LOG_PROB] = data[keys.SAMPLER_LOG_PROB]
        if self.reference is not None:
            reference = self.reference
            names: dict[Key, Key] = {keys.LOG_PROB: keys.REF_LOG_PROB}
            self.score(parts, lambda part, layout: reference.score(part, layout=layout), names)
        if self.critic is not None:
            self.score(parts, self.critic, {keys.VALUE: keys.VALUE})
            data[keys.OLD_VALUE] = data[keys.VALUE]
        return measures

    def write_policy(self, data: TensorDict, parts: Sequence[Batch]) -> None:
        """The part of :meth:`write` that is the policy's own scores."""
        mask = data[keys.MASK]
        kind = torch.promote_types(self.policy.dtype, torch.float32)
        most = math.log(self.policy.vocab_size)  # of every row, also of those that are not scored here
        data[keys.MAX_ENTROPY] = torch.full((len(mask), 1), most, dtype=kind, device=mask.device)
        if self.left_to_first_update:
            for name in OLD.values():
                data[name] = torch.where(mask, torch.nan, torch.zeros(mask.shape, dtype=kind, device=mask.device))
            parts = parts[1:]
        # The entropy costs little here and is the first thing that anyone looks at.
        self.score(parts, lambda part, layout: self.policy.score(part, entropy=True, layout=layout), OLD)

    def fill_filtered(self, data: TensorDict) -> None:
        """Write 0 where a filter has emptied the mask since: no update scores these tokens."""
        for name in OLD.values() if self.left_to_first_update else ():
            data[name] = torch.where(data[keys.MASK], data[name], data[name].nan_to_num(0.0))

    def measured_in_first_update(self, batch: Batch, rows: Tensor) -> Mapping[str, Tensor]:
        """Measures of the sampler from the old scores, if the first update has completed them.

        Args:
            batch: all rows.
            rows: of that update; without rescoring it alone scores with the weights before the update.
        """
        if self.left_to_first_update:
            data = batch.whole
            return mismatch(data, data[keys.OLD_LOG_PROB], data[keys.OLD_ENTROPY])
        if self.rescore:
            return {}
        data = batch.whole[rows.to(batch.whole[keys.MASK].device)]
        return mismatch(data, data[keys.LOG_PROB], data[keys.ENTROPY])

    def score(
        self,
        parts: Sequence[Batch],
        scorer: Callable[[TensorDict, TensorDict], TensorDictBase],
        names: Mapping[Key, Key],
    ) -> None:
        """Score mini-batches, each in the micro-batches that its update will make of it.

        In low precision the scores of a row depend on what is computed beside it. In the same micro-batches they are
        bitwise the same, so that a ratio of unchanged weights is 1.

        Args:
            parts: the mini-batches.
            scorer: is given the entries of a micro-batch and its layout.
            names: of the scores and of their entries.
        """
        forward_pass = self.policy.forward_pass

        def measured(part: Batch) -> TensorDictBase:
            with sized(part, forward_pass):
                return scorer(part.data, part.layout)

        def work(budget: int) -> None:
            for part in parts:
                part.score(measured, names, budget, forward_pass, self.world)

        self.memory.fit(work)
