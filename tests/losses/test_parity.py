"""Value and gradient against what published implementations gave for the same inputs, float64.

The comparison is that of benchmarks/loss_parity.py, which prints it as a table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import loss_parity
from loss_parity import DEVIATIONS, RECIPES, TOLERANCE, Comparison

VECTORS = [
    "ppo",
    "dapo",
    "dapo_dual_clip",
    "gspo",
    "gspo_wide",
    "gppo",
    "ce_gppo",
    "ce_gppo_75",
    "erc_dapo",
    "erc_gppo",
    "cispo",
    "sapo",
    "gmpo",
]


PUBLISHED = Path(__file__).with_name("published")
"""Inputs, and the values and gradients that published code gave for them in float64; each names its source."""


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Comparison]:
    return {(c.fixture, c.library): c for c in loss_parity.comparisons(PUBLISHED)}


def of(found: dict[tuple[str, str], Comparison], fixture: str) -> list[Comparison]:
    return [c for (name, _), c in found.items() if name == fixture]


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("name", VECTORS)
def test_published_vectors(found: dict[tuple[str, str], Comparison], case: int, name: str) -> None:
    (result,) = of(found, f"vector {case}: {name}")
    assert result.value_off < TOLERANCE
    assert result.gradient_off < TOLERANCE


@pytest.mark.parametrize("fixture", RECIPES)
def test_public_libraries(found: dict[tuple[str, str], Comparison], fixture: str) -> None:
    for result in of(found, fixture):
        if (fixture, result.library) in DEVIATIONS:
            assert result.value_off > 1e-2, result
            assert result.gradient_off > 1e-2, result
        else:
            assert result.value_off < TOLERANCE, result
            assert result.gradient_off < TOLERANCE, result


SUITES = json.loads((PUBLISHED / "loss_suites.json").read_text())


@pytest.mark.parametrize("case", SUITES, ids=lambda case: f"{case['project']}: {case['name']}")
def test_values_that_the_test_suites_of_other_projects_assert(case: dict[str, Any]) -> None:
    result = loss_parity.suite(case)
    assert result.value_off < case["allowed"]
    assert result.gradient_off < TOLERANCE
    assert case["source"].startswith(
        ("NVIDIA-NeMo/RL 4e6a3f2", "NovaSky-AI/SkyRL 03d74ca", "google-deepmind/rlax 461b4cf")
    )


def test_every_published_result_is_compared(found: dict[tuple[str, str], Comparison]) -> None:
    peers = json.loads((PUBLISHED / "loss_parity_peers.json").read_text())["results"]
    assert set(peers) == set(RECIPES)
    # Names with "my" are formulas written beside the fixture, no published code.
    published = {(f, name) for f, results in peers.items() for name in results}
    assert {key for key in published if not key[1].startswith("my ")} <= set(found)
    for case in json.loads((PUBLISHED / "loss_vectors.json").read_text()):
        assert set(case["outputs"]) == set(VECTORS)
    assert set(DEVIATIONS) <= set(found)
    assert [case["project"] for case in SUITES].count("NeMo-RL") == 11
    assert {(f"suite: {case['name']}", case["project"]) for case in SUITES} <= set(found)


@pytest.mark.parametrize("name", ["ce_gppo", "ce_gppo_75"])
@pytest.mark.parametrize("case", [0, 1])
def test_ce_gppos_own_value_is_ppos_and_its_gradient_the_published_one(case: int, name: str) -> None:
    vectors = json.loads((PUBLISHED / "loss_vectors.json").read_text())[case]
    published = vectors["outputs"][name]
    recipe, options = loss_parity.vector_recipe(name, published["params"])
    inputs: dict[str, Any] = {key: torch.tensor(value, dtype=torch.float64) for key, value in vectors["inputs"].items()}
    loss, gradient = loss_parity.evaluate(recipe, {**options, "literal": False}, inputs)
    assert loss == pytest.approx(vectors["outputs"]["ppo"]["loss"], abs=TOLERANCE)
    assert abs(loss - published["loss"]) > 1e-3
    torch.testing.assert_close(gradient, torch.tensor(published["grad"], dtype=torch.float64), rtol=0, atol=TOLERANCE)


# The fixture once more, with numbers that can be read here.

GOLDEN = {
    "DAPO/token-mean": (0.33937608, 0.4117767),
    "DAPO/seq-mean-token-mean": (0.15038719, None),
    "PPO dual-clip c=3 token-mean": (0.22084095, None),
    "Dr.GRPO (T_max=6)": (0.21211005, None),
    "GSPO": (-0.05688477, None),
    "CISPO [0.8,1.28] token-mean": (0.26408876, None),
    "CISPO [.,1.28] token-mean": (0.38143309, None),
    "GPPO c=inf": (0.33937608, 0.4421670),
    "GPPO c=3": (0.22084095, 0.2587744),
    "CE-GPPO b1=.5,b2=1 c=inf": (0.28870941, None),
    "ERC(DAPO)": (0.33937608, 0.1984379),
    "ERC(GPPO)": (0.33937608, 0.2380202),
}


@pytest.mark.parametrize("fixture", GOLDEN)
def test_golden_values(found: dict[tuple[str, str], Comparison], fixture: str) -> None:
    loss, norm = GOLDEN[fixture]
    result = of(found, fixture)[0]
    assert result.loss == pytest.approx(loss, abs=1e-7)
    if norm is not None:
        assert result.norm == pytest.approx(norm, abs=1e-6)
