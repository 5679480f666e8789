"""Sphinx settings of the site; `make site` builds it.  CONTRIBUTING.md says why Sphinx."""

from __future__ import annotations

import os
import re
from pathlib import Path

import llmrl

project = "llmrl"
author = "The llmrl developers"
release = llmrl.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
suppress_warnings = ["ref.python"]  # a name in a signature that several modules offer

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "llmrl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False


ROOT = Path(__file__).resolve().parent.parent
# Files that belong to the top of the repository, and the pages that show them.
SHOWN = {
    "about/contributing": "CONTRIBUTING.md",
    "about/changelog": "CHANGELOG.md",
    "about/security": "SECURITY.md",
    "about/benchmarks": "benchmarks/README.md",
    "about/nano": "llmrl/policies/nano/CARD.md",
}


def show_file(app, page: str, source: list[str]) -> None:
    """Put a file of the repository in place of the page that stands for it, with links that fit the new place."""
    if page not in SHOWN:
        return
    path = ROOT / SHOWN[page]
    pages = {ROOT / shown: Path(app.srcdir) / f"{name}.md" for name, shown in SHOWN.items()}

    def moved(link: re.Match[str]) -> str:
        target, anchor, part = link[1].partition("#")
        there = (path.parent / target).resolve()
        return f"]({os.path.relpath(pages.get(there, there), Path(app.srcdir) / 'about')}{anchor}{part})"

    source[0] = re.sub(r"\]\((?!https?:|#)([^)\s]+)\)", moved, path.read_text())


def formulas_as_text(app, what, name, obj, options, lines: list[str]) -> None:
    """Show the indented formulas and tables of docstrings as they stand; reStructuredText would run them together.

    An indented block behind an empty line is one, unless it belongs to a list, a directive or a section such as Args.
    """
    out: list[str] = []
    in_section = in_example = False
    for number, line in enumerate(lines):
        if re.fullmatch(r"(Args|Returns|Raises|Yields|Attributes|Example|Examples|Note):", line):
            in_section = True
        elif line and not line.startswith(" "):
            in_section = False
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line))
        before = next((earlier for earlier in reversed(lines[:number]) if earlier), "")
        opens = line.startswith("    ") and number > 0 and not lines[number - 1] and not in_section
        if opens and not before.startswith((" ", "..", "- ", ">>>")) and not before.endswith("::"):
            out += ["::", ""]
        text = not in_example and (in_section or not line.startswith("    "))
        out.append(line.replace("|", r"\|") if text else line)  # |V| is a size, no substitution
    lines[:] = out


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", show_file)
    app.connect("autodoc-process-docstring", formulas_as_text, priority=400)  # before napoleon
