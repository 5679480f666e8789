"""The whole gradient path, from sampling to the optimiser, on a task whose optimum is known."""

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
from small_run import small_run

from llmrl.algorithms import ALGORITHMS
from llmrl.training.build import build
from llmrl.training.command_line import parse

COMPOSED = ("erc+gspo", "erc+gppo")


@pytest.mark.parametrize("name", [*ALGORITHMS, *COMPOSED])
def test_reward_rises_with_every_algorithm(name, tiny):
    size = (
        "--train.steps 25 --train.prompts-per-step 4 --train.group-size 16 --train.learning-rate 3e-3 "
        "--train.warmup-steps 1 --train.critic-learning-rate 3e-3"
    )
    config = parse(small_run(tiny, "--algo", name, *size.split()))
    trainer, _ = build(config)
    rewards = [trainer.step()[0]["reward/mean"] for _ in range(25)]
    assert sum(rewards[:2]) / 2 < 0.1, rewards
    assert sum(rewards[-3:]) / 3 > 0.5, rewards
