"""The numbers of the explorer page: curves of the objectives for every combination of what its sliders offer.

A page that is opened as a file may load a script and no data, so the numbers are written as a script. Equal curves
are written once: the value of DAPO where A > 0, say, does not depend on its lower bound.
"""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import recipes
from curves import Line, Token, lines, parts
from figures import owner, view

from llmrl.algorithms import algorithm

LOWEST, HIGHEST, TOLERANCE = 0.01, 5.0, 1e-3
SIGNS = (1.0, -1.0)

_PPO = {"clip_low": (0.1, 0.2, 0.3, 0.5, 1.0), "clip_high": (0.1, 0.2, 0.28, 0.4, 1.0)}
_DUAL = {"dual_clip": (None, 1.5, 2.0, 3.0, 4.0)}
_ENTROPY = {"old_entropy": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)}
_CHANGE = {"entropy_ratio": (0.6, 0.8, 0.92, 0.97, 1.0, 1.03, 1.08, 1.25, 1.7)}
_LIKELY = {"old_probability": (0.02, 0.05, 0.1, 0.2, 0.5, 0.8)}
_BAND = {"low": (0.5, 0.9, 0.95, 0.99), "high": (1.01, 1.05, 1.1, 1.5)}

SLIDERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "aspo": {**_PPO, "cap": (1.0, 2.0, 3.0, 4.0)},
    "ce_gppo": {
        "beta_low": (0.0, 0.5, 0.75, 1.0),
        "beta_high": (0.0, 0.5, 0.75, 1.0),
        "clip_low": (0.1, 0.2, 0.3),
        "clip_high": (0.1, 0.2, 0.28),
    },
    "cispo": {"clip_low": (0.2, 0.5, 1.0), "clip_high": (0.28, 0.5, 1.0, 3.0), **_LIKELY},
    "dapo": {**_PPO, **_DUAL},
    "dcpo": {"clip_low": (0.08, 0.16, 0.3), "clip_high": (0.1, 0.2, 0.4), **_LIKELY},
    "dr_grpo": _PPO,
    "erc": {**_BAND, "sides": ("both", "outward"), **_CHANGE},
    "erc+gppo": {**_BAND, **_CHANGE},
    "espo": {"alpha": (0.005, 0.01, 0.02, 0.05, 0.1, 0.2), "clip_floor": (0.0, 0.001, 0.01), **_ENTROPY},
    "gmpo": {"clip_low": (0.1, 0.2, 0.4, 0.6, 1.0), "clip_high": (0.1, 0.2, 0.4, 0.6, 1.0)},
    "gppo": {**_PPO, **_DUAL},
    "grpo": {**_PPO, **_DUAL},
    "gspo": {"clip_low": (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.2), "clip_high": (1e-4, 4e-4, 1e-3, 4e-3, 0.01, 0.28)},
    "kl_cov": {},
    "ppo": {**_PPO, **_DUAL},
    "rloo": _PPO,
    "sapo": {"tau_positive": (0.5, 1.0, 1.05, 2.0, 4.0), "tau_negative": (0.5, 1.0, 1.05, 2.0, 4.0)},
}
"""What each objective offers: options of its recipe, and what it reads of the token; each with its stops."""

TOKEN = {
    "old_entropy": "entropy of the old policy here, as a share of log |V|",
    "entropy_ratio": "entropy of the policy over that of the old one",
    "old_probability": "what the old policy gave the token; the ratio is at most 1 over it",
}
"""What is a property of the token: one slider for both objectives."""


def combination(name: str, chosen: tuple[Any, ...]) -> tuple[Line, ...]:
    """Value and gradient for A = 1, then for A = -1, of one combination of stops."""
    given = dict(zip(SLIDERS[name], chosen, strict=True))
    token = Token(**{key: value for key, value in given.items() if key in TOKEN})
    made = algorithm(name, **{key: value for key, value in given.items() if key not in TOKEN})
    highest = min(HIGHEST, 1 / token.old_probability)
    return tuple(itertools.chain(*(lines(parts(made), sign, token, LOWEST, highest, TOLERANCE) for sign in SIGNS)))


def combinations(name: str) -> itertools.product[tuple[Any, ...]]:
    """All combinations of an objective's stops, the last slider fastest."""
    return itertools.product(*SLIDERS[name].values())


def sliders(name: str) -> list[dict[str, Any]]:
    """Name, stops, meaning and the stop that is the default, of each slider of an objective."""
    known = {option.name: option for option in recipes.options(name)}
    described = []
    for key, stops in SLIDERS[name].items():
        default = getattr(Token(), key) if key in TOKEN else known[key].default
        meaning = TOKEN[key] if key in TOKEN else known[key].meaning
        described.append({"name": key, "stops": stops, "start": stops.index(default), "meaning": meaning})
    return described


def described(name: str) -> dict[str, Any]:
    """What the page says of an objective."""
    made = algorithm(name)
    return {"paper": made.paper, "ratio": owner(made), "view": view(made, (Token(),)), "sliders": sliders(name)}


def flat(line: Line) -> list[float]:
    """Ratio, height, ratio, height, with six decimals."""
    return [0.0 if math.isclose(x, 0, abs_tol=5e-7) else float(f"{x:.6f}") for point in line for x in point]


def script() -> str:
    """The data file: the curves, each once, and for each combination the numbers of its four."""
    numbers: dict[str, int] = {}
    objectives = {}
    for name in SLIDERS:
        index = []
        for chosen in combinations(name):
            texts = [json.dumps(flat(line), separators=(",", ":")) for line in combination(name, chosen)]
            index += [numbers.setdefault(text, len(numbers)) for text in texts]
        objectives[name] = {**described(name), "index": index}
    about = json.dumps(objectives, separators=(",", ":"))
    return (
        "// Made by `make docs` from the loss modules; see docs/explorer.py.\n"
        f"const EXPLORER = {{lowest: {LOWEST}, highest: {HIGHEST}, token: {json.dumps(list(TOKEN))},\n"
        "lines: [\n" + ",\n".join(numbers) + f"\n],\nobjectives: {about}}};\n"
    )
