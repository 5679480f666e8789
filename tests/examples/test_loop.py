"""The loop on one page runs, moves the weights, and makes the calls that the trainer makes."""

import ast
import inspect
import math
import textwrap
from pathlib import Path

import torch

from examples import loop
from llmrl.policies import Policy
from llmrl.training.trainer import Trainer


def called(function) -> list[str]:
    """Names that a function calls, in the order in which the calls end; ``self.learner.update`` is ``update``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.end_lineno, call.end_col_offset))
    return [ast.unparse(call.func).rpartition(".")[2] for call in calls]


def test_a_short_form_of_the_loop_runs_and_moves_the_weights(capsys, monkeypatch):
    loaded = []
    load = Policy.from_pretrained

    def remember(*given, **options):
        loaded.append(load(*given, **options))
        return loaded[-1]

    monkeypatch.setattr(Policy, "from_pretrained", remember)
    rewards = loop.main(steps=2, prompts=4, group_size=4)
    assert len(rewards) == 2
    assert all(map(math.isfinite, rewards))
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert loaded[0].version == 2
    before = load("llmrl/nano", device="cpu").model.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in loaded[0].model.state_dict().items())


def test_loop_and_trainer_make_the_same_five_calls_in_the_same_order():
    five = ["gather", "before_update", "weigh", "update", "sync"]
    assert [name for name in called(loop.main) if name in five] == five
    assert [name for name in called(Trainer.step) if name in five] == ["gather", "before_update", "update", "sync"]
    assert [name for name in called(Trainer.update) if name in five] == ["weigh", "update"]


def test_the_loop_fits_on_one_page():
    assert len(Path(loop.__file__).read_text().splitlines()) <= 70
