"""Several responses in one row: exactly what each is when it is read alone, or a refusal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from readable import (
    LENGTHS,
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
from tiny import tiny_model, tiny_policy, tiny_tokenizer

from llmrl import keys
from llmrl.errors import PolicyError
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy
from llmrl.policies.scoring.forward import PACKED, PADDED, Layout, Sequences
from llmrl.policies.scoring.probing import TOLERANCE, forward_pass_for


@pytest.fixture
def widths(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes that packed sequences were read in."""
    seen: list[tuple[int, ...]] = []
    make = Layout.packed.__func__  # type: ignore[attr-defined]

    def spied(cls, *args, **kwargs):
        layout = make(cls, *args, **kwargs)
        seen.append((layout.rows, layout.width))
        return layout

    monkeypatch.setattr(Layout, "packed", classmethod(spied))
    return seen


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("budget", [None, 60])
def test_scores_and_gradients_are_those_of_one_response_at_a_time(name, budget, widths):
    data = batch(LENGTHS)
    model = make(name)
    packed, alone = policy(model, packing=True), policy(model)
    widths.clear()
    compare_with_alone(packed, alone, data, budget)
    assert any(rows < len(data) for rows, _ in widths)


# Llama's eager attention takes its softmax in float32, whatever the weights.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "llama, eager"])
def test_in_float64_they_are_equal_to_1e_10(name):
    data = batch(LENGTHS)
    model = make(name, torch.float64)
    compare_in_float64(model, data, PACKED, 1e-10)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_nothing_that_a_neighbour_says_reaches_a_response(name):
    """Not even as rounding: the same rows, in which another response says something else."""
    model = make(name)
    data = batch(LENGTHS)
    other = data.clone()
    for changed in (1, 5):
        other[keys.TOKENS][changed] = 5 + (other[keys.TOKENS][changed] * 7) % 256
    scorer = policy(model, packing=True)
    first, second = (scorer.score(x)[keys.LOG_PROB].detach() for x in (data, other))
    same = [torch.equal(a, b) for a, b in zip(first, second, strict=True)]
    assert same == [i not in (1, 5) for i in range(len(data))]


def test_the_future_reaches_no_token():
    model = make("llama")
    data = batch(LENGTHS)
    other = data.clone()
    last = data[keys.ATTENTION].cumsum(1).argmax(1)  # the column of each row's last token
    other[keys.TOKENS][torch.arange(len(data)), last] = 5
    scorer = policy(model, packing=True)
    first, second = (scorer.score(x)[keys.LOG_PROB].detach() for x in (data, other))
    before = torch.arange(first.shape[1]) < last[:, None]
    assert torch.equal(first[before], second[before])
    assert not torch.equal(first, second)


def test_the_critic_is_packed_like_the_policy(widths):
    data = batch(LENGTHS)
    scorer = policy(make("llama"), packing=True)
    critic = Critic.from_policy(scorer)
    assert critic.forward_pass is PACKED
    widths.clear()
    compare_critic(critic, data)
    assert widths[0][0] < len(data)


def test_gradient_checkpointing_and_adapters_are_packed_too(tmp_path):
    from tiny import tiny_folder

    from llmrl.policies.adapters import LoraOptions

    data = batch(LENGTHS)
    folder = tiny_folder(tmp_path)
    scorer = Policy.from_pretrained(
        folder, device="cpu", packing=True, gradient_checkpointing=True, lora=LoraOptions(rank=2)
    )
    scorer.train()
    grads, values = [], []
    for scorer.forward_pass in (PACKED, PADDED):
        scored = scorer.score(data)[keys.LOG_PROB]
        scored.sum().backward()
        values.append(scored.detach())
        grads.append(gradients(scorer.model))
    close([values[0]], [values[1]], 1e-5)
    close(grads[0], grads[1], 1e-5)


# Models that cannot.


def test_a_recurrent_model_is_refused_with_its_name_and_the_switch():
    model = mamba()
    with pytest.raises(
        PolicyError,
        match=r"MambaForCausalLM cannot be scored with packing \(--train.packing\).*--train.no-packing",
    ):
        policy(model, packing=True)


def break_decoder(model: Any, monkeypatch: pytest.MonkeyPatch, **fixed: Any) -> None:
    """Give the decoder other arguments than it is called with."""
    decoder = model.get_decoder()
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda *args, **given: forward(*args, **{**given, **fixed}))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_ignores_positions_is_refused(name, dtype, monkeypatch):
    model = make(name, dtype)
    break_decoder(model, monkeypatch, position_ids=None)
    with pytest.raises(PolicyError, match="two responses in one row change each other"):
        policy(model, packing=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_that_crosses_responses_is_refused_though_positions_are_right(dtype, monkeypatch):
    model = make("llama", dtype)
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda position_ids: None)
    with pytest.raises(PolicyError, match=r"LlamaForCausalLM cannot.*Its attention"):
        policy(model, packing=True)


def test_positions_that_do_not_begin_at_0_again_are_refused_though_attention_is_right(monkeypatch):
    model = make("gpt2")
    embed = model.get_decoder().wpe.forward
    monkeypatch.setattr(model.get_decoder().wpe, "forward", lambda p: embed(torch.arange(p.shape[1]).expand_as(p)))
    with pytest.raises(PolicyError, match="or its positions do not begin at 0 again"):
        policy(model, packing=True)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_model_that_can_is_not_refused_for_its_rounding(name, dtype):
    decoder = make(name, dtype).get_decoder()
    assert forward_pass_for(decoder, name, packing=True, share_prompts=False) is PACKED


def test_a_short_context_is_not_overrun_by_the_check():
    policy_of_9 = Policy(tiny_model(max_position_embeddings=9), tiny_tokenizer(), max_response_length=4, packing=True)
    assert policy_of_9.forward_pass is PACKED


# The layout.


def of_lengths(lengths: list[int]) -> Sequences:
    """Sequences of which so many tokens are read."""
    width = max(lengths, default=0) + 1
    sampled = torch.arange(width) == torch.tensor(lengths)[:, None]
    sampled[:, 0] = False
    empty = torch.zeros(sampled.shape, dtype=torch.long)
    return Sequences.of(empty, torch.ones_like(sampled), sampled)


lengths_of_rows = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(lengths=lengths_of_rows)
def test_no_two_sequences_share_a_place_and_none_leaves_its_row(lengths):
    layout = Layout.packed(lengths)
    places = {(layout.row[i], layout.begin[i] + t) for i, length in enumerate(lengths) for t in range(length)}
    assert len(places) == sum(lengths)
    assert all(0 <= r < layout.rows and 0 <= c < layout.width for r, c in places)
    assert layout.width == max(lengths)
    assert {r for r, _ in places} == set(range(layout.rows))
    assert layout.left_out == []
    # Any two rows hold more than one row's width together, or they would be one.
    fill = [0] * layout.rows
    for i, length in enumerate(lengths):
        fill[layout.row[i]] += length
    assert layout.rows == 1 or sum(sorted(fill)[:2]) > layout.width


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30), budget=st.integers(1, 120))
def test_every_sequence_is_in_one_part_and_no_part_is_over_the_budget(lengths, budget):
    parts = PACKED.batches(of_lengths(lengths), budget)
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    for part in parts:
        layout = Layout.packed([lengths[i] for i in part])
        assert layout.rows == 1 or layout.rows * layout.width <= budget


def test_a_row_holds_what_its_longest_leaves_free():
    assert Layout.packed([10, 6, 3, 1]).rows == 2
    assert PACKED.batches(of_lengths([10, 6, 3, 1]), budget=20) == [[0, 1, 2, 3]]
    # Within 10 there is one row at a time, as wide as the longest that is left.
    assert PACKED.batches(of_lengths([10, 6, 3, 1]), budget=10) == [[0], [1], [2, 3]]


def test_lengths_stop_at_the_last_sampled_token():
    data = batch([(2, 5), (3, 1)])

    def read() -> Sequences:
        return Sequences.of(*(data[key] for key in (keys.TOKENS, keys.ATTENTION, keys.MASK)))

    assert read().lengths == [6, 3]
    assert read().prompts == [2, 3]
    data[keys.MASK][0, -1] = False
    assert read().lengths == [5, 3]
    data[keys.MASK][:] = False
    assert read().lengths == [0, 0]
    assert read().prompts == [0, 0]


@pytest.mark.parametrize("packed", [True, False])
def test_a_row_that_begins_with_a_sampled_token_is_refused(packed):
    data = batch([(0, 4), (2, 2)])
    with pytest.raises(ValueError, match="nothing comes before it"):
        tiny_policy(packing=packed).score(data)
