"""What the policy loss reports beside its value, counted by hand."""

from __future__ import annotations

from math import exp, expm1

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import LN_V, Batch, batches, make_batch
from table import evaluate

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.losses import EntropyRatioGate
from llmrl.training.sums import Sums

METRICS = ("dapo", "gppo", "cispo", "sapo", "gspo", "espo", "erc", "gmpo", "aspo", "dcpo")


def cells(batch: Batch) -> list[tuple[float, float]]:
    """Log-ratio and advantage of every sampled token."""
    d = batch.log_prob - batch.old_log_prob
    return [(float(d[i, j]), float(batch.advantage[i, j])) for i, j in batch.mask.nonzero().tolist()]


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


@given(batch=batches(per_token=True, garbage=True))
def test_clip_fractions_count_tokens_of_the_sign_that_is_held_back(batch: Batch) -> None:
    for name in ("dapo", "gppo"):
        got = evaluate(algorithm(name), batch).metrics
        low = share([exp(d) < 0.8 and a < 0 for d, a in cells(batch)])
        high = share([exp(d) > 1.28 and a > 0 for d, a in cells(batch)])
        assert float(got["clip_fraction_low"]) == pytest.approx(low)
        assert float(got["clip_fraction_high"]) == pytest.approx(high)


@given(batch=batches(per_token=True, garbage=True))
def test_of_clipped_tokens_ppo_loses_all_gppo_none_and_erc_those_outside_its_band(
    batch: Batch,
) -> None:
    dapo, gppo = (evaluate(algorithm(name), batch).metrics for name in ("dapo", "gppo"))
    clipped = float(dapo["clip_fraction_low"] + dapo["clip_fraction_high"])
    assert float(dapo["zero_grad_fraction"]) == pytest.approx(clipped)
    assert float(gppo["zero_grad_fraction"]) == 0
    erc = evaluate(algorithm("erc+gppo"), batch).metrics
    assert float(erc["zero_grad_fraction"]) <= 1 - float(erc["gate_fraction"]) + 1e-6
    assert float(dapo["gate_fraction"]) == 1


def test_a_dual_clip_counts_as_held_back_above() -> None:
    batch = make_batch([[2.0, 0.1, -2.0]], [-1.0])
    got = evaluate(algorithm("dapo", dual_clip=3.0), batch).metrics
    assert float(got["clip_fraction_high"]) == pytest.approx(1 / 3)
    assert float(got["clip_fraction_low"]) == pytest.approx(1 / 3)
    assert float(got["zero_grad_fraction"]) == pytest.approx(2 / 3)


@given(batch=batches(per_token=True, garbage=True))
def test_the_approximate_kl_is_k1_and_k3_from_new_to_old(batch: Batch) -> None:
    got = evaluate(algorithm("gspo"), batch).metrics
    steps = [d for d, _ in cells(batch)]
    assert float(got["kl_approx_k1"]) == pytest.approx(-sum(steps) / len(steps))
    k3 = sum(expm1(d) - d for d in steps) / len(steps)
    assert float(got["kl_approx_k3"]) == pytest.approx(k3, rel=1e-9)


@given(batch=batches(garbage=True))
def test_the_ratio_is_that_of_the_algorithm(batch: Batch) -> None:
    token = [exp(d) for d, _ in cells(batch)]
    d = torch.where(batch.mask, batch.log_prob - batch.old_log_prob, 0.0)
    mean = d.sum(1, keepdim=True) / batch.lengths.clamp(min=1)[:, None]
    sequence = mean.exp().expand_as(d)[batch.mask].tolist()
    for name, ratios in (("dapo", token), ("gspo", sequence)):
        got = evaluate(algorithm(name), batch).metrics
        assert float(got["ratio_mean"]) == pytest.approx(sum(ratios) / len(ratios), rel=1e-9)
        assert float(got["ratio_min"]) == pytest.approx(min(ratios), rel=1e-9)
        assert float(got["ratio_max"]) == pytest.approx(max(ratios), rel=1e-9)


@pytest.mark.parametrize("name", ["dapo", "gspo"])
def test_the_extremes_of_the_ratio_are_those_of_sampled_tokens(name: str) -> None:
    for step in (0.5, -0.5):
        got = evaluate(algorithm(name), make_batch([[step, step], [step]], [1.0, 1.0])).metrics
        for extreme in ("ratio_min", "ratio_max"):
            assert float(got[extreme]) == pytest.approx(exp(step))


def test_a_token_is_kept_only_if_every_gate_keeps_it() -> None:
    batch = make_batch([[0.1] * 4], [1.0], old_entropy=1.0, entropy=[[1.0, 1.0, 1.5, 2.0]])
    for order in ("erc+erc+dapo", "erc+dapo"):
        assert float(evaluate(algorithm(order), batch).metrics["gate_fraction"]) == 0.5
    outer_keeps_all = Algorithm(name="two", gates=(EntropyRatioGate(), EntropyRatioGate(low=0.1, high=9.0)))
    got = evaluate(outer_keeps_all, batch).metrics
    assert float(got["gate_fraction"]) == 0.5
    assert float(got["zero_grad_fraction"]) == 0.5


def test_a_gated_token_without_advantage_has_lost_nothing() -> None:
    batch = make_batch([[0.1], [0.1]], [0.0, 1.0], old_entropy=1.0, entropy=2.0)
    got = evaluate(algorithm("erc"), batch).metrics
    assert float(got["gate_fraction"]) == 0
    assert float(got["zero_grad_fraction"]) == 0.5


@pytest.mark.parametrize("name", METRICS)
def test_a_token_beyond_the_bound_of_log_ratios_counts_where_it_has_lost_its_gradient(
    name: str,
) -> None:
    options = {"kl": 0.0} if name == "aspo" else {}  # a penalty has a gradient of its own
    # 20 is the bound, and on it there still is a gradient; SAPO's has faded long before.
    steps = [[-30.0, -20.0, 0.0, 20.0, 21.0]] if name != "sapo" else [[-30.0, -21.0, 0.0]]
    for advantage in (1.0, -1.0, 0.0):
        outcome = evaluate(algorithm(name, **options), make_batch(steps, [advantage]))
        lost = float((outcome.grad == 0).double().mean()) if advantage else 0.0
        assert float(outcome.metrics["zero_grad_fraction"]) == pytest.approx(lost)
        if advantage == 1 and name == "gppo":
            assert lost == pytest.approx(2 / 5)
        if advantage == 1 and name == "cispo":
            assert lost == 0


@given(batch=batches(garbage=True))
def test_each_entropy_group_has_its_own_share_width_and_clip_fraction(batch: Batch) -> None:
    recipe = algorithm("espo")
    got = evaluate(recipe, batch).metrics
    ids = recipe.weigh(batch.td())[keys.SEGMENT]
    grad = evaluate(recipe, batch).grad
    tokens = int(batch.mask.sum())
    for k in (0, 1):
        own = (ids == k) & batch.mask
        n = int(own.sum())
        assert float(got[f"segment{k}_share"]) == pytest.approx(n / tokens)
        entropy = float(batch.old_entropy[own].mean()) if n else 0.0
        assert float(got[f"segment{k}_entropy"]) == pytest.approx(entropy, abs=1e-12)
        # The width of a token's group is linear in its mean entropy: their means agree.
        assert float(got[f"segment{k}_clip_width"]) == pytest.approx(0.02 * entropy / LN_V, abs=1e-12)
        lost = ((grad == 0) & (batch.advantage != 0) & own).sum() / max(n, 1)
        assert float(got[f"segment{k}_clip_fraction"]) == pytest.approx(float(lost), abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
@given(batch=batches(garbage=True), cut=st.integers(0, 4))
def test_metrics_of_micro_batches_joined_by_tokens_are_those_of_the_batch(name: str, batch: Batch, cut: int) -> None:
    recipe = algorithm(name)
    td, loss = recipe.weigh(batch.td()), recipe.loss()
    n = len(batch.mask)
    whole, parts = loss(td), [loss(td[: cut % (n + 1)]), loss(td[cut % (n + 1) :])]
    tokens = [int(part["tokens"]) for part in parts]
    assert int(whole["tokens"]) == sum(tokens) == int(batch.mask.sum())
    for key in whole.keys():  # noqa: SIM118  a TensorDict is no mapping
        if key.startswith(("loss_", "segment")) or key == "tokens":
            continue
        pair = [float(part[key]) for part in parts]
        if key in ("ratio_min", "ratio_max"):
            joined = (min if key == "ratio_min" else max)(pair)
        else:
            joined = sum(x * t for x, t in zip(pair, tokens, strict=True)) / sum(tokens)
        assert float(whole[key]) == pytest.approx(joined, rel=1e-6, abs=1e-9), key


@given(batch=batches(garbage=True), cut=st.integers(0, 4))
def test_metrics_of_segments_do_not_depend_on_micro_batches(batch: Batch, cut: int) -> None:
    recipe = algorithm("espo")
    td, loss = recipe.weigh(batch.td()), recipe.loss()
    cut %= len(batch.mask) + 1
    found = []
    for parts in ([td], [td[:cut], td[cut:]]):
        sums = Sums()
        for part in parts:
            sums.add(dict(loss(part).items()), int(part[keys.MASK].sum()))
        found.append({name: value for name, value in sums.result().items() if "segment" in name})
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    alone = loss(td)
    assert found[0] == pytest.approx({name: float(alone[name.removeprefix("actor/")]) for name in found[0]}, abs=1e-6)
