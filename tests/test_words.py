"""One word for one thing: what the glossary retires is in no document, docstring or text of the code."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
PROBLEMS = ("llmrl/envs/generated/", "llmrl/policies/nano/corpus.py")  # texts of mathematics, not about the library


def retired() -> dict[str, str]:
    """Each retired word, and what is said instead."""
    table = GLOSSARY.read_text().partition("<!-- retired -->")[2].partition("<!-- end of retired -->")[0]
    rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]]
    return {word: use for words, use in rows for word in words.split(", ")}


RETIRED = retired()
FOUND = re.compile(r"(?<![\w-])(?:" + "|".join(re.escape(word) for word in RETIRED) + r")s?(?![\w-])", re.IGNORECASE)


def found(text: str) -> set[str]:
    """Retired words in a text, line breaks and doubled blanks aside."""
    return {match.group().lower() for match in FOUND.finditer(re.sub(r"\s+", " ", text))}


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]


def sources() -> list[Path]:
    files = [path for folder in ("llmrl", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    return [path for path in files if not str(path.relative_to(ROOT)).startswith(PROBLEMS)]


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Every literal text of a module with its line: docstrings, messages, the fixed parts of f-strings; comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_uses_a_retired_word(path):
    text = path.read_text()
    if path == GLOSSARY:
        text = re.sub(r"<!-- retired -->.*?<!-- end of retired -->", "", text, flags=re.DOTALL)
    assert not found(text)


def test_no_text_of_the_code_uses_a_retired_word():
    bad = [
        f"{path.relative_to(ROOT)}:{line}: {word!r}; say {RETIRED.get(word, 'what the glossary says')}"
        for path in sources()
        for line, text in texts(path.read_text())
        for word in found(text)
    ]
    assert not bad, "\n".join(bad)


def test_no_retired_word_stands_among_those_to_use():
    used = GLOSSARY.read_text().partition("## Words that are not used")[0]
    assert not found(used)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ('"""A minibatch of rows."""', "minibatch"),
        ('raise ValueError(f"{name}: {count} entropy\\n    groups")', "entropy groups"),
        ("x = 1  # it is read anew", "anew"),
        ('help = "Which tokens may teach."', "may teach"),
    ],
)
def test_a_retired_word_is_found_wherever_it_stands(source, word):
    assert word in {word for _, text in texts(source) for word in found(text)}


def test_words_that_only_look_alike_are_not_found():
    assert not found("post_processor, processors-of-text, heedless, a micro-batch, teacher, the department0")
