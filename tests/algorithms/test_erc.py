"""ERC: a gate on the ratio of entropies, which takes a token's gradient, not its value or place."""

from __future__ import annotations

from dataclasses import replace

import oracles
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Batch, batches, make_batch
from table import assert_same, evaluate, oracle_outcome

from llmrl import keys
from llmrl.algorithms import algorithm

INF = float("inf")
BASES = ("dapo", "gppo", "gspo", "espo", "cispo", "sapo", "gmpo", "rloo", "dcpo")
bands = st.sampled_from([(0.95, 1.05), (0.8, 1.2), (0.5, 1.01), (0.99, 3.9)])
every_base = pytest.mark.parametrize("base", BASES)
# Just inside and just outside the default band, which does not hold its ends.
EDGES = make_batch(
    [[0.1] * 5],
    [1.0],
    old_entropy=1.0,
    entropy=[[0.95 - 1e-6, 0.95 + 1e-6, 1.0, 1.05 - 1e-6, 1.05 + 1e-6]],
)


def erc(base: str = "dapo", **options):
    return algorithm(f"erc+{base}", **options)


def kept(batch: Batch, low: float = 0.95, high: float = 1.05) -> torch.Tensor:
    n, t = batch.mask.shape
    return torch.tensor([[oracles.entropy_kept(batch, i, j, low=low, high=high) for j in range(t)] for i in range(n)])


@every_base
@given(batch=batches())
@example(batch=EDGES)
def test_bounds_of_0_and_infinity_are_the_base_in_value_and_gradient(base: str, batch: Batch) -> None:
    open_band = erc(base, low=0.0, high=INF)
    positive = replace(batch, entropy=batch.entropy + batch.mask, old_entropy=batch.old_entropy + 0.5)
    assert_same(evaluate(open_band, positive), evaluate(algorithm(base), positive))


@every_base
@given(batch=batches(), band=bands)
@example(batch=EDGES, band=(0.95, 1.05))
def test_the_value_is_the_bases_for_any_bounds(base: str, batch: Batch, band: tuple[float, float]) -> None:
    gated = evaluate(erc(base, low=band[0], high=band[1]), batch)
    torch.testing.assert_close(gated.loss, evaluate(algorithm(base), batch).loss)


@every_base
@given(batch=batches(), band=bands)
@example(batch=EDGES, band=(0.95, 1.05))
def test_the_gradient_is_zero_outside_and_exactly_the_bases_inside(
    base: str, batch: Batch, band: tuple[float, float]
) -> None:
    keep = kept(batch, *band) & batch.mask
    gated = evaluate(erc(base, low=band[0], high=band[1]), batch).grad
    plain = evaluate(algorithm(base), batch).grad
    assert (gated[~keep] == 0).all()
    torch.testing.assert_close(gated[keep], plain[keep], rtol=1e-12, atol=0)


@given(batch=batches(per_token=True))
@example(batch=EDGES)
def test_tokens_without_gradient_are_those_that_ppo_clips_and_those_outside_the_band(
    batch: Batch,
) -> None:
    plain = evaluate(algorithm("dapo"), batch).grad == 0
    gated = evaluate(erc(), batch).grad == 0
    assert torch.equal(gated[batch.mask], (plain | ~kept(batch))[batch.mask])


@given(batch=batches(per_token=True))
def test_the_kept_set_grows_with_the_bounds(batch: Batch) -> None:
    narrow = evaluate(erc(), batch).grad != 0
    wide = evaluate(erc(low=0.8, high=1.2), batch).grad != 0
    assert not (narrow & ~wide).any()


@pytest.mark.parametrize("band", [(1.0, 2.0), (0.5, 1.0)])
@given(batch=batches(per_token=True))
def test_the_ends_of_the_band_are_outside(band: tuple[float, float], batch: Batch) -> None:
    same = replace(batch, entropy=batch.old_entropy)
    assert (evaluate(erc(low=band[0], high=band[1]), same).grad == 0).all()


@pytest.mark.parametrize("band", [(1.05, 0.95), (1.0, 1.0), (-0.1, 1.0)])
def test_an_empty_or_negative_band_is_refused(band: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="low"):
        erc(low=band[0], high=band[1])


@given(batch=batches(per_token=True), scale=st.sampled_from([0.5, 1.4426950408889634, 4.0]))
@example(batch=EDGES, scale=2.0)
def test_invariant_to_scaling_both_entropies(batch: Batch, scale: float) -> None:
    scaled = replace(batch, entropy=batch.entropy * scale, old_entropy=batch.old_entropy * scale)
    assert_same(evaluate(erc(), scaled), evaluate(erc(), batch))


@every_base
def test_no_gradient_flows_into_the_entropy(base: str) -> None:
    td = EDGES.td(EDGES.log_prob.clone().requires_grad_())
    entropy = EDGES.entropy.clone().requires_grad_()
    td[keys.ENTROPY] = entropy
    recipe = erc(base)
    loss = recipe.loss()(recipe.weigh(td))["loss_objective"]
    (grad,) = torch.autograd.grad(loss, entropy, allow_unused=True)
    assert grad is None or (grad == 0).all()


def test_entropies_that_are_both_zero_are_kept() -> None:
    batch = make_batch([[0.1]], [1.0], old_entropy=0.0, entropy=0.0)
    assert evaluate(erc(), batch).grad[0, 0] != 0


def test_an_entropy_that_vanishes_is_dropped() -> None:
    batch = make_batch([[0.1]], [1.0], old_entropy=0.5, entropy=0.0)
    assert evaluate(erc(), batch).grad[0, 0] == 0


@every_base
@given(batch=batches(per_token=False))
def test_identical_entropies_make_the_gate_inert(base: str, batch: Batch) -> None:
    same = replace(batch, entropy=batch.old_entropy)
    assert_same(evaluate(erc(base), same), evaluate(algorithm(base), same))


def test_below_the_minimal_entropy_both_are_kept_whatever_their_ratio() -> None:
    batch = make_batch([[0.1] * 3], [1.0], old_entropy=[[1e-3, 1e-3, 0.2]], entropy=[[2e-3, 0.02, 0.4]])
    grad = evaluate(erc(min_entropy=0.01), batch).grad[0]
    assert (grad != 0).tolist() == [True, False, False]
    assert (evaluate(erc(), batch).grad == 0).all()


@given(batch=batches(per_token=True))
def test_the_default_band_is_the_scripts(batch: Batch) -> None:
    theirs = oracle_outcome(oracles.erc, batch)
    assert_same(evaluate(algorithm("erc"), batch), theirs)
    assert_same(evaluate(erc("dapo"), batch), theirs)


@given(batch=batches(per_token=True))
def test_the_gate_fraction_is_the_share_of_tokens_it_keeps(batch: Batch) -> None:
    metrics = evaluate(erc(), batch).metrics
    share = kept(batch)[batch.mask].double().mean()
    torch.testing.assert_close(metrics["gate_fraction"].double(), share)


@pytest.mark.parametrize("base", ["dapo", "gppo", "cispo", "dcpo"])
@given(batch=batches(), band=bands)
@example(batch=EDGES, band=(0.95, 1.05))
def test_the_outward_gate_drops_only_tokens_outside_that_move_further_out(
    base: str, batch: Batch, band: tuple[float, float]
) -> None:
    low, high = band
    free = evaluate(algorithm(base), batch).grad
    outward = evaluate(erc(base, low=low, high=high, sides="outward"), batch).grad
    log_ratio = torch.where(batch.mask, batch.log_prob - batch.old_log_prob, 0)
    further_out = torch.where(batch.mask, batch.advantage, 0) * log_ratio > 0
    dropped = ~kept(batch, low, high) & further_out & batch.mask
    assert (outward[dropped] == 0).all()
    torch.testing.assert_close(outward[~dropped], free[~dropped])


def test_sides_must_be_known() -> None:
    with pytest.raises(ValueError, match="sides must be 'both' or 'outward', got 'inward'"):
        algorithm("erc", sides="inward")


def test_the_option_is_shown() -> None:
    assert "outward" in str(algorithm("erc", sides="outward"))
