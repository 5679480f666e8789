"""Records: the texts and facts of one episode, which can be read without tensors."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
"""One episode, as a line of JSON.

``group``, ``problem_id``, ``problem``, ``response`` (of the last turn), ``reward`` (the sum over the turns),
``finish_reason`` (``end``, ``length``), ``tokens``, ``turns``, ``transcript`` (a dictionary for each turn), and
what the environment reports in its ``info``: ``verdict``, ``valid``, ``answer``, ``extracted``, ``fault`` ...
"""


def is_correct(record: Record) -> bool:
    """Whether the verdict is ``correct``; if the record has no verdict, whether the reward is at least 1.

    >>> is_correct({"verdict": "wrong", "reward": 1.5}), is_correct({"reward": 1.0})
    (False, True)
    """
    return record["verdict"] == "correct" if "verdict" in record else record["reward"] >= 1
