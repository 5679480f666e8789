"""Tests which way of sampling is exact for a model, and measures its rounding.

The sampler and a dense pass over one sequence at a time must agree to the rounding of that model and type of weights.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmrl.errors import PolicyError
from llmrl.policies.sampling.sampler import Sampler
from llmrl.policies.sampling.states import GROWTH, Way
from llmrl.policies.scoring.forward import PADDED, evaluating, hidden_before
from llmrl.policies.scoring.head import Head

SHORT, LONG = 5, 40
"""Number of tokens of the made-up contexts."""

NEW_TOKENS = GROWTH + 6
"""Number of sampled tokens; the cache grows within them."""

MARGIN = 8.0
"""Multiple of the typical measured rounding that still counts as rounding, because some of many tokens are far off."""

FLOOR = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Tolerance in nats for every model of a type, because one trial may not include the worst token. Models compute norms
and positions in float32 even in float64."""

CHANGING = ("window", "chunk", "original_max_position", "block_size", "index_topk", "indexer_budget")
"""Parts of the names of settings that :func:`changes` reads."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rounding:
    """The change of log-probabilities when every layer rounds differently."""

    typical: float
    """Median over tokens, in nats."""
    largest: float
    """Maximum over tokens, in nats. It is far above the typical value if experts are chosen by close scores."""
    dtype: torch.dtype
    """Of the weights."""

    @property
    def tolerance(self) -> float:
        """Maximum difference in nats between two exact computations of one token."""
        half = self.dtype in (torch.bfloat16, torch.float16)
        return max(MARGIN * self.typical, FLOOR.get(self.dtype, 2e-2), self.largest if half else 0.0)


@torch.no_grad()
def rounding_of(model: Any, temperature: float = 1.0) -> Rounding:
    """Measure it: the outputs of all layers are multiplied with 1 + epsilon / 4 times a random number.

    Epsilon is that of the type of the weights, and a quarter of it the size of a rounding error (Monte Carlo
    arithmetic, Parker 1997).

    Args:
        model: a Hugging Face causal language model.
        temperature: the divisor of the logits.
    """
    sequence = _made_up(model, LONG + NEW_TOKENS)
    draw = torch.Generator().manual_seed(0)
    with evaluating(model), torch.random.fork_rng(devices=[]):
        plain = dense(model, sequence, 1, temperature)
        gaps = []
        for seed in range(2):
            with _rounded(model, draw.manual_seed(seed)):
                gaps.append((dense(model, sequence, 1, temperature) - plain).abs())
    gap = torch.stack(gaps)
    return Rounding(float(gap.median()), float(gap.max()), model.dtype)


def sampling_way(model: Any, *, pad_id: int, longest: int, rounding: Rounding, fast_cpu: bool) -> tuple[Way, bool]:
    """The fastest exact way of sampling: it agrees with a dense pass over each sequence alone.

    Args:
        model: a Hugging Face causal language model.
        pad_id: the padding token before a short context.
        longest: maximum number of tokens of a prompt and its response together.
        rounding: the model's rounding; smaller differences count as agreement.
        fast_cpu: whether :func:`llmrl.policies.sampling.decoding.decoding` may be used.

    Returns:
        The way, and whether the fast products and attention for CPUs are exact too.

    Raises:
        PolicyError: no way is exact.
    """
    name = type(model).__name__
    reasons: dict[str, str] = {}
    tries = [(Way.ROOMY, fast_cpu), *((way, False) for way in Way)]
    for way, fast in dict.fromkeys(tries):
        try:
            gap = sampled_gap(Sampler(model, [], pad_id, way=way, fast_cpu=fast), longest)
        except Exception as error:  # a model without support for such a cache can raise any error
            reasons[way.value] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            continue
        if gap <= rounding.tolerance:
            if way is Way.WHOLE:
                logger.warning(
                    "%s is sampled without a cache, which takes time that grows with the square of the length: with "
                    "one, %s.",
                    name,
                    reasons[Way.ALIGNED.value],
                )
            elif way is not Way.ROOMY:
                logger.info("%s is sampled with %s: %s.", name, way.value, reasons[Way.ROOMY.value])
            return way, fast
        reasons[way.value] = f"log-probabilities are off by {gap:.2g} nats (rounding: {rounding.tolerance:.2g})"
    raise PolicyError(
        f"{name} cannot be sampled exactly, so nothing could be learned from its samples: "
        + "; ".join(f"with {way}, {reason}" for way, reason in reasons.items())
        + ". Use another model, or smaller --policy.max-prompt-length and --policy.max-response-length if its "
        "positions or its attention change with the length."
    )


@torch.no_grad()
def sampled_gap(sampler: Sampler, longest: int) -> float:
    """The largest difference between the sampler's log-probabilities and those of a dense pass, in nats.

    Contexts of different lengths, two of them equal, are sampled together and end at different times. One context is
    longer than every length up to ``longest`` at which the model's attention or positions change. One response crosses
    the last of these lengths.
    """
    model: Any = sampler.model
    reached = [n for n in changes(model.config) if n < longest]
    long = max([LONG, *reached])
    new = max(min(NEW_TOKENS, longest - 1), 1)
    long = max(min(long, longest - new), 1)
    lengths = [min(SHORT, long), long, min(SHORT, long), max(long - 3, 1)]
    lengths += [max(min(n - new // 2, longest - new), 1) for n in reached[-1:]]
    contexts = [_made_up(model, length, seed=length).tolist() for length in lengths]
    limits = [new, new, max(new - 7, 1), max(new // 3, 1), new][: len(contexts)]
    samples = sampler.sample(contexts, max_new_tokens=limits, seeds=range(len(contexts)))
    worst = 0.0
    with evaluating(model):
        for context, sample in zip(contexts, samples, strict=True):
            ids = torch.tensor(context + sample.tokens, device=model.device)
            want = dense(model, ids, len(context), 1.0)
            gap = (torch.tensor(sample.log_probs, device=want.device) - want).abs().max()
            worst = max(worst, float(gap.detach().nan_to_num(torch.inf)))
    return worst


@torch.no_grad()
def attention_gap(model: Any, longest: int) -> float:
    """The largest difference in nats between log-probabilities of the model's attention kernel and of ``eager``.

    Kernels ignore settings that they do not know, such as a soft-cap; transformers' ``eager`` is the definition.
    """
    used = model.config._attn_implementation
    long = max([LONG, *(n + GROWTH for n in changes(model.config) if n < min(longest, 1024))])
    sequence = _made_up(model, max(min(long, longest), 2))
    with evaluating(model):
        plain = dense(model, sequence, 1, 1.0)
        model.set_attn_implementation("eager")
        try:
            want = dense(model, sequence, 1, 1.0)
        finally:
            model.set_attn_implementation(used)
    return float((plain - want).abs().max().nan_to_num(torch.inf))


@torch.no_grad()
def padded_gap(model: Any, longest: int) -> float:
    """The largest difference in nats between scores of sequences of different lengths together and of each alone."""
    long = max([LONG, *(n + GROWTH for n in changes(model.config) if n < longest)])
    lengths = [max(min(n, longest), 2) for n in (SHORT, long, SHORT + 2)]
    rows = [_made_up(model, length, seed=length) for length in lengths]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    attention = place < torch.tensor(lengths, device=tokens.device)[:, None]
    with evaluating(model):
        (row, column), hidden = hidden_before(model.get_decoder(), PADDED, tokens, attention, attention & (place > 0))
        log_p = Head.of(model).logits(hidden).log_softmax(-1)
        together = log_p.gather(1, tokens[row, column][:, None]).squeeze(1)
        alone = torch.cat([dense(model, ids, 1, 1.0) for ids in rows])
    return float((together - alone).abs().max().nan_to_num(torch.inf))


def dense(model: Any, ids: Tensor, begin: int, temperature: float) -> Tensor:
    """Log-probabilities of the tokens from ``begin`` on, of one sequence [T] and without a cache."""
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    log_p = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).log_softmax(-1)
    return log_p[begin - 1 : -1].gather(1, ids[begin:, None]).squeeze(1)


def changes(config: Any) -> list[int]:
    """Lengths at which a model's attention or positions change: windows, chunks, the number of tokens that an indexer
    chooses, the original context length.

    >>> from transformers import MistralConfig
    >>> changes(MistralConfig(sliding_window=64))
    [64]
    """
    found: set[int] = set()

    def search(settings: dict[str, Any]) -> None:
        for key, value in settings.items():
            if isinstance(value, dict):
                search(value)
            elif (
                isinstance(value, int)
                and not isinstance(value, bool)
                and value > 0
                and any(word in key for word in CHANGING)
            ):
                found.add(value)

    search(config.get_text_config().to_dict())
    return sorted(found)


def _made_up(model: Any, length: int, seed: int = 0) -> Tensor:
    """Token ids [length], the same for each seed."""
    rows = len(model.get_input_embeddings().weight)
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(min(rows, 256), (length,), generator=draw).to(model.device)


@contextmanager
def _rounded(model: nn.Module, draw: torch.Generator) -> Iterator[None]:
    """Within the block, add a rounding error to the output of each layer that contains no other layer."""
    size = torch.finfo(next(model.parameters()).dtype).eps / 4

    def move(module: nn.Module, given: Sequence[Any], out: Any) -> Any:
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return out
        noise = torch.randn(out.shape, generator=draw).to(out.device, torch.promote_types(out.dtype, torch.float32))
        return (out * (1 + size * noise)).to(out.dtype)

    hooks = [part.register_forward_hook(move) for part in model.modules() if not any(part.children())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
