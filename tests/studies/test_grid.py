"""Grids: names are checked before anything runs, cells that fail are rows, a study goes on where it was."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
from pathlib import Path

import pytest

from llmrl.algorithms import algorithm
from llmrl.errors import ConfigError, UserError
from llmrl.studies import grid, running
from llmrl.studies.api import duration, study
from llmrl.studies.exact.task import Settings
from llmrl.studies.exact.tasks import EXACT
from llmrl.studies.grid import Cell, Row, make_grid, run_cell
from llmrl.studies.running import estimate_seconds, run_cells
from llmrl.studies.store import Store

QUICK = {"tasks": ["hack"], "rollouts": 1}


class TestNames:
    def test_options_stand_in_brackets(self):
        made = algorithm("erc+dapo[low=0.5, high=2]")
        assert (made.gates[0].low, made.gates[0].high) == (0.5, 2)
        assert algorithm("objectives:working[high=0.9]").clip.high == 0.9
        made = algorithm("espo[alpha=1e-3, partition=[0.5, 0.8], clip_ceiling=inf]")
        assert (made.clip.alpha, made.partition.quantiles) == (1e-3, (0.5, 0.8))

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("dap", "Did you mean 'dapo'"),
            ("dapo[clip_hihg=1]", "Did you mean 'clip_high'"),
            ("dapo[0.3]", "is not an option"),
            ("dapo[clip_high=0.3", "is no algorithm"),
            ("dapo[clip_low=-2]", "low must be between 0 and 1, got -2"),
            ("gspo+dapo", "does not change another algorithm"),
            ("objectives:nothing", "has no 'nothing'"),
            ("espo[partition=0.5]", "must be a list of numbers"),
            ("espo[quantiles=[0.5]]", "Did you mean 'partition'"),
            ("dapo[clip_high=!!timestamp x]", "tags such as !!timestamp"),
            ("dapo[clip_high=*a]", r"aliases such as \*a"),
            ("dapo[clip_high=2001-99-99]", "month must be in 1..12"),
            ("dapo[clip_high={a]", "has no value of YAML"),
            ("espo[partition=null]", "exact tasks do not have"),
        ],
    )
    def test_a_wrong_algorithm_is_named_with_what_to_do(self, spec, message):
        with pytest.raises(UserError, match=message):
            make_grid(algorithms=[spec], seeds=[0])

    def test_a_wrong_task_is_named_with_the_nearest(self):
        with pytest.raises(UserError, match="Did you mean 'carry'"):
            make_grid(algorithms=["dapo"], tasks=["cary"], seeds=[0])
        with pytest.raises(ConfigError, match=r"must be an llmrl\.studies\.ExactTask"):
            make_grid(algorithms=["dapo"], tasks=["math:pi"], seeds=[0])

    @pytest.mark.parametrize(
        "wrong",
        [
            {"learning_rates": [0.0]},
            {"updates": [0]},
            {"updates": [129]},
            {"lags": [-1]},
            {"rollouts": 0},
            {"algorithms": []},
            {"algorithms": ["dapo", "dapo"]},
            {"tasks": ["carry", "carry"]},
        ],
    )
    def test_numbers_that_cannot_be_used_are_refused(self, wrong):
        with pytest.raises(ConfigError):
            make_grid(**{"algorithms": ["dapo"], "seeds": [0], **wrong})

    def test_a_grid_has_every_combination_seed_by_seed(self):
        cells = make_grid(algorithms=["dapo", "gspo"], seeds=[5, 6], learning_rates=[1e-3, 1e-2], updates=[1, 4])
        assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 2 * len(EXACT)
        assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)

    def test_everything_that_decides_a_run_is_in_its_key(self):
        base = {"task": "carry", "algorithm": "dapo", "settings": Settings(), "seed": 0}
        others = [{"task": "hack"}, {"algorithm": "gspo"}, {"settings": Settings(lag=1)}, {"seed": 1}]
        assert len({Cell(**{**base, **change}).key for change in ({}, *others)}) == 5


class TestRunning:
    def test_what_raises_is_a_row(self):
        (row,) = run_cells(make_grid(algorithms=["objectives:failing"], seeds=[0], **QUICK))
        assert row.failed
        assert not row.summary
        assert row.error.startswith("ArithmeticError: this objective cannot count (objectives.py:")

    def test_a_number_that_is_not_finite_is_an_error(self, monkeypatch):
        (cell,) = make_grid(algorithms=["dapo"], seeds=[0], **QUICK)
        monkeypatch.setitem(grid.TASKS._known, "hack", dataclasses.replace(EXACT["hack"], score=lambda *_: math.nan))
        assert run_cell(cell).error.startswith("Not finite: start, final, ")

    def test_a_single_update_has_finite_numbers(self):
        (row,) = run_cells(make_grid(algorithms=["dapo"], seeds=[0], updates=[1], **QUICK))
        assert not row.failed
        assert row.summary["grad_norm_jump"] == 0

    @pytest.mark.slow
    def test_a_process_that_dies_is_a_row_and_the_others_are_run(self):
        cells = make_grid(algorithms=["dapo", "objectives:deadly", "gspo"], seeds=[0, 1], **QUICK)
        rows = list(run_cells(cells, jobs=2))
        assert {row.cell for row in rows} == set(cells)
        assert len(rows) == len(cells)
        assert {row.cell.algorithm for row in rows if row.failed} == {"objectives:deadly"}
        alone = run_cell(cells[0])
        assert next(r for r in rows if r.cell == cells[0]).summary == alone.summary

    def test_an_unknown_executor_is_refused(self):
        with pytest.raises(ConfigError, match="processes, ray"):
            run_cells([], executor="slurm")

    def test_a_missing_ray_is_said(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "ray", None)
        with pytest.raises(ConfigError, match="llmrl\\[ray\\]"):
            list(run_cells([], executor="ray"))

    def test_the_estimate_grows_with_the_work_and_falls_with_jobs(self):
        few, many = (make_grid(algorithms=["dapo"], seeds=range(n), tasks=["hack"]) for n in (1, 400))
        assert estimate_seconds(many, 1) > 20 * estimate_seconds(few, 1)
        assert estimate_seconds(many, 8) < estimate_seconds(many, 1)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(3, "3 seconds"), (200, "3.3 minutes"), (7200, "2.0 hours"), (9e5, "10.4 days")]
    )
    def test_durations_are_for_people(self, seconds, text):
        assert duration(seconds) == text


class TestResuming:
    def test_only_what_is_missing_or_failed_is_run(self, tmp_path, monkeypatch):
        options = {"output": tmp_path, "algorithms": ["dapo", "gspo"], "use_shipped": False, **QUICK}
        study(**options, seeds=1)
        cell = make_grid(algorithms=["gspo"], seeds=[0], **QUICK)[0]
        Store(tmp_path).write(Row(cell=cell, error="it was dark"))
        ran = []
        monkeypatch.setattr(running, "run_cell", lambda c: ran.append(c) or run_cell(c))
        study(**options, seeds=2)
        counted = [(c.algorithm, c.seed) for c in ran if c.settings.rollouts == 1]
        assert sorted(counted) == [("dapo", 1), ("gspo", 0), ("gspo", 1)]

    def test_a_changed_algorithm_is_run_again(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        ran = []
        monkeypatch.setattr(running, "run_cell", lambda c: ran.append(c) or run_cell(c))

        def runs(text):
            (tmp_path / "edited.py").write_text(text)
            importlib.invalidate_caches()
            sys.modules.pop("edited", None)
            grid._code.cache_clear()  # as in a new process
            ran.clear()
            results = study(output=tmp_path, algorithms=["edited:mine"], seeds=1, **QUICK)
            return sum(c.settings.rollouts == 1 for c in ran), results.rows[0].summary["final"]

        text = "from llmrl.algorithms import dapo\ndef mine():\n    return dapo(clip_high={})\n"
        first = runs(text.format(0.3))
        assert runs("# a comment\n\n" + text.format(0.3)) == (0, first[1])
        assert runs(text.format(1e-9))[0] == 1
        assert runs(text.format(1e-9) + "other = 1\n")[0] == 1
        assert len(list((tmp_path / "cells").iterdir())) == 1

    @pytest.mark.parametrize("change", [("float(token)", "1 - token"), ("start=0.1", "start=0.2")])
    def test_a_changed_task_is_run_again(self, tmp_path, monkeypatch, change):
        monkeypatch.syspath_prepend(tmp_path)

        def digest(text):
            (tmp_path / "coins.py").write_text(text)
            importlib.invalidate_caches()
            sys.modules.pop("coins", None)
            grid._code.cache_clear()  # as in a new process
            return make_grid(algorithms=["dapo"], tasks=["coins:coin"], seeds=[0])[0].recipe

        page = Path(__file__).parents[2] / "docs/suite.md"
        text = page.read_text().split("```python\n")[1].split("```")[0]
        assert change[0] in text
        assert digest(text) == digest("# a comment\n" + text) != digest(text.replace(*change))

    def test_a_registered_task_whose_numbers_change_is_run_again(self, monkeypatch):
        grids = [make_grid(algorithms=["dapo"], tasks=["hack"], seeds=[0])]
        monkeypatch.setitem(grid.TASKS._known, "hack", dataclasses.replace(EXACT["hack"], flip=0.1))
        grids += [make_grid(algorithms=["dapo"], tasks=["hack"], seeds=[0])]
        assert grids[0] == grids[1]
        assert grids[0][0].recipe != grids[1][0].recipe

    def test_a_study_that_takes_too_long_does_not_start(self, tmp_path):
        with pytest.raises(ConfigError, match=r"would take about .*--yes"):
            study(output=tmp_path, algorithms=["dapo"], seeds=500, tasks=["hack"], allow_seconds=1)
        assert not list((tmp_path / "cells").iterdir())

    def test_the_baseline_must_be_there(self, tmp_path):
        with pytest.raises(ConfigError, match="not among"):
            study(output=tmp_path, algorithms=["dapo"], baseline="gspo", seeds=1, **QUICK)

    def test_failed_runs_stand_in_the_tables(self, tmp_path):
        results = study(output=tmp_path, algorithms=["dapo", "objectives:failing"], seeds=1, **QUICK)
        content = json.loads((tmp_path / "results.json").read_text())
        assert [line["algorithm"] for line in content["all"]] == ["dapo"]
        assert any("cannot count" in note for note in results.notes())
        assert "cannot count" in (tmp_path / "runs.csv").read_text()
