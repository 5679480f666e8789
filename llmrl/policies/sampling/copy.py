"""The engine of a sharded policy: llmrl's own sampler on a whole copy of the weights, on every rank."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from llmrl.distributed.world import World
from llmrl.errors import EngineError
from llmrl.policies.sampling.engine import Sample
from llmrl.policies.sampling.sampler import Sampler


class CopyEngine:
    """Samples from a copy of the model; see :class:`~llmrl.policies.sampling.engine.Engine`.

    Args:
        model: the model before it is sharded.
        sampler_of: makes the sampler of a model.
        version: version of the weights.
        world: the ranks that the model is sharded over.
    """

    def __init__(self, model: Any, sampler_of: Callable[[Any], Sampler], version: int, world: World) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.sampler_of = sampler_of
        self.version = version
        self.world = world

    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        *,
        end_ids: Iterable[int],
        version: int,
        max_new_tokens: int | Sequence[int],
        temperature: float,
        greedy: bool,
        seeds: Sequence[int] | None,
    ) -> list[Sample]:
        """One response for each context."""
        if version != self.version:
            raise EngineError(
                f"The copy that samples holds version {self.version} of the weights and the policy is at {version}. "
                "Call policy.sync() after every change of the weights."
            )
        return self.sampler_of(self.model).sample(
            contexts, max_new_tokens=max_new_tokens, temperature=temperature, greedy=greedy, seeds=seeds
        )

    @torch.no_grad()
    def push(self, model: Any, version: int) -> None:
        """Copy the model's weights; every rank must call this."""
        own = self.model.state_dict()
        for name, tensor in self.world.weights(model):
            own[name].copy_(tensor)
        self.version = version

    def pause(self) -> None:
        """Does nothing: the copy's memory is used again at once."""

    def close(self) -> None:
        """Does nothing: there is no process to end."""
