"""The page in a real browser: what it shows, what a switch changes, and that responses stay text."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from example_run import NASTY, write_rollouts, write_run

from llmrl.reports.page import write_page
from llmrl.reports.runs import read_runs

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TEXTS = ["Add: $8 + 13 = 21$. The answer is $\\boxed{8}$.", NASTY]


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    run = write_run(folder / "espo-0", bare=True)
    write_rollouts(run, TEXTS * 6)
    write_page(folder / "page.html", read_runs([run]), algorithms=["dapo", "erc"])
    return folder / "page.html"


def show(browser: str, page: Path, view: str = "", script: str = "") -> str:
    """The document after its scripts ran.

    Args:
        view: what the address chooses, such as ``algorithm=dapo``.
        script: run at the end, as a visitor's hand; it needs the page's own policy taken away.
    """
    if script:
        text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text())
        page = page.with_name("touched.html")
        page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    shown = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={page.parent / 'profile'}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            f"{page.as_uri()}#{view}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    # Data that a script read stay in the document; what is seen is the rest.
    return re.sub(r"<script.*?</script>", "", shown, flags=re.DOTALL)


def classes(shown: str) -> list[str]:
    return re.findall(r'<span data-i="\d+" class="([a-z-]*)"', shown)


def test_tokens_are_coloured_and_paged(browser, page):
    shown = show(browser, page, "algorithm=dapo")
    assert shown.count("<article>") == 8
    assert "page 1 of 2, 12 responses" in shown
    first = re.findall(r'<div class="response">(.*?)</div>', shown, flags=re.DOTALL)[0]
    assert classes(first)[:5] == ["high", "", "", "", "high"]
    assert re.sub("<[^>]*>", "", first) == TEXTS[0]


def test_the_algorithm_and_the_filters_can_be_changed(browser, page):
    shown = show(browser, page, "algorithm=erc&verdict=correct&group=2")
    assert shown.count("<article>") == 1
    assert classes(shown)[:5] == ["gated", "", "", "", "gated"]
    assert 'class="badge correct"' in shown
    script = "const s = document.getElementById('algorithm'); s.value = 'dapo'; s.dispatchEvent(new Event('change'))"
    assert classes(show(browser, page, "algorithm=erc", script))[0] == "high"
    second = "document.getElementById('next').click()"
    assert "page 2 of 2, 12 responses" in show(browser, page, "", second)


def test_another_colour(browser, page):
    shown = show(browser, page, "algorithm=dapo&colour=advantage&group=0")
    assert set(classes(shown)) == {""}
    tones = re.findall(r'data-i="0" class="" style="background: rgba\(var\((--\w+)\)', shown)
    assert tones == ["--more", "--less"]


def test_a_token_shows_its_numbers(browser, page):
    script = (
        "document.querySelector('.response > span').dispatchEvent("
        "new MouseEvent('mousemove', {bubbles: true, clientX: 9, clientY: 9}))"
    )
    shown = show(browser, page, "algorithm=dapo", script)
    tip = re.search(r'<div id="tip".*?</div>', shown, flags=re.DOTALL).group()
    assert "hidden" not in tip.split(">")[0]
    cells = dict(re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td></tr>", tip))
    assert re.fullmatch(r'"A\w*" \(\d+\), number 1', cells["token"])
    assert cells["ratio"] == "1.6487"
    assert cells["advantage"] == "1"
    assert cells["gradient"] == "0"
    assert cells["trust region"] == "clipped high, no gradient"


def test_a_response_does_nothing(browser, page, tmp_path):
    shown = show(browser, page)
    assert "<img" not in shown
    assert "&lt;/script &gt;&lt;img" in shown  # in the problem; in the response token by token
    run = write_run(tmp_path / "<img src=x>", bare=True)
    write_rollouts(run, TEXTS, tensors=False)
    write_page(tmp_path / "page.html", read_runs([run]))
    shown = show(browser, tmp_path / "page.html")
    assert "<img" not in shown
    assert "<title>&lt;img src=x&gt;</title>" in shown
    assert re.search(r'<div class="response">&lt;/script &gt;&lt;img', shown)
