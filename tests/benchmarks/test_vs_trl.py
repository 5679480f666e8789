"""The table of the comparison with TRL: its arithmetic, not its figures."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("vs_trl")


def run_of(seconds: float, tokens: float) -> dict[str, Any]:
    parts = {"generate": 0.5, "grade": 0.0, "score": 0.1, "update": seconds - 0.6, "rest": 0.0}
    step = {**parts, "step": seconds, "tokens": tokens, "reward": 0.25}
    warm_up = {**step, "step": 100.0, "reward": 0.125}
    return {"steps": [warm_up, step, step], "loaded": 0.5, "peak": 1.5}


def test_the_ratio_is_llmrl_over_trl_and_the_first_step_does_not_count(script: Any) -> None:
    lines = script.report({"llmrl": [run_of(1.0, 500)], "TRL": [run_of(4.0, 400)]}).splitlines()
    assert lines[0] == f"|  | llmrl | TRL {script.TRL} | llmrl / TRL |"
    assert "| step, s | 1.00 | 4.00 | 0.25 |" in lines
    assert "| - update, s | 0.40 | 3.40 | 0.12 |" in lines
    assert "| - grade, s | 0.00 | 0.00 |  |" in lines
    assert "| sampled tokens per second | 500 | 100 | 5.00 |" in lines
    assert "| ms per sampled token | 2.000 | 10.000 | 0.20 |" in lines
    assert "| reward of the first step | 0.125 | 0.125 |  |" in lines
    assert "| reward of the last step | 0.250 | 0.250 |  |" in lines


def test_without_trl_the_error_says_how_to_install_it(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vs_trl.py"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install trl==1\.16\.0"):
        script.main()


def test_rows_that_cannot_be_divided_are_refused(script: Any) -> None:
    options = script.parser("about").parse_args(["--prompts", "3", "--micro-rows", "16"])
    with pytest.raises(SystemExit, match="Give --micro-rows that divides 12"):
        script.workload(options)
