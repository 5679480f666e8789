"""What runs inside a worker process: Math-Verify and sympy, on answers the exact parser cannot read."""

from __future__ import annotations

from math_verify import parse, verify


def equivalent(answer: str, gold: str) -> bool:
    """Whether Math-Verify takes the two answers for equal.  The caller bounds time and memory."""
    parsed_gold = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    parsed = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    return bool(verify(parsed_gold, parsed, timeout_seconds=None))


def grade_response(response: str, gold: str) -> tuple[str, str | None]:
    """Math-Verify's own verdict on a whole response: the status, and what it took for the answer."""
    parsed_gold = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not parsed_gold:
        return "unparsable_gold", None
    parsed = parse(response, parsing_timeout=None)
    if not parsed:
        return "no_answer", None
    right = verify(parsed_gold, parsed, timeout_seconds=None)
    return "correct" if right else "wrong", str(parsed[-1])
