"""The loop on one page runs, and moves the weights."""

import math
from pathlib import Path

from examples import loop


def test_a_short_form_of_the_loop_runs(capsys):
    rewards = loop.main(steps=2, prompts=2, group=2)
    assert len(rewards) == 2
    assert all(map(math.isfinite, rewards))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_loop_fits_on_one_page():
    assert len(Path(loop.__file__).read_text().splitlines()) <= 70
