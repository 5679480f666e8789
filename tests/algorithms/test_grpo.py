"""GRPO, Dr. GRPO, RLOO and DAPO: what the average over tokens and the advantage do together."""

from __future__ import annotations

import oracles
import pytest
import torch
from hypothesis import given
from strategies import Batch, batches, f64, make_batch
from table import evaluate

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.credit import (
    GAE,
    GroupAdvantage,
    KeepAll,
    LeaveOneOut,
    MixedRewards,
    OverlongFilter,
    SoftOverlong,
)

UNEQUAL = make_batch([[0.0] * 4, [0.0], [0.0] * 2], [1.0, -0.75, -0.25])


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_on_policy_the_value_is_0_under_sequence_means() -> None:
    same(evaluate(algorithm("grpo", kl=0.0), UNEQUAL).loss, f64(0.0))


def test_on_policy_the_value_is_not_0_under_the_token_mean_with_unequal_lengths() -> None:
    assert evaluate(algorithm("dapo"), UNEQUAL).loss == pytest.approx(-(4 - 0.75 - 0.5) / 7)


@given(batch=batches(holes=False))
def test_token_and_sequence_means_agree_if_all_lengths_are_equal(batch: Batch) -> None:
    full = Batch(**{**vars(batch), "mask": torch.ones_like(batch.mask)})
    grpo = algorithm("grpo", kl=0.0, clip_high=0.28)
    same(evaluate(grpo, full).grad, evaluate(algorithm("dapo"), full).grad)
    same(evaluate(grpo, full).loss, evaluate(algorithm("dapo"), full).loss)


def test_on_policy_dr_grpos_weight_is_independent_of_the_length_of_the_response() -> None:
    grad = evaluate(algorithm("dr_grpo", max_length=50), UNEQUAL).grad
    expected = torch.where(UNEQUAL.mask, -UNEQUAL.advantage / (3 * 50), 0.0)
    same(grad, expected)


@given(batch=batches())
def test_the_kl_term_is_k3_to_the_reference_averaged_like_the_loss(batch: Batch) -> None:
    recipe = algorithm("grpo", kl=0.04)
    td = batch.td()
    td[keys.REF_LOG_PROB] = torch.full_like(batch.log_prob, -1.25)
    out = recipe.loss()(recipe.weigh(td))

    def rule(i, j, new):
        return f64(0.04 * oracles.kl_terms(float(new), -1.25)["k3"])

    same(out["loss_kl"], oracles.sequence_mean(batch, batch.log_prob, rule))
    assert keys.REF_LOG_PROB in recipe.in_keys


def test_without_kl_no_reference_is_read() -> None:
    assert keys.REF_LOG_PROB not in algorithm("grpo", kl=0.0).in_keys
    assert keys.REF_LOG_PROB not in algorithm("dapo").in_keys


@pytest.mark.parametrize(
    ("name", "advantage"),
    [
        ("ppo", GAE(gamma=1.0, lam=0.95)),
        ("grpo", GroupAdvantage()),
        ("dr_grpo", GroupAdvantage(divide_by_std=False)),
        ("rloo", LeaveOneOut()),
        ("dapo", GroupAdvantage()),
        ("gppo", GroupAdvantage(ddof=0)),
        ("espo", GroupAdvantage()),
    ],
)
def test_the_advantage_of_each_recipe(name: str, advantage) -> None:
    assert algorithm(name).credit.advantage == advantage


def test_dapo_has_its_four_ingredients() -> None:
    dapo = algorithm("dapo", max_length=20_480, soft_length=4_096)
    assert (dapo.clip.low, dapo.clip.high) == (0.2, 0.28)
    assert dapo.credit.shape == (SoftOverlong(limit=20_480, window=4_096, penalty=0.5),)
    assert dapo.credit.keep == MixedRewards()
    assert dapo.credit.max_refills > 0
    assert not dapo.terms


def test_dapos_ingredients_can_be_left_out() -> None:
    plain = algorithm("dapo", dynamic_sampling=False, soft_length=0, overlong_filter=True)
    assert plain.credit.shape == ()
    assert plain.credit.keep == KeepAll()
    assert plain.credit.max_refills == 0
    assert plain.credit.advantage == OverlongFilter(base=GroupAdvantage())


def test_ppo_reads_a_critic_only_with_one() -> None:
    assert keys.VALUE in algorithm("ppo").in_keys
    assert keys.VALUE not in algorithm("ppo", critic=False).in_keys
