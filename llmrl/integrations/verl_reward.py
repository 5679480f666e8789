"""llmrl's verifier as a reward function of verl. Neither torch nor verl is imported."""

from __future__ import annotations

from typing import Any

from llmrl.verifiers import verifier


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    *,
    verifier_name: str = "math",
    **unused: Any,
) -> dict[str, Any]:
    """Grade one response, with the arguments of verl's ``custom_reward_function``.

    verl cannot leave out a response without a verdict: a timeout scores 0, and ``valid`` is 0.

    Args:
        data_source: data source of the row; unused.
        solution_str: the response.
        ground_truth: the gold answer.
        extra_info: further data of the row; unused.
        verifier_name: a verifier's name, or ``module:function``, from ``custom_reward_function.reward_kwargs``.
        unused: further arguments of verl.

    Returns:
        ``score``, which verl trains on, and ``acc``, ``pred`` and ``valid``, which it logs.

    >>> compute_score("gsm8k", "So it is \\\\boxed{4}.", "4")
    {'score': 1.0, 'acc': 1.0, 'pred': '4', 'valid': 1.0}
    """
    verdict = verifier(verifier_name)([solution_str], [str(ground_truth)])[0]
    right = float(verdict.status == "correct")
    return {"score": verdict.score, "acc": right, "pred": verdict.extracted or "", "valid": float(verdict.valid)}
