"""What tests/distributed/test_world.py runs on several ranks: prints one JSON line of rank 0."""

import copy
import json
import sys

import torch

from llmrl.distributed.world import LostRank, WorldConfig, join


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
    """The largest difference between the summed gradients of the ranks and those of one process."""
    torch.manual_seed(1)
    parts = [torch.randint(0, 7, (2, 3)) for _ in range(2 * world.size + 1)]
    alone = Net(tied, dtype)
    sharded = copy.deepcopy(alone)
    sum(alone(part).sum() for part in parts).backward()
    world.shard(sharded, list(sharded.parts["blocks"]), ["score"])
    for part, counts in world.share(parts, lambda part: 1):
        (sharded.score(part).sum() * float(counts)).backward()
    whole = dict(world.weights(sharded))
    same = all(torch.equal(whole[name], value) for name, value in alone.state_dict().items())
    gaps = [
        (world.whole(p.grad) - q.grad).abs().max()
        for p, q in zip(sharded.parameters(), alone.parameters(), strict=True)
    ]
    return float(max(gaps)), same


def main():
    """All cases."""
    shard = int(sys.argv[1]) if len(sys.argv) > 1 else None
    world = join(WorldConfig(timeout_minutes=1, shard=shard), "cpu")
    out = {"size": world.size}
    out["gathered"] = world.gather([f"thing {i}" for i in world.mine(7)])
    rounds = list(world.share(["a", "bb", "cc", "d", "e"], len))
    everyone = world.gather([rounds])
    out["kinds"] = [[len(part) for part, _ in one] for one in everyone]
    out["counted"] = sorted(part for one in everyone for part, counts in one if counts)
    total, low, high = (torch.full((2,), float(world.rank + 1), dtype=torch.float64) for _ in range(3))
    world.sum(total)
    world.smallest(low)
    world.largest(high)
    out |= {"sum": total.tolist(), "smallest": low.tolist(), "largest": high.tolist()}
    out["any"] = [world.any(False), world.any(world.rank == 1)]
    out["from_main"] = world.from_main("zero" if world.main else "other")
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
