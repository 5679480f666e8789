"""Adapters: what they cover, what a checkpoint of them holds, and a folder of them as a policy."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import seeds_of, tiny_folder, tiny_model, tiny_tokenizer

from llmrl import keys
from llmrl.policies.adapters import (
    LoraOptions,
    adapted,
    add_adapters,
    check_adapters,
    has_adapters,
    lost_in_rounding,
    merged,
)
from llmrl.policies.policy import Policy, PolicyError

peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'llmrl[lora]'")
PROBLEMS = ["1+1", "2+2", "a longer one"]


def trained(model, std: float):
    """As if it had been trained: adapters that are not zero."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=std, generator=draw)
    return model


def scores(policy: Policy, data) -> torch.Tensor:
    with torch.no_grad():
        return policy.score(data)[keys.LOG_PROB]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_holds_the_adapters_and_a_merge_in_float32(tmp_path, dtype):
    base = tiny_folder(tmp_path / "base")
    policy = Policy.from_pretrained(base, device="cpu", dtype=dtype, lora=LoraOptions(rank=4), max_response_length=12)
    trained(policy.model, 1e-3)
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS)).exclude("text")
    folder = policy.save(tmp_path / "saved")
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    again = Policy.from_pretrained(folder / "adapter", device="cpu", dtype=dtype, max_response_length=12)
    assert torch.equal(scores(again, data), scores(policy, data)), "bit by bit"
    assert {n for n, p in again.model.named_parameters() if p.requires_grad} == {
        n for n, p in policy.model.named_parameters() if p.requires_grad
    }
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    whole = Policy.from_pretrained(folder, device="cpu", max_response_length=12)
    exact = Policy.from_pretrained(folder / "adapter", device="cpu", max_response_length=12)
    plain = Policy.from_pretrained(base, device="cpu", dtype=dtype, max_response_length=12)
    if dtype == "float32":
        torch.testing.assert_close(scores(whole, data), scores(exact, data), atol=2e-5, rtol=0)
    update = merged(policy.model, torch.float32).state_dict()
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(tensor, update[name], atol=0, rtol=0)
    assert any(not torch.equal(plain.model.state_dict()[n].float(), update[n]) for n in update)


def test_how_much_of_an_update_rounding_loses():
    for std, low, high in ((1e-5, 0.5, 1.5), (0.3, 0.0, 0.2)):
        model = trained(add_adapters(tiny_model().to(torch.bfloat16), LoraOptions(rank=2)), std)
        assert low < lost_in_rounding(model) < high
    assert lost_in_rounding(trained(add_adapters(tiny_model(), LoraOptions(rank=2)), 1.0)) == 0


def test_an_active_adapter_that_a_layer_lacks_loses_nothing_there():
    model = add_adapters(tiny_model().to(torch.bfloat16), LoraOptions(rank=4, targets=("q_proj",)))
    lost = lost_in_rounding(trained(model, 1e-3))
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["v_proj"]))  # adds 0 so far
    model.base_model.set_adapter(["default", "other"])
    assert lost_in_rounding(model) == lost > 0


def test_what_stays_frozen_is_said():
    everything = adapted(add_adapters(tiny_model(), LoraOptions(rank=2)))
    assert everything.largest_frozen == "model.embed_tokens.weight"
    some = adapted(add_adapters(tiny_model(), LoraOptions(rank=2, targets=("q_proj",))))
    assert some.covered < everything.covered
    assert some.covered + some.frozen == everything.covered + everything.frozen
    assert "stay frozen, most of them in" in str(some)


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True")
def test_adapters_on_a_weight_of_two_layers_are_refused():
    """Merged into the one weight they would change both layers."""
    for targets, name in (
        (("q_proj", "lm_head"), "model.embed_tokens and lm_head"),
        (("embed_tokens",), "embed_tokens"),
    ):
        with pytest.raises(PolicyError, match=f"cannot be merged into a weight that two layers have: .*{name}"):
            Policy(add_adapters(tiny_model(), LoraOptions(rank=2, targets=targets)), tiny_tokenizer())
    model = trained(add_adapters(tiny_model(tie_word_embeddings=False), LoraOptions(targets=("lm_head",))), 0.1)
    ids = torch.arange(5, 30)[None]
    torch.testing.assert_close(merged(model)(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)
    assert adapted(model).trained > 0


def test_adapters_that_move_tied_weights_alike_are_taken():
    options = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], trainable_token_indices=[70, 71])
    check_adapters(peft.get_peft_model(tiny_model(), options))


def test_adapters_that_peft_would_not_merge_as_they_act_are_refused():
    model = add_adapters(tiny_model(), LoraOptions(rank=2))
    model.base_model.disable_adapter_layers()
    with pytest.raises(PolicyError, match="adapters are switched off"):
        Policy(model, tiny_tokenizer())
    model = tiny_model()
    model.add_adapter(peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(PolicyError, match=r"Give the model of peft.get_peft_model"):
        Policy(model, tiny_tokenizer())


def test_adapters_of_other_layers_are_refused(tmp_path):
    policy = Policy.from_pretrained(tiny_folder(tmp_path / "base"), device="cpu", lora=LoraOptions(rank=2))
    folder = policy.save(tmp_path / "saved") / "adapter"
    file = folder / "adapter_model.safetensors"
    named = {name.replace("layers.1", "layers.7"): w.clone() for name, w in load_file(file).items()}
    save_file(named, file, {"format": "pt"})
    with pytest.raises(PolicyError, match="do not fit their base model: Found missing adapter keys"):
        Policy.from_pretrained(folder, device="cpu")


def test_the_tokenizer_beside_adapters_is_used_and_the_model_beside_them_is_not(tmp_path):
    base = tiny_folder(tmp_path / "base", chat=False)
    policy = Policy.from_pretrained(base, device="cpu", lora=LoraOptions(rank=2))
    folder = policy.save(tmp_path / "saved") / "adapter"
    tiny_tokenizer().save_pretrained(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((base / name).read_bytes())
    again = Policy.from_pretrained(folder, device="cpu")
    assert has_adapters(again.model)
    assert again.prompts.render("1+1") == "<|user|>1+1<|model|>"


def test_adapters_upon_adapters_and_a_base_that_is_gone(tmp_path):
    policy = Policy.from_pretrained(tiny_folder(tmp_path / "base"), device="cpu", lora=LoraOptions(rank=2))
    folder = policy.save(tmp_path / "saved") / "adapter"
    with pytest.raises(PolicyError, match="has adapters already"):
        Policy.from_pretrained(folder, device="cpu", lora=LoraOptions())
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": str(tmp_path / "x")})
    )
    with pytest.raises(PolicyError, match="does not exist"):
        Policy.from_pretrained(folder, device="cpu")
    with pytest.raises(PolicyError, match="alpha of low-rank adapters must be greater than 0"):
        LoraOptions(alpha=0.0)
