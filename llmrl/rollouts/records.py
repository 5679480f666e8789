"""Records: what is written down of one response, and what can be read from it without tensors."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
"""One response, as a line of JSON.

``group``, ``problem_id``, ``problem``, ``response`` (of the last turn), ``reward`` (the sum over the turns),
``finish_reason`` (``end``, ``length``), ``tokens``, ``turns``, ``transcript`` (a dictionary for each turn), and
what the environment reports in its ``info``: ``verdict``, ``valid``, ``answer``, ``extracted``, ``fault`` ...
"""


def is_correct(record: Record) -> bool:
    """By the verdict where there is one, so that shaped rewards do not count as accuracy.

    >>> is_correct({"verdict": "wrong", "reward": 1.5}), is_correct({"reward": 1.0})
    (False, True)
    """
    return record["verdict"] == "correct" if "verdict" in record else record["reward"] >= 1
