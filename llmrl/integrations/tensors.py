"""An algorithm's policy loss on the tensors that every trainer has: log-probabilities, advantages and a mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.errors import ConfigError
from llmrl.keys import Key
from llmrl.losses import EntropyBonus, KLToReference, ValueLoss

OWN = (KLToReference, ValueLoss, EntropyBonus)
"""Terms that every trainer has itself, with options of its own; they are left out here."""
HAD: frozenset[Key] = frozenset((keys.MASK, keys.LOG_PROB, keys.OLD_LOG_PROB, keys.ADVANTAGE, keys.WEIGHT))


def policy_algorithm(given: str | Algorithm, trainer: str) -> Algorithm:
    """An algorithm whose policy loss reads only log-probabilities, advantages and a mask.

    Its KL, value and entropy terms are left out, because the trainer has its own.

    Args:
        given: a name, or an algorithm.
        trainer: name of the trainer in the message.

    Raises:
        ConfigError: the policy loss reads other entries, or the algorithm has other terms.

    >>> policy_algorithm("gppo", "verl").name
    'gppo'
    >>> policy_algorithm("erc", "X")
    Traceback (most recent call last):
    llmrl.errors.ConfigError: erc reads 'entropy', 'old_entropy', which X does not give a loss. Use llmrl's own trainer.
    """
    made = algorithm(given) if isinstance(given, str) else given
    for one in made.terms:
        if one.loss not in OWN:
            raise ConfigError(
                f"{made.name} has the term {type(one()).__name__}, which {trainer} cannot add. Use llmrl's own trainer."
            )
    recipe = dataclasses.replace(made, terms=())
    read: list[Key] = [key for key in recipe.loss().in_keys if key not in HAD]
    if recipe.partition is not None:
        read.insert(0, keys.OLD_ENTROPY)
    if recipe.corrections:
        read.append(keys.SAMPLER_LOG_PROB)
    if read:
        names = ", ".join(repr(key) for key in dict.fromkeys(read))
        raise ConfigError(
            f"{recipe.name} reads {names}, which {trainer} does not give a loss. Use llmrl's own trainer."
        )
    return recipe


def entries(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, mask: Tensor) -> TensorDict:
    """The four tensors [N, T] as a batch of llmrl.

    Args:
        log_prob: log-probabilities under the trained weights; they carry the gradient.
        old_log_prob: log-probabilities under the old weights, for the ratio.
        advantage: the advantage of each token.
        mask: nonzero for tokens of the loss.
    """
    td = TensorDict(batch_size=[len(log_prob)])
    td[keys.MASK], td[keys.LOG_PROB] = mask.bool(), log_prob
    td[keys.OLD_LOG_PROB], td[keys.ADVANTAGE] = old_log_prob.detach(), advantage.detach()
    return td


def figures(out: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The metrics of a loss: fractions of clipped tokens and of tokens without gradient, and the divergence."""
    names = ("clip_fraction_low", "clip_fraction_high", "zero_grad_fraction", "kl_approx_k3")
    return {name: out[name].detach() for name in names}
