"""The weights for engines: files in a private folder, and the identity in every request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import torch

from llmrl.errors import EngineError
from llmrl.policies.sampling import wire
from llmrl.policies.sampling.folders import PrivateFolder
from llmrl.policies.sampling.weights import weights, write_parts


class HandOver:
    """The weights that every engine of a run must hold.

    The files exist while engines read them. They are written again for an engine that needs the weights later.

    Args:
        model: a Hugging Face causal language model.
        run: the name of the run.
        version: the policy's version of the weights.
    """

    def __init__(self, model: Any, run: str, version: int) -> None:
        self.run = run
        self.digests: list[str] = []
        """Checksums of the files that exist now."""
        self._folder = PrivateFolder(sum(p.numel() * p.element_size() for p in model.parameters()))
        self._readers = 0
        self.take(model, version)

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self._folder.path

    @torch.no_grad()
    def take(self, model: Any, version: int) -> None:
        """Write files for new weights."""
        self.model, self.version = model, version
        self.digests = write_parts(weights(model), self.folder)
        self.identity = wire.Weights(run=self.run, step=version, digest=wire.digest_of_parts(self.digests))

    @contextlib.asynccontextmanager
    async def files(self) -> AsyncIterator[None]:
        """A block in which the files exist; the last reader that leaves removes them.

        Raises:
            EngineError: the files must be written again, and the model has changed since the last time.
        """
        self._readers += 1
        try:
            if not self.digests:
                self.digests = await asyncio.to_thread(self._write_again)
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                for index in range(len(self.digests)):
                    (self.folder / wire.part_name(index)).unlink(missing_ok=True)
                self.digests = []

    def close(self) -> None:
        """Remove the folder; safe to call twice."""
        self._folder.close()

    @torch.no_grad()
    def _write_again(self) -> list[str]:
        digests = write_parts(weights(self.model), self.folder)
        if wire.digest_of_parts(digests) != self.identity.digest:
            raise EngineError(
                "An engine needs the weights again, and the model has changed since they were sent. "
                "Call policy.sync() after every change of the weights."
            )
        return digests
