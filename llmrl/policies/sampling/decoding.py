"""Fast steps of one token per row on a CPU: repacked weights, and attention that does not copy its cache.

Both equal the model's computation to rounding. On other devices and for other types of weights nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

WORTHWHILE = 16
"""Minimum number of tokens per row for which repacking saves more time than it takes."""

LARGEST = 4 << 30
"""Weights of more bytes are not repacked, because the copies need the same memory again."""


Product = Callable[[Tensor], Tensor]
"""``x -> x @ weight.T + bias``"""


def product(weight: Tensor, bias: Tensor | None, *, rows: int) -> Product:
    """``x -> x @ weight.T + bias`` for about ``rows`` rows at a time, while the weight does not change.

    For few rows torch's own product spends half of its time on reordering the weight for oneDNN and MKL, once for each
    product.

    >>> weight = torch.arange(6.0).reshape(2, 3)
    >>> product(weight, None, rows=1)(torch.ones(1, 3))
    tensor([[ 3., 12.]])
    """
    if not _packs(weight):
        return _plain(weight, bias)
    # torch.compile's own code calls these two; torch has no public name for them.
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def _plain(weight: Tensor, bias: Tensor | None) -> Product:
    return partial(linear, weight=weight, bias=bias)


def _packs(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


ONE_QUERY = "llmrl_one_query"
"""Name of :func:`one_query` in transformers."""


@contextmanager
def decoding(
    decoder: Any, *, rows: int, tokens: int, fast_cpu: bool = True
) -> Iterator[Callable[[Tensor, Tensor | None], Product]]:
    """Within the block, linear layers use repacked copies of their weights, and attention uses the cache in place.

    Use it only for inference, with weights that do not change in the block. The copies need as much memory as the
    weights. Weights of more than ``LARGEST`` bytes are not repacked, and a model on a GPU is not changed.

    Args:
        decoder: a Hugging Face model without its head, from ``get_decoder``.
        rows: approximate number of tokens per step.
        tokens: approximate number of steps; weights are not repacked for fewer than ``WORTHWHILE``.
        fast_cpu: False: change nothing.

    Yields:
        A function that makes such a product for another weight and bias, such as those of the head.
    """
    if not fast_cpu or decoder.device.type != "cpu":
        yield _plain
        return
    layers = [module for module in decoder.modules() if type(module) is nn.Linear]
    layers = [layer for layer in layers if "forward" not in vars(layer)]
    if tokens < WORTHWHILE or sum(layer.weight.nbytes for layer in layers) > LARGEST:
        layers, make = [], _plain
    else:
        layers, make = [x for x in layers if _packs(x.weight)], partial(product, rows=rows)
    configs = {id(part.config): part.config for part in decoder.modules() if isinstance(part, PreTrainedModel)}
    chosen = [config for config in configs.values() if config._attn_implementation == "sdpa"]
    try:
        for layer in layers:
            layer.forward = make(layer.weight, layer.bias)  # type: ignore[assignment,method-assign]
        for config in chosen:
            config._attn_implementation = {"": ONE_QUERY}  # a dictionary does not change nested configurations
        yield make
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
        for config in chosen:
            config._attn_implementation = {"": "sdpa"}


def one_query(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token per row [B, heads, 1, width] to the cache [B, fewer heads, T, width].

    transformers repeats keys and values for the query heads that share them, which copies the whole cache at each
    token. Two batched products need no copies. They are faster than torch's fused kernel, which is for many queries.
    """
    if (
        query.shape[2] > 1
        or query.dtype != torch.float32
        or attention_mask is None
        or attention_mask.dtype != torch.bool
        or kwargs.get("position_bias") is not None
    ):
        usual = ALL_ATTENTION_FUNCTIONS["sdpa"]
        return usual(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    rows, heads, _, width = query.shape
    shared = key.shape[1]  # heads of the cache, each read by several of the query's
    scale = width**-0.5 if scaling is None else scaling
    scores = (query * scale).view(rows, shared, heads // shared, width) @ key.transpose(2, 3)
    weights = scores.masked_fill_(~attention_mask, -torch.inf).softmax(-1)
    return (weights @ value).reshape(rows, 1, heads, value.shape[3]), None


ALL_ATTENTION_FUNCTIONS.register(ONE_QUERY, one_query)
ALL_MASK_ATTENTION_FUNCTIONS.register(ONE_QUERY, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
