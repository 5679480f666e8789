"""Options that several recipes share: a dual clip, a KL term, imitation of correct answers."""

from __future__ import annotations

from llmrl.algorithms.algorithm import Term, term
from llmrl.losses.clip import Clip, DualClip
from llmrl.losses.terms import Estimator, KLToReference, PositiveNLL, k3

Terms = tuple[Term, ...]


def with_dual_clip(clip: Clip, bound: float | None) -> Clip:
    """``clip``, with a bound on ratios that count against a token if one is given."""
    return clip if bound is None else DualClip(base=clip, bound=bound)


def kl_term(coefficient: float, estimator: Estimator = k3) -> Terms:
    """A KL term, or nothing: a coefficient of 0 saves the reference model."""
    if coefficient == 0:
        return ()
    return (term(KLToReference, estimator=estimator, coefficient=coefficient),)


def nll_term(coefficient: float) -> Terms:
    """Imitation of correct answers, or nothing."""
    return () if coefficient == 0 else (term(PositiveNLL, coefficient=coefficient),)
