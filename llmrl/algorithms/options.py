"""Options that several recipes share: a dual clip, a KL term, imitation of correct answers."""

from __future__ import annotations

from typing import Literal

from llmrl.algorithms.algorithm import Term, term
from llmrl.losses.clip import Clip, DualClip
from llmrl.losses.terms import Estimator, KLToReference, OffPolicy, PositiveNLL, k1, k2, k3, k3_straight_through
from llmrl.registry import suggest

Terms = tuple[Term, ...]
KLEstimator = Literal["k1", "k2", "k3", "k3_straight_through", "off_policy_k3"]
"""How a recipe's options name an estimator of the KL divergence."""
ESTIMATORS: dict[str, Estimator] = {
    "k1": k1,
    "k2": k2,
    "k3": k3,
    "k3_straight_through": k3_straight_through,
    "off_policy_k3": OffPolicy(k3),
}
"""See :mod:`llmrl.losses.terms` for the value and the gradient of each."""


def with_dual_clip(clip: Clip, bound: float | None) -> Clip:
    """``clip``, with a bound on ratios that count against a token if one is given."""
    return clip if bound is None else DualClip(base=clip, bound=bound)


def kl_term(coefficient: float, estimator: KLEstimator = "k3") -> Terms:
    """A KL term, or nothing: a coefficient of 0 saves the reference model.

    >>> kl_term(0.0)
    ()
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"No KL estimator is called {estimator!r}. {suggest(estimator, ESTIMATORS)}")
    if coefficient == 0:
        return ()
    return (term(KLToReference, estimator=ESTIMATORS[estimator], coefficient=coefficient),)


def nll_term(coefficient: float) -> Terms:
    """Imitation of correct answers, or nothing."""
    return () if coefficient == 0 else (term(PositiveNLL, coefficient=coefficient),)
