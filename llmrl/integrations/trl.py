"""llmrl's algorithms and verifiers in TRL's ``GRPOTrainer``; needs the extra ``llmrl[trl]``.

TRL samples, scores and steps. The algorithm computes the advantages and the loss. Its weights are computed over a
whole accumulation window, so the gradient does not depend on the split of the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from trl import GRPOTrainer

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.errors import ConfigError
from llmrl.keys import Key
from llmrl.verifiers import Verifier, verifier

GIVEN: frozenset[Key] = frozenset(
    (
        keys.MASK,
        keys.LOG_PROB,
        keys.OLD_LOG_PROB,
        keys.SAMPLER_LOG_PROB,
        keys.ENTROPY,
        keys.OLD_ENTROPY,
        keys.MAX_ENTROPY,
        keys.ADVANTAGE,
        keys.GROUP,
        keys.REWARD,
        keys.VALID,
        keys.TRUNCATED,
    )
)
"""The entries that TRL provides with all settings."""
CREDITED: dict[str, Key] = {
    "llmrl_mask": keys.MASK,
    "llmrl_advantage": keys.ADVANTAGE,
    "llmrl_reward": keys.REWARD,
}
"""What credit gives to the update, by its name in TRL's batch."""
WINDOW = "llmrl"
"""The key for a micro-batch's part of the window; TRL leaves other names alone."""


def reward_function(grader: str | Verifier, *, column: str = "answer") -> Callable[..., list[float | None]]:
    """A verifier as a reward function of TRL.

    A response without a verdict (timeout, error) gets ``None``, and TRL leaves it out of its group. A conversation that
    ends in a call of a tool, or in a tool's result, has no answer.

    Args:
        grader: name of a verifier, ``module:function``, or a verifier.
        column: the data set's column with the gold answers.

    >>> reward_function("math")(completions=[r"\\boxed{4}", "5"], answer=["4", "4"])
    [1.0, 0.0]
    """
    grade = verifier(grader) if isinstance(grader, str) else grader

    def reward(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if column not in columns:
            raise ConfigError(
                f"The reward function reads the column {column!r}; the data set has {', '.join(sorted(columns))}. "
                "Rename one, or give column=."
            )
        verdicts = grade([_text(one) for one in completions], [str(gold) for gold in columns[column]])
        return [verdict.score if verdict.valid else None for verdict in verdicts]

    reward.__name__ = grader if isinstance(grader, str) else "llmrl_verifier"
    return reward


def _text(completion: Any) -> str:
    """A completion as text; TRL passes a string, or for chat data a list of messages.

    Of messages the last one is the response: empty if it is a call of a tool without text, or a tool's result.
    """
    if isinstance(completion, str):
        return completion
    last = completion[-1] if completion else {}
    content = last.get("content") if last.get("role") != "tool" else None
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


class AlgorithmTrainer(GRPOTrainer):
    """``GRPOTrainer`` with an llmrl algorithm in place of TRL's advantages and loss.

    TRL's ``loss_type``, ``epsilon``, ``scale_rewards`` and other options of its own loss have no effect. Groups that
    the algorithm would replace are left out of the loss. Only one process is supported.

    Args:
        args: as for ``GRPOTrainer``.
        algorithm: a name, such as ``"espo"``, or an :class:`~llmrl.algorithms.Algorithm`.
        kwargs: as for ``GRPOTrainer``; ``args`` is its ``GRPOConfig``.

    Raises:
        ConfigError: the algorithm needs an entry that TRL does not have, or the settings split a window.
    """

    def __init__(self, *args: Any, algorithm: str | Algorithm, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        made = _made(algorithm)
        self.recipe = made.resolve(self.max_completion_length)
        self._check()
        self._policy_loss = self.recipe.loss()
        self._rewards: Tensor | None = None
        vocabulary = self.model.config.get_text_config().vocab_size
        self._max_entropy = math.log(vocabulary)

    def _check(self) -> None:
        if self.accelerator.num_processes != 1:
            raise ConfigError(
                f"AlgorithmTrainer runs in one process, got {self.accelerator.num_processes}. "
                "For several GPUs use torchrun with llmrl itself."
            )
        every, window = self.args.steps_per_generation, self.args.gradient_accumulation_steps
        if every % window:
            raise ConfigError(
                f"steps_per_generation is {every} and gradient_accumulation_steps {window}: an update would need two "
                f"generations. Make the first a multiple of the second, such as {window}."
            )
        known = GIVEN | {keys.REF_LOG_PROB} if self.beta else GIVEN
        for key in self.recipe.in_keys:
            if key == keys.REF_LOG_PROB and key not in known:
                raise ConfigError(
                    f"{self.recipe.name} compares with a reference, and TRL loads none at beta=0. Give GRPOConfig a "
                    "beta above 0 (the algorithm's own weight counts), or the algorithm kl=0."
                )
            if key not in known:
                raise ConfigError(
                    f"{self.recipe.name} reads {key!r}, which TRL does not have. Use llmrl's own trainer."
                )
        for term in self.recipe.terms:
            if keys.ENTROPY in term().reads:
                raise ConfigError(f"{self.recipe.name} trains the entropy, for which TRL gives no gradient here.")

    def _calculate_rewards(self, inputs: Any, *rest: Any) -> Tensor:
        """TRL's rewards, which are kept for the advantages."""
        per_function = super()._calculate_rewards(inputs, *rest)
        weights = self.reward_weights.to(per_function.device)
        total = (per_function * weights).nansum(1)
        self._rewards = torch.where(per_function.isnan().all(1), torch.nan, total)
        return per_function

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """TRL's batch, with the entries that the algorithm needs before the update."""
        output = super()._generate_and_score_completions(inputs)
        old, entropy = self._old_policy(output)
        output.setdefault("old_per_token_logps", old)
        output["llmrl_old_entropy"] = entropy
        credited = self._credit(output)
        for name, key in CREDITED.items():
            output[name] = credited[key]
        return output

    def _old_policy(self, output: dict[str, Any]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            old, entropy, _ = self._score(self.model, output, self.args.per_device_train_batch_size)
        return old, entropy

    def _score(self, model: Any, inputs: dict[str, Any], rows: int | None = None) -> tuple[Tensor, Tensor, Any]:
        """Log-probabilities and entropies [N, T] of the completions at the sampling temperature."""
        return self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1),
            inputs["completion_ids"].size(1),
            rows,
            compute_entropy=True,
        )

    def _credit(self, output: dict[str, Any]) -> TensorDict:
        """Mask, advantages [N, T] and rewards [N, 1] of a generation, which has complete groups."""
        assert self._rewards is not None  # TRL has graded this generation
        mask = output["completion_mask"].bool()
        if "tool_mask" in output:
            mask = mask & output["tool_mask"].bool()
        size = self.num_generations if self.model.training else self.num_generations_eval
        rows = torch.arange(len(mask), device=mask.device)
        td = TensorDict(batch_size=[len(mask)])
        td[keys.MASK] = mask
        td[keys.GROUP] = rows // size
        td[keys.REWARD] = self._rewards.nan_to_num()[:, None]
        td[keys.VALID] = ~self._rewards.isnan()
        last = output["completion_mask"].sum(1).clamp_min(1) - 1
        ends = torch.tensor([*self.eos_token_ids, self.processing_class.pad_token_id], device=mask.device)
        td[keys.TRUNCATED] = ~torch.isin(output["completion_ids"][rows, last], ends)[:, None]
        td[keys.OLD_LOG_PROB] = output["old_per_token_logps"]
        if "ref_per_token_logps" in output:
            td[keys.REF_LOG_PROB] = output["ref_per_token_logps"]
        credit = self.recipe.credit
        td[keys.MASK] = mask & credit.keep(td)[:, None]
        td[keys.SHAPED_REWARD] = td[keys.REWARD]
        for shape in credit.shape:
            td[keys.SHAPED_REWARD] = shape(td)
        return credit.advantage(td)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """TRL's micro-batch; after a generation, each window of micro-batches gets its weights."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training:
            self._weigh([inputs])
        elif self._buffered_inputs is not before:
            size = self.args.gradient_accumulation_steps
            for start in range(0, len(self._buffered_inputs), size):
                self._weigh(self._buffered_inputs[start : start + size])
        return inputs

    def _weigh(self, window: list[dict[str, Any]]) -> None:
        whole = torch.cat([self._entries(inputs) for inputs in window])
        rows = [len(inputs["completion_ids"]) for inputs in window]
        for inputs, part in zip(window, self.recipe.weigh(whole).split(rows), strict=True):
            inputs[WINDOW] = part

    def _entries(self, inputs: dict[str, Any]) -> TensorDict:
        """The entries of a micro-batch that are known before its forward pass."""
        old = inputs["old_per_token_logps"]
        td = TensorDict(batch_size=[len(old)])
        for name, key in CREDITED.items():
            td[key] = inputs[name]
        td[keys.LOG_PROB] = td[keys.OLD_LOG_PROB] = old
        td[keys.SAMPLER_LOG_PROB] = inputs.get("sampling_per_token_logps", old)
        td[keys.ENTROPY] = td[keys.OLD_ENTROPY] = inputs["llmrl_old_entropy"]
        td[keys.MAX_ENTROPY] = torch.full_like(old[:, :1], self._max_entropy)
        if "ref_per_token_logps" in inputs:
            td[keys.REF_LOG_PROB] = inputs["ref_per_token_logps"]
        return td

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """The algorithm's loss of one micro-batch, which is its part of the window's loss."""
        td = inputs[WINDOW].copy()
        td[keys.LOG_PROB], td[keys.ENTROPY], _ = self._score(model, inputs)
        out = self._policy_loss(td)
        mode = "train" if self.model.training else "eval"
        for name in ("clip_fraction_low", "clip_fraction_high", "zero_grad_fraction", "kl_approx_k3", "ratio_mean"):
            self._metrics[mode][f"llmrl/{name}"].append(out[name].item())
        return sum(
            (value for name, value in out.items() if name.startswith("loss_")), torch.zeros_like(td["weight"].sum())
        )


def _made(given: str | Algorithm) -> Algorithm:
    return algorithm(given) if isinstance(given, str) else given
