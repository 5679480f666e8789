"""What a model does that the fast way of sampling or scoring would get wrong: found at load, mended or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import END, MODEL, STOP, USER, seeds_of, tiny_folder, tiny_model, tiny_tokenizer
from transformers import (
    BartConfig,
    BartForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    DeepseekV32Config,
    DeepseekV32ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from llmrl import keys
from llmrl.policies.policy import Policy, PolicyError
from llmrl.policies.sampling.sampler import Sampler
from llmrl.policies.sampling.states import Way
from llmrl.policies.sampling.trial import changes, dense, rounding_of, sampled_gap

SIZES = {"vocab_size": 261, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
WIDE = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.2}
PROBLEMS = ["a", "a", "b" * 30, "c" * 17, "d" * 9]


def gpt_neo():
    return GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=261,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=16,
            max_position_embeddings=128,
            initializer_range=0.2,
        )
    )


def bloom():
    return BloomForCausalLM(BloomConfig(vocab_size=261, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2))


def bart():
    sizes = {"vocab_size": 261, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "init_std": 0.2}
    return BartForCausalLM(BartConfig(**sizes, decoder_ffn_dim=48, max_position_embeddings=128, pad_token_id=0))


def qwen3_next():
    return Qwen3NextForCausalLM(
        Qwen3NextConfig(
            **WIDE,
            head_dim=16,
            layer_types=["linear_attention", "full_attention"],
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        )
    )


def mamba():
    return MambaForCausalLM(
        MambaConfig(vocab_size=261, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.2)
    )


def made(make):
    torch.manual_seed(0)
    return make().eval()


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (tiny_model, Way.ROOMY),
        (gpt_neo, Way.PLAIN),
        (bloom, Way.PLAIN),
        (qwen3_next, Way.ROOMY),
        (bart, Way.ALIGNED),
        (mamba, Way.WHOLE),
    ],
)
def test_the_fastest_exact_way_is_used(make, way):
    policy = Policy(made(make), tiny_tokenizer(), max_prompt_length=40, max_response_length=24)
    assert policy.sampling_way[0] is way
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    for row in data:
        ids, mask = row[keys.TOKENS][row[keys.ATTENTION]], row[keys.MASK][row[keys.ATTENTION]]
        with torch.no_grad():
            want = dense(policy.model, ids, int(mask.int().argmax()), 1.0)
        torch.testing.assert_close(row[keys.SAMPLER_LOG_PROB][row[keys.MASK]], want, atol=1e-4, rtol=0)


def test_a_window_is_known_and_gone_beyond():
    model = made(gpt_neo)
    assert changes(model.config) == [16]
    assert sampled_gap(Sampler(model, [], 0, way=Way.ROOMY), 64) > 0.01
    assert sampled_gap(Sampler(model, [], 0, way=Way.PLAIN), 64) < 1e-4


def test_scores_are_those_of_evaluation_mode_with_router_noise():
    config = MixtralConfig(**WIDE, num_local_experts=4, router_jitter_noise=0.5)
    policy = Policy(made(lambda: MixtralForCausalLM(config)), tiny_tokenizer(), max_response_length=12)
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    policy.train()
    for _ in range(2):
        got = policy.score(data)[keys.LOG_PROB]
        torch.testing.assert_close(got, data[keys.SAMPLER_LOG_PROB], atol=1e-4, rtol=0)


def test_positions_that_depend_on_the_batch_are_refused_where_they_change():
    factors = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [7.0] * 4, "rope_theta": 1e4}
    settings = {**WIDE, "original_max_position_embeddings": 32, "max_position_embeddings": 128}
    config = Phi3Config(**settings, rope_parameters={**factors, "original_max_position_embeddings": 32})
    model = made(lambda: Phi3ForCausalLM(config))
    beyond = Policy(model, tiny_tokenizer(), max_prompt_length=40, max_response_length=24)
    with pytest.raises(PolicyError, match="change with the sequences beside it"):
        _ = beyond.forward_pass
    with pytest.raises(PolicyError, match="cannot be sampled exactly"):
        _ = beyond.sampling_way
    below = Policy(model, tiny_tokenizer(), max_prompt_length=16, max_response_length=16)
    below.try_out()


def test_a_change_just_below_the_limit_is_reached():
    factors = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [7.0] * 4, "rope_theta": 1e4}
    settings = {**WIDE, "original_max_position_embeddings": 70, "max_position_embeddings": 128}
    config = Phi3Config(**settings, rope_parameters={**factors, "original_max_position_embeddings": 70})
    policy = Policy(
        made(lambda: Phi3ForCausalLM(config)), tiny_tokenizer(), max_prompt_length=52, max_response_length=20
    )
    with pytest.raises(PolicyError, match="change with the sequences beside it"):
        _ = policy.forward_pass
    with pytest.raises(PolicyError, match="cannot be sampled exactly"):
        _ = policy.sampling_way


def test_attention_to_chosen_tokens_is_tried_beyond_their_number():
    """An indexer with one head gives many tokens the score 0, and which of them are chosen changes with the length."""
    latent = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1}
    settings = {**WIDE, **latent, **experts, "num_key_value_heads": 4, "head_dim": 8, "topk_group": 1}
    for heads, exact in ((32, True), (1, False)):
        config = DeepseekV32Config(**settings, index_topk=48, index_n_heads=heads, index_head_dim=16)
        assert 48 in changes(config)
        model = made(lambda config=config: DeepseekV32ForCausalLM(config))
        policy = Policy(model, tiny_tokenizer(), max_prompt_length=60, max_response_length=24)
        if exact:
            policy.try_out()
        else:
            with pytest.raises(PolicyError, match="cannot be sampled exactly"):
                policy.try_out()


def test_a_soft_cap_that_a_kernel_drops_brings_eager_back(caplog):
    config = Gemma2Config(**WIDE, head_dim=8, attn_logit_softcapping=2.0, query_pre_attn_scalar=1, sliding_window=16)
    model = made(lambda: Gemma2ForCausalLM(config))
    model.set_attn_implementation("sdpa")
    policy = Policy(model, tiny_tokenizer(), max_response_length=12)
    assert model.config._attn_implementation == "eager"
    assert "drops something that the model asks for" in caplog.text
    policy.try_out()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_measured_rounding_is_as_large_as_the_gap_to_float64_and_far_below_a_fault(dtype):
    model = tiny_model().to(dtype)
    rounding = rounding_of(model)
    ids = torch.randint(5, 261, (60,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        honest = (dense(model, ids, 1, 1.0) - dense(tiny_model().to(dtype).double(), ids, 1, 1.0)).abs()
    assert honest.max() < rounding.tolerance
    assert honest.median() / 10 < rounding.typical < honest.median() * 10
    assert rounding.tolerance < (2e-3 if dtype == torch.float32 else 0.9)


# Files that cannot be used


def loaded(file: Path) -> dict[str, torch.Tensor]:
    """Copies: the file itself is written again."""
    return {name: tensor.clone() for name, tensor in load_file(file).items()}


def test_weights_that_are_not_numbers(tmp_path):
    file = tiny_folder(tmp_path) / "model.safetensors"
    weights = loaded(file)
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = torch.full_like(weights[name], torch.nan)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(PolicyError, match=rf"weights are not finite, first in {name}"):
        Policy.from_pretrained(tmp_path, device="cpu")


def test_a_row_that_is_seldom_read_and_is_not_a_number():
    model = tiny_model(tie_word_embeddings=False, vocab_size=400)
    with torch.no_grad():
        model.model.embed_tokens.weight[350] = torch.nan
    with pytest.raises(PolicyError, match=r"weights are not finite, first in model.embed_tokens.weight"):
        Policy(model, tiny_tokenizer())


def test_weights_that_are_not_in_memory():
    with torch.device("meta"):
        model = tiny_model()
    with pytest.raises(PolicyError, match=r"not in memory, first model.embed_tokens.weight"):
        Policy(model, tiny_tokenizer())


def test_weights_of_another_shape_than_the_settings_say(tmp_path):
    tiny_folder(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "vocab_size": 200}))
    with pytest.raises(PolicyError, match=r"embed_tokens.weight has the shape \[261, 64\], and \[200, 64\] by the"):
        Policy.from_pretrained(tmp_path, device="cpu")


def test_a_model_in_float64_is_taken():
    policy = Policy(tiny_model().double(), tiny_tokenizer(), max_response_length=12)
    policy.try_out()
    assert policy.model.config._attn_implementation == "sdpa"
    assert sampled_gap(Sampler(policy.model, [], 0), 64) < 1e-5


def test_weights_that_are_not_used_are_said(tmp_path, caplog):
    model = tiny_model(attention_bias=True)
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "attention_bias": False}))
    Policy.from_pretrained(tmp_path, device="cpu")
    assert "8 weights of its files are not used, such as model.layers.0.self_attn.k_proj.bias" in caplog.text


@pytest.mark.parametrize("setting", [{"return_dict": False}, {"output_attentions": True}])
def test_what_a_file_says_about_outputs_changes_nothing(setting, tmp_path):
    folder = tiny_folder(tmp_path / "a")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **setting}))
    policy = Policy.from_pretrained(folder, device="cpu")
    Policy.from_pretrained(policy.save(tmp_path / "b"), device="cpu")


def test_weights_that_are_cut_off_or_not_complete(tmp_path):
    file = tiny_folder(tmp_path) / "model.safetensors"
    weights, whole = loaded(file), file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PolicyError, match=r"weights of .* cannot be loaded"):
        Policy.from_pretrained(tmp_path, device="cpu")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(PolicyError, match="not complete: 1 are missing, such as model"):
        Policy.from_pretrained(tmp_path, device="cpu")


def test_a_tokenizer_that_is_larger_than_the_model():
    with pytest.raises(PolicyError, match="The tokenizer has 261 tokens and the model embeds 200"):
        Policy(tiny_model(vocab_size=200), tiny_tokenizer())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(PolicyError, match=r"--policy.device cuda:0: this machine has no such device"):
        Policy.from_pretrained(tiny_folder(tmp_path), device="cuda:0")


def test_nothing_that_ends_a_response_is_said(caplog):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    model = tiny_model()
    model.generation_config.eos_token_id = None
    Policy(model, tokenizer)
    assert "Nothing can end a response" in caplog.text


@pytest.mark.parametrize("end", [-1, 261, [None]])
def test_an_end_token_that_the_model_cannot_write_ends_nothing(end, caplog):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    model = tiny_model()
    model.generation_config.eos_token_id = end
    policy = Policy(model, tokenizer)
    assert policy.end_ids == set()
    assert "ended by nothing" in policy.describe()[0]
    assert "Nothing can end a response" in caplog.text


@pytest.mark.parametrize(("turn_end", "said"), [(STOP, True), (END, False), ("", False)])
def test_a_template_whose_turns_end_with_another_token_is_said(turn_end, said, caplog):
    tokenizer = tiny_tokenizer()
    begin = "{% if add_generation_prompt %}" + MODEL + "{% endif %}"
    tokenizer.chat_template = (
        "{% for m in messages %}" + USER + "{{ m['content'] }}" + turn_end + "{% endfor %}" + begin
    )
    Policy(tiny_model(), tokenizer)
    assert ("ends a turn with '<|stop|>', which does not end a response ('<|end|>' does)" in caplog.text) == said


def test_a_template_for_prompts_alone_is_taken():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{{ messages[0]['content'] }}{% if messages|length > 1 %}{{ raise_exception('x') }}{% endif %}"
    )
    assert Policy(tiny_model(), tokenizer).prompts.turn_end() == ""


# Tokens that are not embedded


def test_a_padding_token_that_is_not_embedded_is_not_read():
    tokenizer = tiny_tokenizer(pad=None)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    policy = Policy(tiny_model(), tokenizer, max_response_length=12)
    assert policy.pad_id == tokenizer.eos_token_id
    assert policy.sampling_way[0] is Way.ROOMY


def test_a_prompt_with_a_token_that_is_not_embedded_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<tool>"])
    policy = Policy(tiny_model(), tokenizer)
    with pytest.raises(PolicyError, match="A prompt has the token '<tool>' with the id 261, and the model embeds 261"):
        policy.generate(["a", "say <tool>"])
    tokenizer.chat_template = "<tool>{{ messages[0]['content'] }}"
    with pytest.raises(PolicyError, match="A prompt has the token '<tool>'"):
        Policy(tiny_model(), tokenizer)


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(PolicyError, match="A prompt has no token"):
        Policy(tiny_model(), tiny_tokenizer(chat=False)).generate(["a", ""])


@pytest.mark.parametrize("settings", [{"do_sample": False, "temperature": 0.6}, {"do_sample": False, "top_p": 0.5}])
def test_generation_settings_that_cannot_be_saved_are_mended_at_load(tmp_path, settings, caplog):
    folder = tiny_folder(tmp_path / "a")
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": 1}))
    policy = Policy.from_pretrained(folder, device="cpu")
    assert "cannot be saved as they are" in caplog.text
    policy.try_saving()
    policy.save(tmp_path / "b")
    assert policy.end_ids == {1}


def test_what_cannot_be_saved_is_known_at_once(tmp_path, monkeypatch):
    policy = Policy.from_pretrained(tiny_folder(tmp_path), device="cpu")
    monkeypatch.setattr(policy.tokenizer, "save_pretrained", lambda *a: (_ for _ in ()).throw(OSError("no pickle")))
    with pytest.raises(PolicyError, match="cannot be saved, so a run would have no checkpoint: OSError: no pickle"):
        policy.try_saving()
