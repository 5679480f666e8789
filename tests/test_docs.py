"""Links of the documentation lead somewhere, and every page can be reached on the site."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import pytest

from llmrl.algorithms import ALGORITHMS, algorithm

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
TOP = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "llmrl/policies/nano/CARD.md",
)
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in TOP)])
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)|\bsrc=\"(?!https?:)([^\"]+)\"")  # Markdown's and HTML's
TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may say behind #."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """Links of a text that lead to no file, or to no heading of a Markdown file."""
    code = re.compile(r"```(?!\{).*?```|`[^`\n]*`", re.DOTALL)
    wrong = []
    for link in map("".join, LINK.findall(code.sub("", text))):
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken(page, page.read_text()) == []


def test_a_broken_link_is_found():
    page = DOCS / "index.md"
    text = "[a](nowhere.md) [b](glossary.md#nothing) [c](glossary.md) `[d](e.md)` ![f](gone.svg)"
    html = '```{raw} html\n<script src="gone.js"></script><script src="_static/explorer.js"></script>\n```'
    assert broken(page, text + html) == ["nowhere.md", "glossary.md#nothing", "gone.svg", "gone.js"]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_pages_of_the_site_link_to_pages_of_the_site(page):
    """Sphinx refuses a link to a Markdown file outside docs; docs/about stands for the few that the site shows."""
    targets = [link.partition("#")[0] for link in map("".join, LINK.findall(page.read_text()))]
    outside = [t for t in targets if t.endswith(".md") and not (page.parent / t).resolve().is_relative_to(DOCS)]
    assert outside == [] or page.parent.name == "about"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "{raw} html" in page.read_text()], ids=lambda page: page.name
)
def test_elements_of_a_page_have_names_of_their_own(page):
    """The site names a section by its heading; an element of the same name would stand for the section."""
    names = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert names
    assert not set(names) & anchors(page)


def reached(page: Path) -> set[Path]:
    """A page and all below it in the lists of contents."""
    found = {page}
    for body in TOCTREE.findall(page.read_text()):
        entries = [line for line in body.split("\n") if line and not line.startswith(":")]
        for entry in entries:
            for below in page.parent.glob(f"{entry}.md"):
                if below != page:
                    found |= reached(below)
    return found


def test_every_page_is_on_the_site():
    assert set(DOCS.rglob("*.md")) - reached(DOCS / "index.md") == set()


@pytest.fixture(scope="module")
def generate():
    """What docs/generate.py defines; it imports its neighbours, as a script does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield runpy.run_path(str(DOCS / "generate.py"))


def test_pages_of_algorithms_are_what_the_code_says(generate):
    written = generate["algorithm_pages"]()
    stale = [path.name for path, text in written.items() if not path.is_file() or path.read_text() != text]
    assert stale == []
    assert set(written) == {path for path in (DOCS / "algorithms").rglob("*") if path.is_file()}


def test_tables_of_entries_packages_and_metrics_are_what_the_code_says(generate):
    assert [path.name for path, text in generate["code_pages"]().items() if path.read_text() != text] == []


def test_every_algorithm_says_how_it_differs_from_another(generate):
    assert set(generate["NEIGHBOURS"]) == set(ALGORITHMS)
    for name, neighbour in generate["NEIGHBOURS"].items():
        table = generate["neighbour_table"](algorithm(name), algorithm(neighbour))
        assert table.count("\n") >= 2, f"{name} and {neighbour} have the same components"


def test_every_algorithm_has_its_own_formula(generate):
    modules = [inspect.getmodule(ALGORITHMS[name]) for name in ALGORITHMS]
    for name in ALGORITHMS:
        recipe = ALGORITHMS[name]
        module = inspect.getmodule(recipe)
        shared = modules.count(module) > 1
        own, above = (generate["code_blocks"](text) for text in (inspect.getdoc(recipe), module.__doc__))
        assert "```text" in (own if shared else above), f"{name} has no formula"
        assert not (shared and "```text" in above), (
            f"{module.__name__}: this formula is on the pages of several recipes"
        )


def test_evidence_comes_from_the_table_of_published_code(generate):
    assert "CE-GPPO" in generate["parity_table"]("gppo")
    for name in ALGORITHMS:
        rows = generate["parity_table"](name).split("\n")[2:]
        assert all(re.fullmatch(r"\| \S+ \| [A-Za-z-]+ \| \d+ \| \d+ \|.*", row) for row in rows), name
