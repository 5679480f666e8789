"""TorchRL drives, llmrl answers: an environment of llmrl in GymWrapper, a Collector, and TorchRL's GRPOLoss.

``python examples/torchrl_collector.py`` collects two batches from llmrl/nano and takes a step on each.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import torch
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper

import llmrl  # noqa: F401  registers the environments
from llmrl import keys
from llmrl.policies import Policy


def main(problems: int = 8, batches: int = 2) -> list[float]:
    """The mean reward of each batch."""
    policy = Policy.from_pretrained("llmrl/nano", max_prompt_length=256, max_response_length=64, device="cpu")
    env = GymWrapper(gym.make("llmrl/MATH-v0", source="generated"))
    collector = Collector(
        env,
        policy.actor(),
        frames_per_batch=problems,
        total_frames=problems * batches,
        auto_register_policy_transforms=False,
    )
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-5)
    rewards = []
    for batch in collector:
        reward = batch["next", "reward"]
        rewards.append(float(reward.mean()))
        scored = policy.score(batch)  # with gradient: the actor only sampled
        mask = batch[keys.MASK]
        advantage = (reward - reward.mean()).expand_as(mask)
        ratio = (scored[keys.LOG_PROB] - batch[keys.SAMPLER_LOG_PROB]).exp()
        loss = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)[mask].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        policy.sync()
        print(f"reward {rewards[-1]:.3f}  loss {float(loss.detach()):+.4f}  tokens {int(mask.sum())}")
    collector.shutdown()
    return rewards


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--batches", type=int, default=2)
    main(**vars(parser.parse_args()))
