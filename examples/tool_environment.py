"""An environment of several turns with a tool: the model looks up prices before it answers.

Play an episode:                 python examples/tool_environment.py
Train on it, in this folder:     llmrl train --env tool_environment:mine/Shop-v0

`docs/tutorials/tool.md` goes through it step by step.
"""

from __future__ import annotations

import re

import gymnasium
import numpy as np

from llmrl.envs.problems import Problem, split_of
from llmrl.envs.text import TextEnv, Turn
from llmrl.envs.vector import vector_of
from llmrl.verifiers.verdict import Verdict

PRICES = {"apple": 3, "bread": 5, "cheese": 11, "dates": 8, "eggs": 4}
CALL = re.compile(r"<price>\s*(\w+)\s*</price>\s*$")


class ShoppingProblems:
    """Unlimited baskets; a hash of the text assigns each to train or test."""

    size = None

    def __init__(self, split: str) -> None:
        self.split = split

    def __getitem__(self, index: int) -> Problem:
        rng = np.random.default_rng(index)
        while True:
            goods = rng.choice(sorted(PRICES), 2, replace=False)
            counts = rng.integers(1, 10, 2)
            text = f"What do {counts[0]} {goods[0]} and {counts[1]} {goods[1]} cost?"
            if split_of(text) == self.split:
                total = sum(int(count) * PRICES[good] for count, good in zip(counts, goods, strict=True))
                return Problem(id=f"shop/{index}", problem=text, answer=str(total), source="shop")


class ShopEnv(TextEnv):
    """Add up prices that only the tool knows.

    Args:
        split: ``train`` or ``test``.
        calls: how often prices may be looked up.
        call_cost: what each call takes off the reward.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        calls: int = 4,
        call_cost: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(ShoppingProblems(split), "math", render_mode=render_mode)
        self.source_name = "shop"
        self.calls = calls
        self.call_cost = call_cost

    def prompt(self, problem: Problem) -> str:
        """The problem, and how to use the tool."""
        tool = "End your turn with <price>NAME</price> to see a price. Put the answer into \\boxed{}."
        return f"{problem.problem}\n{tool}"

    def answer_text(self, response: str) -> str | None:
        """None for a tool call, while calls are left."""
        return None if CALL.search(response) and len(self.turns) < self.calls else response

    def respond(self, response: str, verdict: Verdict | None) -> Turn:
        """The price, or the end."""
        if verdict is not None:
            return Turn("", {"answer": verdict.score}, terminated=True)
        call = CALL.search(response)
        name = call[1].lower() if call else ""
        price = PRICES.get(name)
        reply = f"There is no {name}." if price is None else f"One {name} costs {price}."
        return Turn(reply, {"answer": 0.0, "calls": -self.call_cost}, terminated=False)


gymnasium.register("mine/Shop-v0", entry_point=ShopEnv, vector_entry_point=vector_of(ShopEnv))


def play() -> None:
    """One episode with three responses."""
    env = gymnasium.make("mine/Shop-v0", render_mode="ansi")
    env.reset(options={"problem_id": 0})
    for response in ("<price>apple</price>", "<price>bread</price>", "\\boxed{1}"):
        _, _, terminated, truncated, _ = env.step(response)
        if terminated or truncated:
            break
    print(env.render())


if __name__ == "__main__":
    play()
