"""Decoding on a CPU: the same values as without repacked weights and copied caches, and everything put back."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)
from transformers.cache_utils import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmrl.policies.sampling import decoding as module
from llmrl.policies.sampling.decoding import ONE_QUERY, WORTHWHILE, decoding, product
from llmrl.policies.sampling.sampler import Sampler

SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "head_dim": 8,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
KINDS = {
    "as many heads": LlamaConfig(**SIZES, num_key_value_heads=6),
    "shared heads": LlamaConfig(**SIZES, num_key_value_heads=2, attention_bias=True, mlp_bias=True),
    "one head": Qwen3Config(**SIZES, num_key_value_heads=1),
    "window": MistralConfig(**SIZES, num_key_value_heads=3, sliding_window=7),
    "own scale": Gemma2Config(**SIZES, num_key_value_heads=2, query_pre_attn_scalar=3),
}


def make(kind: str, dtype: torch.dtype = torch.float32):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(KINDS[kind], attn_implementation="sdpa").to(dtype).eval()


def steps(model, *, within: bool) -> torch.Tensor:
    """Hidden states of four tokens, one after the other, behind prompts of unequal length."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(97, (3, 16), generator=generator)
    attention = (torch.arange(16) >= torch.tensor([[0], [3], [5]])).long()
    cache, out = DynamicCache(config=model.config), []
    positions = (attention.cumsum(1) - 1).clamp_min(0)
    with torch.inference_mode():
        for begin, end in ((0, 12), (12, 13), (13, 14), (14, 15), (15, 16)):
            how = {
                "input_ids": ids[:, begin:end],
                "attention_mask": attention[:, :end],
                "position_ids": positions[:, begin:end],
                "past_key_values": cache,
                "use_cache": True,
            }
            if within:
                with decoding(model.get_decoder(), rows=3, tokens=99):
                    hidden = model.get_decoder()(**how).last_hidden_state
            else:
                hidden = model.get_decoder()(**how).last_hidden_state
            out.append(hidden[:, -1])
    return torch.stack(out)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_those_of_the_plain_model(kind):
    model = make(kind)
    plain = steps(model, within=False)
    torch.testing.assert_close(steps(model, within=True), plain, rtol=1e-4, atol=1e-5)
    assert plain.std() > 0.1


@pytest.mark.parametrize("shape", [(1, 5, 3), (4, 32, 97), (64, 33, 8)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_product_is_that_of_a_linear_layer(shape, has_bias):
    rows, width, out = shape
    torch.manual_seed(0)
    weight = torch.randn(width, out).t()  # columns first: not contiguous
    bias = torch.randn(out) if has_bias else None
    multiply = product(weight, bias, rows=rows)
    for x in (torch.randn(rows, width), torch.randn(rows, 3, width), torch.randn(2, width)):
        expected = nn.functional.linear(x, weight, bias).double()
        torch.testing.assert_close(multiply(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_a_cpu_of_this_kind_repacks():
    """Else the other tests would compare the plain way with itself."""
    assert module._packs(torch.zeros(2, 2)) == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_left_to_torch(dtype, monkeypatch):
    monkeypatch.setattr(module, "product", lambda *args, **options: pytest.fail("repacked"))
    model = make("shared heads", dtype)
    assert torch.equal(steps(model, within=True), steps(model, within=False))


def test_large_models_are_not_copied(monkeypatch):
    model = make("shared heads")
    plain = steps(model, within=False)
    size = sum(p.nbytes for n, p in model.named_parameters() if n.endswith("proj.weight"))
    monkeypatch.setattr(module, "LARGEST", size - 1)
    with decoding(model.get_decoder(), rows=1, tokens=99):
        assert "forward" not in vars(model.model.layers[0].mlp.up_proj)
    torch.testing.assert_close(steps(model, within=True), plain, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(module, "LARGEST", size)
    with decoding(model.get_decoder(), rows=1, tokens=99):
        assert "forward" in vars(model.model.layers[0].mlp.up_proj)


def test_everything_is_put_back_also_after_an_error():
    model = make("shared heads").get_decoder()
    layer = model.layers[0].mlp.up_proj

    def fail():
        with decoding(model, rows=1, tokens=99):
            assert "forward" in vars(layer)
            assert model.config._attn_implementation == ONE_QUERY
            with decoding(model, rows=1, tokens=99):
                pass
            assert "forward" in vars(layer), "the outer one is still in force"
            assert model.config._attn_implementation == ONE_QUERY
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "forward" not in vars(layer)
    assert model.config._attn_implementation == "sdpa"


def test_it_can_be_switched_off_and_other_models_are_left_alone():
    model, other = make("shared heads").get_decoder(), make("window").get_decoder()
    with decoding(model, rows=1, tokens=99, fast_cpu=False):
        assert "forward" not in vars(model.layers[0].mlp.up_proj)
        assert model.config._attn_implementation == "sdpa"
    with decoding(model, rows=1, tokens=99):
        assert other.config._attn_implementation == "sdpa"
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention_forward


def test_new_weights_count_from_the_next_decoding_on():
    model = make("as many heads")
    before = steps(model, within=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    after = steps(model, within=True)
    assert not torch.allclose(before, after, rtol=1e-2)
    torch.testing.assert_close(after, steps(model, within=False), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("limit", "repacked"), [(WORTHWHILE - 1, 0), (WORTHWHILE, 15)])
def test_the_sampler_repacks_for_responses_that_are_long_enough(monkeypatch, limit, repacked):
    count = 0
    plain = module.product

    def counted(*args, **options):
        nonlocal count
        count += 1
        return plain(*args, **options)

    monkeypatch.setattr(module, "product", counted)
    model = tiny_model(num_attention_heads=4, num_key_value_heads=2, head_dim=16)
    samples = Sampler(model, [], 0).sample([[1, 2, 3], [4]], max_new_tokens=limit)
    assert count == repacked  # seven linear layers in each of two layers, and the head
    assert [len(sample.tokens) for sample in samples] == [limit, limit]
