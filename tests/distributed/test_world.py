"""What several ranks do together, on CPU processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import ROOT, launch

from llmrl.distributed.ranks import _in_other_types
from llmrl.distributed.world import Reading, World, WorldConfig, join
from llmrl.errors import ConfigError

CASES = Path(__file__).parents[1] / "helpers" / "world_cases.py"


def result(output):
    """What rank 0 printed."""
    return json.loads(next(line for line in output.splitlines() if line.startswith("RESULT "))[7:])


# What an update of three rounds exchanges for a model of two blocks and the rest.
COPIES = {"allreduce_": 2}  # which gradients there are, and all of them
SHARDS = {"_allgather_base_": 18, "_reduce_scatter_base_": 9}
BOTH = {**SHARDS, "allreduce_": 3}
KEPT = {"_allgather_base_": 3, "_reduce_scatter_base_": 3, "allreduce_": 3}


@pytest.mark.parametrize(
    ("ranks", "options", "exchanged"),
    [(2, (), COPIES), (3, (3,), SHARDS), (4, (2,), BOTH), (4, (2, "keep"), KEPT)],
)
def test_ranks_do_together_what_one_process_does_alone(ranks, options, exchanged):
    out = result(launch(CASES, *options, ranks=ranks).stdout)
    assert out["size"] == ranks
    assert out["gathered"] == [f"thing {i}" for i in range(7)]
    if out["shards"] > 1:
        assert len({str(kinds) for kinds in out["kinds"]}) == 1, "ranks make different numbers of passes"
    else:  # as evenly as parts of 5, 4, 3, 2 and 1 tokens can be dealt to 2 and 3 ranks
        assert out["loads"] == [8, 7]
    assert out["counted"] == ["a", "bb", "cc", "d", "e"]
    assert out["sum"] == [ranks * (ranks + 1) / 2] * 2
    assert (out["smallest"], out["largest"]) == ([1.0] * 2, [float(ranks)] * 2)
    assert out["any"] == [False, True]
    assert out["from_main"] == "zero"
    for name in [name for name in out if name.startswith("gradient")]:
        gap, same, count = out[name]
        assert gap < (1e-13 if "float64" in name else 1e-5), name
        assert same, name
        assert count == exchanged, name
    assert out["agreed"][1] == "ValueError: no disk"
    assert out["agreed"][0] == f"LostRank: Rank 1 of {ranks} stopped, and so do all. ValueError: no disk"


def test_one_process_imports_no_process_groups():
    code = (
        "import sys, llmrl.distributed.world as w; w.join(w.WorldConfig()); "
        "print('llmrl.distributed.ranks' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "False"


def test_one_process_is_the_identity():
    world = join(WorldConfig())
    assert type(world) is World
    assert world.gather([1, 2]) == [1, 2]
    assert list(world.share([1, 2], lambda part: Reading(part, part))) == [(1, True), (2, True)]
    with pytest.raises(ValueError, match="as it is"):
        world.agree(ValueError("as it is"))


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({"shard": 3}, "4", "--world.shard 3 does not divide the 4 ranks"),
        ({"shard": 0}, "4", "does not divide"),
        ({"timeout_minutes": 0.0}, "1", "--world.timeout-minutes must be greater than 0"),
        ({"timeout_minutes": float("inf")}, "2", r"at most 525600 \(a year\), got inf"),
        ({}, "2", "WORLD_SIZE=2 is set, but not MASTER_ADDR and MASTER_PORT.*torchrun.*unset WORLD_SIZE"),
        ({}, "two", "WORLD_SIZE='two' must be a number"),
    ],
)
def test_options_that_do_not_fit_are_refused(monkeypatch, options, size, message):
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match=message):
        join(WorldConfig(**options))


def test_each_part_of_a_model_of_two_types_keeps_its_type_in_shards():
    block = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)).bfloat16()
    model = torch.nn.Sequential(block, torch.nn.Linear(2, 2).bfloat16())
    half = {torch.bfloat16}
    assert _in_other_types(model, [block], half) == []
    block[1].float()
    assert _in_other_types(model, [block], half) == [block[1]]
    block[0].bias = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(ConfigError, match=r"0\.0 has weights of .*bfloat16 and .*float32.*--world.shard 1"):
        _in_other_types(model, [block], half)
