"""Whole steps on a pretended accelerator: the CPU's results, nothing on a wrong device, and few waits for it.

``test_device.py`` runs this file in a process of its own: see :func:`pretend_gpu.register`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pretend_gpu import Mismatch, pretend_gpu, register
from tiny import tiny_folder
from torch.utils._pytree import tree_leaves, tree_map
from transformers import masking_utils

from llmrl import keys
from llmrl.evaluation import evaluate
from llmrl.rollouts.batch import Batch
from llmrl.training import run_state
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.trainer import Trainer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    register()
    # Untied, since moving a model to a device that torch does not know well unties them.
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, num_hidden_layers=1, tie_word_embeddings=False)


def trainer_on(device: str, tiny: Path, *more: str) -> Trainer:
    arguments = ["--policy", str(tiny), "--policy.device", device, "--env", "noisy:tests/Raising-v0"]
    arguments += ["--env.where", "nowhere", "--policy.max-response-length", "6", "--threads", "1"]
    arguments += ["--train.prompts-per-step", "3", "--train.group-size", "4", "--train.updates-per-step", "1"]
    arguments += ["--train.learning-rate", "1e-6", "--train.warmup-steps", "0", "--eval.problems", "0"]
    torch.manual_seed(0)
    return build(parse([*arguments, *more]))[0]


def tensors_of(trainer: Trainer, rollouts: Any) -> list[torch.Tensor]:
    """Everything that must be on the device."""
    learner = trainer.learner
    moments = [state[name] for state in learner.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    weights = [*learner.parameters, *learner.masters, *learner.critic_parameters]
    return [*weights, *moments, *rollouts.data.values(True, True)]


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    """Without what depends on the clock, and what is rounding alone."""
    gone = ("time/", "perf/tokens", "rollout/mismatch")
    return {name: value for name, value in metrics.items() if not name.startswith(gone)}


def gradient(trainer: Trainer) -> torch.Tensor:
    """What the optimiser was given in the first update, up to a factor; on the CPU."""
    states = trainer.learner.optimizer.state.values()
    return torch.cat([state["exp_avg"].flatten().cpu() for state in states])


CASES = {
    **{name: ["--algo", name] for name in ("dapo", "espo", "erc", "kl_cov", "dcpo")},
    "a critic": ["--algo", "ppo"],
    "a reference": ["--algo", "grpo", "--algo.kl", "0.1"],
    "adapters": ["--algo", "grpo", "--policy.lora-rank", "2"],
    "packing, bfloat16": ["--algo", "espo", "--train.packing", "--policy.dtype", "bfloat16"],
    "prompts not shared": ["--algo", "grpo", "--train.no-share-prompts"],
    "gradient checkpointing": ["--algo", "grpo", "--policy.gradient-checkpointing"],
    "no rescoring, a row at a time": ["--algo", "grpo", "--train.no-rescore", "--train.micro-batch-tokens", "1"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_equals_that_of_the_cpu_and_nothing_is_on_a_wrong_device(case, tiny):
    here = trainer_on("cpu", tiny, *CASES[case])
    expected, rollouts = here.step()
    with pretend_gpu():
        there = trainer_on("vgpu", tiny, *CASES[case])
        found, other = there.step()
        assert {str(x.device) for x in tensors_of(there, other)} == {"vgpu:0"}
        found_gradient = gradient(there)
    assert [r["response"] for r in other.records] == [r["response"] for r in rollouts.records]
    assert expected["actor/grad_norm"] > 0
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-3, abs=1e-6)
    rounding = 1e-4 if "bfloat16" in case else 1e-6
    torch.testing.assert_close(found_gradient, gradient(here), rtol=1e-3, atol=rounding)


@pytest.mark.parametrize("name", ["ppo"])
def test_a_run_goes_on_from_its_state(name, tiny):
    more = ["--algo", name]
    here = trainer_on("cpu", tiny, *more)
    here.step()
    expected = numbers(here.step()[0])
    with pretend_gpu():
        first = trainer_on("vgpu", tiny, *more)
        first.step()
        # As a checkpoint has it: weights and state on the CPU.
        state = tree_map(lambda x: x.cpu() if isinstance(x, torch.Tensor) else x, run_state.state_of(first, 0))
        weights = {name: x.cpu() for name, x in first.policy.model.state_dict().items()}
        second = trainer_on("vgpu", tiny, *more)
        second.policy.model.load_state_dict(weights)
        run_state.restore(second, state, tiny)  # the state holds everything, so no shards are read
        found = numbers(second.step()[0])
        moments = [x for x in tree_leaves(second.learner.optimizer.state_dict()) if isinstance(x, torch.Tensor)]
        assert {str(x.device) for x in moments if x.ndim} == {"vgpu:0"}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_an_evaluation_equals_that_of_the_cpu(tiny):
    here = trainer_on("cpu", tiny)
    expected = evaluate(here.policy, here.environments, 6, samples=2, batch=4, seed=1)
    with pretend_gpu():
        there = trainer_on("vgpu", tiny)
        found = evaluate(there.policy, there.environments, 6, samples=2, batch=4, seed=1)
    assert found.records == expected.records


@pytest.mark.parametrize(
    ("name", "limit"), [("ppo", "1"), ("espo", "1"), ("gmpo", "1"), ("dapo", "100"), ("kl_cov", "16384")]
)
def test_an_update_waits_at_most_twice_beside_what_transformers_does(name, limit, tiny, monkeypatch):
    passes = []

    def counted(position_ids):  # it asks whether sequences are packed, once in a pass without a cache
        passes.append(1)
        return find_packed(position_ids)

    find_packed = masking_utils.find_packed_sequence_indices
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", counted)
    with pretend_gpu() as waits:
        trainer = trainer_on("vgpu", tiny, "--algo", name, "--train.micro-batch-tokens", limit)
        rollouts, metrics = trainer.gather()
        batch = trainer.before_update(rollouts, metrics)
        before = waits.count
        passes.clear()
        trainer.update(batch, metrics)
        during = waits.count - before
    assert during - len(passes) in (1, 2)


def test_sampling_waits_twice_a_position_however_rows_leave(tiny):
    with pretend_gpu() as waits:
        policy = trainer_on("vgpu", tiny, "--policy.max-response-length", "24").policy
        policy.end_ids |= set(range(1, 261, 24))
        episodes = policy.begin(["say 1"] * 8 + ["say 22"] * 8)
        before = waits.count
        policy.respond(episodes, seeds=range(16))
        during = waits.count - before
    lengths = sorted(len(episode.tokens) for episode in episodes)
    assert len(set(lengths)) > 4  # rows left at different times
    # transformers asks for the mask (at the first position twice), the sampler who goes on, and both once in the end.
    assert during <= 2 * lengths[-1] + 1


def test_a_mask_as_an_index_waits_unless_it_only_fills():
    with pretend_gpu() as waits:
        values, mask = torch.arange(3.0, device="vgpu"), torch.tensor([True, False, True]).to("vgpu")
        values[mask] = 0.0
        assert waits.count == 0
        values[mask] = torch.ones(2, device="vgpu")
        assert waits.count == 1
        assert values[mask].shape == (2,)
        assert waits.count == 2
        values[torch.tensor([0]).to("vgpu")] = 3.0
        assert waits.count == 2


def test_scoring_waits_at_most_once_a_micro_batch(tiny):
    with pretend_gpu() as waits:
        trainer = trainer_on("vgpu", tiny, "--algo", "ppo", "--train.micro-batch-tokens", "1")
        rollouts, _ = trainer.gather()
        batch = Batch.of(rollouts.data)
        before = waits.count
        with torch.no_grad():
            trainer.old_scores.score(
                [batch],
                lambda part, layout: trainer.policy.score(part, entropy=True, layout=layout),
                {keys.LOG_PROB: keys.OLD_LOG_PROB},
            )
        during = waits.count - before
    assert len(batch) > 4
    assert during <= len(batch)


def test_what_a_gpu_refuses_is_refused():
    with pretend_gpu() as waits:
        there = torch.arange(3.0, device="vgpu")
        with pytest.raises(Mismatch, match="on vgpu and on cpu"):
            there + torch.ones(3)
        assert waits.count == 0
        assert (there * 2).tolist() == [0.0, 2.0, 4.0]
        assert there.nonzero().shape == (2, 1)
        assert waits.count == 2
