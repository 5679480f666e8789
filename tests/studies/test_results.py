"""Results from rows made by hand: pairing by seed, tables, files, page."""

from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest

from llmrl.errors import ConfigError
from llmrl.studies.exact.task import Settings
from llmrl.studies.grid import Cell, Row
from llmrl.studies.page import write_page
from llmrl.studies.results import Results


def row(algorithm: str, seed: int, final: float, task: str = "carry", settings: Settings | None = None) -> Row:
    numbers = dict.fromkeys(("final", "area", "entropy", "kl", "zero_grad"), final)
    return Row(
        cell=Cell(task=task, algorithm=algorithm, settings=settings or Settings(), seed=seed),
        summary={**numbers, "collapsed": float(final < 0.1)},
        curves={"score": [0.0, final]},
    )


def rows(algorithm: str, values: list[float], **options: object) -> list[Row]:
    return [row(algorithm, seed, value, **options) for seed, value in enumerate(values)]


EASY, HARD = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]


class TestPairs:
    def test_differences_are_taken_seed_by_seed(self):
        gains = [0.01 + seed / 1e12 for seed in range(6)]
        results = Results([*rows("a", EASY), *reversed(rows("b", np.add(EASY, gains).tolist()))])
        assert results.differences("a", "b")[0] == pytest.approx(gains)
        line = results.line("b")
        assert line.difference.value == pytest.approx(0.01)
        assert line.difference.high - line.difference.low < 1e-9  # although the scores spread from 0.5 to 1

    def test_a_seed_that_one_side_lacks_is_left_out(self):
        results = Results([*rows("a", EASY), *rows("b", EASY)[2:]])
        assert [len(x) for x in results.differences("a", "b")] == [4]

    def test_a_transform_is_taken_before(self):
        results = Results([*rows("a", EASY), *rows("b", [2 * x for x in EASY])])
        assert results.differences("a", "b", transform=math.log)[0] == pytest.approx(np.full(6, math.log(2)))


class TestTable:
    def test_strata_are_tasks_and_the_settings_that_differ(self):
        few = Settings(updates=4)
        results = Results([*rows("a", EASY), *rows("a", HARD, settings=few), *rows("a", EASY, task="hack")])
        assert results.strata == ["carry, updates 16", "carry, updates 4", "hack, updates 16"]

    def test_rates_and_runs_are_counted(self):
        failed = Row(cell=row("a", 9, 0).cell, error="dark")
        line = Results([*rows("a", HARD), failed]).line("a")
        assert (line.runs, line.failed) == (6, 1)
        assert line.collapsed.value == pytest.approx(1 / 6)

    def test_numbers_over_several_tasks_are_given_only_for_algorithms_with_all_of_them(self, tmp_path):
        failed = dataclasses.replace(row("b", 0, 0, task="hack"), summary={}, error="dark")
        broken = dataclasses.replace(row("a", 0, 0, task="modes"), summary={}, error="dark")  # for every algorithm
        results = Results([*rows("a", EASY), *rows("a", HARD, task="hack"), *rows("b", EASY), failed, broken])
        assert [line.algorithm for line in results.table()] == ["a"]
        assert [line.algorithm for line in results.table(["carry"])] == ["a", "b"]
        assert any(note.startswith("b lacks results") for note in results.notes())
        none = Results([*rows("a", EASY), *rows("b", HARD, task="hack")])
        assert none.table() == []
        assert "<td>b</td>" in write_page(none, tmp_path).read_text()

    def test_better_is_against_the_baseline(self):
        results = Results([*rows("a", HARD), *rows("b", EASY)], baseline="a")
        assert results.line("b").better.value == 1
        assert results.line("a").better is None

    def test_few_seeds_are_said_and_no_interval_is_printed(self):
        results = Results(rows("a", EASY[:3]))
        assert "[" not in str(results.line("a").score)
        assert any("3 seeds" in note for note in results.notes())

    def test_an_unknown_baseline_is_named_with_the_nearest(self):
        with pytest.raises(ConfigError, match="Did you mean 'dapo'"):
            Results(rows("dapo", EASY), baseline="dap")

    def test_two_versions_of_a_task_are_not_compared(self, tmp_path):
        old = row("a", 0, 0.5)
        new = dataclasses.replace(old, cell=dataclasses.replace(old.cell, version=2))
        with pytest.raises(ConfigError, match="carry are of versions 1 and 2"):
            Results([old, new])
        other = row("a", 0, 0.5, task="hack")
        results = Results([new, other])
        assert results.versions == {"carry": 2, "hack": 1}
        assert "carry 2, hack 1" in write_page(results, tmp_path).read_text()

    def test_nothing_is_no_study(self):
        with pytest.raises(ConfigError):
            Results([])


class TestFiles:
    def test_the_csv_has_a_row_per_run_and_the_latex_escapes(self, tmp_path):
        results = Results([*rows("a_b[x=1]", EASY), *rows("b", HARD)])
        results.write(tmp_path)
        with (tmp_path / "runs.csv").open() as file:
            found = list(csv.DictReader(file))
        assert [float(one["final"]) for one in found] == [*EASY, *HARD]
        assert r"a\_b[x=1]" in (tmp_path / "table.tex").read_text()

    def test_the_page_holds_tables_figures_and_notes(self, tmp_path):
        results = Results([*rows("<a>", EASY), *rows("b", HARD), *rows("b", HARD, task="hack")])
        page = write_page(results, tmp_path).read_text()
        assert page.count("<svg") == 4
        assert "&lt;a&gt;" in page
        assert "<a>" not in page
        assert {p.name for p in (tmp_path / "figures").iterdir()} >= {"scores.png", "curves.svg", "profiles.png"}

    def test_curves_of_unequal_length_share_their_places(self):
        short, long = row("a", 0, 1.0), row("a", 0, 1.0, task="hack")
        long.curves["score"] = [0.0, 0.5, 1.0]
        place, value, *_ = Results([short, long]).curve("a")
        assert value == pytest.approx(place)
