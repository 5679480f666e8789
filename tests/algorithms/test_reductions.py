"""The map of which algorithm becomes which, and where."""

from __future__ import annotations

import oracles
import pytest
import torch
from hypothesis import given
from strategies import Batch, batches, make_batch, nonzero_advantages
from table import assert_same, evaluate, oracle_outcome

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.losses import EntropyThresholds

INF = float("inf")
rows = batches(advantage=nonzero_advantages)
tokens = batches(per_token=True, advantage=nonzero_advantages)

TOKEN_MEANS = ("ppo", "dapo", "gppo", "ce_gppo", "cispo", "aspo", "erc")
SEQUENCE_MEANS = ("grpo", "gspo", "sapo", "gmpo")


@pytest.mark.parametrize("name", TOKEN_MEANS)
@given(batch=batches(on_policy=True))
def test_at_ratio_1_the_gradient_is_minus_the_advantage_over_all_tokens(name: str, batch: Batch) -> None:
    expected = torch.where(batch.mask, -batch.advantage / batch.mask.sum(), 0.0)
    torch.testing.assert_close(evaluate(algorithm(name), batch).grad, expected)


@pytest.mark.parametrize("name", SEQUENCE_MEANS)
@given(batch=batches(on_policy=True))
def test_at_ratio_1_the_gradient_is_minus_the_advantage_over_sequences_and_their_length(
    name: str, batch: Batch
) -> None:
    share = (batch.lengths > 0).sum() * batch.lengths.clamp(min=1)
    expected = torch.where(batch.mask, -batch.advantage / share[:, None], 0.0)
    torch.testing.assert_close(evaluate(algorithm(name), batch).grad, expected)


@given(batch=tokens)
def test_dapo_with_equal_widths_is_ppo(batch: Batch) -> None:
    assert_same(evaluate(algorithm("dapo", clip_high=0.2), batch), oracle_outcome(oracles.ppo, batch))


@given(batch=tokens)
def test_ppo_without_bounds_is_importance_sampling(batch: Batch) -> None:
    recipe = algorithm("dapo", clip_low=1.0, clip_high=INF)
    assert_same(evaluate(recipe, batch), oracle_outcome(oracles.importance_sampling, batch))


@given(batch=tokens)
def test_gppo_has_the_value_of_ppo(batch: Batch) -> None:
    gppo = evaluate(algorithm("gppo", clip_low=0.2, clip_high=0.28), batch)
    torch.testing.assert_close(gppo.loss, evaluate(algorithm("dapo"), batch).loss)


@given(batch=tokens)
def test_ce_gppo_with_betas_1_is_gppo_and_with_betas_0_has_the_gradient_of_ppo(
    batch: Batch,
) -> None:
    widths = {"clip_low": 0.2, "clip_high": 0.2}
    one = algorithm("ce_gppo", beta_low=1.0, beta_high=1.0, **widths)
    zero = algorithm("ce_gppo", beta_low=0.0, beta_high=0.0, **widths)
    assert_same(evaluate(one, batch), evaluate(algorithm("gppo", **widths), batch))
    ppo = evaluate(algorithm("dapo", **widths), batch)
    assert_same(evaluate(zero, batch), ppo, value=False)


@given(batch=batches(max_tokens=1, advantage=nonzero_advantages))
def test_gspo_of_one_token_is_grpo(batch: Batch) -> None:
    gspo = algorithm("gspo", clip_low=0.2, clip_high=0.2)
    assert_same(evaluate(gspo, batch), evaluate(algorithm("grpo", kl=0.0), batch))


@given(batch=rows)
def test_gspo_is_espo_of_one_group_with_fixed_widths(batch: Batch) -> None:
    espo = algorithm("espo", partition=EntropyThresholds(thresholds=(1e9,)), fixed_clip=(3e-4, 4e-4))
    assert_same(evaluate(espo, batch), evaluate(algorithm("gspo"), batch))


@given(batch=batches(max_tokens=2, advantage=nonzero_advantages, holes=False))
def test_espo_of_single_tokens_with_fixed_widths_is_grpo(batch: Batch) -> None:
    espo = algorithm("espo", partition=(0.5,), fixed_clip=(0.2, 0.2))
    assert_same(evaluate(espo, batch), evaluate(algorithm("grpo", kl=0.0), batch))


@given(batch=rows)
def test_gmpo_without_clip_is_gspo_without_clip(batch: Batch) -> None:
    gspo = algorithm("gspo", clip_low=1.0, clip_high=INF)
    gmpo = algorithm("gmpo", clip_low=50.0, clip_high=50.0)
    assert_same(evaluate(gmpo, batch), evaluate(gspo, batch))


@pytest.mark.parametrize("base", ["dapo", "gppo", "gspo", "espo", "cispo"])
@given(batch=rows)
def test_erc_with_an_open_band_is_its_base(base: str, batch: Batch) -> None:
    recipe = algorithm(f"erc+{base}", low=0.0, high=INF)
    some = Batch(**{**vars(batch), "entropy": batch.entropy + 1})
    assert_same(evaluate(recipe, some), evaluate(algorithm(base), some))


@given(batch=tokens)
def test_sapo_with_vanishing_tau_is_importance_sampling_in_gradient(batch: Batch) -> None:
    near = Batch(
        **{
            **vars(batch),
            "log_prob": batch.old_log_prob + (batch.log_prob - batch.old_log_prob) / 8,
        }
    )
    sapo = evaluate(algorithm("sapo", tau_positive=1e-6, tau_negative=1e-6), near)
    wide = oracle_outcome(lambda b, lp: oracles.grpo(b, lp, low=INF, high=INF), near)
    torch.testing.assert_close(sapo.grad, wide.grad, rtol=1e-8, atol=1e-10)


@given(batch=tokens)
def test_on_dapo_gppo_and_erc_the_loss_is_one_value_and_only_gradients_tell_them_apart(
    batch: Batch,
) -> None:
    widths = {"clip_low": 0.2, "clip_high": 0.28}
    values = [evaluate(algorithm(n, **widths), batch).loss for n in ("dapo", "gppo", "erc+dapo")]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_every_weight_sums_to_1_over_the_sampled_tokens() -> None:
    mask_lengths = [3, 1, 0, 5]
    batch = make_batch([[0.1] * n for n in mask_lengths], [1.0] * 4)
    for name in (*TOKEN_MEANS, *SEQUENCE_MEANS, "espo", "kl_cov", "clip_cov"):
        weight = algorithm(name).weigh(batch.td())[keys.WEIGHT]
        assert float(weight.sum()) == pytest.approx(1.0), name
        assert (weight[~batch.mask] == 0).all()
        assert not weight.requires_grad
