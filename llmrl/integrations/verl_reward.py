"""llmrl's verifier in verl: the function that verl calls for a response. Loads no torch, and needs nothing of verl."""

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
    """Grade one response, as verl's ``custom_reward_function`` asks.

    verl has no way to leave a response without a verdict out: a time-out scores 0, and ``valid`` says so.

    Args:
        data_source: of the row; unused.
        solution_str: the response.
        ground_truth: the gold answer.
        extra_info: of the row; unused.
        verifier_name: by ``custom_reward_function.reward_kwargs``: a verifier's name, or ``module:function``.
        unused: what else verl passes.

    Returns:
        ``score``, which verl trains on, and ``acc``, ``pred`` and ``valid``, which it logs.

    >>> compute_score("gsm8k", "So it is \\\\boxed{4}.", "4")
    {'score': 1.0, 'acc': 1.0, 'pred': '4', 'valid': 1.0}
    """
    verdict = verifier(verifier_name)([solution_str], [str(ground_truth)])[0]
    right = float(verdict.status == "correct")
    return {"score": verdict.score, "acc": right, "pred": verdict.extracted or "", "valid": float(verdict.valid)}
