"""The learner: what is summed in which precision, and what an update leaves out."""

import dataclasses

import pytest
import torch
from tiny import tiny_folder

from llmrl import keys
from llmrl.errors import ConfigError
from llmrl.rollouts.batch import Batch
from llmrl.training.command_line import parse
from llmrl.training.learner import OLD
from llmrl.training.session import build
from llmrl.training.sums import Sums
from llmrl.training.trainer import Trainer

FIRST = {old: old for old in OLD.values()}
"""What the first update of a step puts back."""


def trainer_of(folder, *more: str, algo: str = "grpo") -> Trainer:
    arguments = ["--algo", algo, "--policy", str(folder), "--env.source", "generated"]
    arguments += ["--policy.max-response-length", "12", "--train.prompts-per-step", "4", "--train.group-size", "4"]
    trainer, _ = build(parse([*arguments, *more]))
    return trainer


def weighed(trainer: Trainer) -> Batch:
    """A mini-batch with advantages that differ."""
    rollouts, metrics = trainer.gather()
    batch = trainer.before_update(rollouts, metrics)
    torch.manual_seed(0)
    batch.data[keys.ADVANTAGE] = torch.randn(len(batch), 1).expand_as(batch.data[keys.MASK]).clone()
    return batch.having(trainer.algorithm.weigh(batch.data))


def gradient(trainer: Trainer, batch: Batch, budget: int) -> torch.Tensor:
    trainer.learner.accumulate(batch, 0, FIRST, budget)
    return torch.cat([m.grad.flatten() for m in trainer.learner.masters if m.grad is not None])


def test_gradients_of_bfloat16_weights_are_summed_in_float32(tmp_path):
    trainer = trainer_of(tiny_folder(tmp_path), "--policy.dtype", "bfloat16")
    batch = weighed(trainer)
    found = gradient(trainer, batch, 1)
    total = torch.zeros_like(found)
    for row in range(len(batch)):
        total += gradient(trainer, batch.take(torch.tensor([row])), 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, total, rtol=1e-5, atol=1e-9)
    assert all(p.grad is None for p in trainer.learner.parameters)


def test_a_policy_without_a_trained_weight_is_refused(tmp_path):
    learner = trainer_of(tiny_folder(tmp_path)).learner
    learner.policy.model.requires_grad_(False)
    with pytest.raises(ConfigError, match="The policy has nothing to train"):
        dataclasses.replace(learner)


@pytest.mark.parametrize("budget", [1, 100_000])
def test_the_share_of_the_largest_token_is_that_of_the_gradient_by_log_probabilities(tmp_path, budget):
    trainer = trainer_of(tiny_folder(tmp_path))
    batch = weighed(trainer)
    mask = batch.data[keys.MASK]
    row, column = mask.nonzero()[0].tolist()
    batch.data[keys.ADVANTAGE][row] = -1.0
    batch.data[keys.OLD_LOG_PROB][row, column] -= 19.0  # log r = 19 and A < 0: no clip bounds it
    scored = trainer.policy.score(batch.data)
    leaf = scored[keys.LOG_PROB].detach().requires_grad_()
    scored[keys.LOG_PROB] = leaf
    trainer.learner.loss(scored)["loss_objective"].backward()
    size = leaf.grad.abs()
    trainer.memory.budget = budget
    metrics = trainer.learner.update(batch, 0, {}).result()
    assert metrics["actor/token_gradient"] == pytest.approx(float(size.sum()), rel=1e-3)
    assert metrics["actor/token_gradient_max"] == pytest.approx(float(size.max()), rel=1e-3)
    assert metrics["actor/token_gradient_share"] == pytest.approx(float(size.max() / size.sum()), rel=1e-3)
    assert metrics["actor/token_gradient_share"] > 0.999


def test_an_update_without_a_sampled_token_changes_nothing(tmp_path):
    trainer = trainer_of(tiny_folder(tmp_path))
    batch = weighed(trainer)
    before = [p.clone() for p in trainer.learner.parameters]
    batch.layout[keys.MASK][:] = False
    sums = trainer.learner.update(batch, 0, {})
    assert (sums.tokens, sums.skipped, sums.result()) == (0, False, {})
    assert all(map(torch.equal, before, trainer.learner.parameters))


@pytest.mark.parametrize(("options", "numbers"), [((), (12, 2)), (("--algo.max-length", "10"), (10, 2))])
def test_the_overlong_penalty_of_a_run_follows_its_response_limit(tmp_path, options, numbers):
    (shape,) = trainer_of(tiny_folder(tmp_path), *options, algo="dapo").algorithm.credit.shape
    assert (shape.limit, shape.window) == numbers


@pytest.mark.parametrize("cut_off", [0, 3, 16], ids=["none", "some", "all"])
def test_rows_that_are_filtered_are_in_no_micro_batch_and_change_no_gradient(tmp_path, cut_off):
    options = ["--algo.overlong-filter", "--algo.soft-length", "0", "--algo.no-dynamic-sampling"]
    trainer = trainer_of(tiny_folder(tmp_path), *options, algo="dapo")
    rollouts, metrics = trainer.gather()
    rollouts.data[keys.TRUNCATED] = torch.arange(len(rollouts))[:, None] < cut_off
    rollouts.data[keys.REWARD] = (torch.arange(len(rollouts)) % 2)[:, None].float()
    batch = trainer.before_update(rollouts, metrics)
    batch = batch.having(trainer.algorithm.weigh(batch.data))
    live = [row for part in batch.micro_batches(1) for row in part.rows.tolist()]
    assert sorted(live) == list(range(cut_off, len(batch)))
    if live:
        assert torch.equal(gradient(trainer, batch, 1), gradient(trainer, batch.take(torch.tensor(live)), 1))
    trainer.update(batch, {})
    assert bool(trainer.learner.optimizer.state_dict()["state"]) == bool(live)


@pytest.mark.parametrize("rescore", [(), ("--train.no-rescore",)], ids=["rescore", "no rescore"])
def test_updates_without_a_token_hide_no_measure_and_are_in_no_mean(tmp_path, monkeypatch, rescore):
    options = ["--algo.overlong-filter", "--algo.soft-length", "0", "--algo.no-dynamic-sampling", *rescore]
    trainer = trainer_of(tiny_folder(tmp_path), *options, "--train.updates-per-step", "4", algo="dapo")
    rollouts, metrics = trainer.gather()
    emptied = torch.cat(trainer.mini_batches(len(rollouts), peek=True)[:2])
    rollouts.data[keys.TRUNCATED] = torch.isin(torch.arange(len(rollouts)), emptied)[:, None]
    rollouts.data[keys.REWARD] = (torch.arange(len(rollouts)) % 2)[:, None].float()
    norms, update = [], trainer.learner.update

    def noted(*args):
        sums = update(*args)
        norms.append(sums.fetch().get("actor/grad_norm"))
        return sums

    monkeypatch.setattr(trainer.learner, "update", noted)
    trainer.update(trainer.before_update(rollouts, metrics), metrics)
    assert norms[:2] == [None, None]
    assert metrics["actor/grad_norm"] == pytest.approx(sum(norms[2:]) / 2)
    assert metrics["actor/entropy"] > 0
    assert metrics["rollout/mismatch_mean"] < 1e-4


def test_a_micro_batch_whose_loss_has_no_graph_adds_exactly_nothing(tmp_path, monkeypatch):
    trainer = trainer_of(tiny_folder(tmp_path))
    batch = weighed(trainer)
    loss, calls = trainer.learner.loss, []

    def filtered(td):
        calls.append(td)
        return loss(td.detach() if len(calls) == 1 else td)

    only_second = gradient(trainer, batch.take(torch.tensor([1])), 1)
    monkeypatch.setattr(trainer.learner, "loss", filtered)
    both = gradient(trainer, batch.take(torch.tensor([0, 1])), 1)
    assert len(calls) == 2
    assert torch.equal(both, only_second) or torch.equal(both, gradient(trainer, batch.take(torch.tensor([0])), 1))


@pytest.mark.parametrize("limit", ["1", "40", "100000"])
def test_an_update_fetches_once_however_many_micro_batches_it_has(tmp_path, monkeypatch, limit):
    trainer = trainer_of(tiny_folder(tmp_path), "--train.micro-batch-tokens", limit)
    batch, calls = weighed(trainer), []
    fetch = Sums.fetch
    monkeypatch.setattr(Sums, "fetch", lambda self: calls.append(len(self._waiting)) or fetch(self))
    trainer.learner.update(batch, 0, {})
    assert len(calls) == 1


def test_rows_sampled_together_or_in_another_order_get_the_same_responses(tmp_path):
    from llmrl.rollouts.collect import collect

    trainer = trainer_of(tiny_folder(tmp_path))

    def responses(ids: list[int], first: int, size: int = 3) -> list[str]:
        found = collect(trainer.policy, trainer.environments, ids, seed=5, group_size=size, first_group=first)
        return [record["response"] for record in found.records]

    together = responses([3, 1, 2], 10)
    assert responses([3], 10) + responses([1], 11) + responses([2], 12) == together
    assert responses([3], 10, size=1) == together[:1]
    assert responses([3], 11) != together[:3]
