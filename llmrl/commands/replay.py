"""``llmrl replay``: several algorithms on the same saved rollouts, as tables, a JSON file and a figure.

:mod:`llmrl.reports.replay` computes the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.table import Table
from transformers.utils import logging as transformers_logging

from llmrl.algorithms import Algorithm, algorithm
from llmrl.algorithms.spelling import split_names
from llmrl.policies.policy import Policy
from llmrl.reports.replay import FRACTIONS, Replay, ReplayError, replay
from llmrl.rollouts.files import find_rollouts, read_rollouts
from llmrl.terminal import Terminal
from llmrl.training.files import read_tree, section
from llmrl.training.folder import refuse_traps

SAME_POLICY = 1e-4
"""Log-ratios of fewer nats than this are rounding errors."""

_DESCRIPTION = """Compare several algorithms on the same saved rollouts.

Every algorithm gets the same responses, rewards, old log-probabilities and policy. The tables show the loss, the
gradient norm, the shares of clipped and gated tokens, and the cosine between the gradients of any two algorithms.

For example:
    llmrl replay runs/espo-0 --algo dapo,gspo,grpo[kl=0],espo[alpha=0.05]

The policy is the run's newest checkpoint unless --policy names another. It should be later than the policy that
sampled; otherwise every ratio is 1, nothing is clipped, and algorithms differ only in advantage and averaging."""


@dataclass
class ReplayOptions:
    """The rollouts, the algorithms and the policy to compare."""

    rollouts: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ROLLOUTS")]
    """One of the two files of a step; or a run or a folder of steps, whose newest step is used."""
    algo: Annotated[str, tyro.conf.arg(aliases=("--algos",))] = "dapo,gspo,espo,erc"
    """Algorithms, separated by commas, with options in brackets, such as erc+gspo, grpo[kl=0] or module:name."""
    policy: str | None = None
    """Folder or hub id of the policy; by default the run's newest checkpoint."""
    output: Path | None = None
    """Folder for step_NUMBER.json and step_NUMBER.png; by default replay/ in the run's folder."""
    temperature: float | None = None
    """Temperature of the scores; by default the one that the run sampled with."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the weights; by default that of the run."""
    device: str | None = None
    """Device of the model, such as cpu or cuda:0; by default a GPU if there is one."""
    micro_batch_tokens: int = 8192
    """Rows times padded length per forward pass; affects memory and speed, the result only of clip_cov and kl_cov."""
    threads: int | None = None
    """CPU threads of torch; by default all cores."""


def parse(arguments: list[str], prog: str) -> ReplayOptions:
    """The options of a command line."""
    return tyro.cli(ReplayOptions, args=arguments, prog=prog, description=_DESCRIPTION)


def run(options: ReplayOptions) -> int:
    """Score, show and write.

    Raises:
        UserError: the rollouts, a name or the policy cannot be used.
    """
    replay_rollouts(options, Terminal())
    return 0


def replay_rollouts(options: ReplayOptions, console: Terminal) -> Replay:
    """Run the comparison and show it; returns the numbers."""
    transformers_logging.disable_progress_bar()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    recipes = [_recipe(name) for name in split_names([options.algo])]
    path = find_rollouts(options.rollouts)
    rollouts = read_rollouts(path)
    folder = path.parent.parent if path.parent.name == "rollouts" else path.parent
    sampled = _settings_of(folder)
    if "max_response_length" in sampled:
        recipes = [recipe.resolve(int(sampled["max_response_length"])) for recipe in recipes]
    source = options.policy or _newest_checkpoint(folder)
    policy = Policy.from_pretrained(
        source,
        dtype=options.dtype or sampled.get("dtype", "float32"),
        device=options.device,
        temperature=options.temperature or float(sampled.get("temperature", 1.0)),
        max_response_length=1,  # nothing is sampled
    )
    result = replay(rollouts, policy, recipes, micro_batch_tokens=options.micro_batch_tokens)
    about = {"rollouts": str(path), "policy": source, "rows": len(rollouts)}
    console.say(f"{path}: {len(rollouts)} responses, scored by {source}")
    show(result, console)
    bounds = [r for s in result.scores.values() for r in (s.ratio_min, s.ratio_max)]
    if max(abs(np.log(bound)) for bound in bounds) < SAME_POLICY:
        console.say(
            "Every ratio is 1: this policy sampled the rollouts. Clips differ only for a later policy (--policy)."
        )
    refuse_traps(folder if options.output is None else options.output)
    for file in write(result, options.output or folder / "replay", path.stem, about):
        console.say(f"wrote {file}")
    return result


def _recipe(name: str) -> Algorithm:
    try:
        return algorithm(name)
    except (TypeError, ValueError) as error:
        raise ReplayError(f"--algo {name}: {error}") from error


def _settings_of(folder: Path) -> dict[str, Any]:
    """The policy's settings of a run; empty if the rollouts are not in a run's folder."""
    config = folder / "config.yaml"
    return section(config, read_tree(config), "policy") if config.is_file() else {}


def _newest_checkpoint(folder: Path) -> str:
    latest = folder / "latest"
    if not latest.exists():
        raise ReplayError(
            f"There is no checkpoint in {folder} (no latest) that could score the rollouts. Name one with --policy, "
            "such as a checkpoint of the run that sampled them."
        )
    return str(latest)


def show(result: Replay, console: Terminal) -> None:
    """Three tables: losses and fractions, clip widths, and cosines."""
    table = _table("algorithm", "loss", "grad norm", "clip low", "clip high", "zero grad", "gate")
    widths = _table("clip width", "side or segment", "mean", "from", "to")
    cosines = _table("cosine between gradients", *result.cosine)
    for name, score in result.scores.items():
        fractions = (f"{100 * getattr(score, fraction):.1f}%" for fraction in FRACTIONS)
        table.add_row(name, f"{score.loss:+.4f}", f"{score.grad_norm:.3g}", *fractions)
        for where, width in score.clip_width.items():
            widths.add_row(name, where, *(f"{bound:.3g}" for bound in (width.mean, width.min, width.max)))
    for name, row in result.cosine.items():
        cosines.add_row(name, *(_number(row[other]) for other in result.cosine))
    console.print(table, widths, cosines)


def _table(first: str, *headings: str) -> Table:
    """A table with names on the left and numbers on the right; seven columns fit into eighty characters."""
    table = Table(first, box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _number(cosine: float | None) -> str:
    return "-" if cosine is None else f"{cosine:.3f}"


def plot(result: Replay, path: Path, title: str = "") -> Path:
    """Bars of fractions and gradient norms per algorithm, and a map of the cosines."""
    names = list(result.scores)
    places = np.arange(len(names))
    figure, axes = plt.subplots(
        1, 3, figsize=(6 + 1.6 * len(names), 4.2), constrained_layout=True, width_ratios=(2, 1, 1.3)
    )
    bars = {
        "clipped low": [s.clip_fraction_low for s in result.scores.values()],
        "clipped high": [s.clip_fraction_high for s in result.scores.values()],
        "gated": [1 - s.gate_fraction for s in result.scores.values()],
        "zero gradient": [s.zero_grad_fraction for s in result.scores.values()],
    }
    for number, (label, heights) in enumerate(bars.items()):
        axes[0].bar(places + 0.2 * (number - 1.5), heights, 0.2, label=label)
    axes[0].set_ylabel("fraction of live tokens")
    axes[0].legend(fontsize=8)
    axes[1].bar(places, [s.grad_norm for s in result.scores.values()], 0.6, color="C7")
    axes[1].set_ylabel("gradient norm")
    for axis in axes[:2]:
        axis.set_xticks(places, names, rotation=30)
        axis.grid(axis="y", alpha=0.3)
    values = [[result.cosine[a][b] for b in names] for a in names]
    grid = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
    axes[2].imshow(grid, vmin=-1, vmax=1, cmap="RdBu")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            dark = value is not None and abs(value) > 0.6
            axes[2].text(j, i, _number(value), ha="center", va="center", color="w" if dark else "k")
    axes[2].set_xticks(places, names, rotation=30)
    axes[2].set_yticks(places, names)
    axes[2].set_title("cosine between gradients", fontsize=10)
    figure.suptitle(title, parse_math=False)  # a name with a dollar sign is no formula
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def write(result: Replay, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
    """``NAME.json`` with ``about`` and all numbers, and ``NAME.png``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / f"{name}.json"
    numbers.write_text(json.dumps({**about, **result.to_dict()}, indent=2) + "\n")
    return [numbers, plot(result, folder / f"{name}.png", name.replace("_", " "))]
