"""The folder of a study: its rows, what ``load`` reads of it, and the runs that come with llmrl."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

import llmrl
from llmrl.errors import ConfigError
from llmrl.studies import grid, load, running, ship, store
from llmrl.studies.api import study
from llmrl.studies.grid import Row, make_grid, run_cell
from llmrl.studies.statistics import MIN_SEEDS
from llmrl.studies.store import Store, find_shipped, shipped_rows

QUICK = {"tasks": ["hack"], "rollouts": 1}


class TestStore:
    def test_a_row_comes_back_as_it_was(self, tmp_path):
        (cell,) = make_grid(algorithms=["dapo"], seeds=[0], **QUICK)
        row = run_cell(cell)
        store = Store(tmp_path)
        store.write(row)
        assert store.read([cell]) == {cell: row}
        assert not list(tmp_path.rglob("*.writing"))

    @pytest.mark.parametrize(
        "text",
        ["{", "[]", "null", "[" * 100_000, "1" * 5000, '{"cell": "x", "summary": [], "error": ""}'],
    )
    def test_a_broken_file_is_named(self, tmp_path, text):
        self.refused(tmp_path, text)

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            (("summary",), {"final": "x"}),
            (("summary",), {}),
            (("curves",), {"score": 1}),
            (("seconds",), "long"),
            (("cell", "seed"), [1]),
            (("cell", "seed"), 5),
            (("cell", "settings"), {"a": 1}),
            (("cell", "settings", "updates"), -1),
            (("cell",), {}),
        ],
    )
    def test_a_file_with_a_wrong_value_is_named(self, tmp_path, path, value):
        (cell,) = make_grid(algorithms=["dapo"], seeds=[0], **QUICK)
        content = json.loads(json.dumps(run_cell(cell).to_dict()))
        *outer, last = path
        place = content
        for name in outer:
            place = place[name]
        place[last] = value
        self.refused(tmp_path, json.dumps(content))

    def refused(self, tmp_path, text):
        (cell,) = make_grid(algorithms=["dapo"], seeds=[0], **QUICK)
        store = Store(tmp_path)
        store.path(cell).write_text(text)
        with pytest.raises(ConfigError, match=rf"{cell.key}\.json .*Delete it") as error:
            store.read([cell])
        assert "\n" not in str(error.value)

    def test_a_row_that_cannot_be_written_leaves_nothing(self, tmp_path, monkeypatch):
        (cell,) = make_grid(algorithms=["dapo"], seeds=[0], **QUICK)
        store = Store(tmp_path)

        def full(self, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            store.write(Row(cell=cell, error="it was dark"))
        assert not list(store.folder.iterdir())


class TestLoading:
    def test_an_empty_folder_is_no_study(self, tmp_path):
        with pytest.raises(ConfigError, match="holds no study"):
            load(tmp_path)

    @pytest.mark.parametrize("text", ["{", "[]", '{"baseline": "dapo", "cells": ["a"]}'])
    def test_a_broken_plan_is_named(self, tmp_path, text):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(ConfigError, match=r"study\.json cannot be read .* finished runs are kept"):
            load(tmp_path)

    def test_the_study_comes_back_with_its_baseline_and_the_runs_that_came_with_llmrl(self, tmp_path, monkeypatch):
        like = next(iter(shipped_rows().values()))
        monkeypatch.setattr(running, "run_cell", lambda cell: dataclasses.replace(like, cell=cell, shipped=False))
        study(output=tmp_path, algorithms=["espo"], tasks=["hack"], seeds=1)  # another grid in the same folder
        algorithms = ["gspo", "objectives:working", "dapo"]
        made = study(output=tmp_path, algorithms=algorithms, tasks=["hack"], seeds=5, baseline="dapo")
        again = load(tmp_path)
        assert [row.shipped for row in made.rows].count(True) == 10
        assert again.rows == made.rows
        assert again.to_dict() == made.to_dict()
        assert load(tmp_path, baseline="gspo").baseline == "gspo"

    def test_the_first_algorithm_of_the_study_is_the_baseline(self, tmp_path):
        study(output=tmp_path, algorithms=["gspo", "dapo"], seeds=1, **QUICK)
        assert load(tmp_path).baseline == "gspo"

    def test_an_unfinished_study_has_its_runs_so_far(self, tmp_path):
        one, two = make_grid(algorithms=["dapo"], seeds=[0, 1], **QUICK)
        folder = Store(tmp_path)
        folder.write_plan([one, two], "dapo")
        with pytest.raises(ConfigError, match="no finished run yet"):
            load(tmp_path)
        folder.write(run_cell(two))
        assert [row.cell for row in load(tmp_path).rows] == [two]

    def test_runs_of_an_older_recipe_are_left_out(self, tmp_path):
        cells = make_grid(algorithms=["dapo"], seeds=[0, 1], **QUICK)
        folder = Store(tmp_path)
        for cell in cells:
            folder.write(run_cell(cell))
        folder.write_plan([cells[0], dataclasses.replace(cells[1], recipe="other")], "dapo")
        assert [row.cell for row in load(tmp_path).rows] == [cells[0]]


class TestShipped:
    def test_what_comes_with_llmrl_fits_a_grid_of_today(self):
        rows = shipped_rows()
        seeds = {cell.seed for cell in rows}
        names = {cell.algorithm for cell in rows}
        cells = make_grid(algorithms=sorted(names), seeds=sorted(seeds))
        assert set(rows) == set(cells)
        changed = {cell.algorithm for cell in cells if rows[cell].cell.recipe != cell.recipe}
        assert not changed, f"read {ship.__file__}, and give their runs the digests of today or make them again"
        assert len(find_shipped(cells)) == len(cells)
        assert len(seeds) >= MIN_SEEDS
        assert {"dapo", "gspo", "espo", "erc+dapo", "gppo", "cispo"} <= names

    def test_it_is_not_run_again(self, tmp_path, monkeypatch):
        monkeypatch.setattr(running, "run_cell", lambda cell: pytest.fail("this was run"))
        results = study(output=tmp_path, algorithms=["dapo", "gspo"], seeds=5, tasks=["hack"])
        assert all(row.shipped for row in results.rows)
        assert any("came with llmrl" in note for note in results.notes())

    def test_it_is_run_again_if_the_algorithm_has_changed_or_the_user_says_so(self, tmp_path, monkeypatch):
        ran = []
        monkeypatch.setattr(running, "run_cell", lambda cell: ran.append(cell) or Row(cell=cell, error="it was dark"))
        options = {"output": tmp_path, "algorithms": ["dapo"], "seeds": 1, "tasks": ["hack"]}
        study(**options)
        assert not ran
        study(**options, use_shipped=False)
        assert len(ran) == 1
        monkeypatch.setattr(grid, "algorithm", lambda spec: llmrl.algorithm(spec, clip_high=5.0))
        study(**options)
        assert len(ran) == 2

    def test_the_file_takes_the_runs_of_a_study_and_the_digests_of_today(self, tmp_path, monkeypatch):
        old, other, *_ = shipped_rows().values()
        kept = {
            row.cell: dataclasses.replace(row, cell=dataclasses.replace(row.cell, recipe="")) for row in (old, other)
        }
        made = dataclasses.replace(old, summary={**old.summary, "final": 0.123456}, shipped=False)
        folder = Store(tmp_path / "study")
        folder.write(made)
        folder.write_plan([made.cell], made.cell.algorithm)
        monkeypatch.setattr(ship, "shipped_rows", lambda: kept)
        monkeypatch.setattr(ship, "__file__", str(tmp_path / "ship.py"))

        def written(*folders):
            ship.main([str(one) for one in folders])
            content = json.loads(gzip.decompress((tmp_path / store.SHIPPED).read_bytes()))
            return [Row.from_dict(one) for one in content]

        assert written() == [old, other]
        assert [row.cell.recipe for row in written()] == [old.cell.recipe, other.cell.recipe]
        first, second = written(tmp_path / "study")
        assert (first.summary["final"], first.cell.recipe) == (0.1235, old.cell.recipe)
        assert second == other
