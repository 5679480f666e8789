"""Training on the sampler's own log-probabilities: the same step to rounding, without a pass before the update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import small_run
from tensordict import TensorDict
from tiny import tiny_folder

from llmrl import keys
from llmrl.algorithms import ALGORITHMS, algorithm
from llmrl.errors import ConfigError
from llmrl.policies.episode import pack
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.trainer import Trainer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=3.0, num_hidden_layers=1)


def make(tiny: Path, *more: str) -> Trainer:
    size = "--policy.max-response-length 12 --policy.max-prompt-length 400"
    speed = "--train.warmup-steps 0 --train.learning-rate 1e-3"
    arguments = small_run(tiny, *size.split(), *speed.split(), *more, env="llmrl/Countdown-v0")
    trainer, _ = build(parse(arguments))
    return trainer


def passes_without_gradient(trainer: Trainer) -> list[int]:
    """How many rows each pass before the update scores."""
    seen: list[int] = []
    score = trainer.policy.score

    def spied(data: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            seen.append(len(data))
        return score(data, **options)

    trainer.policy.score = spied  # type: ignore[method-assign]
    return seen


def step(tiny: Path, *more: str) -> tuple[dict[str, float], Any, Trainer, list[int]]:
    torch.manual_seed(0)
    trainer = make(tiny, *more)
    keep = trainer.algorithm.credit.advantage

    def by_first_token(data: Any) -> Any:
        first = data[keys.MASK].int().argmax(1)
        reward = (data[keys.TOKENS].gather(1, first[:, None]) % 7).float()
        return keep(data.set(keys.SHAPED_REWARD, reward))

    for name in ("in_keys", "min_group_size"):
        if hasattr(keep, name):
            setattr(by_first_token, name, getattr(keep, name))
    object.__setattr__(trainer.algorithm.credit, "advantage", by_first_token)
    seen = passes_without_gradient(trainer)
    metrics, rollouts = trainer.step()
    return metrics, rollouts, trainer, seen


@pytest.mark.parametrize("name", ["grpo", "gspo", "ppo"])
def test_a_step_is_the_rescored_step_to_rounding(name, tiny):
    one, first, rescored, before = step(tiny, "--algo", name)
    two, second, straight, none = step(tiny, "--algo", name, "--train.no-rescore")
    assert sum(before) == 4  # the rows of the first of two updates are scored by its own pass
    assert none == []
    assert [r["response"] for r in first.records] == [r["response"] for r in second.records]
    assert torch.equal(second.data[keys.OLD_LOG_PROB], second.data[keys.SAMPLER_LOG_PROB])
    torch.testing.assert_close(first.data[keys.OLD_LOG_PROB], second.data[keys.OLD_LOG_PROB], rtol=1e-4, atol=1e-4)
    assert float(first.data[keys.ADVANTAGE].abs().max()) > 0.1
    for key in ("actor/loss", "actor/grad_norm"):
        assert one[key] == pytest.approx(two[key], rel=1e-3, abs=1e-5)
    # Adam's first step is the sign of the gradient, which rounding may turn where it is almost 0.
    off = torch.cat(
        [(a - b).abs().flatten() for a, b in zip(rescored.learner.masters, straight.learner.masters, strict=True)]
    )
    assert float((off > 1e-5).float().mean()) < 0.01


OLD = (keys.OLD_LOG_PROB, keys.OLD_ENTROPY)


@pytest.mark.parametrize("epochs", ["1", "2"])
@pytest.mark.parametrize("updates", ["1", "2", "3"])
def test_the_old_scores_of_the_first_update_are_those_of_its_own_pass(updates, epochs, tiny):
    more = ("--train.updates-per-step", updates, "--train.epochs", epochs)
    metrics, rollouts, _, scored = step(tiny, "--algo", "grpo", *more)
    assert sum(scored) == 8 - len(torch.arange(8).tensor_split(int(updates))[0])
    torch.manual_seed(0)
    fresh = make(tiny, "--algo", "grpo")
    with torch.no_grad():
        expected = fresh.policy.score(rollouts.data, entropy=True)
    mask = rollouts.data[keys.MASK]
    for old, new in zip(OLD, (keys.LOG_PROB, keys.ENTROPY), strict=True):
        torch.testing.assert_close(rollouts.data[old], expected[new] * mask, rtol=1e-4, atol=1e-5)
    assert torch.equal(rollouts.data[keys.MAX_ENTROPY], expected[keys.MAX_ENTROPY])
    mean = float(expected[keys.ENTROPY][mask].mean())
    assert metrics["actor/entropy"] == pytest.approx(mean, rel=1e-4)
    assert 0 < metrics["rollout/mismatch_max"] < 1e-4


def test_the_ratio_of_the_first_update_is_exactly_1(tiny):
    metrics, _, _, _ = step(tiny, "--algo", "grpo", "--train.updates-per-step", "1")
    assert metrics["actor/ratio_min"] == metrics["actor/ratio_max"] == 1.0


@pytest.mark.parametrize("name", ["espo", "erc+grpo", "tis+grpo", "kl_cov"])
def test_all_rows_are_scored_first_where_weights_are_made_of_the_scores(name, tiny):
    _, _, trainer, scored = step(tiny, "--algo", name)
    assert trainer.algorithm.scores_first == (name in ("espo", "tis+grpo"))
    assert sum(scored) == (8 if trainer.algorithm.scores_first else 4)


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_no_recipe_makes_weights_of_scores_that_are_not_there_yet(name):
    recipe = algorithm(name).resolve(6)
    torch.manual_seed(0)
    mask = torch.ones(4, 6, dtype=torch.bool)
    rows = TensorDict({keys.MASK: mask}, [4])
    for key in recipe.in_keys:
        if key not in (keys.TOKENS, keys.ATTENTION, keys.MASK):
            rows[key] = torch.rand(4, 6)
    rows[keys.GROUP] = torch.arange(4) // 2
    other = rows.copy()
    for old in OLD:
        if rows.get(old, None) is not None:
            other[old] = torch.full((4, 6), torch.nan)
    one, two = recipe.weigh(rows), recipe.weigh(other)
    made = [key for key in one.keys(True, True) if key not in rows.keys(True, True)]
    same = all(torch.equal(one[key], two[key]) for key in made)
    assert same == (not recipe.scores_first)


def test_entropy_and_mismatch_are_those_of_the_first_updates_rows(tiny):
    metrics, rollouts, _, _ = step(tiny, "--algo", "grpo", "--train.no-rescore", "--train.updates-per-step", "1")
    expected = step(tiny, "--algo", "grpo", "--train.updates-per-step", "1")[0]
    assert metrics["actor/entropy"] == pytest.approx(expected["actor/entropy"], rel=1e-4)
    assert 0 < metrics["rollout/mismatch_max"] < 1e-4
    assert keys.OLD_ENTROPY not in rollouts.data.keys()  # noqa: SIM118  a TensorDict is no mapping
    half, _, trainer, _ = step(tiny, "--algo", "grpo", "--train.no-rescore")
    # Of the first update alone: the second one's scores are those of other weights.
    assert 0 < half["rollout/mismatch_max"] < 1e-4
    assert not trainer.keeps_rollouts(2)
    assert trainer.step()[0]["actor/entropy"] > 0
    assert half["actor/entropy"] == pytest.approx(expected["actor/entropy"], rel=0.5)
    assert half["actor/entropy"] != pytest.approx(expected["actor/entropy"], rel=1e-4)


def test_a_sampler_that_is_off_shows_in_the_mismatch(tiny, monkeypatch):
    trainer = make(tiny, "--algo", "grpo", "--train.no-rescore", "--train.max-mismatch", "0")

    def off(episodes: Any, pad_id: int) -> Any:
        data = pack(episodes, pad_id)
        data[keys.SAMPLER_LOG_PROB] -= 0.25 * data[keys.MASK]
        return data

    monkeypatch.setattr("llmrl.rollouts.collect.pack", off)
    metrics = trainer.step()[0]
    assert metrics["rollout/mismatch_kl"] == pytest.approx(-0.25, abs=1e-4)
    assert metrics["rollout/mismatch_mean"] == pytest.approx(0.25, abs=1e-4)
    assert metrics["rollout/mismatch_max"] == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("espo", "reads entropies, which only scoring tells"),
        ("erc+gspo", "reads entropies, which only scoring tells"),
        ("tis+grpo", "weighs by the gap between sampler and scorer, which would be 0"),
    ],
)
def test_algorithms_that_need_the_scores_are_refused(name, reason, tiny):
    with pytest.raises(ConfigError, match=rf"--train.no-rescore: .*{reason}"):
        make(tiny, "--algo", name, "--train.no-rescore")
