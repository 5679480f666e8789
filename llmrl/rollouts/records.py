"""Records: the texts and facts of one episode, which can be read without tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmrl.likeness import Known, Maybe, Table

Record = dict[str, Any]
"""One episode, as a line of JSON.

``group``, ``problem_id``, ``problem``, ``response`` (of the last turn), ``reward`` (the sum over the turns),
``finish_reason`` (``end``, ``length``), ``tokens``, ``turns``, ``transcript`` (a dictionary for each turn), and
what the environment reports in its ``info``: ``verdict``, ``valid``, ``answer``, ``extracted``, ``fault`` ...
A key of ``info`` that is in :data:`OWN` is called ``info.KEY``.
"""

OWN = frozenset(
    {"group", "step", "problem_id", "problem", "response", "reward", "finish_reason", "tokens", "turns", "transcript"}
    | {"advantage", "greedy", "vote"}
)
"""Entries that are measured here and that no environment may set."""

FORM = Known(
    {
        "group": 0,
        "step": 0,
        "problem_id": 0,
        "problem": "",
        "response": "",
        "reward": 0.0,
        "tokens": 0,
        "greedy": True,
        "vote": Maybe(0),
        "reward_parts": Table("", 0.0),
    }
)
"""What a record of a file must be like, for :func:`llmrl.likeness.refuse_unlike`."""


def is_correct(record: Record) -> bool:
    """Whether the verdict is ``correct``; if the record has no verdict, whether the environment paid at least 1.

    What wrappers pay besides does not count.

    >>> is_correct({"verdict": "wrong", "reward": 1.5}), is_correct({"reward": 1.0})
    (False, True)
    >>> is_correct({"reward": 1.0, "reward_parts": {"answer": 0.9, "format": 0.1}})
    False
    """
    if record.get("verdict") is not None:
        return bool(record["verdict"] == "correct")
    return bool(record.get("reward_parts", {}).get("answer", record["reward"]) >= 1)


def reported(info: Mapping[str, Any]) -> Record:
    """What an environment reports, under names that are not those of :data:`OWN`; its problem id is known already.

    >>> reported({"verdict": "correct", "reward": 100.0, "problem_id": 3})
    {'verdict': 'correct', 'info.reward': 100.0}
    """
    return {f"info.{key}" if key in OWN else key: value for key, value in info.items() if key != "problem_id"}
