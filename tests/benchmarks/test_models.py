"""A part of the table of model families: sampler, scorer, entropy and gradient against a dense pass."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from llmrl import keys
from llmrl.errors import PolicyError
from llmrl.policies.names import local_folder

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FAMILIES = ("llama", "gpt2", "gemma2", "bloom", "falcon", "gpt_neo", "qwen3_next", "lfm2", "jamba", "bart", "gpt_oss")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("models")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(local_folder("llmrl/nano"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_exact(script: Any, tokenizer: Any, family: str) -> None:
    one = script.Family(family, tokenizer)
    policy = one.policy(script.tiny(family))
    data = policy.generate(script.PROBLEMS, seeds=range(len(script.PROBLEMS))).exclude("text")
    want = script.dense(policy.model, data)
    sampled = data[keys.SAMPLER_LOG_PROB][data[keys.MASK]]
    assert script.largest(sampled - want[0]) <= script.NATS
    assert set(one.scored(policy, data, want).values()) == {"exact"}


def test_a_model_that_is_not_causal_is_refused(script: Any, tokenizer: Any) -> None:
    with pytest.raises(PolicyError, match="computes its logits from the hidden states in a way that llmrl does not"):
        script.Family("bert", tokenizer).policy(script.tiny("bert"))


def test_a_wrong_number_is_called_wrong(script: Any, tokenizer: Any) -> None:
    one = script.Family("llama", tokenizer)
    policy = one.policy(script.tiny("llama"))
    data = policy.generate(script.PROBLEMS, seeds=range(len(script.PROBLEMS))).exclude("text")
    want = script.dense(policy.model, data)
    policy.temperature = 1.01
    assert {value.split()[0] for value in one.scored(policy, data, want).values()} == {"WRONG"}
