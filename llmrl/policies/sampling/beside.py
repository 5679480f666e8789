"""The engine of one of several ranks: it gets the weights from this rank's copy, and all ranks push together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llmrl.policies.sampling.copy import CopyEngine
from llmrl.policies.sampling.engine import Engine, Sample


class EngineOfRank:
    """See :class:`~llmrl.policies.sampling.engine.Engine`.

    The copy holds the whole weights in CPU memory. A restarted engine gets them from there at any time, without the
    other ranks.

    Args:
        copy: the copy of the sharded model.
        engine: the engine of this rank; it holds the copy's weights.
    """

    def __init__(self, copy: CopyEngine, engine: Engine) -> None:
        self.copy = copy
        self.engine = engine

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
        return self.engine.sample(
            contexts,
            end_ids=end_ids,
            version=version,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            greedy=greedy,
            seeds=seeds,
        )

    def push(self, model: Any, version: int) -> None:
        """Gather the weights, a tensor at a time, and give them to the engine; every rank must call this."""
        self.copy.push(model, version)
        with self.copy.world.together():  # no rank samples before all servers have the weights
            self.engine.push(self.copy.model, version)

    def pause(self) -> None:
        """Allow the engine to free its memory until the next push."""
        self.engine.pause()

    def close(self) -> None:
        """End this rank's engine."""
        self.engine.close()
