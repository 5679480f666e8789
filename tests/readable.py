"""Models that can be read in several ways, batches to read, and how to compare what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from tiny import tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llmrl import keys
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy
from llmrl.policies.scoring.forward import PADDED, ForwardPass, Sequences, hidden_before
from llmrl.policies.scoring.head import Head, score_tokens

SIZES = {
    "vocab_size": 261,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def gpt2(**more: Any) -> GPT2LMHeadModel:
    sizes = {"vocab_size": 261, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    ids = {"eos_token_id": 1, "bos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(**sizes, **ids, initializer_range=0.2, **more))


MODELS: dict[str, Callable[[], Any]] = {
    "llama": tiny_model,
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "gpt2": gpt2,
    "mistral with a sliding window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=7)),
    "llama, eager": lambda: tiny_model(attn_implementation="eager"),
    "gpt2, eager": lambda: gpt2(attn_implementation="eager"),
}


def make(name: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    return MODELS[name]().to(dtype).eval()


def batch(lengths: list[tuple[int, int]], *, same: list[int] | None = None, seed: int = 0) -> TensorDict:
    """Left-padded prompts and right-padded responses; in the first row something said is not sampled.

    Args:
        lengths: of each prompt and response.
        same: rows whose numbers are equal have the same prompt; by default all differ.
    """
    left, right = (max(x) for x in zip(*lengths, strict=True))
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, 261, (len(lengths), left + right), generator=generator)
    for row, number in enumerate(same or []):
        tokens[row, :left] = tokens[(same or []).index(number), :left]
    column = torch.arange(left + right)
    begin = torch.tensor([left - prompt for prompt, _ in lengths])[:, None]
    end = torch.tensor([left + response for _, response in lengths])[:, None]
    attention = (column >= begin) & (column < end)
    mask = attention & (column >= left)
    mask[0, left + 1 : left + 3] = False
    return TensorDict(
        {keys.TOKENS: tokens, keys.ATTENTION: attention, keys.MASK: mask},
        batch_size=[len(lengths)],
    )


LENGTHS = [(3, 9), (6, 30), (1, 1), (5, 2), (8, 4), (2, 17), (4, 11), (3, 25)]


def policy(model: Any, **more: Any) -> Policy:
    return Policy(model, tiny_tokenizer(), max_prompt_length=16, max_response_length=32, **more)


def mamba() -> MambaForCausalLM:
    sizes = {"vocab_size": 261, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2}
    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(**sizes, initializer_range=0.2)).eval()


def gradients(model: Any) -> list[Tensor]:
    taken = [p.grad for p in model.parameters()]
    model.zero_grad()
    return [torch.zeros(()) if g is None else g for g in taken]


def close(first: Any, second: Any, tolerance: float) -> None:
    """Within ``tolerance`` of each other, of the size of the largest number in a tensor."""
    for a, b in zip(first, second, strict=True):
        scale = max(float(b.abs().max()), 1.0)
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale)


def scored_in_parts(policy: Policy, data: TensorDict, budget: int | None) -> Any:
    """Scores and entropies, of at most so many tokens at a time."""
    if budget is None:
        return policy.score(data, entropy=True)
    sequences = Sequences.of(data[keys.TOKENS], data[keys.ATTENTION], data[keys.MASK])
    parts = policy.forward_pass.batches(sequences, budget)
    scored = torch.cat([policy.score(data[part], entropy=True) for part in parts])
    return scored[torch.tensor([row for part in parts for row in part]).argsort()]


# What is read together must be what is read alone.


def compare_with_alone(together: Policy, alone: Policy, data: TensorDict, budget: int | None) -> None:
    """Scores, entropies and gradients to 1e-5; nothing outside the mask.

    Args:
        together: reads several rows at once.
        alone: the same model, given one row at a time.
        data: rows.
        budget: of tokens read at once.
    """
    factor = torch.randn(data[keys.MASK].shape, generator=torch.Generator().manual_seed(1))

    def total(scored: Any, at: slice) -> Tensor:
        return (factor[at] * (scored[keys.LOG_PROB] + 0.5 * scored[keys.ENTROPY])).sum()

    got = scored_in_parts(together, data, budget)
    total(got, slice(None)).backward()
    got_grad = gradients(together.model)
    want = []
    for i in range(len(data)):
        scored = alone.score(data[i : i + 1], entropy=True)
        total(scored, slice(i, i + 1)).backward()
        want.append(scored.detach())
    expected = torch.cat(want)
    for key in (keys.LOG_PROB, keys.ENTROPY):
        close([got[key].detach()], [expected[key]], 1e-5)
    close(got_grad, gradients(alone.model), 1e-5)
    assert (got[keys.LOG_PROB][~data[keys.MASK]] == 0).all()


def compare_in_float64(model: Any, data: TensorDict, forward_pass: ForwardPass, tolerance: float) -> None:
    """Scores and entropies to 1e-10, gradients to a tolerance."""
    tokens, attention, mask = (data[key] for key in (keys.TOKENS, keys.ATTENTION, keys.MASK))

    def score(rows: Tensor, way: ForwardPass) -> tuple[Tensor, ...]:
        (row, column), hidden = hidden_before(model.get_decoder(), way, tokens[rows], attention[rows], mask[rows])
        values = score_tokens(hidden, tokens[rows][row, column], Head.of(model), entropy=True)
        (values[0].sum() + 0.3 * values[1].square().sum()).backward()
        return tuple(value.detach() for value in values)

    got = score(torch.arange(len(data)), forward_pass)
    got_grad = gradients(model)
    parts = [score(torch.tensor([i]), PADDED) for i in range(len(data))]
    close(got, [torch.cat(part) for part in zip(*parts, strict=True)], 1e-10)
    close(got_grad, gradients(model), tolerance)


def compare_critic(critic: Critic, data: TensorDict) -> None:
    """Values and gradients to 1e-5; nothing outside the mask."""
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(2))
    got = critic(data)[keys.VALUE]
    got.square().sum().backward()
    got_grad = gradients(critic)
    critic.forward_pass = PADDED
    want = torch.cat([critic(data[i : i + 1])[keys.VALUE] for i in range(len(data))])
    want.square().sum().backward()
    close([got.detach()], [want.detach()], 1e-5)
    close(got_grad, gradients(critic), 1e-5)
    assert (got[~data[keys.MASK]] == 0).all()
