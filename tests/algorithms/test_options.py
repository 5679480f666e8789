"""Options of recipes that contradict each other: what has no effect is refused and not ignored."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest

from llmrl.algorithms import ALGORITHMS, algorithm, find_algorithm
from llmrl.errors import UserError

CANDIDATES: tuple[Any, ...] = (True, False, None, 0, 7, 0.0, 0.3, 1.5, (0.2, 0.3), "k2", "outward")
"""Tried for every option; the recipe itself refuses those that do not fit."""


def _made(name: str, **options: Any) -> str | None:
    """The recipe as text; None if it is refused."""
    try:
        return str(algorithm(name, **options))
    except UserError:
        return None


def _ignored(name: str) -> set[tuple[str, str]]:
    """Pairs (switch, option): the option changes the recipe, but not where the switch has some value."""
    plain = _made(name)
    parameters = inspect.signature(find_algorithm(name)).parameters.values()
    values = [(p.name, v) for p in parameters for v in CANDIDATES if p.name != "base" and v != p.default]
    alone = {(n, v): text for n, v in values if (text := _made(name, **{n: v})) not in (None, plain)}
    return {
        (switch, option)
        for (switch, a), (option, b) in itertools.permutations(alone, 2)
        if switch != option and _made(name, **{switch: a, option: b}) == alone[switch, a]
    }


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_no_option_is_ignored_under_another(name: str) -> None:
    equal = {("kl_in_reward", "kl_estimator")} if name in ("aspo", "grpo") else set()  # k1 is the default there
    assert _ignored(name) - equal == set()


def test_an_estimator_that_is_no_text_is_refused() -> None:
    with pytest.raises(UserError, match="No KL estimator is called True"):
        algorithm("grpo", kl_estimator=True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ppo", {"critic": False, "lam": 0.2}, r"lam 0\.2 has no effect with critic False"),
        ("ppo", {"critic": False, "value_clip": None}, "value_clip None has no effect with critic False"),
        ("ppo", {"value_coefficient": 0.0, "value_clip": 0.1}, r"value_clip 0\.1 has no effect with value_coef"),
        ("espo", {"fixed_clip": (0.2, 0.28), "alpha": 5.0}, r"alpha 5\.0 has no effect with fixed_clip \(0\.2, 0\.28"),
        ("erc+dapo", {"soft_length": 0, "max_length": 7}, "max_length 7 has no effect with soft_length 0"),
        ("dapo", {"overlong_penalty": 0.0, "max_length": 7}, r"max_length 7 has no effect with overlong_penalty 0\.0"),
        ("cispo", {"dynamic_sampling": False, "max_refills": 50}, "max_refills 50 has no effect with dynamic_sampling"),
        ("mis+gspo", {"geometric": True, "sequence": False}, "sequence False has no effect with geometric True"),
        ("kl_cov", {"coefficient": 0.0, "fraction": 0.1}, r"fraction 0\.1 has no effect with coefficient 0\.0"),
    ],
)
def test_an_option_without_effect_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message + r".*Give only one of the two\."):
        algorithm(name, **options)


def test_a_default_beside_a_switch_is_accepted() -> None:
    assert str(algorithm("ppo", critic=False, lam=0.95)) == str(algorithm("ppo", critic=False))
    assert algorithm("dapo", soft_length=50, max_length=100).credit.shape
