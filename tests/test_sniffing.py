"""What a component offers is said by a class or a Protocol, and not found out by asking for attributes.

Counted are ``hasattr``, ``getattr`` with a default, and ``except AttributeError``.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "llmrl"
PEFT = "peft's layers have no common class with these attributes"
TRANSFORMERS = "configurations and models of transformers have the attribute or lack it, by family"
ALLOWED = {
    "commands/compare.py": (1, "a file that holds JSON of any shape"),
    "envs/vector.py": (1, "an environment of the user's without spaces"),
    "integrations/verifiers_env.py": (1, "what a module of the user's raises"),
    "policies/adapters.py": (5, PEFT),
    "policies/exactness.py": (1, TRANSFORMERS),
    "policies/limits.py": (2, TRANSFORMERS),
    "policies/names.py": (1, "a configuration's own code"),
    "policies/checks.py": (1, TRANSFORMERS),
    "policies/sampling/decoding.py": (2, "private operators of torch, which some builds lack"),
    "policies/sampling/host.py": (1, "a model of vLLM"),
    "policies/sampling/vllm.py": (2, TRANSFORMERS),
    "policies/scoring/head.py": (6, f"{PEFT}; {TRANSFORMERS}"),
    "policies/scoring/probing.py": (1, TRANSFORMERS),
    "policies/scoring/sharing.py": (1, TRANSFORMERS),
    "registry.py": (1, "a name in a module of the user's"),
    "terminal.py": (1, "sys.stdout may be any object that has write"),
    "verifiers/pool.py": (1, "os.register_at_fork exists on some systems alone"),
    "verifiers/worker.py": (1, "limits of the resource module exist on some systems alone"),
}
"""How often in a file, and why."""


def sniffs(source: str) -> int:
    """How often a text of Python asks whether there is an attribute."""
    count = 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            count += node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
        elif isinstance(node, ast.ExceptHandler) and node.type is not None:
            count += any(isinstance(n, ast.Name) and n.id == "AttributeError" for n in ast.walk(node.type))
    return count


def test_attributes_are_asked_for_only_of_what_others_wrote():
    found = Counter({str(path.relative_to(ROOT)): sniffs(path.read_text()) for path in ROOT.rglob("*.py")})
    assert +found == {name: count for name, (count, _) in ALLOWED.items()}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("hasattr(x, 'a')", 1),
        ("getattr(x, 'a', None)", 1),
        ("getattr(x, name)", 0),
        ("try:\n    x.a\nexcept AttributeError:\n    pass", 1),
        ("try:\n    x.a\nexcept (KeyError, AttributeError) as error:\n    pass", 1),
        ("raise AttributeError('a')", 0),
        ("isinstance(x, Reads)", 0),
    ],
)
def test_what_counts(source, count):
    assert sniffs(source) == count
