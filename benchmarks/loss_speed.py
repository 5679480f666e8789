"""What a loss module costs beside a bare function of the same algorithm: time and memory.

    python benchmarks/loss_speed.py --rows 64 --columns 1024

The bare functions are the papers' equations as printed, as one writes them in a notebook: no checks, no garbage
under the mask, no metrics
but the clip fraction and the KL estimate that published functions return.  Module and function get
the same batch and take turns; a ratio is the median over rounds of (module / function), forward and
backward.  Memory is the peak of tensors alive at once, counted in tensors of the batch's size.
"""

from __future__ import annotations

import argparse
import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tensordict import TensorDict
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmrl import keys
from llmrl.algorithms import algorithm

Batch = dict[str, Tensor]


def token_loss(objective: Tensor, b: Batch) -> Tensor:
    return -(objective * b["mask"]).sum() / b["mask"].sum()


def sequence_loss(objective: Tensor, b: Batch) -> Tensor:
    return -((objective * b["mask"]).sum(1) / b["mask"].sum(1)).mean()


def surrogate(ratio: Tensor, b: Batch, low: Any, high: Any) -> tuple[Tensor, Tensor]:
    plain = ratio * b["advantage"]
    clipped = torch.maximum(torch.minimum(ratio, 1 + high), 1 - low) * b["advantage"]
    return torch.minimum(plain, clipped), (clipped < plain) & b["mask"]


def told(loss: Tensor, held: Tensor, log_ratio: Tensor, b: Batch) -> tuple[Tensor, ...]:
    with torch.no_grad():
        tokens = b["mask"].sum()
        return loss, held.sum() / tokens, -(log_ratio * b["mask"]).sum() / tokens


def bare_dapo(b: Batch) -> tuple[Tensor, ...]:
    log_ratio = b["log_prob"] - b["old_log_prob"]
    low, high = torch.tensor(0.2), torch.tensor(0.28)
    objective, held = surrogate(log_ratio.exp(), b, low, high)
    return told(token_loss(objective, b), held, log_ratio, b)


def bare_gppo(b: Batch) -> tuple[Tensor, ...]:
    log_ratio = b["log_prob"] - b["old_log_prob"]
    ratio = log_ratio.exp()
    low, high = 0.8 / ratio.detach() * ratio, 1.2 / ratio.detach() * ratio
    plain = ratio * b["advantage"]
    clipped = torch.maximum(torch.minimum(ratio, high), low) * b["advantage"]
    held = (clipped < plain) & b["mask"]
    return told(token_loss(torch.minimum(plain, clipped), b), held, log_ratio, b)


def bare_gspo(b: Batch) -> tuple[Tensor, ...]:
    log_ratio = b["log_prob"] - b["old_log_prob"]
    mean = (log_ratio * b["mask"]).sum(1, keepdim=True) / b["mask"].sum(1, keepdim=True)
    ratio = (b["log_prob"] - b["log_prob"].detach() + mean.detach()).exp()
    low, high = torch.tensor(3e-4), torch.tensor(4e-4)
    objective, held = surrogate(ratio, b, low, high)
    return told(sequence_loss(objective, b), held, log_ratio, b)


def bare_espo(b: Batch) -> tuple[Tensor, ...]:
    log_ratio = b["log_prob"] - b["old_log_prob"]
    ratio, width = torch.zeros_like(log_ratio), torch.zeros_like(log_ratio)
    weight, parts = torch.zeros_like(log_ratio), torch.zeros(len(log_ratio), 1)
    for part in (0, 1):
        inside = (b["segment"] == part) & b["mask"]
        size = inside.sum(1, keepdim=True).clamp(min=1)
        mean = (log_ratio.detach() * inside).sum(1, keepdim=True) / size
        entropy = (b["old_entropy"] * inside).sum(1, keepdim=True) / size
        ratio = ratio + inside * (log_ratio - log_ratio.detach() + mean).exp()
        width = width + inside * (0.02 * entropy / b["max_entropy"])
        weight, parts = weight + inside / size, parts + inside.any(1, keepdim=True)
    objective, held = surrogate(ratio, b, width, width)
    loss = -(objective * weight / parts).sum(1).mean()
    return told(loss, held, log_ratio, b)


def bare_erc(b: Batch) -> tuple[Tensor, ...]:
    log_ratio = b["log_prob"] - b["old_log_prob"]
    low, high = torch.tensor(0.2), torch.tensor(0.28)
    objective, held = surrogate(log_ratio.exp(), b, low, high)
    change = b["entropy"].detach() / b["old_entropy"]
    keep = (change > 0.95) & (change < 1.05)
    return told(token_loss(torch.where(keep, objective, 0.0), b), held | ~keep, log_ratio, b)


BARE: dict[str, Callable[[Batch], tuple[Tensor, ...]]] = {
    "dapo": bare_dapo,
    "gppo": bare_gppo,
    "gspo": bare_gspo,
    "espo": bare_espo,
    "erc": bare_erc,
}


class Peak(TorchDispatchMode):
    """The largest number of bytes that tensors made inside hold at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if _is(x)}
        for x in tree_leaves(out):
            if _is(x) and x.untyped_storage()._cdata not in self.known | given:
                storage, size = x.untyped_storage(), x.untyped_storage().nbytes()
                self.known.add(storage._cdata)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._freed, storage._cdata, size)
        return out

    def _freed(self, storage: int, size: int) -> None:
        self.known.discard(storage)
        self.now -= size


def _is(x: Any) -> bool:
    return isinstance(x, Tensor)


def make(rows: int, columns: int) -> Batch:
    """A batch as training sees it: ragged responses, small drift, a few entropies."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    lengths = torch.randint(columns // 4, columns + 1, (rows, 1), generator=generator)
    old = -normal(rows, columns).abs()
    entropy = normal(rows, columns).abs() + 0.01
    return {
        "mask": torch.arange(columns) < lengths,
        "old_log_prob": old,
        "log_prob": old + 0.05 * normal(rows, columns),
        "advantage": normal(rows, 1).expand(rows, columns).contiguous(),
        "old_entropy": entropy,
        "entropy": entropy * (1 + 0.03 * normal(rows, columns)),
        "max_entropy": torch.full((rows, 1), 12.0),
    }


def entries(b: Batch) -> TensorDict:
    names = {"mask": keys.MASK}
    return TensorDict({names.get(k, k): v for k, v in b.items()}, batch_size=[len(b["mask"])])


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(
        "algorithm",
        "function, ms",
        "module, ms",
        "time ratio",
        "function, tensors",
        "module, tensors",
        title=f"forward and backward, [{arguments.rows}, {arguments.columns}] float32, "
        f"{arguments.threads} thread(s), medians of {arguments.rounds} rounds",
    )
    for name, function in track(BARE.items(), description="algorithms", transient=True):
        batch = make(arguments.rows, arguments.columns)
        recipe = algorithm(name)
        data = recipe.weigh(entries(batch))
        if recipe.partition is not None:
            batch["segment"] = data["segment"]
        module = recipe.loss()

        def run_function(batch: Batch = batch, function: Any = function) -> None:
            b = {**batch, "log_prob": batch["log_prob"].detach().requires_grad_()}
            function(b)[0].backward()

        def run_module(data: TensorDict = data, module: Any = module) -> None:
            log_prob = data["log_prob"].detach().requires_grad_()
            module(data.copy().set("log_prob", log_prob))["loss_objective"].backward()

        seconds: dict[Any, list[float]] = {run_function: [], run_module: []}
        for number in range(arguments.rounds + 5):
            for run, own in seconds.items():
                began = time.perf_counter()
                run()
                if number >= 5:
                    own.append(time.perf_counter() - began)
        peaks = []
        for run in seconds:
            with Peak() as peak:
                run()
            peaks.append(peak.most / batch["log_prob"].nbytes)
        first, second = seconds.values()
        ratio = statistics.median(b / a for a, b in zip(first, second, strict=True))
        table.add_row(
            name,
            f"{1e3 * statistics.median(first):.2f}",
            f"{1e3 * statistics.median(second):.2f}",
            f"{ratio:.2f}",
            f"{peaks[0]:.1f}",
            f"{peaks[1]:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
