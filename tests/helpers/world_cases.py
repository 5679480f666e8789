"""What tests/distributed/test_world.py runs on several ranks: prints one JSON line of rank 0."""

import copy
import json
import sys
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llmrl.distributed.world import LostRank, Reading, WorldConfig, join


def model(tied):
    """An embedding, two blocks and a head."""
    torch.manual_seed(0)
    net = torch.nn.ModuleDict(
        {
            "embed": torch.nn.Embedding(7, 5),
            "blocks": torch.nn.ModuleList([torch.nn.Linear(5, 5), torch.nn.Linear(5, 5)]),
            "head": torch.nn.Linear(5, 7, bias=False),
        }
    )
    if tied:
        net["head"].weight = net["embed"].weight
    return net


class Exchanges(TorchDispatchMode):
    """Counts what ranks do together, by the name of the operator."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            self.count[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


class Net(torch.nn.Module):
    """Runs the parts in order; ``score`` is a second way in."""

    def __init__(self, tied, dtype):
        super().__init__()
        self.parts = model(tied).to(dtype)

    def forward(self, ids):
        return self.score(ids)

    def score(self, ids):
        x = self.parts["embed"](ids)
        for block in self.parts["blocks"]:
            x = block(x).tanh()
        return self.parts["head"](x).log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)


def gradients(world, tied, dtype):
    """The largest difference between the summed gradients of the ranks and those of one process, and further facts.

    Further: whether the weights are whole on every rank, and how often the ranks have added up.
    """
    torch.manual_seed(1)
    parts = [torch.randint(0, 7, (2, 3)) for _ in range(2 * world.size + 1)]
    alone = Net(tied, dtype)
    sharded = copy.deepcopy(alone)
    sum(alone(part).sum() for part in parts).backward()
    world.shard(sharded, list(sharded.parts["blocks"]), ["score"])
    with Exchanges() as seen:
        for part, counts in world.share(parts, lambda part: Reading(1, 6)):
            (sharded.score(part).sum() * float(counts)).backward()
        world.sum_gradients(list(sharded.parameters()))
    whole = dict(world.weights(sharded))
    same = all(torch.equal(whole[name], value) for name, value in alone.state_dict().items())
    gaps = [
        (world.whole(p.grad) - q.grad).abs().max()
        for p, q in zip(sharded.parameters(), alone.parameters(), strict=True)
    ]
    return float(max(gaps)), same, seen.count


def main():
    """All cases."""
    shard = int(sys.argv[1]) if len(sys.argv) > 1 else None
    world = join(WorldConfig(timeout_minutes=1, shard=shard, reshard="keep" not in sys.argv), "cpu")
    out = {"size": world.size, "shards": world.shards}
    out["gathered"] = world.gather([f"thing {i}" for i in world.mine(7)])
    tokens = {"a": 5, "bb": 4, "cc": 3, "d": 2, "e": 1}
    rounds = list(world.share(tokens, lambda part: Reading(len(part), tokens[part])))
    everyone = world.gather([rounds])
    out["kinds"] = [[len(part) for part, _ in one] for one in everyone]
    out["loads"] = [sum(tokens[part] for part, _ in one) for one in everyone]
    out["counted"] = sorted(part for one in everyone for part, counts in one if counts)
    total, low, high = (torch.full((2,), float(world.rank + 1), dtype=torch.float64) for _ in range(3))
    world.sum(total)
    world.smallest(low)
    world.largest(high)
    out |= {"sum": total.tolist(), "smallest": low.tolist(), "largest": high.tolist()}
    out["any"] = [world.any(False), world.any(world.rank == 1)]
    out["from_main"] = world.from_main(lambda: "zero" if world.main else "other")
    for dtype in (torch.float64, torch.float32):
        for tied in (False, True):
            out[f"gradient {dtype} {'tied' if tied else 'untied'}"] = gradients(world, tied, dtype)
    try:
        world.agree(ValueError("no disk") if world.rank == 1 else None)
    except (LostRank, ValueError) as error:
        out["agreed"] = world.gather([f"{type(error).__name__}: {error}"])
    if world.main:
        print("RESULT " + json.dumps(out), flush=True)
    world.close()


if __name__ == "__main__":
    main()
