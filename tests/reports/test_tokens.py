"""What the viewer says of a token is what the loss does to it: for every algorithm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from strategies import batches
from table import ROWS, Row
from tensordict import TensorDict

from llmrl import keys
from llmrl.keys import MissingEntry
from llmrl.losses.policy import PolicyLoss
from llmrl.reports import tokens
from llmrl.reports.tokens import CLIPPED_HIGH, CLIPPED_LOW, GATED, NO_GRADIENT, trust_region

QUIET = [row for row in ROWS if row.name != "clip_cov"]  # it draws


@pytest.mark.parametrize("row", QUIET, ids=lambda row: row.id)
@given(batch=batches())
def test_it_is_what_the_loss_does(row: Row, batch):
    recipe, new = row.make(), batch.log_prob.clone().requires_grad_()
    td = recipe.weigh(batch.td(new))
    out = PolicyLoss(recipe)(td)
    (grad,) = torch.autograd.grad(out["loss_objective"], new)
    found = trust_region(recipe, batch.td())
    count = max(int(batch.mask.sum()), 1)
    torch.testing.assert_close(found.gradient, -grad * batch.mask.sum())
    torch.testing.assert_close(found.weight.sum() / count, td["weight"].sum())
    for bit, name in ((CLIPPED_LOW, "clip_fraction_low"), (CLIPPED_HIGH, "clip_fraction_high")):
        assert float((found.state & bit > 0).sum() / count) == pytest.approx(float(out[name]))
    if batch.mask.any():
        shut = 1 - float(out["gate_fraction"])
        assert float((found.state & GATED > 0).sum() / count) == pytest.approx(shut, abs=1e-6)
        live = found.log_ratio[batch.mask]
        assert float(live.exp().max()) == pytest.approx(float(out["ratio_max"]))
    idle = (grad == 0) & batch.mask & (batch.advantage != 0)
    assert torch.equal(found.state & NO_GRADIENT > 0, idle)
    assert not found.state[~batch.mask].any()


def test_entropy_groups_and_widths_are_shown():
    recipe = next(row for row in ROWS if row.id == "espo").make()
    n = 10
    td = _row(n)
    td[keys.OLD_ENTROPY] = torch.arange(n)[None] / 10.0
    td[keys.MAX_ENTROPY] = torch.tensor([[2.0]])
    found = trust_region(recipe, td)
    assert found.segment.tolist() == [[0] * 8 + [1] * 2]
    torch.testing.assert_close(found.width[0, 0], torch.tensor(0.02 * 0.35 / 2))
    torch.testing.assert_close(found.width[0, -1], torch.tensor(0.02 * 0.85 / 2))


def test_a_batch_without_current_scores():
    recipe = next(row for row in ROWS if row.id == "dapo").make()
    with pytest.raises(MissingEntry, match="log_prob"):
        trust_region(recipe, _row(3).exclude(keys.LOG_PROB))


def _row(n: int) -> TensorDict:
    zeros = torch.zeros(1, n)
    names = {
        keys.MASK: zeros == 0,
        keys.LOG_PROB: zeros - 1,
        keys.OLD_LOG_PROB: zeros - 1.1,
        keys.ADVANTAGE: zeros + 1,
    }
    return TensorDict(names, batch_size=[1])


def test_the_viewer_reads_only_what_is_written_of_a_token():
    viewer = (Path(tokens.__file__).parent / "viewer.js").read_text()
    read = set(re.findall(r"\bnumbers\.(\w+)", viewer))
    assert {"segment", "width", "state"} <= read <= set(tokens.TrustRegion._fields)
