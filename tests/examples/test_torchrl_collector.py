"""The example with TorchRL's collector runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "torchrl_collector.py"


@pytest.mark.filterwarnings("ignore:Creating .*WeightUpdater:DeprecationWarning")  # at torchrl's own import
def test_it_runs():
    spec = importlib.util.spec_from_file_location("torchrl_collector", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.main(problems=2, batches=2)) == 2
