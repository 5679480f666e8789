"""Log-probabilities and entropies of given tokens, without the logits of all tokens in memory.

Logits are computed in blocks of the vocabulary and blocks of tokens. The hand-written backward pass computes each
block again. Peak memory does not depend on the product of tokens and vocabulary. The policy selects the tokens and
computes their hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from llmrl.policies.adapters import added_to

TILE_VOCABULARY = 8192
TILE_ELEMENTS = 1 << 21  # of float32: 8 MiB, what a CPU's cache can hold
TILE_TOKENS = 512  # of a small vocabulary: temporary blocks of 1 MiB, which the allocator keeps
MULTIPLIED = ("hyperclovax",)
"""Types of models whose logits are multiplied with ``logits_scaling``; other types divide by it."""
KEEP_ELEMENTS = 1 << 26  # a problem of at most 256 MiB keeps its logits for the backward pass


@dataclass(frozen=True, kw_only=True)
class Head:
    """The map from hidden states to logits: ``softcap(scale * (hidden @ weight.T + bias))``.

    >>> linear = torch.nn.Linear(2, 3)
    >>> Head(weight=linear.weight, bias=linear.bias).logits(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    weight: Tensor
    """[V, H]"""
    bias: Tensor | None = None
    """[V]"""
    scale: float = 1.0
    """Factor of the model's logits (Cohere's logit_scale, Falcon-H1's multiplier, one over Granite's scaling)."""
    softcap: float | None = None
    """Logits are bent to ``softcap * tanh(logits / softcap)``, as in Gemma 2."""

    @classmethod
    def of(cls, model: Any) -> Head:
        """The head of a Hugging Face causal language model, including low-rank adapters on it."""
        text = model.config.get_text_config()
        layer: Any = model.get_output_embeddings()
        if hasattr(layer, "modules_to_save"):  # peft: a trainable copy of the whole head
            layer = layer.modules_to_save[layer.active_adapter]
        weight, bias = layer.weight, getattr(layer, "bias", None)
        for added in added_to(layer):
            weight = weight + added
        scale = float(getattr(text, "logit_scale", None) or 1.0)
        scale *= float(getattr(text, "lm_head_multiplier", None) or 1.0)
        scaling = float(getattr(text, "logits_scaling", None) or 1.0)
        scale *= scaling if text.model_type in MULTIPLIED else 1 / scaling
        softcap = getattr(text, "final_logit_softcapping", None)
        return cls(weight=weight, bias=bias, scale=scale, softcap=softcap)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., H]."""
        return self.finish(nn.functional.linear(hidden, self.weight, self.bias))

    def finish(self, product: Tensor) -> Tensor:
        """Logits [..., V] of ``hidden @ weight.T + bias`` in float32, or in float64 for float64 input."""
        z = product.to(torch.promote_types(product.dtype, torch.float32)) * self.scale
        return z if self.softcap is None else self.softcap * torch.tanh(z / self.softcap)


def score_tokens(
    hidden: Tensor,
    targets: Tensor,
    head: Head,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Log-probability and optionally exact entropy of each token, differentiable in hidden and head.

        log p_i = z_iy - logsumexp(z_i),   H_i = -sum_v p_iv log p_iv,   z = head(hidden) / temperature

    Args:
        hidden: [M, H], the hidden state that predicts each token.
        targets: [M] int64, the tokens.
        head: the map to logits.
        temperature: the divisor of the logits.
        entropy: whether to compute the entropy.

    Returns:
        Log-probabilities [M] and entropies [M] (or None) in nats, float32 (float64 for float64 input).

    >>> head = Head(weight=torch.zeros(4, 2))
    >>> log_prob, entropy = score_tokens(torch.ones(1, 2), torch.tensor([3]), head, entropy=True)
    >>> log_prob.exp().item(), entropy.exp().item()
    (0.25, 4.0)
    """
    if hidden.ndim != 2 or targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"score_tokens takes hidden [M, H] and targets [M], got {list(hidden.shape)} and {list(targets.shape)}."
        )
    log_prob, entropies = _Score.apply(
        hidden, head.weight, head.bias, targets, head.scale, head.softcap, temperature, entropy
    )
    return log_prob, entropies if entropy else None


@dataclass
class _Tiles:
    """Computes blocks of logits; one instance serves the forward and the backward pass."""

    hidden: Tensor  # [M, H] in the accumulation type, the constant factors multiplied in
    weight: Tensor  # [V, H]
    bias: Tensor | None
    inner: float
    outer: float | None  # None: no soft-cap

    def vocabulary(self) -> list[tuple[int, int]]:
        """[begin, end) of the blocks of the vocabulary."""
        return _spans(self.weight.shape[0], TILE_VOCABULARY)

    def tokens(self) -> list[tuple[int, int]]:
        """[begin, end) of the blocks of tokens."""
        width = min(self.weight.shape[0], TILE_VOCABULARY)
        return _spans(self.hidden.shape[0], min(max(TILE_ELEMENTS // width, 64), TILE_TOKENS))

    def block(self, begin: int, end: int) -> tuple[Tensor, Tensor | None]:
        """Rows of the matrix and of the bias, in the accumulation type."""
        weight = self.weight[begin:end].to(self.hidden.dtype)
        if self.bias is None:
            return weight, None
        return weight, self.bias[begin:end].to(self.hidden.dtype) * self.inner

    def logits(self, span: tuple[int, int], weight: Tensor, bias: Tensor | None) -> Tensor:
        """Tempered logits of one block."""
        hidden = self.hidden[slice(*span)]
        z = hidden @ weight.t() if bias is None else torch.addmm(bias, hidden, weight.t())
        return z if self.outer is None else z.tanh_().mul_(self.outer)


def _spans(total: int, size: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + size, total)) for begin in range(0, total, size)]


class _Score(torch.autograd.Function):
    """Forward: a running logsumexp over blocks. Backward: softmax blocks from the stored logsumexp."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        softcap: float | None,
        temperature: float,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        tiles = _tiles(hidden, weight, bias, scale, softcap, temperature)
        size, work = hidden.shape[0], tiles.hidden.dtype
        top = hidden.new_full((size,), torch.finfo(work).min, dtype=work)  # running maximum
        # Sum of exp(z - top) over all tokens except the likeliest, without its 1. If that token has nearly all of the
        # probability, the log-probability and the entropy are as small as this sum, and 1 + sum would round it away.
        rest = torch.zeros_like(top)
        moment = torch.zeros_like(top)  # sum of exp(z - top) (z - top)
        chosen = torch.zeros_like(top)  # logit of the target
        keep = size * weight.shape[0] <= KEEP_ELEMENTS and any(ctx.needs_input_grad[:3])
        kept: list[Tensor] = []
        for low, high in tiles.vocabulary():
            block = tiles.block(low, high)
            for span in tiles.tokens():
                rows = slice(*span)
                z = tiles.logits(span, *block)
                target = targets[rows] - low
                inside = (target >= 0) & (target < high - low)
                logit = z.gather(1, target.clamp(0, high - low - 1)[:, None]).squeeze(1)
                chosen[rows] = torch.where(inside, logit, chosen[rows])
                highest, place = z.max(1)
                old, rises = top[rows], highest > top[rows]
                new = torch.where(rises, highest, old)
                if keep:
                    kept.append(z)
                    z = z - new[:, None]
                else:
                    z = z.sub_(new[:, None])
                e = z.exp()
                one = torch.where(rises, 0.0, e.gather(1, place[:, None]).squeeze(1))
                e.scatter_(1, place[:, None], one[:, None])
                shrink = (old - new).exp()
                before = rest[rows] + (low > 0)  # of the blocks so far, their likeliest token included
                if entropy:
                    shift = torch.where(before > 0, old - new, 0.0)
                    moment[rows] = (moment[rows] + before * shift) * shrink + torch.linalg.vecdot(e, z)
                rest[rows] = torch.where(rises, before * shrink, rest[rows]) + e.sum(1)
                top[rows] = new
        log_mass = rest.log1p()
        entropies = log_mass - moment / (1 + rest)
        ctx.save_for_backward(hidden, weight, bias, targets, top, log_mass, entropies)
        ctx.constants = scale, softcap, temperature
        ctx.kept = kept
        ctx.set_materialize_grads(False)
        if not entropy:
            ctx.mark_non_differentiable(entropies)
        return (chosen - top) - log_mass, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_log_prob: Tensor | None, by_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        if by_log_prob is None and by_entropy is None:
            return (None,) * 8
        hidden, weight, bias, targets, top, log_mass, entropies = ctx.saved_tensors
        tiles = _tiles(hidden, weight, bias, *ctx.constants)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros_like(tiles.hidden) if wants_hidden else None
        d_weight = torch.empty_like(weight) if wants_weight else None
        d_bias = torch.empty_like(bias) if wants_bias else None
        kept = iter(ctx.kept)
        for low, high in tiles.vocabulary():
            block = tiles.block(low, high)
            sum_weight = torch.zeros_like(block[0]) if wants_weight else None
            sum_bias = tiles.hidden.new_zeros(high - low) if wants_bias else None
            for span in tiles.tokens():
                rows = slice(*span)
                z = next(kept) if ctx.kept else tiles.logits(span, *block)
                # d z / d (logits before the soft-cap)
                slope = None if tiles.outer is None else tiles.outer - z.square() / tiles.outer
                log_p = (z - top[rows, None]).sub_(log_mass[rows, None])
                d_z = log_p.exp()
                target = targets[rows] - low
                inside = (target >= 0) & (target < high - low)
                at = target.clamp(0, high - low - 1)[:, None]
                left = -torch.expm1(log_p.gather(1, at))  # 1 - p_y, exact where p_y is nearly 1
                p_y = d_z.gather(1, at)
                if by_entropy is not None:  # d H / d z = -p (log p + H)
                    log_p.add_(entropies[rows, None]).mul_(by_entropy[rows, None])
                    if by_log_prob is not None:
                        by_entropy_y = -p_y * log_p.gather(1, at)
                        log_p.add_(by_log_prob[rows, None])
                    d_z.mul_(log_p).neg_()
                elif by_log_prob is not None:  # d log p_y / d z = onehot(y) - p
                    by_entropy_y = torch.zeros_like(p_y)
                    d_z.mul_(-by_log_prob[rows, None])
                if by_log_prob is not None:
                    whole = left * by_log_prob[rows, None] + by_entropy_y
                    d_z.scatter_(1, at, torch.where(inside[:, None], whole.to(d_z.dtype), d_z.gather(1, at)))
                if slope is not None:
                    d_z.mul_(slope)
                if d_hidden is not None:
                    d_hidden[rows].addmm_(d_z, block[0])
                if sum_weight is not None:
                    sum_weight.addmm_(d_z.t(), tiles.hidden[rows])
                if sum_bias is not None:
                    sum_bias.add_(d_z.sum(0))
            if d_weight is not None and sum_weight is not None:
                d_weight[low:high] = sum_weight
            if d_bias is not None and sum_bias is not None:
                d_bias[low:high] = sum_bias * tiles.inner
        if d_hidden is not None:
            d_hidden = d_hidden.mul_(tiles.inner).to(hidden.dtype)
        return d_hidden, d_weight, d_bias, None, None, None, None, None


def _tiles(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
    temperature: float,
) -> _Tiles:
    """Combine the constants into factors before and after the soft-cap."""
    work = torch.promote_types(hidden.dtype, torch.float32)
    inner = scale / (temperature if softcap is None else softcap)
    outer = None if softcap is None else softcap / temperature
    return _Tiles(hidden.to(work) * inner, weight, bias, inner, outer)
