"""The curves of the documentation are what the loss modules compute, and what the papers print."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrl.algorithms import algorithm
from llmrl.losses import PolicyLoss

DOCS = Path(__file__).resolve().parent.parent / "docs"
LOWEST, HIGHEST, TOLERANCE = 0.001, 4.0, 1e-4


@pytest.fixture(scope="module")
def curves():
    """docs/curves.py, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield importlib.import_module("curves")


def drawn(line, ratios):
    """Heights of a line at these ratios."""
    return np.interp(ratios, *zip(*line, strict=True))


def jumps(line):
    """Ratios where a line jumps."""
    return [a[0] for a, b in itertools.pairwise(line) if b[0] - a[0] < 1e-5]


# Gradient factor by A's sign, as the papers print it; the module's own code is not used.
PRINTED = {
    "ppo": (lambda r: r * (r <= 1.2), lambda r: -r * (r >= 0.8)),
    "dapo": (lambda r: r * (r <= 1.28), lambda r: -r * (r >= 0.8)),
    "gspo": (lambda r: r * (r <= 1 + 4e-4), lambda r: -r * (r >= 1 - 3e-4)),
    "gppo": (lambda r: np.minimum(r, 1.28), lambda r: -np.maximum(r, 0.8)),
    "cispo": (lambda r: np.minimum(r, 1.28), lambda r: -np.minimum(r, 1.28)),
    "aspo": (lambda r: np.minimum(1 / r, 3) * (r <= 1.2), lambda r: -np.minimum(r, 3) * (r >= 0.8)),
    "gmpo": (lambda r: r * (np.log(r) <= 0.4), lambda r: -r * (np.log(r) >= -0.4)),
    "sapo": (lambda r: r / np.cosh((r - 1) / 2) ** 2, lambda r: -r / np.cosh(1.05 * (r - 1) / 2) ** 2),
    # with the token that stands for them: half of log |V|, so a width of 0.01; and an old probability of 0.1
    "espo": (lambda r: r * (r <= 1.01), lambda r: -r * (r >= 0.99)),
    "dcpo": (lambda r: r * (r <= 2), lambda r: -r * (r >= 0.5)),
}


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("side", [0, 1])
def test_gradients_are_the_papers(curves, name, side):
    components = curves.parts(algorithm(name))
    _, gradient = curves.lines(components, (1.0, -1.0)[side], curves.Token(), LOWEST, HIGHEST, TOLERANCE)
    ratios = np.random.default_rng(0).uniform(LOWEST, HIGHEST, 500)
    away = np.array([all(abs(r - jump) > 1e-5 for jump in jumps(gradient)) for r in ratios])
    expected = PRINTED[name][side](ratios)
    assert np.abs(drawn(gradient, ratios) - expected)[away].max() < 2 * TOLERANCE


@pytest.mark.parametrize("name", ["dapo", "cispo", "sapo", "aspo"])
def test_lines_follow_the_modules_between_their_points(curves, name):
    components = curves.parts(algorithm(name))
    lines = curves.lines(components, 1.0, curves.Token(), LOWEST, HIGHEST, TOLERANCE)
    ratios = torch.linspace(0.01, 3.99, 177, dtype=torch.float64)
    exact = curves.term(PolicyLoss(components), ratios, 1.0, curves.Token())
    for line, heights in zip(lines, exact, strict=True):
        assert np.abs(drawn(line, ratios.numpy()) - heights.numpy()).max() < 2 * TOLERANCE


def test_a_jump_is_found_where_it_is(curves):
    components = curves.parts(algorithm("dapo", clip_high=0.2345678))
    value, gradient = curves.lines(components, 1.0, curves.Token(), LOWEST, HIGHEST, TOLERANCE)
    assert jumps(gradient) == [pytest.approx(1.2345678, abs=1e-5)]
    assert jumps(value) == []
    assert len(value) == 3
    assert len(gradient) == 4


def test_a_gate_and_an_entropy_change_the_curve(curves):
    erc = curves.parts(algorithm("erc"))
    _, shut = curves.lines(erc, 1.0, curves.Token(entropy_ratio=1.2), LOWEST, HIGHEST, TOLERANCE)
    assert {height for _, height in shut} == {0.0}
    espo = curves.parts(algorithm("espo"))
    found = [curves.lines(espo, 1.0, curves.Token(old_entropy=h), 0.9, 1.1, TOLERANCE)[1] for h in (0.2, 0.8)]
    assert [jumps(line)[0] for line in found] == [pytest.approx(1 + 0.02 * h, abs=1e-6) for h in (0.2, 0.8)]


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.001, 2.5, 5, ["0.5", "1.0", "1.5", "2.0", "2.5"]),
        (0.9988, 1.0012, 4, ["0.999", "1.000", "1.001"]),
        (-4.2, 0.3, 5, ["-4", "-3", "-2", "-1", "0"]),
    ],
)
def test_ticks_are_round_and_told_apart(curves, low, high, most, expected):
    figures = importlib.import_module("figures")
    assert figures.labels(figures.ticks(low, high, most)) == expected
