"""`check_environment` passes what is shipped, and notices a fault planted for each of its checks."""

from __future__ import annotations

import pytest
from faulty_environments import ByProcess, Echo, Endless, Forgetful, NoSeed, NoText, TextReward, Unseeded

from llmrl.testing import ENVIRONMENT_CHECKS, check_environment

SHIPPED = ("llmrl/MATH-v0", "llmrl/Countdown-v0", "llmrl/MathRetry-v0", "llmrl/MathTool-v0")


@pytest.mark.parametrize("env_id", SHIPPED)
def test_shipped_environments_pass(env_id):
    check_environment(env_id, **({} if "Countdown" in env_id else {"source": "generated"}))


FAULTS = {
    "reset": NoText,
    "step": TextReward,
    "seeds": Unseeded,
    "pickle": Forgetful,
    "gymnasium": NoSeed,
    "vector": ByProcess,
}


def test_what_is_not_faulty_passes():
    check_environment(Echo)


def test_a_fault_is_planted_for_every_check():
    assert set(FAULTS) == set(ENVIRONMENT_CHECKS)


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_planted_fault_is_noticed(name):
    others = [other for other in ENVIRONMENT_CHECKS if other != name]
    with pytest.raises(AssertionError, match=rf"check '{name}': "):
        check_environment(FAULTS[name], except_for=others)


def test_an_episode_without_an_end_is_noticed():
    with pytest.raises(AssertionError, match="had not ended after 1000 turns"):
        check_environment(Endless, except_for=[other for other in ENVIRONMENT_CHECKS if other != "seeds"])
