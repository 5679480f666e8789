"""Responses behind one reading of their prompt: exactly what each is when it is read alone, or padded as ever."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from readable import (
    MODELS,
    batch,
    close,
    compare_critic,
    compare_in_float64,
    compare_with_alone,
    gradients,
    make,
    mamba,
    policy,
)
from tiny import tiny_folder, tiny_model, tiny_tokenizer
from torch import Tensor

from llmrl import keys
from llmrl.policies.adapters import LoraOptions
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.policies.scoring import sharing
from llmrl.policies.scoring.forward import PADDED, Sequences
from llmrl.policies.scoring.probing import TOLERANCE, forward_pass_for
from llmrl.policies.scoring.sharing import SHARED, worthwhile

# Three prompts, one of them with the beginning of another; the longest response last.
GROUPS = [(9, 4), (9, 12), (9, 1), (12, 6), (12, 2), (12, 9), (8, 3), (8, 15)]
SAME = [0, 0, 0, 1, 1, 1, 2, 2]


def groups(**more: Any):
    data = batch(GROUPS, same=SAME, **more)
    left = 12
    data[keys.TOKENS][6:, left - 8 : left - 4] = data[keys.TOKENS][0, left - 9 : left - 5]
    return data


def arguments(data) -> tuple[Tensor, Tensor, Tensor]:
    return data[keys.TOKENS], data[keys.ATTENTION], data[keys.MASK]


@pytest.fixture
def shapes(monkeypatch) -> list[tuple[int, int]]:
    """The shapes of what is read behind a cache."""
    seen: list[tuple[int, int]] = []

    class Spied(sharing.DynamicCache):
        def reorder_cache(self, indices: Tensor) -> None:
            layer = self.layers[0]
            seen.append((len(layer.keys), len(indices)))
            super().reorder_cache(indices)

    monkeypatch.setattr(sharing, "DynamicCache", Spied)
    return seen


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("budget", [None, 70])
def test_scores_and_gradients_are_those_of_one_response_at_a_time(name, budget, shapes):
    data = groups()
    model = make(name)
    shared, alone = policy(model), policy(model, share_prompts=False)
    assert (shared.forward_pass, alone.forward_pass) == (SHARED, PADDED)
    shapes.clear()
    compare_with_alone(shared, alone, data, budget)
    assert shapes
    assert all(prompts < rows for prompts, rows in shapes)


# Llama's eager attention takes its softmax in float32, whatever the weights.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "llama, eager"])
def test_in_float64_they_are_equal_to_1e_10(name, shapes):
    data = groups()
    model = make(name, torch.float64)
    # All but GPT-2 take norms in float32, and now add up before them what they added up behind them.
    tolerance = 1e-10 if name.startswith("gpt2") else 1e-6
    compare_in_float64(model, data, SHARED, tolerance)
    assert len(shapes) == 1


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_no_response_reads_another(name, shapes):
    """Not even as rounding: the same rows, in which another response says something else."""
    model = make(name)
    data = groups()
    other = data.clone()
    for changed in (1, 5):
        where = other[keys.MASK][changed]
        other[keys.TOKENS][changed, where] = 5 + (other[keys.TOKENS][changed, where] * 7) % 256
    scorer = policy(model)
    first, second = (scorer.score(x)[keys.LOG_PROB].detach() for x in (data, other))
    assert shapes
    same = [torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert same == [i not in (1, 5) for i in range(len(data))]


def test_one_token_of_a_prompt_may_differ_and_what_is_equal_is_still_read_once(shapes):
    data = groups()
    data[keys.TOKENS][1, 12 - 3] = 7  # the third token before the response
    scorer = policy(make("llama"))
    assert scorer.forward_pass is SHARED
    shapes.clear()
    got = scorer.score(data)[keys.LOG_PROB]
    assert shapes == [(4, 8)]  # three prompts and this one
    alone = torch.cat([scorer.score(data[i : i + 1])[keys.LOG_PROB] for i in range(len(data))])
    close([got.detach()], [alone.detach()], 1e-5)


def test_the_critic_reads_like_the_policy(shapes):
    data = groups()
    critic = Critic.from_policy(policy(make("llama")))
    assert critic.forward_pass is SHARED
    shapes.clear()
    compare_critic(critic, data)
    assert len(shapes) == 1


def test_adapters_are_read_so_too(tmp_path, shapes):
    data = groups()
    scorer = Policy.from_pretrained(
        tiny_folder(tmp_path), device="cpu", lora=LoraOptions(rank=2), max_response_length=32
    )
    scorer.train()
    grads, values = [], []
    shapes.clear()
    for scorer.forward_pass in (SHARED, PADDED):
        scored = scorer.score(data)[keys.LOG_PROB]
        scored.sum().backward()
        values.append(scored.detach())
        grads.append(gradients(scorer.model))
    assert len(shapes) == 1
    close([values[0]], [values[1]], 1e-5)
    close(grads[0], grads[1], 1e-5)


# Where it is not done.


def test_prompts_that_differ_are_read_as_ever(shapes):
    data = batch(GROUPS)
    scorer = policy(make("llama"))
    assert scorer.forward_pass is SHARED
    shapes.clear()
    scorer.score(data)
    assert not shapes


def test_long_responses_to_a_short_prompt_are_read_as_ever(shapes):
    data = batch([(3, 28), (3, 30), (3, 2)], same=[0, 0, 0])
    scorer = policy(make("llama"))
    assert scorer.forward_pass is SHARED
    shapes.clear()
    scorer.score(data)
    assert not shapes


@given(prompt=st.integers(0, 30), rest=st.integers(1, 60), count=st.integers(1, 8), data=st.data())
def test_it_is_worthwhile_when_an_eighth_is_saved(prompt, rest, count, data):
    different = data.draw(st.integers(1, count))
    width = prompt + rest
    apart = different * prompt + count * rest
    expected = prompt > 0 and apart <= count * width * (1 - 1 / 8)
    assert worthwhile(different, prompt, count, width) == expected
    assert worthwhile(1, 8, 2, 32)  # 56 of 64
    assert not worthwhile(1, 7, 2, 32)


def test_gradient_checkpointing_reads_as_ever(tmp_path):
    folder = tiny_folder(tmp_path)
    scorer = Policy.from_pretrained(folder, device="cpu", gradient_checkpointing=True)
    assert scorer.forward_pass is PADDED
    scorer = Policy.from_pretrained(folder, device="cpu")
    assert scorer.forward_pass is SHARED
    scorer.model.gradient_checkpointing_enable()
    scorer.train()
    with pytest.raises(RuntimeError, match=r"switched on after.*gradient_checkpointing=True"):
        scorer.score(groups())


def test_a_model_without_such_a_cache_is_read_as_ever_and_a_warning_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        scorer = policy(mamba())
    assert scorer.forward_pass is PADDED
    assert "MambaForCausalLM: a prompt is read once for each response to it" in caplog.text
    assert "--train.no-share-prompts" in caplog.text
    caplog.clear()
    assert policy(mamba(), share_prompts=False).forward_pass is PADDED
    assert not caplog.text


def test_a_policy_that_only_samples_tries_nothing(monkeypatch):
    monkeypatch.setattr("llmrl.policies.exactness.forward_pass_for", lambda *args, **ways: pytest.fail("tried"))
    assert len(policy(make("llama")).generate(["hello"], SamplingOptions(max_new_tokens=3))) == 1


def test_a_cache_that_cuts_the_gradient_is_noticed(monkeypatch, caplog):
    model = make("llama")
    attention = model.get_decoder().layers[0].self_attn
    forward = attention.forward

    def cut(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        if kwargs.get("past_key_values") is not None:
            layer = kwargs["past_key_values"].layers[0]
            layer.keys = layer.keys.detach()
        return out

    monkeypatch.setattr(attention, "forward", cut)
    assert policy(model).forward_pass is PADDED
    assert "hidden states or gradients would be off by" in caplog.text


def test_positions_that_begin_anew_behind_the_cache_are_noticed(monkeypatch, caplog):
    model = make("gpt2")
    embed = model.get_decoder().wpe.forward
    monkeypatch.setattr(model.get_decoder().wpe, "forward", lambda p: embed(torch.arange(p.shape[1]).expand_as(p)))
    assert policy(model).forward_pass is PADDED
    assert "would be off by" in caplog.text


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_model_that_can_is_not_refused_for_its_rounding(name, dtype):
    decoder = make(name, dtype).get_decoder()
    assert forward_pass_for(decoder, name, packing=False, share_prompts=True) is SHARED


def test_a_short_context_is_not_overrun_by_the_try():
    model = tiny_model(max_position_embeddings=9)
    assert Policy(model, tiny_tokenizer(), max_response_length=4).forward_pass is SHARED


# Which are read together.

ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([1, 7, 12, 13, 30]), st.integers(0, 9)),
    min_size=1,
    max_size=16,
)


def sequences(rows: list[tuple[int, int, int]]) -> Sequences:
    """Of (number, length) of the prompt and length of the response."""
    data = batch(
        [(prompt, max(response, 1)) for _, prompt, response in rows],
        same=[10 * prompt + number for number, prompt, _ in rows],
    )
    for row, (_, _, response) in enumerate(rows):
        if not response:
            data[keys.MASK][row] = False
    return Sequences.of(*arguments(data))


def read(of: Sequences, part: list[int]) -> int:
    """How many tokens a model is given, counted where it reads them."""
    part = [i for i in part if of.lengths[i]]
    if not part:
        return 0
    some = Sequences(
        of.ids[part],
        of.sampled[part],
        of.columns[part],
        [of.lengths[i] for i in part],
        [of.prompts[i] for i in part],
        of.device,
    )
    tokens = 0

    class Counted:
        training = False
        config = make("llama").config

        def __call__(self, input_ids: Tensor, past_key_values: Any = None, **kwargs: Any) -> Any:
            nonlocal tokens
            tokens += input_ids.numel()
            hidden = torch.zeros((*input_ids.shape, 1))
            if past_key_values is not None:
                keys = hidden[:, None]
                for layer in range(2):
                    past_key_values.update(keys, keys, layer)
            return type("Out", (), {"last_hidden_state": hidden})

    SHARED.hidden(Counted(), some)
    return tokens


@given(rows=ROWS, budget=st.integers(1, 200))
def test_every_sequence_is_in_one_part_and_no_part_is_over_the_budget(rows, budget):
    of = sequences(rows)
    parts = SHARED.batches(of, budget)
    for way in (parts, sharing._by_prompt(of, budget)):
        assert sorted(i for part in way for i in part) == list(range(len(rows)))
        for part in way:
            assert read(of, part) <= budget or len(part) == 1
    padded = sum(len(part) * max(of.lengths[i] for i in part) for part in PADDED.batches(of, budget))
    assert sum(read(of, part) for part in parts) <= padded


@given(rows=ROWS)
def test_the_extent_is_no_less_than_what_is_read(rows):
    of = sequences(rows)
    count, each = SHARED.extent(of)
    assert count == len(rows)
    assert read(of, list(range(count))) <= count * each


def test_the_extent_of_two_prompts():
    # Two prompts of which 11 tokens are read apart, and five rows of 1 + 4 that follow.
    of = sequences([(0, 12, 5), (0, 12, 5), (0, 12, 2), (1, 12, 5), (1, 12, 4)])
    assert SHARED.extent(of) == (5, 10)  # 2 x 11 + 5 x 5 = 47, rounded up
    assert read(of, [0, 1, 2, 3, 4]) == 47


def test_parts_are_filled_to_the_budget_and_no_further():
    rows = [(0, 12, 5)] * 4 + [(1, 12, 5)] * 4
    assert sharing._by_prompt(sequences(rows), 2 * 11 + 8 * 5) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert sharing._by_prompt(sequences(rows), 2 * 11 + 8 * 5 - 1) == [[0, 1, 2, 3, 4, 5, 6], [7]]
    # A short prompt would shorten what all share: those of its length come last.
    rows = [(1, 3, 5), (0, 12, 5), (1, 3, 5), (0, 12, 5)]
    assert sharing._by_prompt(sequences(rows), 11 + 2 * 5) == [[1, 3], [0, 2]]
    assert sharing._by_prompt(sequences(rows), 11 + 2 * 5 - 1) == [[1], [3], [0, 2]]


def test_responses_to_a_prompt_stay_together_though_their_lengths_differ():
    rows = [(0, 9, 3), (1, 9, 3), (0, 9, 4), (1, 9, 4)]
    assert sorted(map(sorted, SHARED.batches(sequences(rows), 9 - 1 + 2 * 5))) == [[0, 2], [1, 3]]
    # With long responses it is their length that counts.
    rows = [(0, 1, 20), (1, 1, 2), (0, 1, 2), (1, 1, 20)]
    assert sorted(map(sorted, SHARED.batches(sequences(rows), 42))) == [[0, 3], [1, 2]]
