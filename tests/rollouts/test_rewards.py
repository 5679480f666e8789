"""Who reads the reward that was paid, and who the one that a recipe makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from small_run import EASY, small_run
from tiny import SMALLEST, tiny_folder

from llmrl import keys
from llmrl.losses.terms import PositiveNLL
from llmrl.rollouts.files import read_rollouts, write_rollouts
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.curriculum import pass_rates
from llmrl.training.trainer import Trainer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


def make(tiny: Path, *algo: str) -> Trainer:
    return build(parse(small_run(tiny, "--env.goal", EASY, "--train.learning-rate", "3e-2", *algo)))[0]


SHAPED = "--algo dapo --algo.max-length 4 --algo.soft-length 4 --algo.overlong-penalty 0.5 --algo.kl 0.5"


def test_files_records_and_metrics_hold_both_and_curricula_read_what_was_paid(tiny, tmp_path) -> None:
    trainer = make(tiny, *SHAPED.split(), "--algo.kl-in-reward", "--algo.no-dynamic-sampling")
    seen: list[dict[int, float]] = []
    observe = trainer.problems.observe
    trainer.problems.observe = lambda step, rates: (seen.append(rates), observe(step, rates))[1]  # type: ignore[assignment]
    trainer.step()
    metrics, rollouts = trainer.step()
    data = rollouts.data
    paid = torch.tensor([[record["reward"]] for record in rollouts.records])
    shaped = data[keys.MASK].sum(1, keepdim=True) / 4 * -0.5 + paid  # the penalty rises from the first token on
    assert torch.equal(data[keys.REWARD], paid)
    torch.testing.assert_close(data[keys.SHAPED_REWARD], shaped)
    assert data[keys.TOKEN_REWARD].abs().sum() > 1e-3
    assert metrics["reward/mean"] == pytest.approx(float(paid.mean()))
    assert metrics["reward/shaped_mean"] == pytest.approx(float(shaped.mean()))
    assert seen[-1] == pass_rates(rollouts.records)
    kept = read_rollouts(write_rollouts(tmp_path, 2, rollouts))
    for name in (keys.REWARD, keys.SHAPED_REWARD, keys.TOKEN_REWARD):
        assert torch.equal(kept.data[name], data[name])
    lines = [json.loads(line) for line in (tmp_path / "step_000002.jsonl").read_text().splitlines()]
    assert [line["reward"] for line in lines] == paid.flatten().tolist()


def test_each_term_of_the_loss_and_the_choice_of_groups_read_their_own(tiny) -> None:
    """Every reader is given rewards of which one kind alone would change what it does."""
    trainer = make(tiny, "--algo", "erc+dapo", "--algo.positive-nll", "0.1", "--algo.kl", "0.1", "--algo.kl-in-reward")
    rollouts, metrics = trainer.gather()
    count = len(rollouts)
    rollouts.data[keys.REWARD] = torch.ones(count, 1)
    rollouts.data[keys.SHAPED_REWARD] = torch.arange(float(count))[:, None] - 50.0
    batch = trainer.before_update(rollouts, metrics)
    data = batch.whole
    assert (data[keys.ADVANTAGE][data[keys.MASK]] != 0).any()  # of the shaped ones, which differ
    weighed = trainer.algorithm.weigh(data.select(*trainer.loss_keys(), strict=False))  # what an update has
    mask = weighed[keys.MASK]
    # Imitation asks for a reward of 1 or more: each response was paid that, and none has it after shaping.
    assert weighed[keys.POSITIVE_WEIGHT][mask].tolist() == pytest.approx([1 / int(mask.sum())] * int(mask.sum()))
    assert any(term.loss is PositiveNLL for term in trainer.algorithm.terms)
    assert not trainer.algorithm.credit.keep(data).any()  # equal pay


def test_dcpos_history_notes_what_was_paid(tiny) -> None:
    trainer = make(tiny, "--algo", "dcpo")
    rollouts, metrics = trainer.gather()
    rollouts.data[keys.SHAPED_REWARD] = torch.full_like(rollouts.data[keys.REWARD], 9.0)
    trainer.before_update(rollouts, metrics)
    paid = rollouts.data[keys.REWARD].flatten()
    for problem, (_, mean, _) in trainer.past_rewards.of_problem.items():
        rows = [i for i, record in enumerate(rollouts.records) if record["problem_id"] == problem]
        assert mean == pytest.approx(float(paid[rows].mean()), abs=1e-6)
