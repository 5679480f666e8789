"""How far a step moves the distributions, against the models before and after it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from small_run import EASY, small_run, untimed
from tensordict import TensorDict

from llmrl import keys
from llmrl.errors import ConfigError
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.drift import POSITIONS, ROWS, divergence, thinned
from llmrl.training.trainer import Trainer

OWN = ("actor/kl_step", "actor/entropy_ratio_", "actor/trained_")
FAST = ["--train.warmup-steps", "0", "--train.learning-rate", "0.01"]


def make(tiny: Path, *more: str) -> Trainer:
    torch.manual_seed(0)
    trainer, _ = build(parse(small_run(tiny, "--env.goal", EASY, *FAST, *more)))
    return trainer


def log_probs(model, rollouts) -> torch.Tensor:
    """[M, V] in front of every sampled token, by the whole model on each response alone."""
    found = []
    for row in rollouts.data:
        real = row[keys.ATTENTION]
        with torch.no_grad():
            logits = model(row[keys.TOKENS][real][None]).logits[0]
        found.append(logits[:-1][row[keys.MASK][real][1:]].log_softmax(-1))
    return torch.cat(found)


def ratio_of(data) -> torch.Tensor:
    return (data[keys.ENTROPY] + 1e-8) / (data[keys.OLD_ENTROPY] + 1e-8)


@pytest.mark.parametrize("algo", ["dapo", "erc", "espo"])
def test_the_divergence_is_that_of_the_models_before_and_after(tiny, algo):
    trainer = make(tiny, "--algo", algo, "--train.drift")
    before = copy.deepcopy(trainer.policy.model)
    metrics, rollouts = trainer.step()
    old, new = log_probs(before, rollouts), log_probs(trainer.policy.model, rollouts)
    chosen = rollouts.data[keys.TOKENS][rollouts.data[keys.MASK]]
    terms = old.exp() * (old - new)
    of_sampled = terms[torch.arange(len(chosen)), chosen].mean()
    assert len(chosen) <= POSITIONS
    assert metrics["actor/kl_step"] > 1e-6
    assert metrics["actor/kl_step"] == pytest.approx(terms.sum(-1).mean().item(), rel=1e-3)
    assert metrics["actor/kl_step_sampled"] == pytest.approx(of_sampled.item(), rel=1e-3, abs=1e-7)
    assert metrics["actor/kl_step_unsampled"] == pytest.approx((terms.sum(-1).mean() - of_sampled).item(), rel=1e-3)


def test_entropy_ratios_are_those_of_the_updates(tiny):
    trainer = make(tiny, "--algo", "erc", "--train.learning-rate", "0.2", "--train.drift")
    metrics, rollouts = trainer.step()
    mask = rollouts.data[keys.MASK]
    ratio = ratio_of(rollouts.data)[mask]
    named = [metrics[f"actor/entropy_ratio_p{q}"] for q in (1, 10, 50, 90, 99)]
    assert named == sorted(named)
    # One epoch: every row was scored once, in its own update.
    assert named[0] == pytest.approx(ratio.min().item())
    assert named[-1] == pytest.approx(ratio.max().item())
    by_update = [metrics[f"actor/trained_update{n}"] for n in (1, 2)]
    assert by_update[0] == 1.0, "before the first update nothing has moved"
    assert by_update[1] < 1.0
    dropped = metrics["actor/zero_grad_fraction"] * mask.sum().item()
    advantage = rollouts.data[keys.ADVANTAGE] != 0
    moved = mask & advantage & ((ratio_of(rollouts.data) <= 0.95) | (ratio_of(rollouts.data) >= 1.05))
    assert dropped >= moved.sum() > 0
    assert 0 <= min(metrics[f"actor/trained_decile{n}"] for n in range(1, 11)) < 1


def test_with_unchanged_weights_nothing_moves(tiny):
    metrics, _ = make(tiny, "--algo", "erc", "--train.drift", "--train.learning-rate", "0").step()
    assert metrics["actor/kl_step"] == 0
    assert all(metrics[f"actor/entropy_ratio_p{q}"] == pytest.approx(1, abs=1e-5) for q in (1, 50, 99))
    assert [metrics[f"actor/trained_update{n}"] for n in (1, 2)] == [1, 1]


@pytest.mark.parametrize("algo", ["dapo", "ppo"])
def test_watching_changes_nothing(tiny, algo):
    plain, watched = make(tiny, "--algo", algo), make(tiny, "--algo", algo, "--train.drift")
    for _ in range(2):
        first, second = untimed(plain.step()[0]), untimed(watched.step()[0])
        assert first == {name: value for name, value in second.items() if not name.startswith(OWN)}
    weights = (trainer.policy.model.parameters() for trainer in (plain, watched))
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_step_without_a_token_to_train_on_has_no_drift(tiny):
    trainer = make(
        tiny, "--algo", "dapo", "--train.drift", "--algo.overlong-filter", "--policy.max-response-length", "1"
    )
    metrics, rollouts = trainer.step()
    assert not rollouts.data[keys.MASK].any(), "every response was cut off"
    assert not [name for name in metrics if name.startswith(OWN)]


def test_it_needs_old_entropies(tiny):
    with pytest.raises(ConfigError, match=r"Leave out --train\.no-rescore"):
        make(tiny, "--algo", "dapo", "--train.drift", "--train.no-rescore")


def test_a_long_batch_is_thinned():
    layout = {keys.TOKENS: torch.ones(100, 50, dtype=torch.long), keys.ATTENTION: torch.ones(100, 50, dtype=torch.bool)}
    mask = torch.zeros(100, 50, dtype=torch.bool)
    mask[1::2, 7:] = True
    found = thinned(TensorDict({**layout, keys.MASK: mask}, [100]), ROWS, POSITIONS)
    assert len(found) <= ROWS
    assert POSITIONS / 2 < found[keys.MASK].sum() <= POSITIONS
    assert (found[keys.MASK].sum(1) > 0).all()


def test_tokens_without_probability_add_nothing():
    before = torch.tensor([[0.5, 0.5, 0.0]]).log()
    sampled, rest = divergence(before, before, torch.tensor([0]))
    assert sampled == rest == 0
