"""A saved policy leads back to its class; one that would not is refused before the first step."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tiny import tiny_folder, tiny_tokenizer
from transformers import AutoModelForCausalLM, Emu3ForCausalLM, Emu3TextConfig, LlamaConfig, LlamaForCausalLM

from llmrl.policies import export
from llmrl.policies.policy import Policy, PolicyError
from llmrl.policies.sampling.weights import weights

SMALL: dict[str, Any] = {
    "vocab_size": 261,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_settings_that_only_a_larger_model_leads_to_are_written_inside_its_settings(dtype, tmp_path):
    model = Emu3ForCausalLM(Emu3TextConfig(**SMALL))
    for parameter in model.parameters():  # the buffers stay in float32, as in a model that is loaded
        parameter.data = parameter.data.to(dtype)
    options = {"max_prompt_length": 16, "max_response_length": 4}
    policy = Policy(model, tiny_tokenizer(), **options)
    policy.try_saving()
    policy.save(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is Emu3ForCausalLM
    assert loaded.dtype == dtype
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))
    again = Policy.from_pretrained(tmp_path, device="cpu", dtype=str(dtype).removeprefix("torch."), **options)
    rows = policy.generate(["abc"])
    assert torch.equal(again.score(rows)["log_prob"], policy.score(rows)["log_prob"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes with such weights as they are")
def test_quantised_weights_that_are_expanded_are_saved_so(tmp_path, caplog):
    folder = tiny_folder(tmp_path / "a")
    settings = json.loads((folder / "config.json").read_text())
    quantised = {"quant_method": "fp8", "weight_block_size": [16, 16], "activation_scheme": "dynamic"}
    (folder / "config.json").write_text(json.dumps({**settings, "quantization_config": quantised}))
    policy = Policy.from_pretrained(folder, device="cpu", max_response_length=4)
    assert "are quantised. They are expanded to torch.float32, and saved so" in caplog.text
    again = Policy.from_pretrained(policy.save(tmp_path / "b"), device="cpu", max_response_length=4)
    assert all(map(torch.equal, again.model.state_dict().values(), policy.model.state_dict().values()))
    pushed = dict(weights(policy.model))
    assert {tensor.dtype for tensor in pushed.values()} == {torch.float32}


def test_quantised_weights_are_refused():
    model = LlamaForCausalLM(LlamaConfig(**SMALL))
    model.is_quantized = True
    with pytest.raises(PolicyError, match="its weights are quantised, so they cannot be trained"):
        Policy(model, tiny_tokenizer())


class OddConfig(LlamaConfig):
    model_type = "odd"


@pytest.mark.parametrize("tried_bytes", [0, export.TRIED_BYTES])
def test_a_model_that_would_not_be_found_again_is_refused_before_the_first_step(tried_bytes, monkeypatch):
    monkeypatch.setattr(export, "TRIED_BYTES", tried_bytes)
    policy = Policy(LlamaForCausalLM(OddConfig(**SMALL)), tiny_tokenizer(), max_prompt_length=16, max_response_length=4)
    with pytest.raises(PolicyError, match=r"^LlamaForCausalLM can be saved but not loaded again: .* is a odd, not a"):
        policy.try_saving()
