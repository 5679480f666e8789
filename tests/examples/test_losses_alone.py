"""The losses without llmrl's trainer, as the example shows them."""

from __future__ import annotations

import math

import pytest

from examples.losses_alone import by_hand, torchrl_loop


def test_by_hand():
    assert by_hand() == pytest.approx(4 / 6)  # e^0.5 is above 1.28 in the row that was good


def test_a_torchrl_loop_moves_the_policy():
    losses = torchrl_loop(steps=1)
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[0] != losses[1]
