"""Names of policies: where they lead, and how quickly and clearly they fail."""

import json
import time

import pytest

from llmrl.errors import PolicyError
from llmrl.policies.names import locate


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_an_embedded_policy_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr("llmrl.policies.names.local_folder", lambda name: tmp_path)
    with pytest.raises(PolicyError, match="embedded policy llmrl/nano is not in this installation"):
        locate("llmrl/nano")


def test_a_folder_that_does_not_exist(tmp_path):
    (tmp_path / "checkpoint-000010").mkdir()
    with pytest.raises(PolicyError, match=r"does not exist.*mean 'checkpoint-000010'"):
        locate(str(tmp_path / "checkpoint-00010"))
    with pytest.raises(PolicyError, match=r"Its parent .* does not exist either"):
        locate(str(tmp_path / "nowhere" / "x"))
    with pytest.raises(PolicyError, match="does not exist"):
        locate("./x")
    with pytest.raises(PolicyError, match="is empty"):
        locate("")


def test_a_file_is_no_policy(tmp_path):
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(PolicyError, match=r"is a file. Give the folder that holds config.json"):
        locate(str(tmp_path / "model.gguf"))


def test_a_folder_that_is_no_checkpoint(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PolicyError, match=r"holds no config.json.*It holds: notes.txt"):
        locate(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(PolicyError, match=r"config.json is not JSON"):
        locate(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "vit"}, "is a vit, not a causal language model"),
        ({}, "model of unnamed type, not a causal"),
        ({"model_type": "mine", "auto_map": {"AutoConfig": "x"}}, "code of its own, which llmrl"),
    ],
)
def test_a_model_that_is_no_causal_language_model(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PolicyError, match=message):
        locate(str(tmp_path))


@pytest.mark.parametrize("config", ["[1]", '{"model_type": ["llama"]}', "[" * 100_000, '{"model_type": "\\u001b[2J"}'])
def test_settings_that_are_none(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(PolicyError):
        locate(str(tmp_path))


def test_more_layers_than_can_be_made(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 10**9}))
    with pytest.raises(PolicyError, match=r"num_hidden_layers is 1000000000; no model"):
        locate(str(tmp_path))
    nested = {"model_type": "llama", "text_config": {"num_local_experts": 10**30}}
    (tmp_path / "config.json").write_text(json.dumps(nested))
    with pytest.raises(PolicyError, match="num_local_experts is 1000"):
        locate(str(tmp_path))


def test_offline_a_hub_id_fails_at_once(offline):
    began = time.monotonic()
    with pytest.raises(PolicyError, match=r"not in the local cache, and HF_HUB_OFFLINE forbids"):
        locate("nobody/no-such-model")
    assert time.monotonic() - began < 30


def test_a_hub_that_does_not_answer_fails_at_once(monkeypatch):
    for flag in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(flag, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "transformers.AutoConfig.from_pretrained",
        lambda name, **kw: (_ for _ in ()).throw(OSError("not cached")),
    )
    with pytest.raises(PolicyError, match=r"the hub cannot be reached \(127.0.0.1"):
        locate("nobody/no-such-model")
