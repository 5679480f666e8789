"""The actor in TorchRL's own rollouts and collectors."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from tiny import tiny_policy
from torchrl.envs import GymWrapper, SerialEnv

import llmrl  # noqa: F401  registers the environments
from llmrl import keys
from llmrl.policies.sampling.engine import SamplingOptions


def environment() -> GymWrapper:
    return GymWrapper(gym.make("llmrl/MATH-v0", source="generated"))


def check(policy, steps) -> None:
    """What was sampled is what the scorer scores, and the response is the action."""
    mask = steps[keys.MASK]
    assert mask.any(-1).all()
    scored = policy.score(steps.exclude("action", "observation", "next"))[keys.LOG_PROB]
    torch.testing.assert_close(scored[mask], steps[keys.SAMPLER_LOG_PROB][mask], atol=1e-4, rtol=0)
    for row, text in enumerate(steps["action"]):
        ids = steps[keys.TOKENS][row][mask[row]].tolist()
        assert text == policy.tokenizer.decode(ids, skip_special_tokens=True)


def test_a_rollout_of_one_environment_and_of_several():
    policy = tiny_policy(max_prompt_length=500, max_response_length=8, max_position_embeddings=512)
    for env in (environment(), SerialEnv(2, environment)):
        steps = env.rollout(3, policy.actor(SamplingOptions(temperature=0.7)), break_when_any_done=False)
        assert steps[keys.TOKENS].shape[-1] == policy.longest
    policy.temperature = 1.0
    steps = environment().rollout(3, policy.actor(), break_when_any_done=False)
    check(policy, steps)
    assert steps["next", "reward"].shape == (3, 1)


@pytest.mark.filterwarnings("ignore:Creating .*WeightUpdater:DeprecationWarning")  # at torchrl's own import
def test_a_collector_and_a_gradient():
    from torchrl.collectors import Collector

    policy = tiny_policy(max_prompt_length=500, max_response_length=8, max_position_embeddings=512)
    collector = Collector(
        environment(), policy.actor(), frames_per_batch=4, total_frames=8, auto_register_policy_transforms=False
    )
    try:
        for batch in collector:
            check(policy, batch)
            policy.score(batch)[keys.LOG_PROB].sum().backward()
    finally:
        collector.shutdown()
    assert policy.model.get_output_embeddings().weight.grad.abs().sum() > 0


def test_more_than_one_batch_dimension_is_refused():
    from tensordict import TensorDict

    with pytest.raises(ValueError, match="one batch dimension"):
        tiny_policy().actor()(TensorDict({}, [2, 2]))
