"""The explorer page shows what the loss modules compute now."""

from __future__ import annotations

import importlib
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrl.algorithms import ALGORITHMS, algorithm
from llmrl.losses import PolicyLoss

DOCS = Path(__file__).resolve().parent.parent / "docs"
DATA = DOCS / "_static" / "explorer_data.js"


@pytest.fixture(scope="module")
def explorer():
    """docs/explorer.py, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield importlib.import_module("explorer")


@pytest.fixture(scope="module")
def written():
    """The committed numbers: lines, and the objectives by name."""
    found = re.search(r"^lines: (\[.*\]),\nobjectives: (\{.*\})\};$", DATA.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return json.loads(found[1]), json.loads(found[2])


NAMES = sorted({*ALGORITHMS, "erc+gppo"} - {"tis", "mis", "clip_cov"})


def test_every_objective_is_offered_or_named_as_left_out(explorer, written):
    assert sorted(written[1]) == sorted(explorer.SLIDERS) == NAMES
    page = (DOCS / "explorer.md").read_text()
    assert all(f"`{name}`" in page for name in ("tis", "mis", "clip_cov"))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_of_the_modules(explorer, written, name):
    lines, objectives = written
    about = json.loads(json.dumps(explorer.described(name)))
    index = objectives[name].pop("index")
    assert objectives[name] == about
    combinations = list(explorer.combinations(name))
    assert len(index) == 4 * len(combinations)
    for place in random.Random(name).sample(range(len(combinations)), min(8, len(combinations))):
        given = dict(zip(explorer.SLIDERS[name], combinations[place], strict=True))
        token = explorer.Token(**{key: value for key, value in given.items() if key in explorer.TOKEN})
        made = algorithm(name, **{key: value for key, value in given.items() if key not in explorer.TOKEN})
        for side, sign in enumerate((1.0, -1.0)):
            shown = [np.array(lines[index[4 * place + 2 * side + kind]]).reshape(-1, 2) for kind in (0, 1)]
            ratios = np.linspace(0.011, shown[0][-1, 0] - 0.001, 211)
            edges = [
                x for line in shown for x, width in zip(line[:, 0], np.diff(line[:, 0]), strict=False) if width < 1e-4
            ]
            ratios = np.array([r for r in ratios if all(abs(r - edge) > 1e-4 for edge in edges)])
            exact = importlib.import_module("curves").term(PolicyLoss(made), torch.tensor(ratios), sign, token).numpy()
            for line, heights in zip(shown, exact, strict=True):
                assert np.abs(np.interp(ratios, line[:, 0], line[:, 1]) - heights).max() < 2e-3, given


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_slider_changes_nothing(explorer, name):
    curves = importlib.import_module("curves")
    loss, ratios = PolicyLoss(algorithm(name)), torch.linspace(0.1, 2.0, 40, dtype=torch.float64)
    others = {"old_entropy": 0.9, "entropy_ratio": 1.5, "old_probability": 0.3}
    changed = curves.Token(**{key: value for key, value in others.items() if key not in explorer.SLIDERS[name]})
    for sign in (1.0, -1.0):
        assert torch.equal(
            curves.term(loss, ratios, sign, curves.Token()).round(decimals=9),
            curves.term(loss, ratios, sign, changed).round(decimals=9),
        )


def test_the_numbers_stay_small():
    assert DATA.stat().st_size < 600_000


DRIVE = """
const set = (id, value, kind) => {
  const control = document.getElementById(id);
  control.value = value;
  control.dispatchEvent(new Event(kind));
};
set("explorer-first", "espo", "change");
set("explorer-second", "erc", "change");
set("explorer-view", "3", "change");
set("explorer-token-old_entropy", "10", "input");
set("explorer-first-alpha", "5", "input");
set("explorer-token-entropy_ratio", "8", "input");
set("explorer-ratio", String(Math.round(1000 * (1.1 - 0.01) / 2.49)), "input");
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_page_draws_what_is_chosen(tmp_path):
    """In a real browser, from a file: espo at its widest keeps a ratio of 1.1, a shut gate leaves erc no gradient."""
    body = re.search(r"```\{raw\} html\n(.*?)```", (DOCS / "explorer.md").read_text(), re.DOTALL)
    assert body is not None
    page = tmp_path / "page.html"
    page.write_text(f"<meta charset=utf-8>{body[1].replace('_static', str(DOCS / '_static'))}<script>{DRIVE}</script>")
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{page}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', shown)
    cells = {name: [float(x.replace("−", "-")) for x in re.findall("<td>(.*?)</td>", row)] for name, row in rows}
    ratio = 0.01 + 2.49 * round(1000 * 1.09 / 2.49) / 1000
    # value for A = 1 and -1, then gradient; the lines are within 0.001 of the modules' numbers
    assert cells["espo"] == pytest.approx([ratio, -ratio, ratio, -ratio], abs=1e-3)
    assert cells["erc"] == pytest.approx([ratio, -ratio, 0, 0], abs=1e-3)
    assert shown.count('class="first" d="M') == shown.count('class="second" d="M') == 4
    assert "alpha 0.2" in shown
    assert "old_entropy 1" in shown
