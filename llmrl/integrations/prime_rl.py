"""llmrl's policy losses in prime-rl, as custom losses of one sequence. prime-rl itself is not imported."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.errors import ConfigError
from llmrl.integrations.tensors import entries, figures, policy_algorithm
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.gate import CovarianceGate


class SequenceInputs(Protocol):
    """The entries of prime-rl's ``LossInputs`` for one sequence; every tensor is [T]."""

    trainer_logprobs: Tensor
    inference_logprobs: Tensor
    advantages: Tensor
    loss_mask: Tensor


def sequence_loss(inputs: SequenceInputs, algorithm: str | Algorithm = "dapo") -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one sequence, summed over its tokens; prime-rl divides by the number of tokens of the batch.

    So algorithms that average over tokens are exact. Others are refused.

    Args:
        inputs: the ``LossInputs`` of prime-rl.
        algorithm: a name, or an algorithm; the ratio is relative to prime-rl's inference log-probabilities.

    Returns:
        The loss and metrics to log; a custom loss of prime-rl wraps them in ``LossOutputs``.

    Raises:
        ConfigError: the algorithm reads other entries, does not average over tokens, or compares the tokens of a batch.
    """
    recipe = policy_algorithm(algorithm, "prime-rl")
    if not isinstance(recipe.aggregate, TokenMean):
        raise ConfigError(
            f"{recipe.name} averages by {type(recipe.aggregate).__name__}, and prime-rl over tokens. Take an algorithm "
            "that averages over tokens, such as dapo, gppo or cispo."
        )
    if any(isinstance(gate, CovarianceGate) for gate in recipe.gates):
        raise ConfigError(
            f"{recipe.name} ranks the tokens of a batch by covariance, and prime-rl gives a loss one sequence, whose "
            "advantages are all equal. Use llmrl's own trainer."
        )
    rows = (inputs.trainer_logprobs, inputs.inference_logprobs, inputs.advantages, inputs.loss_mask)
    td = entries(*(row[None] for row in rows))
    td[keys.WEIGHT] = td[keys.MASK].to(td[keys.OLD_LOG_PROB].dtype)
    out = recipe.loss()(td)
    return out["loss_objective"], figures(out)
