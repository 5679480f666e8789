"""A policy as the actor of TorchRL's collectors and rollouts: it reads texts and writes texts and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensordict import NonTensorData, NonTensorStack, TensorDictBase
from tensordict.nn import TensorDictModuleBase

from llmrl import keys
from llmrl.policies.episode import pack
from llmrl.policies.sampling.engine import SamplingOptions

if TYPE_CHECKING:
    from llmrl.policies.policy import Policy


class Actor(TensorDictModuleBase):
    """The module that TorchRL calls between two steps of an environment; it responds to observations.

    It reads ``"observation"``, a text or one text per row. It writes ``"action"``, the responses as text, and the
    tokens, attention, mask and sampler's log-probabilities of :mod:`llmrl.keys`. These are padded to the longest row
    that the policy allows, so that steps can be stacked. :meth:`llmrl.policies.policy.Policy.score` accepts the batches
    of a collector.

    Each observation is a separate prompt. For episodes in which the policy reads all earlier turns, use
    :meth:`llmrl.policies.policy.Policy.respond`.

    Args:
        policy: the policy that responds.
        options: how to sample.
    """

    def __init__(self, policy: Policy, options: SamplingOptions) -> None:
        super().__init__()
        self.policy = policy
        self.sampling = options
        self.in_keys = ["observation"]
        self.out_keys = ["action", keys.TOKENS, keys.ATTENTION, keys.MASK, keys.SAMPLER_LOG_PROB]

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Sample a response for each row; changed in place, as TorchRL expects of an actor.

        Raises:
            ValueError: there is more than one batch dimension.
        """
        if tensordict.batch_dims > 1:
            raise ValueError(f"The actor takes one row, or one batch dimension of rows, got {tensordict.batch_size}.")
        single = tensordict.batch_dims == 0
        observation = tensordict["observation"]
        prompts = [observation] if single else list(observation)
        episodes = self.policy.begin(prompts)
        texts = self.policy.respond(episodes, self.sampling)
        rows = pack(episodes, self.policy.pad_id)
        # The first response begins in the same column of every step, behind room for the longest prompt.
        begin = self.policy.max_prompt_length - max((len(e.prompt) for e in episodes if not e.refused), default=0)
        for key in self.out_keys[1:]:
            value = rows[key]
            wide = value.new_full((len(rows), self.policy.longest), self.policy.pad_id if key == keys.TOKENS else 0)
            wide[:, begin : begin + value.shape[1]] = value
            tensordict[key] = (wide[0] if single else wide).to(tensordict.device or wide.device)
        tensordict["action"] = NonTensorData(texts[0]) if single else NonTensorStack(*texts)
        return tensordict
