"""Write the parts of the documentation that are made from the code: packages, entries of a batch, docs/metrics.md,
the pages of the algorithms.

python docs/generate.py            writes
python docs/generate.py --check    says what would change, and fails if anything would
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

from llmrl.algorithms import ALGORITHMS, algorithm
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


def code_blocks(text: str) -> str:
    """Markdown of a docstring: what it indents, such as a formula, as a block of code."""
    parts = [part.strip("\n") for part in text.split("\n\n")]
    return "\n\n".join(f"```text\n{inspect.cleandoc(p)}\n```" if p.startswith("    ") else p for p in parts)


def algorithm_page(name: str) -> str:
    """Equation, what differs, defaults, evidence, command and citation, from docstrings and the recipe itself."""
    recipe = algorithm(name)
    function = ALGORITHMS[name]
    module = inspect.getmodule(function)
    assert module is not None
    path = Path(module.__file__ or "").resolve().relative_to(ROOT)
    options = inspect.getdoc(function) or ""
    about, _, arguments = options.partition("Args:\n")
    rows = [row for row in (ROOT / "docs" / "losses.md").read_text().split("\n") if re.match(rf"\| {name}[ +]", row)]
    head = (
        "| algorithm | project | results | equal | largest difference of loss, gradient | others |\n"
        + "| --- " * 6
        + "|"
    )
    parity = "\n".join([head, *rows]) if rows else "No published code was compared with it."
    return f"""# {name}

Made by `make docs` from [`{path}`](../../{path}).

{code_blocks(inspect.getdoc(module) or "")}

## This recipe

{code_blocks(about.strip())}

```text
{recipe}
```

## Options

```text
{inspect.cleandoc(arguments)}
```

## Evidence

Equal to published code ([losses](../losses.md)):

{parity}

What small exact tasks say of the papers' claims: [claims](../claims.md).

## Command

```sh
llmrl train --algo {name} --train.steps 2
```

## Citation

The recipe names: {recipe.paper}.
"""


def algorithm_pages() -> dict[Path, str]:
    """A page for every registered algorithm, and the index of papers."""
    folder = ROOT / "docs" / "algorithms"
    names = sorted(ALGORITHMS)
    papers = "\n".join(f"| [{name}]({name}.md) | {algorithm(name).paper} |" for name in names)
    entries = "\n".join(names)
    index = f"""# Algorithms and papers

Made by `make docs`. `tis`, `mis` and `erc` change another recipe; alone they stand on DAPO, whose paper is named.

| algorithm | paper |
| --- | --- |
{papers}

```{{toctree}}
:hidden:

{entries}
```
"""
    return {folder / "index.md": index, **{folder / f"{name}.md": algorithm_page(name) for name in names}}


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
        **algorithm_pages(),
    }


def main() -> int:
    """Write, or check."""
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what `make docs` writes.")
        return int(bool(stale))
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
