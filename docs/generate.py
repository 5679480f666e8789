"""Write the parts of the documentation that are made from the code: the README's tree, docs/metrics.md.

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
FOLDERS = ("llmrl", "examples", "benchmarks", "docs")


def first_sentence(path: Path) -> str:
    """What a file says that it owns: the first sentence of its docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".").split(".  ")[0]


def tree() -> str:
    """Every module with one line."""
    lines = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if (sentence := first_sentence(path)) or path.name != "__init__.py":
                lines.append(f"{name:<44} {sentence}")
    return "```\n" + "\n".join(lines) + "\n```"


def between(text: str, name: str, body: str) -> str:
    """``text`` with ``body`` between the two marks of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{body}\n{end}{tail}"


def pages() -> dict[Path, str]:
    """What each generated file should hold."""
    readme, architecture = ROOT / "README.md", ROOT / "docs" / "architecture.md"
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
        readme: between(readme.read_text(), "tree", tree()),
        architecture: between(architecture.read_text(), "entries", entries),
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
