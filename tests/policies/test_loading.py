"""Loading of models and tokenizers: what can be loaded, and what is refused in a sentence."""

from __future__ import annotations

import builtins
import contextlib
import json
import pathlib
import pickle

import pytest
import torch
from tiny import tiny_folder

from llmrl.errors import PolicyError
from llmrl.policies.adapters import LoraOptions
from llmrl.policies.foreign import failing_as, text_of
from llmrl.policies.names import local_folder, locate
from llmrl.policies.policy import Policy


def test_a_folder_is_a_policy(tmp_path):
    folder = tiny_folder(tmp_path / "tiny")
    assert locate(str(folder)) == (str(folder), True)
    policy = Policy.from_pretrained(folder, dtype="bfloat16", device="cpu")
    assert policy.dtype == torch.bfloat16
    assert policy.device == torch.device("cpu")
    assert not policy.model.training


def test_the_embedded_policy():
    folder = local_folder("llmrl/nano")
    if not (folder / "config.json").is_file():
        pytest.skip("the embedded policy is not in this checkout")
    policy = Policy.from_pretrained("llmrl/nano", device="cpu")
    assert policy.tokenizer.chat_template
    assert policy.end_ids


class Runs:
    """A pickle of it runs code where it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self.mark,)


CODE = "import pathlib\npathlib.Path({!r}).touch()\nclass Model: pass\n"


def set_in(file, **settings):
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def own_tokenizer(folder):
    set_in(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Model", None]}, tokenizer_class="Evil")


def own_model(folder):
    set_in(folder / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}, trust_remote_code=True)


def own_generation(folder):
    (folder / "custom_generate").mkdir()
    (folder / "evil.py").rename(folder / "custom_generate" / "generate.py")


def pickled(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(folder / "ran")))


def pickled_by_torch(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Runs(folder / "ran")}, folder / "pytorch_model.bin")


@pytest.mark.parametrize("attack", [own_tokenizer, own_model, own_generation, pickled, pickled_by_torch])
def test_no_code_of_a_folder_runs_and_nobody_is_asked(attack, tmp_path, monkeypatch):
    folder = tiny_folder(tmp_path / "tiny")
    (folder / "evil.py").write_text(CODE.format(str(folder / "ran")))
    attack(folder)

    def asked(prompt=""):
        raise AssertionError(f"somebody was asked: {prompt}")

    monkeypatch.setattr(builtins, "input", asked)
    monkeypatch.chdir(folder)
    with contextlib.suppress(PolicyError):  # another file than the one that was changed may do
        Policy.from_pretrained(folder)
    assert not (folder / "ran").exists()


def test_weights_that_are_missing(tmp_path):
    folder = tiny_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"weights of .* cannot be loaded"):
        Policy.from_pretrained(folder)


def test_a_tokenizer_that_is_missing(tmp_path):
    folder = tiny_folder(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(PolicyError, match="no tokenizer that transformers can load"):
        Policy.from_pretrained(folder)


def test_unknown_dtype(tmp_path):
    with pytest.raises(PolicyError, match=r"'bfloat6' is not known. Did you mean 'bfloat16'"):
        Policy.from_pretrained(tiny_folder(tmp_path), dtype="bfloat6")


def test_adapters_need_peft(tmp_path, monkeypatch):
    folder = tiny_folder(tmp_path)
    real = builtins.__import__

    def without_peft(name, *args, **kwargs):
        if name == "peft":
            raise ImportError("No module named 'peft'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(PolicyError, match=r"pip install 'llmrl\[lora\]'"):
        Policy.from_pretrained(folder, lora=LoraOptions())


def test_bad_adapter_options(tmp_path):
    pytest.importorskip("peft", reason="peft is not installed: pip install 'llmrl[lora]'")
    folder = tiny_folder(tmp_path)
    with pytest.raises(PolicyError, match="rank of low-rank adapters must be at least 1, got 0"):
        Policy.from_pretrained(folder, lora=LoraOptions(rank=0))
    with pytest.raises(PolicyError, match="No adapters for targets"):
        Policy.from_pretrained(folder, lora=LoraOptions(targets=("no_such_layer",)))


FAILING = {
    "panics when it encodes": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "panics when it is loaded": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "panics when it decodes": {"decoder": {"type": "Strip", "content": "a", "start": 10**9, "stop": 10**9}},
    "knows no unknown token": {"model": {"type": "WordLevel", "unk_token": "nowhere", "vocab": {"a": 0}}},
}
"""Changes of a tokenizer.json."""


@pytest.mark.parametrize("change", FAILING)
def test_a_tokenizer_that_fails_is_one_sentence(change, tmp_path):
    file = tiny_folder(tmp_path) / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **FAILING[change]}))

    def use():
        policy = Policy.from_pretrained(tmp_path)
        policy.begin(["1 + 1"])
        for token in range(policy.vocab_size):
            text_of(policy.tokenizer, [token])

    with pytest.raises(PolicyError, match="tokenizer"):
        use()


def test_only_failures_of_the_library_become_errors_of_the_policy():
    for error in (KeyboardInterrupt, SystemExit, MemoryError):
        with pytest.raises(error), failing_as("it fails"):
            raise error


@pytest.mark.parametrize("end", ["x\x1b[2J", ["x"], {}, 1.5])
def test_an_end_token_that_is_none_is_refused(end, tmp_path):
    file = tiny_folder(tmp_path) / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": end}))
    with pytest.raises(PolicyError):
        Policy.from_pretrained(tmp_path)
