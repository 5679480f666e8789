"""Environments that are copied, pickled, and stepped in processes of their own."""

from __future__ import annotations

import copy
import pickle

import gymnasium
import pytest

OFFLINE = ("llmrl/MATH-v0", "llmrl/Countdown-v0", "llmrl/MathRetry-v0", "llmrl/MathTool-v0")


def options(env_id):
    return {} if "Countdown" in env_id else {"source": "generated"}


@pytest.mark.parametrize("env_id", OFFLINE)
@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_a_copy_asks_and_grades_alike(env_id, copied):
    env = gymnasium.make(env_id, **options(env_id))
    again = copied(env)
    assert again.reset(seed=3)[0] == env.reset(seed=3)[0]
    # A box without an answer reaches the verifier's own code; its worker pool has a lock.
    assert again.step("\\boxed{1}")[1:4] == env.step("\\boxed{1}")[1:4]
    assert again.reset(options={"problem_id": 5})[0] == env.reset(options={"problem_id": 5})[0]


@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("env_id", OFFLINE)
def test_asynchronous_vectors(env_id, shared_memory):
    make = gymnasium.make_vec
    kwargs = {"shared_memory": shared_memory, "context": "spawn"}
    vector = make(env_id, num_envs=2, vectorization_mode="async", vector_kwargs=kwargs, **options(env_id))
    try:
        observations, _ = vector.reset(seed=[3, 4])
        alone = gymnasium.make(env_id, **options(env_id))
        assert observations == tuple(alone.reset(seed=seed)[0] for seed in (3, 4))
        assert observations in vector.observation_space
        _, rewards, _, _, _ = vector.step(("Ελλάδα \\boxed{\U0001d53d}", ""))
        assert list(rewards) == [0.0, 0.0]
    finally:
        vector.close()
