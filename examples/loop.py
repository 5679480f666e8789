"""The whole loop on one page, without a Trainer: environment, policy, algorithm, optimiser.

python examples/loop.py
"""

from __future__ import annotations

import torch

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.policies import Policy
from llmrl.rollouts.collect import collect
from llmrl.rollouts.environments import Environments


def main(steps: int = 30, prompts: int = 16, group: int = 8, seed: int = 0) -> list[float]:
    """Train the embedded policy on easy arithmetic; returns the mean reward of each step."""
    environments = Environments("llmrl/MATH-v0", {"source": "generated", "levels": (1,)})
    policy = Policy.from_pretrained("llmrl/nano", device="cpu", max_response_length=128)
    recipe = algorithm("dapo")
    loss = recipe.loss()
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=8e-5)
    rewards = []
    for step in range(steps):
        # 1. Gather: a group of responses to each problem, graded by the environment's verifier.
        first = step * prompts
        problems = range(first, first + prompts)
        batch = collect(policy, environments, problems, seed=seed, group_size=group, first_group=first).data
        rewards.append(float(batch[keys.REWARD].mean()))

        # 2. Before the update: log-probabilities by the weights that sampled, and advantages.
        with torch.no_grad():
            batch[keys.OLD_LOG_PROB] = policy.score(batch)[keys.LOG_PROB]
        batch = recipe.credit.advantage(batch)

        # 3. Weigh: how much each token counts, over the whole batch.
        batch = recipe.weigh(batch)

        # 4. Update: the gradient of the loss; micro-batches of the rows would add up to the same.
        optimizer.zero_grad()
        for rows in torch.arange(len(batch)).split(32):
            loss(policy.score(batch[rows]))["loss_objective"].backward()
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimizer.step()

        # 5. Sync: whatever samples takes the new weights.
        policy.sync()
        print(f"step {step + 1:3d}  reward {rewards[-1]:.3f}", flush=True)
    environments.close()
    return rewards


if __name__ == "__main__":
    main()
