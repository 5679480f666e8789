"""Studies on a real Ray."""

from __future__ import annotations

import pytest

from llmrl.studies.grid import make_grid, run_cell
from llmrl.studies.running import run_cells

pytestmark = pytest.mark.ray


def test_rows_from_ray_are_those_from_here():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'llmrl[ray]'")
    cells = make_grid(algorithms=["dapo", "objectives:failing"], seeds=[0], tasks=["hack"], rollouts=1)
    rows = {row.cell: row for row in run_cells(cells, jobs=2, executor="ray")}
    assert set(rows) == set(cells)
    assert rows[cells[0]].summary == run_cell(cells[0]).summary
    assert "cannot count" in rows[cells[1]].error
