"""Write the parts of the documentation that are made from the code: packages, entries of a batch, docs/metrics.md.

python docs/generate.py            writes
python docs/generate.py --check    says what would change, and fails if anything would
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from llmrl.keys import TABLE
from llmrl.training.metrics import markdown_table

ROOT = Path(__file__).resolve().parent.parent


def first_sentence(path: Path) -> str:
    """What a file says that it owns: the first sentence of its docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".").split(".  ")[0]


def packages() -> str:
    """Every package of the library with one line, folders below their parents."""
    lines = []
    for path in sorted((ROOT / "llmrl").rglob("__init__.py"))[1:]:
        folder = path.parent.relative_to(ROOT)
        name = "  " * (len(folder.parts) - 2) + f"{folder.name}/"
        lines.append(f"{name:<16} {first_sentence(path)}")
    return "```\n" + "\n".join(lines) + "\n```"


def between(text: str, name: str, body: str) -> str:
    """``text`` with ``body`` between the two marks of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{body}\n{end}{tail}"


def pages() -> dict[Path, str]:
    """What each generated file should hold."""
    architecture = ROOT / "docs" / "architecture.md"
    rows = [
        f"| `{e.key if isinstance(e.key, str) else '.'.join(e.key)}` | {e.shape} | {e.dtype} | {e.writer} | {e.reader} "
        f"| {e.meaning} |"
        for e in TABLE
    ]
    entries = "\n".join(
        [
            "| entry | shape | type | written by | read by | meaning |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )
    return {
        architecture: between(between(architecture.read_text(), "packages", packages()), "entries", entries),
        ROOT / "docs" / "metrics.md": "# Metrics\n\nMade from `llmrl/training/metrics.py` by `make docs`.\n\n"
        + markdown_table()
        + "\n",
    }


def main() -> int:
    """Write, or check."""
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what `make docs` writes.")
        return int(bool(stale))
    for path in stale:
        path.write_text(pages()[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
