"""What the options of several recipes share.

The dual clip, imitation of correct answers, the divergence from a reference, and the refusal of options that another
option leaves without effect.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from llmrl.algorithms.algorithm import Algorithm, Recipe, Term, term
from llmrl.credit import AdaptiveKL, KLPenalty
from llmrl.losses.clip import Clip, DualClip
from llmrl.losses.terms import (
    Estimator,
    KLToReference,
    OffPolicy,
    PositiveNLL,
    absolute,
    k1,
    k2,
    k3,
    k3_straight_through,
)
from llmrl.registry import suggest

Terms = tuple[Term, ...]
KLEstimator = Literal["k1", "k2", "k3", "abs", "k3_straight_through", "off_policy_k3"]
"""The names of the KL estimators in the options of a recipe."""
ESTIMATORS: dict[str, Estimator] = {
    "k1": k1,
    "k2": k2,
    "k3": k3,
    "abs": absolute,
    "k3_straight_through": k3_straight_through,
    "off_policy_k3": OffPolicy(k3),
}
"""The estimators by name; :mod:`llmrl.losses.terms` states the value and the gradient of each."""
GRADIENT_ALONE = ("k3_straight_through", "off_policy_k3")
"""Estimators that differ from k3 in their gradient alone; they make no sense in a reward, which has no gradient."""


def with_dual_clip(clip: Clip, bound: float | None) -> Clip:
    """``clip``, wrapped in a dual clip if a bound is given."""
    return clip if bound is None else DualClip(base=clip, bound=bound)


def nll_term(coefficient: float) -> Terms:
    """The term that imitates correct answers; none if the coefficient is 0."""
    return () if coefficient == 0 else (term(PositiveNLL, coefficient=coefficient),)


def unused(*names: str, switch: str, off: Callable[[Any], bool]) -> Callable[[Recipe], Recipe]:
    """A decorator: the recipe refuses options that have no effect at some values of another option, the switch.

    A value equal to the default is not refused: it contradicts nothing.

    Args:
        names: the options.
        switch: the option that decides whether they have an effect.
        off: true for the values of the switch at which they have none.

    >>> @unused("limit", switch="bounded", off=lambda bounded: not bounded)
    ... def mine(*, bounded: bool = True, limit: float = 2.0) -> Algorithm:
    ...     return Algorithm(name="mine")
    >>> mine(bounded=False, limit=3.0)
    Traceback (most recent call last):
    ValueError: limit 3.0 has no effect with bounded False. Give only one of the two.
    """

    def decorate(recipe: Recipe) -> Recipe:
        defaults = {name: inspect.signature(recipe).parameters[name].default for name in (switch, *names)}

        @functools.wraps(recipe)
        def made(**options: Any) -> Algorithm:
            chosen = options.get(switch, defaults[switch])
            idle = [name for name in names if name in options and options[name] != defaults[name]]
            if idle and off(chosen):
                given = f"{idle[0]} {options[idle[0]]!r} has no effect with {switch} {chosen!r}"
                raise ValueError(f"{given}. Give only one of the two.")
            return recipe(**options)

        return made

    return decorate


@dataclass(frozen=True, kw_only=True)
class KLOptions:
    """The options that :func:`takes_kl` adds to a recipe."""

    kl: float = 0.0
    kl_estimator: KLEstimator | None = None
    kl_in_reward: bool = False
    kl_target: float | None = None

    def __post_init__(self) -> None:
        name = self.kl_estimator
        if name is not None and name not in ESTIMATORS:
            raise ValueError(f"No KL estimator is called {name!r}. {suggest(str(name), ESTIMATORS)}")
        if not 0 <= self.kl < float("inf"):
            raise ValueError(f"kl must be 0 or more and finite, got {self.kl}: it is the weight of a penalty.")
        if self.kl_in_reward and self.kl == 0:
            raise ValueError("kl_in_reward needs a weight, but kl is 0: give kl above 0, such as 0.05.")
        if name is not None and self.kl == 0:
            raise ValueError(f"kl_estimator {name} needs a weight, but kl is 0: give kl above 0, such as 0.04.")
        if self.kl_in_reward and name in GRADIENT_ALONE:
            raise ValueError(
                f"kl_estimator {name} differs from k3 in its gradient alone, and a reward has no gradient. "
                "With kl_in_reward give k1, k2, k3 or abs."
            )
        if self.kl_target is not None and not self.kl_in_reward:
            raise ValueError(
                "kl_target adapts the penalty in the reward, but kl_in_reward is off: give kl_in_reward too."
            )

    def on(self, made: Algorithm) -> Algorithm:
        """The recipe with the divergence in its loss or in its reward; unchanged if kl is 0."""
        if self.kl == 0:
            return made
        if not self.kl_in_reward:
            kind = ESTIMATORS[self.kl_estimator or "k3"]
            terms = (*made.terms, term(KLToReference, estimator=kind, coefficient=self.kl))
            return dataclasses.replace(made, terms=terms)
        penalty = KLPenalty(
            base=made.credit.advantage,
            coefficient=self.kl,
            estimator=ESTIMATORS[self.kl_estimator or "k1"],
            controller=None if self.kl_target is None else AdaptiveKL(target=self.kl_target),
        )
        return dataclasses.replace(made, credit=dataclasses.replace(made.credit, advantage=penalty))


KL_ARGUMENTS = """\
    kl: weight of the divergence from the reference policy; 0: no reference is loaded.
    kl_estimator: the estimator of the divergence. k3 has the gradient of KL(reference, policy). k2 and
        k3_straight_through have the gradient of KL(policy, reference). off_policy_k3 has it too, also on samples of the
        old policy. k1 has no gradient in expectation. abs is |k1|. By default k3 in the loss and k1 in the reward.
    kl_in_reward: subtract the divergence from the reward, token by token, instead of adding it to the loss. If
        all responses to a problem get the same reward, only the divergence decides their advantages. If these are
        divided by the standard deviation, they are then as large as those of any other group.
    kl_target: change the weight each step until the divergence is this many nats a token; it needs kl_in_reward."""
"""Explains the four options, for ``--help`` and ``help()``."""


def takes_kl(default: float = 0.0) -> Callable[[Recipe], Recipe]:
    """A decorator: the recipe takes the options of :class:`KLOptions` in addition to its own.

    Args:
        default: the default of the option ``kl``.

    >>> @takes_kl(default=0.1)
    ... def mine(*, clip_low: float = 0.2) -> Algorithm:
    ...     return Algorithm(name="mine")
    >>> mine().terms[0].loss.__name__, mine(kl=0).terms
    ('KLToReference', ())
    """

    hints = typing.get_type_hints(KLOptions)
    defaults = {**{f.name: f.default for f in dataclasses.fields(KLOptions)}, "kl": default}
    added = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d, annotation=hints[n])
        for n, d in defaults.items()
    ]

    def decorate(recipe: Recipe) -> Recipe:
        @functools.wraps(recipe)
        def made(**options: Any) -> Algorithm:
            about = {name: options.pop(name, value) for name, value in defaults.items()}
            return KLOptions(**about).on(recipe(**options))

        own = inspect.signature(recipe)
        made.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
        made.__annotations__ = {**typing.get_type_hints(recipe), **hints}
        text = inspect.getdoc(recipe) or ""
        made.__doc__ = text + ("\n" if "\nArgs:" in text else "\n\nArgs:\n") + KL_ARGUMENTS
        return made

    return decorate
