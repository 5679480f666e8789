"""llmrl's policy losses in verl, as functions for verl's registry. verl itself is not imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.errors import ConfigError
from llmrl.integrations.tensors import entries, figures, policy_algorithm

PolicyLossFunction = Callable[..., tuple[Tensor, dict[str, Any]]]


def policy_loss(algorithm: str | Algorithm, *, max_response_length: int | None = None) -> PolicyLossFunction:
    """A function for verl's ``register_policy_loss``: ratio, clip and aggregation of an algorithm.

    The algorithm's aggregation averages tokens over the tensors of one call. ``loss_agg_mode`` and the clip ranges of
    verl's configuration have no effect. Advantages, KL, entropy and critic are verl's.

    Args:
        algorithm: a name, or an algorithm whose loss reads only log-probabilities and advantages.
        max_response_length: verl's ``data.max_response_length``, tokens; only algorithms that divide by it, such as
            dr_grpo, need it.

    Raises:
        ConfigError: the loss reads other entries, such as the entropies of espo and erc, or it divides by the response
            limit, which is not given.

    >>> import torch
    >>> log_prob = torch.tensor([[0.3, -0.1]], requires_grad=True)
    >>> loss, told = policy_loss("dapo")(torch.zeros(1, 2), log_prob, torch.ones(1, 2), torch.ones(1, 2))
    >>> round(loss.item(), 4), round(told["actor/clip_fraction_high"], 4)
    (-1.0924, 0.5)
    """
    recipe = policy_algorithm(algorithm, "verl")
    if max_response_length is not None:
        recipe = recipe.resolve(max_response_length)
    elif recipe.resolve(1).aggregate != recipe.aggregate:
        raise ConfigError(
            f"{recipe.name} divides by the response limit, which verl does not give a loss. Give it here: "
            f"policy_loss({recipe.name!r}, max_response_length=...), the number of data.max_response_length."
        )
    loss = recipe.loss()

    def llmrl_loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        td = recipe.weigh(entries(log_prob, old_log_prob, advantages, response_mask))
        if rollout_is_weights is not None:
            td[keys.WEIGHT] = td[keys.WEIGHT] * rollout_is_weights.detach()
        out = loss(td)
        return out["loss_objective"], {f"actor/{name}": value.item() for name, value in figures(out).items()}

    return llmrl_loss
