"""Write the parts of the documentation that are made from the code: packages, entries of a batch, docs/metrics.md,
the pages of the algorithms and their figures, the numbers of the explorer.

python docs/generate.py            writes
python docs/generate.py --check    says what would change, and fails if anything would
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import explorer
import figures
import recipes

from llmrl.algorithms import ALGORITHMS, Algorithm, algorithm
from llmrl.keys import TABLE
from llmrl.training.metrics import markdown_table

ROOT = Path(__file__).resolve().parent.parent


def first_sentence(path: Path) -> str:
    """The first sentence of a file's docstring, which says what the file is for."""
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
    """``text`` with ``body`` between the two comments that mark the part of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{body}\n{end}{tail}"


def code_blocks(text: str) -> str:
    """A docstring as Markdown; indented parts, such as formulas, become blocks of code."""
    parts = [part.strip("\n") for part in text.split("\n\n")]
    return "\n\n".join(f"```text\n{inspect.cleandoc(p)}\n```" if p.startswith("    ") else p for p in parts)


NEIGHBOURS = {
    "aspo": "grpo",
    "ce_gppo": "gppo",
    "cispo": "dapo",
    "clip_cov": "dapo",
    "dapo": "grpo",
    "dcpo": "grpo",
    "dr_grpo": "grpo",
    "erc": "dapo",
    "espo": "gspo",
    "gmpo": "gspo",
    "gppo": "dapo",
    "grpo": "ppo",
    "gspo": "grpo",
    "kl_cov": "clip_cov",
    "mis": "dapo",
    "ppo": "grpo",
    "rloo": "dr_grpo",
    "sapo": "grpo",
    "tis": "dapo",
}
"""The algorithm that each page compares with: the starting point of the paper, or the most similar recipe."""


def recipe_table(recipe: Algorithm) -> str:
    """Every component of a recipe with its numbers."""
    rows = [line.split(maxsplit=1) for line in str(recipe).split("\n")[1:]]
    return "\n".join(["| component | value |", "| --- | --- |", *(f"| {name} | `{shown}` |" for name, shown in rows)])


def neighbour_table(recipe: Algorithm, neighbour: Algorithm) -> str:
    """The components in which two recipes differ, with their numbers."""
    pairs = zip(str(recipe).split("\n")[1:], str(neighbour).split("\n")[1:], strict=True)
    rows = [(own.split(maxsplit=1), other.split(maxsplit=1)) for own, other in pairs if own != other]
    table = "\n".join(f"| {own[0]} | `{own[1]}` | `{other[1]}` |" for own, other in rows)
    return f"| | {recipe.name} | {neighbour.name} |\n| --- | --- | --- |\n{table}"


def difference(recipe: Algorithm, neighbour: Algorithm) -> str:
    """The components in which two recipes differ, in a sentence."""
    pairs = zip(str(recipe).split("\n")[1:], str(neighbour).split("\n")[1:], strict=True)
    *most, last = [own.split()[0] for own, other in pairs if own != other]
    return f"{recipe.name} differs from {neighbour.name} in {', '.join(most) + ' and ' if most else ''}{last}."


def parity_table(name: str) -> str:
    """The rows of an algorithm, and of compositions that begin with it, in the table of docs/losses.md."""
    text = (ROOT / "docs" / "losses.md").read_text()
    section = text.partition("## Equal to published code\n")[2].partition("\n## ")[0]
    head, ruler, *rows = [line for line in section.split("\n") if line.startswith("|")]
    own = [row for row in rows if re.match(rf"\| {name}[ +]", row)]
    return "\n".join([head, ruler, *own]) if own else "No published code was compared with it."


def claims_about(name: str) -> str:
    """Whether docs/claims.md tests an algorithm."""
    text = (ROOT / "docs" / "claims.md").read_text()
    if re.search(rf"\b{name}\b", text):
        return f"[Claims](../claims.md) tests claims about {name} on small exact tasks."
    return f"[Claims](../claims.md) does not test {name}."


def figure(recipe: Algorithm) -> str:
    """The figure with its caption, or the reason that there is none."""
    if figures.needs_a_batch(recipe):
        return (
            "There is no figure for one token: the gate compares tokens of a batch with each other. Without the gate "
            "the objective is PPO's with the bounds above."
        )
    name = recipe.name
    left_out = figures.left_out(recipe)
    missing = f" The curves leave out {' and '.join(left_out)}." if left_out else ""
    return f"""![{name}: value and gradient of a token over its importance ratio, both signs of A](figures/{name}.svg)

The figure shows one token, with A = +1 and with A = -1. The curves are the value of its term, and the derivative of
the term with respect to the token's log-probability. The response has only this token. The loss module computed every
point.{missing} [The explorer](../explorer.md) draws other settings and compares two objectives."""


def algorithm_page(name: str) -> str:
    """Equation, figure, differences, options, evidence, command and citation, from docstrings and the recipe."""
    recipe = algorithm(name)
    function = ALGORITHMS[name]
    module = inspect.getmodule(function)
    assert module is not None
    path = Path(module.__file__ or "").resolve().relative_to(ROOT)
    neighbour = NEIGHBOURS[name]
    return f"""# {name}

`make docs` generates this page from [`{path}`](../../{path}).

{code_blocks(inspect.getdoc(module) or "")}

## This recipe

{code_blocks(recipes.about(name))}

{recipe_table(recipe)}

## Value and gradient

{figure(recipe)}

## Differences from {neighbour}

{difference(recipe, algorithm(neighbour))}

{neighbour_table(recipe, algorithm(neighbour))}

All other components are those of [{neighbour}]({neighbour}.md).

## Options

{recipes.table(name)}

## Evidence

Comparison with published code ([losses](../losses.md#equal-to-published-code)):

{parity_table(name)}

{claims_about(name)}

## Command

```sh
llmrl train --algo {name} --train.steps 2
```

## Citation

{recipe.paper}.
"""


def algorithm_pages() -> dict[Path, str]:
    """A page for every registered algorithm with its figure, and the index of papers."""
    folder = ROOT / "docs" / "algorithms"
    names = sorted(ALGORITHMS)
    papers = "\n".join(
        f"| [{name}]({name}.md) | {algorithm(name).paper} | [{NEIGHBOURS[name]}]({NEIGHBOURS[name]}.md) |"
        for name in names
    )
    entries = "\n".join(names)
    index = f"""# Algorithms and papers

`make docs` generates this page. `tis`, `mis` and `erc` modify another recipe. Without one they modify DAPO, and the
table names its paper.

| algorithm | paper | compared with |
| --- | --- | --- |
{papers}

[The explorer](../explorer.md) compares value and gradient of any two algorithms.

```{{toctree}}
:hidden:

{entries}
```
"""
    drawn = [recipe for recipe in map(algorithm, names) if not figures.needs_a_batch(recipe)]
    return {
        folder / "index.md": index,
        **{folder / f"{name}.md": algorithm_page(name) for name in names},
        **{folder / "figures" / f"{recipe.name}.svg": figures.svg(recipe) for recipe in drawn},
    }


def code_pages() -> dict[Path, str]:
    """The pages whose tables come from llmrl/keys.py, the packages and the registry of metrics."""
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
        ROOT
        / "docs"
        / "metrics.md": "# Metrics\n\n`make docs` generates this page from `llmrl/training/metrics.py`.\n\n"
        + markdown_table()
        + "\n",
    }


def pages() -> dict[Path, str]:
    """The text of each generated file."""
    data = ROOT / "docs" / "_static" / "explorer_data.js"
    return {**code_pages(), **algorithm_pages(), data: explorer.script()}


def main() -> int:
    """Write, or check."""
    written = pages()
    stale = [path for path, text in written.items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what `make docs` writes.")
        return int(bool(stale))
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(written[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
