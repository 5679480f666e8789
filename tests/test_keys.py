"""The table of entries says who writes and who reads each: here both are derived from the code and compared.

Readers are the components of losses and credit, by ``in_keys`` (what a component may read besides is what its source
names). Writers are found in the source: assignments to an entry.
"""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmrl.credit
import llmrl.losses
from llmrl import keys
from llmrl.keys import Entry, Key, Reads
from llmrl.losses.module import BatchLoss
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy

ROOT = Path(llmrl.__file__).parent
ENTRIES = {row.key: row for row in keys.TABLE}
NAMES = {value: name for name, value in vars(keys).items() if isinstance(value, str | tuple) and value in ENTRIES}
"""The constant of each entry."""
WHOLE_FILES = {"rollouts/": "rollouts", "policies/episode.py": "rollouts", "training/": "trainer"}
"""Whose writing counts as that of a whole."""
METHODS = {"Policy.score": "Policy.score", "Critic.forward": "Critic.score", "Algorithm.weigh": "Algorithm.weigh"}
COPIES = {("MASK", "trainer"), ("VALUE", "trainer")}
"""Put into a copy beside the batch, or by the critic that the trainer calls."""


def components(package) -> list[type]:
    """The classes of a package that say what they read."""
    found = []
    for module in pkgutil.iter_modules(package.__path__):
        for thing in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            own = inspect.isclass(thing) and thing.__module__ == f"{package.__name__}.{module.name}"
            if own and "in_keys" in dir(thing) and thing not in (BatchLoss, Reads):
                found.append(thing)
    return found


LOSSES, CREDIT = components(llmrl.losses), components(llmrl.credit)
READERS = {thing.__name__: thing for thing in (*LOSSES, *CREDIT)}


def declared(thing: type) -> set[Key]:
    """The entries that a component with its default options reads."""
    made = thing() if isinstance(inspect.getattr_static(thing, "in_keys"), property) else thing
    before = thing().prepared_from if issubclass(thing, BatchLoss) else ()
    return {*made.in_keys, *before}


def named(thing: type) -> set[Key]:
    """The entries that its source names, as ``keys.X`` or as an attribute of a batch."""
    source = inspect.getsource(thing)
    return {key for key, name in NAMES.items() if re.search(rf"\bkeys\.{name}\b|batch\.{name.lower()}\b", source)}


def covered(reader: str) -> set[str]:
    """The components that a text names, alone or as "every loss" and "credit"."""
    found = {name for name in READERS if re.search(rf"\b{name}\b", reader)}
    if "every loss" in reader:
        losses = {thing.__name__ for thing in LOSSES if issubclass(thing, BatchLoss)}
        found = losses - found if "every loss but" in reader else losses | found
    if re.search(r"\bcredit\b", reader):
        found |= {thing.__name__ for thing in CREDIT}
    return found


def written() -> Iterator[tuple[str, str]]:
    """Each constant of an entry that is assigned to, and who does it."""
    for path in ROOT.rglob("*.py"):
        file = str(path.relative_to(ROOT))
        for constant, scope in assigned(ast.parse(path.read_text()), ()):
            for start, owner in WHOLE_FILES.items():
                if file.startswith(start) and (constant, owner) not in COPIES:
                    yield constant, owner
            if file.startswith("credit/"):
                yield constant, scope[0] if scope[0][0].isupper() else "credit"
            if file.startswith(("policies/", "algorithms/")) and ".".join(scope) in METHODS:
                yield constant, METHODS[".".join(scope)]


def assigned(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Entries that are written below a node: ``td[keys.X] = ``, ``td.set(keys.X, ...)``, ``TensorDict({keys.X: ...})``.

    Of a dictionary from entries to entries, which says where scores go, the second ones are written.
    """
    for child in ast.iter_child_nodes(node):
        inside = (*scope, child.name) if isinstance(child, (ast.ClassDef, ast.FunctionDef)) else scope
        found: list[ast.AST | None] = []
        if isinstance(child, ast.Subscript) and isinstance(child.ctx, ast.Store):
            found = [child.slice]
        elif isinstance(child, ast.Call) and child.args:
            name = child.func.attr if isinstance(child.func, ast.Attribute) else getattr(child.func, "id", "")
            if name == "set":
                found = [child.args[0]]
            elif name == "TensorDict" and isinstance(child.args[0], ast.Dict):
                found = list(child.args[0].keys)
        elif isinstance(child, ast.Dict) and child.keys and all(constant(key) for key in child.keys):
            found = list(child.values)
        yield from ((name, inside) for name in map(constant, found) if name)
        yield from assigned(child, inside)


def constant(node: ast.AST | None) -> str | None:
    """X of ``keys.X``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "keys":
        return node.attr
    return None


PREPARED = {
    (NAMES[key], "Algorithm.weigh") for loss in LOSSES if issubclass(loss, BatchLoss) for key in loss().prepared
}
WRITTEN = {*written(), *PREPARED}
OWNERS = {owner for _, owner in WRITTEN}
every_entry = pytest.mark.parametrize("row", keys.TABLE, ids=lambda row: NAMES[row.key])


@every_entry
def test_whatever_reads_an_entry_is_named_in_its_row(row: Entry):
    reading = {name for name, thing in READERS.items() if row.key in declared(thing)}
    assert reading <= covered(row.reader)


@every_entry
def test_whatever_a_row_names_reads_the_entry(row: Entry):
    by_name = {name for name in READERS if re.search(rf"\b{name}\b", row.reader)}
    if "every loss but" in row.reader:
        by_name = set()
    assert {name for name in by_name if row.key not in declared(READERS[name]) | named(READERS[name])} == set()


@every_entry
def test_the_writers_are_those_that_assign_to_it(row: Entry):
    mine = {owner for name, owner in WRITTEN if name == NAMES[row.key]}
    told = {owner for owner in OWNERS if re.search(rf"(?<![\w.]){re.escape(owner)}(?![\w.])", row.writer)}
    if "credit" in told:
        mine = {"credit" if owner in {c.__name__ for c in CREDIT} else owner for owner in mine}
    assert told == mine


def test_what_policy_and_critic_read_and_write_is_in_the_table():
    policy = Policy.from_pretrained("llmrl/nano")
    for module, name in ((policy, "Policy.score"), (Critic.from_policy(policy), "Critic.score")):
        assert {row.key for row in keys.TABLE if name in row.reader} >= set(module.in_keys)
        assert {row.key for row in keys.TABLE if name in row.writer} >= set(module.out_keys)
