"""Scores of the sampled tokens of a batch: log-probabilities, entropies, logits, whole distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from llmrl import keys
from llmrl.policies.scoring.forward import ForwardPass
from llmrl.policies.scoring.head import Head, score_tokens
from llmrl.policies.scoring.rows import Sampled, sampled_tokens


@dataclass(frozen=True)
class Scorer:
    """Computes a model's predictions of each sampled token, given all tokens before it.

    A ``layout`` has tokens, attention and mask [N, T] of :mod:`llmrl.keys`; M of the tokens are sampled. With a model
    on a GPU it may be on the CPU, and ``tokens`` on the model's device.
    """

    model: Any
    """A Hugging Face causal language model."""
    forward_pass: ForwardPass
    """The kind of forward pass."""
    temperature: float
    """The divisor of the logits."""

    def scores(self, layout: TensorDictBase, tokens: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies [N, T]; entropies are 0 unless requested."""
        sampled, head = self._sampled(layout, tokens.device), Head.of(self.model)
        zeros = tokens.new_zeros(tokens.shape, dtype=torch.promote_types(head.weight.dtype, torch.float32))
        if sampled.hidden is None:
            return zeros, zeros
        targets = tokens[sampled.row, sampled.column]
        values, spread = score_tokens(sampled.hidden, targets, head, temperature=self.temperature, entropy=entropy)
        return sampled.spread(values, zeros), zeros if spread is None else sampled.spread(spread, zeros)

    def logits(self, layout: TensorDictBase, tokens: Tensor) -> Tensor:
        """Logits [N, T, V], divided by the temperature; 0 at tokens that were not sampled."""
        sampled, head = self._sampled(layout, tokens.device), Head.of(self.model)
        logits = torch.zeros((*tokens.shape, head.weight.shape[0]), device=tokens.device)
        if sampled.hidden is None:
            return logits
        return sampled.spread(head.logits(sampled.hidden) / self.temperature, logits)

    def distributions(self, layout: TensorDictBase) -> Tensor:
        """Log-probabilities [M, V] of the whole vocabulary, row by row."""
        device = self.model.device
        sampled, head = self._sampled(layout, device), Head.of(self.model)
        if sampled.hidden is None:
            return torch.zeros((0, head.weight.shape[0]), device=device)
        order = (sampled.row * layout[keys.TOKENS].shape[1] + sampled.column).argsort()
        return (head.logits(sampled.hidden[order]) / self.temperature).log_softmax(-1)

    def _sampled(self, layout: TensorDictBase, device: torch.device) -> Sampled:
        return sampled_tokens(self.model.get_decoder(), self.forward_pass, layout, device)
