"""Clips with bounds, and the gradient of GPPO on any of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import Batch, batches, make_batch, nonzero_advantages
from table import ROWS, Row, evaluate
from tensordict import TensorDictBase

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.credit import smallest_group
from llmrl.keys import reads
from llmrl.losses import (
    BoundedClip,
    DualClip,
    DynamicClip,
    EntropyAdaptiveClip,
    EntropySegments,
    GradientPreserving,
    LossComponents,
    NoClip,
    PolicyLoss,
    PPOClip,
    RatioClip,
    TokenBatch,
    token_entropy,
)
from llmrl.losses.clip import bounded_clip
from llmrl.losses.other_clips import AsymmetricClip, DetachedWeight, GeometricMeanClip, SigmoidClip

signed = batches(per_token=True, advantage=nonzero_advantages)
FAR = make_batch([[3.0, -3.0, 0.5, -0.5, 0.01, -0.01]] * 2, [1.0, -1.0], old_log_prob=-0.7, old_entropy=0.3)


@dataclass(frozen=True, kw_only=True)
class OneSided(RatioClip):
    """A clip of somebody else's, with a number above and a tensor below."""

    share: float = 0.5

    def bounds(self, batch: TokenBatch) -> tuple[torch.Tensor, float]:
        return self.share * batch.old_log_prob.exp(), float("inf")


PESSIMISTIC = (
    PPOClip(),
    PPOClip(low=1.0, high=float("inf")),
    EntropyAdaptiveClip(),
    EntropyAdaptiveClip(alpha=0.5, entropy=token_entropy),
    EntropyAdaptiveClip(floor=0.01, ceiling=0.012),
    DynamicClip(),
    OneSided(),
)
OTHERS = (DetachedWeight(), AsymmetricClip(), GeometricMeanClip(), GradientPreserving(beta_low=0.5))


def named(clip) -> str:
    """As it is written, without the addresses of functions, which differ between processes."""
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", str(clip))


every_clip = pytest.mark.parametrize("clip", [*PESSIMISTIC, *OTHERS], ids=named)


def weighed(batch: Batch) -> TensorDictBase:
    """With the weights that every recipe here gives; whether its clip accepts the advantages is another test's."""
    return Algorithm(name="any", partition=EntropySegments()).weigh(batch.td())


def recipe(clip: BoundedClip) -> Algorithm:
    return Algorithm(name="one", clip=clip, partition=EntropySegments())


def bounds(clip: BoundedClip, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    loss = PolicyLoss(LossComponents(clip=clip))
    low, high = loss.bounds(loss.batch(weighed(batch)))
    return torch.as_tensor(low).expand(batch.mask.shape), torch.as_tensor(high).expand(batch.mask.shape)


def factor(clip: BoundedClip, batch: Batch) -> torch.Tensor:
    weight = weighed(batch)[keys.WEIGHT]
    return -evaluate(recipe(clip), batch).grad / (weight * batch.advantage)


@pytest.mark.parametrize("clip", PESSIMISTIC, ids=named)
@settings(max_examples=15)
@given(batch=signed)
@example(batch=FAR)
def test_the_value_is_the_pessimistic_one_of_the_bounds_whatever_the_gradient(clip: RatioClip, batch: Batch) -> None:
    low, high = bounds(clip, batch)
    ratio, advantage = batch.ratio, batch.advantage
    objective = torch.minimum(ratio * advantage, torch.minimum(torch.maximum(ratio, low), high) * advantage)
    weight = weighed(batch)[keys.WEIGHT]
    expected = -torch.where(batch.mask, weight * objective, 0).sum()
    for one in (clip, GradientPreserving(base=clip), GradientPreserving(base=clip, beta_low=0.25, beta_high=2.0)):
        torch.testing.assert_close(evaluate(recipe(one), batch).loss, expected, rtol=1e-10, atol=1e-12)


@every_clip
@settings(max_examples=15)
@given(batch=signed)
@example(batch=FAR)
def test_the_gradient_factor_is_min_r_high_and_max_r_low_on_any_bounds(clip: BoundedClip, batch: Batch) -> None:
    low, high = bounds(clip, batch)
    expected = torch.where(batch.advantage > 0, batch.ratio.minimum(high), batch.ratio.maximum(low))
    live = batch.mask & (batch.advantage != 0)
    got = factor(GradientPreserving(base=clip), batch)
    torch.testing.assert_close(got[live], expected[live], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clip", PESSIMISTIC, ids=named)
@settings(max_examples=15)
@given(batch=signed, low=st.sampled_from([0.0, 0.5, 2.0]), high=st.sampled_from([0.0, 0.5, 2.0]))
@example(batch=FAR, low=0.5, high=2.0)
def test_betas_scale_the_factor_of_clipped_tokens_and_of_no_other(
    clip: RatioClip, batch: Batch, low: float, high: float
) -> None:
    smallest, largest = bounds(clip, batch)
    below, above = (
        (batch.ratio < smallest) & (batch.advantage < 0),
        (batch.ratio > largest) & (batch.advantage > 0),
    )
    expected = torch.where(below, low * smallest, torch.where(above, high * largest, batch.ratio))
    live = batch.mask & (batch.advantage != 0)
    got = factor(GradientPreserving(base=clip, beta_low=low, beta_high=high), batch)
    torch.testing.assert_close(got[live], expected[live], rtol=1e-9, atol=1e-12)


@given(batch=signed)
@example(batch=FAR)
def test_wrapping_twice_changes_nothing(batch: Batch) -> None:
    once = GradientPreserving(base=EntropyAdaptiveClip())
    torch.testing.assert_close(factor(GradientPreserving(base=once), batch), factor(once, batch), equal_nan=True)


@pytest.mark.parametrize("name", ["espo", "dcpo", "gspo"])
@given(batch=batches())
@example(batch=FAR)
def test_no_token_of_another_algorithm_loses_its_gradient_under_the_wrapper(name: str, batch: Batch) -> None:
    base = algorithm(name)
    wrapped = replace(base, clip=GradientPreserving(base=base.clip))
    torch.testing.assert_close(evaluate(wrapped, batch).loss, evaluate(base, batch).loss)
    assert float(evaluate(wrapped, batch).metrics["zero_grad_fraction"]) == 0


@pytest.mark.parametrize("name", ["espo", "dcpo"])
def test_a_wrapped_clip_compiles_into_one_graph_and_keeps_its_numbers_as_buffers(name: str) -> None:
    torch.compiler.reset()
    base = algorithm(name)
    wrapped = replace(base, clip=GradientPreserving(base=base.clip, beta_low=0.5))
    loss, td = wrapped.loss(), wrapped.weigh(FAR.td())
    assert float(loss.state_dict()["clip_beta_low"]) == 0.5
    assert any(key.startswith("clip_base_") for key in loss.state_dict())
    compiled = torch.compile(loss, fullgraph=True, backend="eager")(td)
    torch.testing.assert_close(compiled["loss_objective"], loss(td)["loss_objective"])


def test_every_shipped_algorithm_says_whether_its_clip_has_bounds() -> None:
    without = {row.name for row in ROWS if bounded_clip(row.make().clip) is None}
    assert without == {"sapo", "kl_cov", "examples.custom_algorithm:steady"}


def test_below_a_dual_clip_the_bounds_are_those_of_the_clip_it_wraps() -> None:
    assert bounded_clip(DualClip(base=DualClip(base=PPOClip(high=0.5)))) == PPOClip(high=0.5)
    assert bounded_clip(DualClip(base=SigmoidClip())) is None


@pytest.mark.parametrize("base", [NoClip(), SigmoidClip(), DualClip()], ids=str)
def test_a_base_without_bounds_is_refused(base) -> None:
    with pytest.raises(
        TypeError, match=r"base must be a clip with bounds\(batch\) -> \(low, high\).*got " + type(base).__name__
    ):
        GradientPreserving(base=base)


def test_a_rule_without_bounds_is_told_to_state_them() -> None:
    class Forgot(RatioClip):
        pass

    with pytest.raises(NotImplementedError, match=r"Forgot must state bounds\(batch\)"):
        evaluate(recipe(Forgot()), FAR)


def test_a_component_that_names_nothing_reads_nothing() -> None:
    assert reads(lambda td: td) == ()
    assert reads(GradientPreserving(base=EntropyAdaptiveClip())) == EntropyAdaptiveClip.in_keys
    assert smallest_group(lambda td: td) == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_rows_read_what_their_clip_reads(row: Row) -> None:
    made = row.make()
    assert set(reads(made.clip)) <= {*made.in_keys, keys.SEGMENT}


def test_the_clip_of_the_documents_works() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text()
    (code,) = (
        found
        for found in re.findall(r"^ *```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
        if "RatioClip" in found
    )
    found = {
        "RatioClip": RatioClip,
        "GradientPreserving": GradientPreserving,
        "dataclass": dataclass,
        "replace": replace,
        "algorithm": algorithm,
    }
    exec(dedent(code), found)
    for made in (found["recipe"], found["on_espo"]):
        assert float(evaluate(made, FAR).metrics["zero_grad_fraction"]) == 0
