"""The losses next to what public libraries give for the same inputs, as markdown tables.

    python benchmarks/loss_parity.py [FOLDER]

FOLDER holds loss_parity_peers.json and loss_vectors.json: inputs, and the values and gradients that
the libraries' own code gave in float64; and loss_suites.json: values that the libraries' own tests assert
(default: tests/losses/published). The tests assert what is printed here.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.algorithms import algorithm

TOLERANCE = 1e-7
"""Some libraries add 1e-8 to denominators."""

_WIDTHS = {"clip_low": 0.2, "clip_high": 0.28}
_BAND = {"low": 0.95, "high": 1.05}
_TOKEN_MEAN = "averages over all tokens: not GSPO's mean over responses"

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "DAPO/token-mean": ("dapo", _WIDTHS),
    "DAPO/seq-mean-token-mean": ("grpo", {**_WIDTHS, "kl": 0.0}),
    "PPO dual-clip c=3 token-mean": ("dapo", {**_WIDTHS, "dual_clip": 3.0}),
    "Dr.GRPO (T_max=6)": ("dr_grpo", {**_WIDTHS, "max_length": 6}),
    "GSPO": ("gspo", _WIDTHS),
    "GSPO under default loss_type=dapo": ("gspo", _WIDTHS),
    "CISPO [0.8,1.28] token-mean": ("cispo", _WIDTHS),
    "CISPO [.,1.28] token-mean": ("cispo", {"clip_high": 0.28}),
    "GPPO c=inf token-mean": ("gppo", _WIDTHS),
    "GPPO c=inf": ("gppo", _WIDTHS),
    "GPPO c=3": ("gppo", {**_WIDTHS, "dual_clip": 3.0}),
    "GPPO c=3 token-mean": ("gppo", {**_WIDTHS, "dual_clip": 3.0}),
    "CE-GPPO b1=.5,b2=1 c=inf": ("ce_gppo", {**_WIDTHS, "beta_low": 0.5, "literal": True}),
    "ERC (DAPO) 0.95/1.05": ("erc+dapo", {**_WIDTHS, **_BAND}),
    "ERC (GPPO) 0.95/1.05": ("erc+gppo", {**_WIDTHS, **_BAND}),
    "ERC(DAPO)": ("erc+dapo", {**_WIDTHS, **_BAND}),
    "ERC(GPPO)": ("erc+gppo", {**_WIDTHS, **_BAND}),
}
"""Every fixture of loss_parity_peers.json, and the recipe that it is compared with."""
DEVIATIONS = {
    ("CISPO [0.8,1.28] token-mean", "torchrl.CISPOLoss"): (
        "clamps the ratio with its gradient and leaves out log pi: clipped tokens get no gradient"
    ),
    ("GSPO", "AReaL(sequence; token-mean agg)"): _TOKEN_MEAN,
    ("GSPO under default loss_type=dapo", "Liger(dapo,sequence)"): _TOKEN_MEAN,
}
"""Results that differ, and why."""
_ALIASES = {
    "ppo": "dapo",
    "dapo_dual_clip": "dapo",
    "gspo_wide": "gspo",
    "ce_gppo_75": "ce_gppo",
    "erc_dapo": "erc+dapo",
    "erc_gppo": "erc+gppo",
}


class Comparison(NamedTuple):
    """One published result beside ours."""

    fixture: str
    recipe: str
    library: str
    loss: float
    norm: float
    value_off: float
    gradient_off: float
    reason: str
    allowed: float = TOLERANCE
    """Values of a project's test suite are asserted to so many digits there."""

    @property
    def equal(self) -> bool:
        """Whether loss and gradient are those that were published."""
        return self.value_off < self.allowed and self.gradient_off < TOLERANCE


def vector_recipe(name: str, params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The recipe with the parameters of an output of loss_vectors.json."""
    options: dict[str, Any] = {}
    for published, low, high in (
        ("clip_epsilon", "clip_low", "clip_high"),
        ("clip_epsilon_log", "clip_low", "clip_high"),
        ("tau", "tau_positive", "tau_negative"),
        ("entropy_ratio", "low", "high"),
    ):
        if published in params:
            options[low], options[high] = params[published]
    if params.get("dual_clip") is not None:
        options["dual_clip"] = params["dual_clip"]
    if name.startswith("ce_gppo"):
        options["beta_low"], options["beta_high"] = params["beta"]
        options["literal"] = True
    return _ALIASES.get(name, name), options


def evaluate(name: str, options: dict[str, Any], inputs: dict[str, Tensor]) -> tuple[float, Tensor]:
    """Loss, all terms, and gradient with respect to the log-probabilities, float64."""
    log_prob = inputs["log_prob"].clone().requires_grad_()
    td = TensorDict(batch_size=[len(log_prob)])
    td[keys.MASK] = inputs["mask"].bool()
    td[keys.LOG_PROB], td[keys.OLD_LOG_PROB] = log_prob, inputs["old_log_prob"]
    td[keys.ADVANTAGE] = inputs["advantage"]
    td[keys.ENTROPY], td[keys.OLD_ENTROPY] = inputs["entropy"], inputs["old_entropy"]
    for entry, given in ((keys.SAMPLER_LOG_PROB, "sampler_log_prob"), (keys.REWARD, "reward")):
        if given in inputs:
            td[entry] = inputs[given]
    recipe = algorithm(name, **options)
    out = recipe.loss()(recipe.weigh(td))
    loss = torch.stack([value for entry, value in out.items() if entry.startswith("loss_")]).sum()
    (gradient,) = torch.autograd.grad(loss, log_prob)
    return float(loss.detach()), gradient


def compare(
    fixture: str,
    name: str,
    options: dict[str, Any],
    inputs: dict[str, Tensor],
    library: str,
    published: dict[str, Any],
) -> Comparison:
    """One published result beside the recipe's."""
    loss, gradient = evaluate(name, options, inputs)
    theirs = torch.tensor(published["grad"], dtype=torch.float64)
    return Comparison(
        fixture,
        f"{name}({', '.join(f'{k}={v}' for k, v in options.items())})",
        library,
        loss,
        float(gradient.norm()),
        abs(loss - published["loss"]),
        float((gradient - theirs).abs().max()),
        DEVIATIONS.get((fixture, library), ""),
    )


def suite(case: dict[str, Any]) -> Comparison:
    """A value that another project's own test suite asserts, with the gradient where it asserts that too."""
    inputs = {name: torch.tensor(value, dtype=torch.float64) for name, value in case["inputs"].items()}
    if "reward" in inputs:
        inputs["reward"] = inputs["reward"][:, None]
    ones = torch.ones_like(inputs["log_prob"])
    loss, gradient = evaluate(case["algorithm"], case["options"], {"entropy": ones, "old_entropy": ones, **inputs})
    theirs = gradient if case["gradient"] is None else torch.tensor(case["gradient"], dtype=torch.float64)
    shown = ", ".join(f"{k}={v}" for k, v in case["options"].items())
    return Comparison(
        f"suite: {case['name']}",
        f"{case['algorithm']}({shown})",
        case["project"],
        loss,
        float(gradient.norm()),
        abs(case["scale"] * loss - case["loss"]),
        float((gradient - theirs).abs().max()),
        "",
        case["allowed"],
    )


def comparisons(folder: Path) -> list[Comparison]:
    """Everything published beside ours."""
    found = []
    peers = json.loads((folder / "loss_parity_peers.json").read_text())
    mask = torch.tensor(peers["mask"], dtype=torch.float64)
    advantage = torch.tensor(peers["adv_seq"], dtype=torch.float64)[:, None] * mask
    named = {
        "log_prob": "log_prob",
        "old_log_prob": "old_log_prob",
        "entropy": "entropy_new",
        "old_entropy": "entropy_old",
    }
    inputs = {k: torch.tensor(peers[v], dtype=torch.float64) for k, v in named.items()}
    inputs |= {"mask": mask, "advantage": advantage}
    for fixture, results in peers["results"].items():
        for library, published in results.items():
            if library.startswith("my "):  # a formula written for the fixture, no library's
                continue
            name, options = RECIPES[fixture]
            found.append(compare(fixture, name, options, inputs, library, published))
    found += [suite(case) for case in json.loads((folder / "loss_suites.json").read_text())]
    for number, case in enumerate(json.loads((folder / "loss_vectors.json").read_text())):
        inputs = {k: torch.tensor(v, dtype=torch.float64) for k, v in case["inputs"].items()}
        for output, published in case["outputs"].items():
            name, options = vector_recipe(output, published["params"])
            library = published["params"]["source"].partition(" (")[0]
            found.append(compare(f"vector {number}: {output}", name, options, inputs, library, published))
    return found


def data_folder(arguments: list[str]) -> Path:
    """Where the published results are."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[1] / "tests" / "losses" / "published"
    if not (folder / "loss_parity_peers.json").is_file():
        raise SystemExit(f"{folder} has no loss_parity_peers.json. Give the folder that has it.")
    return folder


def summary(found: list[Comparison]) -> str:
    """One row per algorithm and project: how many published results, and the largest difference."""
    rows: dict[tuple[str, str], list[Comparison]] = {}
    for c in found:
        project = re.split(r"[.( ]", c.library)[0]
        rows.setdefault((c.recipe.partition("(")[0], project), []).append(c)
    lines = [
        "| algorithm | project | results | equal | largest difference of loss, gradient | others |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (name, project), own in sorted(rows.items()):
        equal = [c for c in own if c.equal]
        off = [max((getattr(c, n) for c in equal), default=0.0) for n in Comparison._fields[5:7]]
        reasons = "; ".join(sorted({c.reason or "unexplained" for c in own if c not in equal}))
        shown = f"{off[0]:.0e}, {off[1]:.0e}" if equal else ""
        lines.append(f"| {name} | {project} | {len(own)} | {len(equal)} | {shown} | {reasons} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print both tables; the status is 1 if a result differs without a known reason."""
    found = comparisons(data_folder(arguments))
    print(summary(found) + "\n")
    print("| fixture | llmrl | loss | gradient norm | library | loss off by | gradient off by | |")
    print("|---|---|---|---|---|---|---|---|")
    unexplained = 0
    for c in found:
        unexplained += not c.equal and not c.reason
        verdict = "equal" if c.equal else f"differs: {c.reason or 'unexplained'}"
        print(
            f"| {c.fixture} | `{c.recipe}` | {c.loss:.8f} | {c.norm:.7f} | {c.library} | "
            f"{c.value_off:.1e} | {c.gradient_off:.1e} | {verdict} |"
        )
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
