"""The folder of a study: a file for each row, and ``study.json``, the order of its cells; and the runs that come with
llmrl.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from llmrl.errors import ConfigError
from llmrl.likeness import Table, refuse_unlike
from llmrl.studies.grid import Cell, Row
from llmrl.text import one_line, read_json

SHIPPED = "baselines-v1.json.gz"
PLAN = "study.json"


@functools.cache
def shipped_rows() -> dict[Cell, Row]:
    """The runs that come with llmrl: the shipped algorithms on the exact tasks at their own settings.

    Their curves hold only the score.
    """
    content = resources.files("llmrl.studies").joinpath(SHIPPED).read_bytes()
    rows = map(Row.from_dict, json.loads(gzip.decompress(content)))
    return {row.cell: row for row in rows}


def find_shipped(cells: Iterable[Cell]) -> dict[Cell, Row]:
    """The runs of some cells that come with llmrl. Those of another recipe are left out."""
    found = ((cell, shipped_rows().get(cell)) for cell in cells)
    return {cell: row for cell, row in found if row is not None and row.cell.recipe == cell.recipe}


class Store:
    """The rows of a study, one file each; a file is complete or absent.

    Args:
        folder: the folder of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.plan = folder / PLAN
        self.folder = folder / "cells"
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, cell: Cell) -> Path:
        """The path of a row's file."""
        return self.folder / f"{cell.key}.json"

    def write(self, row: Row) -> None:
        """Write a row."""
        _write(self.path(row.cell), row.to_dict())

    def write_plan(self, cells: Sequence[Cell], baseline: str) -> None:
        """Write the cells in their order, with their recipes, and the algorithm that the others are compared with."""
        _write(self.plan, {"baseline": baseline, "cells": {cell.key: cell.recipe for cell in cells}})

    def read(self, cells: Iterable[Cell]) -> dict[Cell, Row]:
        """The finished rows. Failed ones, and those of another recipe, are left out, so that they run again."""
        found = {}
        for cell in cells:
            path = self.path(cell)
            if path.is_file():
                row = Row.read(path)
                if row.cell != cell:
                    raise ConfigError(f"{path} is of another cell. Delete it; the study runs that cell again.")
                if not row.failed and row.cell.recipe == cell.recipe:
                    found[cell] = row
        return found


def _write(path: Path, content: object) -> None:
    aside = path.with_suffix(f".{os.getpid()}.writing")
    try:
        aside.write_text(json.dumps(content))
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def read_study(folder: Path) -> tuple[list[Row], str]:
    """The rows of a study's last call that are there, in its order, and its baseline.

    Raises:
        ConfigError: the folder holds no study, or a file of it is broken.
    """
    plan = folder / PLAN
    if not plan.is_file():
        raise ConfigError(f"{folder} holds no study: there is no {plan}. Give the output of a study.")
    try:
        content = read_json(plan)
        refuse_unlike(content, {"baseline": "", "cells": Table("", "")}, "the study")
    except ValueError as error:
        raise ConfigError(
            f"{plan} cannot be read ({one_line(str(error))}). Give the command of the study again; its finished runs "
            "are kept."
        ) from error
    paths = [(folder / "cells" / f"{key}.json", recipe) for key, recipe in content["cells"].items()]
    found = [(Row.read(path), recipe) for path, recipe in paths if path.is_file()]
    rows = [row for row, recipe in found if row.cell.recipe == recipe]
    if not rows:
        raise ConfigError(f"{folder} has no finished run yet. Give the command of the study again.")
    return rows, content["baseline"]
