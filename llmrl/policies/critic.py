"""The critic of PPO: a second network that predicts the return of the episode before each token."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn

from llmrl import keys
from llmrl.distributed.world import World, blocks_of
from llmrl.policies.exactness import set_training
from llmrl.policies.policy import Policy
from llmrl.policies.scoring.forward import PADDED, ForwardPass
from llmrl.policies.scoring.head import Head
from llmrl.policies.scoring.rows import sampled_tokens
from llmrl.policies.scoring.sharing import gather_for_cache


class Critic(TensorDictModuleBase):
    """A copy of a language model's body with a scalar head.

    It reads the tokens and masks of :mod:`llmrl.keys` and writes ``"value"`` [N, T], float32, or float64 for a float64
    body. The value at a sampled token is the prediction from all tokens before it; it is 0 elsewhere.

    Args:
        body: a transformer that maps ids to ``last_hidden_state``; no other model may use it.
        hidden_size: width of its hidden states.
        forward_pass: how the body reads the responses.
    """

    def __init__(self, body: nn.Module, hidden_size: int, *, forward_pass: ForwardPass = PADDED) -> None:
        super().__init__()
        self.in_keys = [keys.TOKENS, keys.ATTENTION, keys.MASK]
        self.out_keys = [keys.VALUE]
        self.body = body
        self.forward_pass = forward_pass
        self.head = nn.Linear(hidden_size, 1)
        # Zero at first, so that an untrained critic is not worse than no baseline.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def from_policy(cls, policy: Policy) -> Critic:
        """A critic with the policy's weights. It uses the policy's forward pass, since the body is the same."""
        body = copy.deepcopy(policy.model.get_decoder())
        width = Head.of(policy.model).weight.shape[1]
        critic = cls(body, width, forward_pass=policy.forward_pass)
        return critic.to(device=policy.device, dtype=torch.promote_types(policy.dtype, torch.float32))

    def train(self, mode: bool = True) -> Critic:
        """As in torch, but the body stays in evaluation mode; see :meth:`llmrl.policies.policy.Policy.train`."""
        super().train(mode)
        set_training(self.body, mode)
        return self

    def shard(self, world: World, policy: Policy) -> None:
        """Shard the weights over the ranks, layer by layer like those of the policy that the critic was made from."""
        if world.shards > 1:
            blocks = blocks_of(self.body, policy.model)
            world.shard(self, blocks, ["with_weights"])
            gather_for_cache(blocks, world.unshard)

    def with_weights(self, work: Callable[[], Tensor]) -> Tensor:
        """Call ``work`` while the weights of a sharded critic are whole; see :meth:`Policy.with_weights`."""
        return work()

    def forward(self, tensordict: TensorDictBase, layout: TensorDictBase | None = None) -> TensorDictBase:
        """Score a batch; returns a new TensorDict with ``"value"`` added. For ``layout`` see :meth:`Policy.score`."""
        given = tensordict if layout is None else layout
        value = self.with_weights(lambda: self._values(given, tensordict[keys.TOKENS].device))
        return tensordict.copy().set(keys.VALUE, value)

    def _values(self, layout: TensorDictBase, device: torch.device) -> Tensor:
        """[N, T]"""
        sampled = sampled_tokens(self.body, self.forward_pass, layout, device)
        value = torch.zeros(layout[keys.TOKENS].shape, dtype=self.head.weight.dtype, device=device)
        if sampled.hidden is None:
            return value
        return sampled.spread(self.head(sampled.hidden.to(value.dtype)).squeeze(-1), value)
