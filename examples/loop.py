"""The whole loop on one page, without a Trainer: environment, policy, algorithm, optimiser.

python examples/loop.py

The five calls of a step have the names that they have in ``llmrl/training/trainer.py``.
"""

from __future__ import annotations

import torch
from tensordict import TensorDictBase

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.policies import Policy
from llmrl.rollouts.collect import collect
from llmrl.rollouts.environments import Environments


def gather(policy: Policy, environments: Environments, problems: range, group_size: int) -> TensorDictBase:
    """Sample a group of responses to each problem; the verifier of the environment grades them."""
    return collect(policy, environments, problems, seed=0, group_size=group_size, first_group=problems.start).data


@torch.no_grad()
def before_update(policy: Policy, recipe: Algorithm, batch: TensorDictBase) -> TensorDictBase:
    """Add what the update does not change: the old log-probabilities and the advantages."""
    batch[keys.OLD_LOG_PROB] = policy.score(batch)[keys.LOG_PROB]
    return recipe.credit.advantage(batch)


def update(policy: Policy, loss: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: TensorDictBase) -> None:
    """Take one optimiser step; the gradients of micro-batches add up to the gradient of the batch."""
    optimizer.zero_grad()
    for rows in torch.arange(len(batch)).split(32):
        loss(policy.score(batch[rows]))["loss_objective"].backward()
    torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
    optimizer.step()


def main(steps: int = 30, prompts: int = 8, group_size: int = 8, learning_rate: float = 4e-4) -> list[float]:
    """Train the embedded policy on the easiest generated problems; returns the mean reward of each step."""
    environments = Environments("llmrl/MATH-v0", {"source": "generated", "levels": (1,)})
    policy = Policy.from_pretrained("llmrl/nano", device="cpu", max_response_length=96)
    recipe = algorithm("dapo")
    loss = recipe.loss()
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=learning_rate)
    rewards = []
    for step in range(steps):
        batch = gather(policy, environments, range(step * prompts, (step + 1) * prompts), group_size)
        batch = before_update(policy, recipe, batch)
        batch = recipe.weigh(batch)  # how much each token counts, over the whole batch
        update(policy, loss, optimizer, batch)
        policy.sync()  # whatever samples takes the new weights
        rewards.append(float(batch[keys.REWARD].mean()))
        print(f"step {step + 1:3d}  reward {rewards[-1]:.3f}", flush=True)
    environments.close()
    few = min(5, steps)
    print(f"first {few} steps {sum(rewards[:few]) / few:.3f}, last {few} steps {sum(rewards[-few:]) / few:.3f}")
    return rewards


if __name__ == "__main__":
    main()
