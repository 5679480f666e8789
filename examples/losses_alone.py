"""The losses without llmrl's trainer: on hand-made tensors, behind an actor, in a TorchRL loop.

python examples/losses_alone.py
"""

from __future__ import annotations

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.envs.vector import TextVectorEnv
from llmrl.policies import Policy


def by_hand() -> float:
    """Any log-probabilities, three lines: the recipe, the weights, the loss."""
    log_prob = torch.full((2, 4), -1.0, requires_grad=True)
    batch = TensorDict(
        {
            keys.MASK: torch.tensor([[True, True, True, True], [True, True, False, False]]),
            keys.LOG_PROB: log_prob,
            keys.OLD_LOG_PROB: torch.full((2, 4), -1.5),
            keys.ADVANTAGE: torch.tensor([[1.0], [-1.0]]),
        }
    )
    dapo = algorithm("dapo")
    out = dapo.loss()(dapo.weigh(batch))
    out["loss_objective"].backward()
    return float(out["clip_fraction_high"])


def sample(policy: Policy, problems: int, group: int) -> TensorDict:
    """Responses of a policy with what every group-based recipe wants to know about them."""
    env = TextVectorEnv.make("llmrl/MATH-v0", problems * group, source="generated", levels=(1,))
    ids = [i for i in range(problems) for _ in range(group)]
    questions, _ = env.reset(seed=0, options={"problem_id": ids})
    batch = policy.generate(list(questions))
    _, rewards, *_ = env.step(list(batch["text", "response"]))
    env.close()
    batch = batch.exclude("text", "finish_reason")
    batch[keys.GROUP] = torch.tensor(ids)
    batch[keys.REWARD] = torch.as_tensor(rewards, dtype=torch.float32)[:, None]
    batch[keys.VALID] = torch.ones(len(ids), dtype=torch.bool)
    with torch.no_grad():
        scored = policy.score(batch, entropy=True)
    batch[keys.OLD_LOG_PROB], batch[keys.OLD_ENTROPY] = scored[keys.LOG_PROB], scored[keys.ENTROPY]
    batch[keys.MAX_ENTROPY] = scored[keys.MAX_ENTROPY]
    return batch


def torchrl_loop(steps: int = 2) -> list[float]:
    """A replay buffer, an optimiser, and one ``TensorDictSequential`` of actor and loss."""
    torch.manual_seed(0)
    policy = Policy.from_pretrained("llmrl/nano", max_response_length=48)
    espo = algorithm("espo")
    train = TensorDictSequential(policy, espo.loss())
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    losses = []
    for _ in range(steps):
        batch = espo.credit.advantage(sample(policy, problems=4, group=8))
        buffer = ReplayBuffer(
            storage=LazyTensorStorage(len(batch)),
            sampler=SamplerWithoutReplacement(),
            batch_size=16,
        )
        buffer.extend(batch)
        for mini_batch in buffer:
            out = train(espo.weigh(mini_batch))
            out["loss_objective"].backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(out["loss_objective"].detach()))
        policy.sync()
    return losses


def main() -> None:
    """Run all three."""
    print(f"by hand: {by_hand():.2f} of the tokens clipped above")
    print(f"TorchRL loop: losses {[round(loss, 4) for loss in torchrl_loop()]}")


if __name__ == "__main__":
    main()
