"""The learner: from a batch to new weights; the only object that knows gradients.

Owns the optimiser, the master weights, the sum of the gradients of micro-batches, clipping, the learning rate and
which updates are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from llmrl import keys
from llmrl.distributed.world import World
from llmrl.errors import ConfigError
from llmrl.keys import Key
from llmrl.likeness import Anything, Maybe, Some
from llmrl.losses.module import BatchLoss
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy
from llmrl.rollouts.batch import Batch
from llmrl.rollouts.stream import row_seed
from llmrl.training.config import TrainConfig
from llmrl.training.faults import Memory, sized
from llmrl.training.sums import Sums

JUDGED = ("actor/loss", "critic/loss", "actor/grad_norm", "critic/grad_norm")
"""An update in which one of these is not finite is skipped."""

WEIGHTS = {keys.WEIGHT, keys.POLICY_WEIGHT, keys.POSITIVE_WEIGHT}
"""Entries by which losses multiply their tokens: if all are 0, so is the gradient."""

OLD: dict[Key, Key] = {keys.LOG_PROB: keys.OLD_LOG_PROB, keys.ENTROPY: keys.OLD_ENTROPY}
"""Scores, and what they are called where they are of the weights before the update."""


@dataclass
class Learner:
    """Updates the weights of a policy, and of a critic where there is one."""

    policy: Policy
    loss: BatchLoss
    """Maps a scored micro-batch to ``loss_*`` and metrics; its losses add up over micro-batches."""
    options: TrainConfig
    memory: Memory
    """How many tokens a micro-batch may have."""
    critic: Critic | None = None
    world: World = field(default_factory=World)
    """The ranks that share the micro-batches."""
    seed: int = 0
    """Of what a loss draws."""

    parameters: list[Tensor] = field(init=False)
    """The trained weights of the policy, in the type that it computes in."""
    masters: list[Tensor] = field(init=False)
    """The tensors of the optimiser: float32 copies of weights of lower precision, else the weights themselves."""
    critic_parameters: list[Tensor] = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        options = self.options
        self.loss = self.loss.to(self.policy.device)
        self.parameters = [p for p in self.policy.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ConfigError(
                "The policy has nothing to train: no weight of its model requires a gradient. Call "
                "model.requires_grad_(), or load adapters with is_trainable=True."
            )
        # A step of 1e-6 is lost in bfloat16, and so is a small gradient beside a large sum.
        self.masters = [p if _is_exact(p) else p.detach().float().requires_grad_() for p in self.parameters]
        self.critic_parameters = [] if self.critic is None else list(self.critic.parameters())
        groups: list[dict[str, Any]] = [{"params": self.masters}]
        if self.critic_parameters:
            groups.append({"params": self.critic_parameters})
        # Fused: one pass over each weight and its moments instead of one for each operation.
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, fused=True)
        self._configure()

    @property
    def learning_rate(self) -> float:
        """Of the policy, in the latest update."""
        return self.optimizer.param_groups[0]["lr"]

    def update(
        self,
        batch: Batch,
        step: int,
        notes: Mapping[Key, Key],
        first: bool = False,
        measure: Callable[[], Mapping[str, Tensor]] = dict,
    ) -> Sums:
        """One optimiser step: the gradients of the micro-batches are summed, clipped and applied.

        Args:
            batch: a whole mini-batch with ``"weight"``; scores are put back to where it was cut from.
            step: of the run, counted from 0.
            notes: entries that are scored and put back, and their names there.
            first: the weights are those before the update, and the old scores of the batch are not there yet: those
                of each micro-batch's own pass are taken, so that the ratio is exactly 1, and put back too.
            measure: what else to report, by metric; called when the scores are put back, and fetched with the rest.

        Returns:
            The metrics of this update; ``skipped`` where the loss or the gradient was not finite. Without a
            sampled token nothing is done.
        """
        if first:
            notes = {**notes, **{old: old for old in OLD.values()}}
        sums = self.memory.fit(lambda budget: self.accumulate(batch, step, notes, budget))
        if sums.tokens:
            for name, value in measure().items():
                sums.note(name, value)
            self.apply(sums, step)
        return sums

    def accumulate(self, batch: Batch, step: int, notes: Mapping[Key, Key], budget: int) -> Sums:
        """Add up the gradients of all micro-batches, from zero.

        From zero, since a backward pass that broke off has reached some of the weights and not others.
        """
        for parameter in (*self.parameters, *self.masters, *self.critic_parameters):
            parameter.grad = None
        sums = Sums()
        with batch.put_together(self.world, notes.values()):
            for part, counts in batch.shared(self.world, budget, self.policy.forward_pass):
                with sized(part, self.policy.forward_pass):
                    entropy = keys.ENTROPY in notes or keys.OLD_ENTROPY in notes
                    scored = self.policy.score(part.data, entropy=entropy, layout=part.layout)
                    for new, old in OLD.items():
                        if old in notes:
                            scored[old] = scored[new].detach()
                    if counts:
                        part.put_back(scored, notes)
                    log_prob = scored[keys.LOG_PROB]
                    log_prob.retain_grad()
                    if not counts:  # another rank does it: here its gradient is 0
                        for name in WEIGHTS & set(scored.keys()):
                            scored[name] = torch.zeros_like(scored[name])
                    scored = scored if self.critic is None else self.critic(scored, part.layout)
                    out = self._loss(scored, part, step)
                    loss = self._through_all(total_loss(out), scored)
                    # If the loss itself leaves out every token, its gradient is exactly 0 and has no graph.
                    if loss.requires_grad:
                        loss.backward()
                    self._add_to_masters()
                    out.update(token_gradient(log_prob))
                if counts:
                    sums.add(out, part.tokens)
        self.world.sum_gradients([*self.masters, *self.critic_parameters])
        sums.reduce(self.world, batch.tokens, self.policy.device)
        return sums

    def _through_all(self, loss: Tensor, scored: TensorDictBase) -> Tensor:
        """With shards a loss whose backward pass reaches every network, since the passes of other ranks do too."""
        if self.world.shards == 1:
            return loss
        read = [keys.LOG_PROB, *([] if self.critic is None else [keys.VALUE])]
        return loss + 0.0 * torch.stack([scored[name].sum() for name in read]).sum()

    def _loss(self, scored: TensorDictBase, part: Batch, step: int) -> TensorDictBase:
        """The loss of a micro-batch; what it draws depends on the seed, the step and the rows alone."""
        device = self.policy.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(row_seed(self.seed, f"loss {part.rows.tolist()}", step, 0, 0))
            return self.loss(scored)

    def apply(self, sums: Sums, step: int) -> None:
        """Clip the gradient and step, unless the loss or the gradient is not finite."""
        options = self.options
        warm = min((step + 1) / max(options.warmup_steps, 1), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * warm
        if self.critic_parameters and step < options.critic_warmup_steps:
            self.optimizer.param_groups[0]["lr"] = 0.0
        norm = torch.nn.utils.clip_grad_norm_(self.masters, options.max_grad_norm)
        sums.note("actor/grad_norm", self.world.whole(norm))
        if self.critic_parameters:
            norm = torch.nn.utils.clip_grad_norm_(self.critic_parameters, options.max_grad_norm)
            sums.note("critic/grad_norm", self.world.whole(norm))
        totals = sums.fetch()  # the only wait for the device in an update
        whole = totals["actor/token_gradient"]
        share = totals["actor/token_gradient_max"] / whole if whole else 0.0
        sums.note("actor/token_gradient_share", torch.tensor(share))
        sums.skipped = not all(math.isfinite(totals[name]) for name in JUDGED if name in totals)
        if not sums.skipped:
            self.optimizer.step()
            self.adopt_masters()

    def _add_to_masters(self) -> None:
        """Move the gradients of a micro-batch to the master weights, where they are summed in float32."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is parameter or parameter.grad is None:
                continue
            gradient, parameter.grad = parameter.grad.float(), None
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)

    @torch.no_grad()
    def adopt_masters(self) -> None:
        """Give the model the values of the master weights."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    def _configure(self) -> None:
        """Give the optimiser the settings of the options."""
        options = self.options
        peaks = (options.learning_rate, options.critic_learning_rate)
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=False):
            group["peak"] = peak
            group["betas"] = options.adam_betas
            group["weight_decay"] = options.weight_decay

    # State

    @property
    def keeps_masters(self) -> bool:
        """Whether the saved model alone does not give back the weights that are trained."""
        all_parameters = sum(1 for _ in self.policy.model.parameters())
        return len(self.parameters) < all_parameters or any(
            m is not p for m, p in zip(self.masters, self.parameters, strict=True)
        )

    def state(self) -> dict[str, object]:
        """The state that a checkpoint must hold in addition to the policy's weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            # If the checkpoint's own weights are rounded or merged, the exact ones are stored here.
            "masters": [m.detach() for m in self.masters] if self.keeps_masters else None,
            "critic": None if self.critic is None else self.critic.state_dict(),
        }

    def form(self) -> dict[str, object]:
        """The form of what :meth:`state` returns, for :func:`llmrl.likeness.refuse_unlike`."""
        moments = {
            number: {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            for number, parameter in enumerate(self._trained())
        }
        return {
            # Not every parameter has moments, and the settings of the groups are this run's own.
            "optimizer": {"state": Some(moments), "param_groups": Anything()},
            "masters": Maybe(self.masters),
            "critic": None if self.critic is None else self.critic.state_dict(),
        }

    def _trained(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def load(self, state: dict) -> None:
        """Take up what :meth:`state` gave; every rank gives the whole of it."""
        like = self.world.like
        if state["masters"] is not None:
            for master, saved in zip(self.masters, state["masters"], strict=True):
                master.copy_(like(saved, master))
            self.adopt_masters()
        trained = self._trained()
        moments = {
            number: {
                name: like(value, trained[number]) if value.shape == trained[number].shape else value
                for name, value in entries.items()
            }
            for number, entries in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if self.critic is not None:
            for name, own in self.critic.state_dict().items():
                own.copy_(like(state["critic"][name], own))

    def tensors(self) -> dict[str, Tensor]:
        """All that :meth:`state` holds, by names that do not depend on the number of ranks; each rank's own share.

        Writing to them changes the state; :meth:`adopt_masters` then gives the model its weights.
        """
        names = [f"policy.{name}" for name, p in self.policy.model.named_parameters() if p.requires_grad]
        found = dict(zip(names, self.masters, strict=True))
        if self.critic is not None:
            found |= {f"critic.{name}": parameter for name, parameter in self.critic.named_parameters()}
        tensors = {name: parameter.detach() for name, parameter in found.items()}
        for name, parameter in found.items():
            moments = self.optimizer.state[parameter]
            if not moments:  # before the first step, as the optimizer itself begins
                moments["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                moments |= {key: torch.zeros_like(parameter.detach()) for key in ("exp_avg", "exp_avg_sq")}
            tensors |= {f"optimizer.{name}.{key}": value for key, value in moments.items()}
        return tensors


def total_loss(out: TensorDictBase) -> Tensor:
    """The sum of all losses of a loss module's output."""
    return torch.stack([value for name, value in out.items() if str(name).startswith("loss_")]).sum()


def token_gradient(log_prob: Tensor) -> dict[str, Tensor]:
    """Sum and largest size of the gradient that a backward pass left at the log-probabilities [n, t].

    It says how much of the direction of an update comes from single tokens.
    """
    size = torch.zeros_like(log_prob) if log_prob.grad is None else log_prob.grad.abs()
    return {"token_gradient": size.sum(), "token_gradient_max": size.amax()}


def _is_exact(parameter: Tensor) -> bool:
    return parameter.dtype in (torch.float32, torch.float64)
