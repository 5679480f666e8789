"""Token-level sampling: what is drawn, what is recorded of it, and that batching changes nothing."""

from __future__ import annotations

import pytest
import torch
from tiny import seeds_of, tiny_model
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from llmrl.policies.sampling.engine import FINISH_END, FINISH_LENGTH
from llmrl.policies.sampling.sampler import Sampler, _draw, _stay

CONTEXTS = [[7, 8, 9], [20], [30, 31, 32, 33, 34, 35, 36], [7, 8, 9], [50, 51]]


def forced_log_probs(model, context, tokens, temperature):
    """Log-probabilities of tokens by one plain forward pass without padding and cache."""
    ids = torch.tensor([[*context, *tokens]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(context) - 1 : -1]
    return (logits / temperature).log_softmax(-1)[torch.arange(len(tokens)), tokens]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("end_ids", [[], [1], list(range(1, 200))])
def test_recorded_log_probs_are_those_of_the_distribution_sampled_from(temperature, end_ids):
    model = tiny_model()
    samples = Sampler(model, end_ids, 0).sample(
        CONTEXTS, max_new_tokens=9, temperature=temperature, seeds=seeds_of(CONTEXTS)
    )
    for context, sample in zip(CONTEXTS, samples, strict=True):
        want = forced_log_probs(model, context, sample.tokens, temperature)
        torch.testing.assert_close(torch.tensor(sample.log_probs), want, atol=1e-4, rtol=1e-4)


def test_a_response_stops_at_the_first_end_token_and_holds_it():
    end_ids = list(range(1, 60))
    samples = Sampler(tiny_model(), end_ids, 0).sample(CONTEXTS * 6, max_new_tokens=12, seeds=seeds_of(CONTEXTS * 6))
    assert {s.finish_reason for s in samples} == {FINISH_END, FINISH_LENGTH}
    for sample in samples:
        assert not set(sample.tokens[:-1]) & set(end_ids)
        assert (sample.tokens[-1] in end_ids) == (sample.finish_reason == FINISH_END)
        assert len(sample.tokens) == len(sample.log_probs) <= 12
        if sample.finish_reason == FINISH_LENGTH:
            assert len(sample.tokens) == 12


def test_an_end_token_at_the_limit_is_an_end():
    samples = Sampler(tiny_model(), range(261), 0).sample(CONTEXTS, max_new_tokens=1)
    assert [s.finish_reason for s in samples] == [FINISH_END] * len(CONTEXTS)
    assert all(len(s.tokens) == 1 for s in samples)


@pytest.mark.parametrize("max_cache_tokens", [1 << 18, 30, 1])
def test_rows_do_not_depend_on_the_batches(max_cache_tokens):
    model, end_ids = tiny_model(), list(range(1, 60))
    contexts = CONTEXTS * 5
    want = Sampler(model, end_ids, 0).sample(contexts, max_new_tokens=12, seeds=seeds_of(contexts))
    got = Sampler(model, end_ids, 0, max_cache_tokens=max_cache_tokens).sample(
        contexts, max_new_tokens=12, seeds=seeds_of(contexts)
    )
    assert [s.tokens for s in got] == [s.tokens for s in want]


def test_a_row_depends_on_its_seed_alone():
    sampler, seeds = Sampler(tiny_model(), list(range(1, 30)), 0), seeds_of(CONTEXTS, 3)
    first = sampler.sample(CONTEXTS, max_new_tokens=8, seeds=seeds)
    assert sampler.sample(CONTEXTS, max_new_tokens=8, seeds=seeds) == first
    assert sampler.sample(CONTEXTS, max_new_tokens=8, seeds=seeds_of(CONTEXTS, 4)) != first
    assert first[0].tokens != first[3].tokens  # the same context, another row
    for rows in ([2], [4, 1], [3, 0, 0]):  # alone, in another order, twice
        some = sampler.sample([CONTEXTS[i] for i in rows], max_new_tokens=6, seeds=[seeds[i] for i in rows])
        assert [sample.tokens for sample in some] == [first[i].tokens[:6] for i in rows]


def test_the_global_generator_is_the_default():
    sampler = Sampler(tiny_model(), [1], 0)
    torch.manual_seed(5)
    first = sampler.sample(CONTEXTS, max_new_tokens=8)
    torch.manual_seed(5)
    assert sampler.sample(CONTEXTS, max_new_tokens=8) == first


@pytest.mark.parametrize("kind", ["llama", "grouped", "sliding"])
def test_greedy_equals_transformers(kind):
    if kind == "sliding":
        torch.manual_seed(0)
        model = MistralForCausalLM(
            MistralConfig(
                vocab_size=261,
                hidden_size=64,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=32,
                sliding_window=4,
                max_position_embeddings=512,
                bos_token_id=None,
                eos_token_id=1,
                pad_token_id=0,
                initializer_range=0.2,
            )
        ).eval()
    else:
        model = tiny_model(num_key_value_heads=1 if kind == "grouped" else 2)
    end_ids = [1, *range(100, 110)]
    samples = Sampler(model, end_ids, 0).sample(CONTEXTS * 3, max_new_tokens=20, greedy=True)
    for context, sample in zip(CONTEXTS * 3, samples, strict=True):
        want = model.generate(
            torch.tensor([context]),
            attention_mask=torch.ones(1, len(context), dtype=torch.long),
            max_new_tokens=20,
            do_sample=False,
            eos_token_id=end_ids,
            pad_token_id=0,
        )[0, len(context) :].tolist()
        assert sample.tokens == want


def test_each_different_context_is_read_once(monkeypatch):
    model = tiny_model()
    shapes = []
    decoder = model.get_decoder()
    forward = decoder.forward
    monkeypatch.setattr(
        decoder,
        "forward",
        lambda *args, **kw: shapes.append(tuple(kw["input_ids"].shape)) or forward(*args, **kw),
    )
    Sampler(model, [], 0).sample([[5, 6, 7], [8, 9]] * 4, max_new_tokens=3)
    assert shapes == [(2, 3), (8, 1), (8, 1)]


def test_ended_rows_leave_the_batch(monkeypatch):
    model = tiny_model()
    sizes = []
    decoder = model.get_decoder()
    forward = decoder.forward
    monkeypatch.setattr(
        decoder,
        "forward",
        lambda *args, **kw: sizes.append(len(kw["input_ids"])) or forward(*args, **kw),
    )
    samples = Sampler(model, range(1, 60), 0).sample([[i + 60] for i in range(40)], max_new_tokens=30, seeds=range(40))
    lengths = [len(s.tokens) for s in samples]
    assert len(sizes) == max(lengths)
    for step, size in enumerate(sizes[1:], start=1):
        live = sum(n > step for n in lengths)
        assert live <= size <= live / (1 - 0.125) + 1


def test_the_frequencies_are_those_of_the_model():
    model = tiny_model()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[7, 8, 9]])).logits[0, -1]
    want = (logits / 0.5).softmax(-1)
    samples = Sampler(model, [], 0).sample([[7, 8, 9]] * 20_000, max_new_tokens=1, temperature=0.5, seeds=range(20_000))
    counts = torch.bincount(torch.tensor([s.tokens[0] for s in samples]), minlength=261)
    error = (counts / 20_000 - want).abs()
    assert (error <= 5 * (want * (1 - want) / 20_000).sqrt() + 1e-4).all()


def test_a_token_without_probability_is_never_drawn():
    p = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]])
    for u in (0.0, 1e-30, 0.3, 0.5, 1 - 2**-24):
        assert _draw(p, torch.tensor([u])).item() in (1, 3)
    tiny = torch.full((1, 1000), 1e-3)
    tiny[0, 500:] = 0
    assert _draw(tiny, torch.tensor([1 - 2**-24])).item() == 499


def test_stay_moves_as_little_as_possible():
    live = torch.tensor([False, True, True, False, False, True, True])
    stay = _stay(live, 4)
    assert stay.tolist() == [5, 1, 2, 6]
    assert live[stay].all()


def test_the_model_is_left_as_it_was():
    model = tiny_model().train()
    Sampler(model, [1], 0).sample(CONTEXTS, max_new_tokens=2)
    assert model.training
    model(input_ids=torch.tensor([[1, 2]])).logits.sum().backward()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contexts": [[1], []]}, "at least one token; empty: rows \\[1\\]"),
        ({"temperature": 0.0}, "temperature must be greater than 0, got 0.0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
    ],
)
def test_errors(changes, message):
    settings = {"contexts": [[1]], "max_new_tokens": 2, **changes}
    with pytest.raises(ValueError, match=message):
        Sampler(tiny_model(), [1], 0).sample(settings.pop("contexts"), **settings)


def test_no_contexts_no_samples():
    assert Sampler(tiny_model(), [1], 0).sample([], max_new_tokens=3) == []


def test_each_response_has_a_limit_of_its_own():
    """A row is what it would be with the largest limit, cut at its own."""
    model, end_ids, limits = tiny_model(), list(range(1, 20)), [3, 12, 1, 7, 12] * 4
    want = Sampler(model, end_ids, 0).sample(CONTEXTS * 4, max_new_tokens=12, seeds=seeds_of(CONTEXTS * 4))
    got = Sampler(model, end_ids, 0).sample(CONTEXTS * 4, max_new_tokens=limits, seeds=seeds_of(CONTEXTS * 4))
    for limit, whole, sample in zip(limits, want, got, strict=True):
        assert sample.tokens == whole.tokens[:limit]
        ended = sample.tokens[-1] in end_ids
        assert sample.finish_reason == (FINISH_END if ended else FINISH_LENGTH)
    with pytest.raises(ValueError, match="Got 2 max_new_tokens for 5 contexts"):
        Sampler(model, end_ids, 0).sample(CONTEXTS, max_new_tokens=[1, 2])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Sampler(model, end_ids, 0).sample(CONTEXTS, max_new_tokens=[1, 2, 0, 4, 5])


def test_a_row_that_is_done_does_not_leave_the_models_context():
    """It waits in the batch for the others, at a position that exists."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=261,
        n_embd=32,
        n_layer=1,
        n_head=2,
        n_positions=20,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).eval()
    contexts = [list(range(5, 23))] + [[40 + i] for i in range(19)]
    samples = Sampler(model, [], 0).sample(contexts, max_new_tokens=[2] + [19] * 19)
    assert [len(sample.tokens) for sample in samples] == [2] + [19] * 19
