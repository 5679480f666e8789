"""One of two ranks meets a fault: the run goes on from its last checkpoint, or all end and one sentence says why."""

import hashlib
import os
import re

import pytest
from ranks import ROOT, launch
from small_run import EASY, small_run
from tiny import SMALLEST, tiny_folder

EVERY = os.environ.get("LLMRL_EVERY_CASE") == "1"
PROGRAM = ROOT / "tests" / "helpers" / "one_rank.py"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The digest of the weights of a run that nothing happened to."""
    output = tmp_path_factory.mktemp("whole") / "run"
    run("none", tiny, output)
    return digest(output)


def run(how, tiny, output, *more, check=True, torchrun=(), agents=1, env=None):
    """Four steps, each with a batch gathered ahead; behind the third one rank 1 meets the fault."""
    size = "--train.learning-rate 1e-2 --train.steps 4 --train.ahead 1 --checkpoint.every 1 --algo grpo"
    arguments = small_run(tiny, *size.split(), "--env.goal", EASY, "--output", str(output), "--resume", "auto", *more)
    return launch(PROGRAM, how, "3", *arguments, limit=240, check=check, torchrun=torchrun, agents=agents, env=env)


def digest(output):
    return hashlib.sha256((output / "latest" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_rank_that_is_killed_costs_no_more_than_the_way_from_the_last_checkpoint(whole, tiny, tmp_path):
    out = run("kill", tiny, tmp_path / "run", torchrun=("--max-restarts", "3")).stdout
    assert "exitcode: -9" in out
    assert digest(tmp_path / "run") == whole


@pytest.mark.slow
def test_a_rank_that_is_killed_while_it_writes_leaves_the_checkpoint_before(whole, tiny, tmp_path):
    out = run("writing", tiny, tmp_path / "run", "--checkpoint.background", torchrun=("--max-restarts", "3")).stdout
    assert "exitcode: -9" in out
    assert [out.count(f" {step}/4 ") for step in (1, 2, 3, 4)] == [1, 1, 2, 1]  # the second start goes on behind step 2
    assert digest(tmp_path / "run") == whole
    assert not list((tmp_path / "run").glob(".writing-*"))


@pytest.mark.slow
def test_two_agents_as_on_two_machines_give_the_run_of_one(whole, tiny, tmp_path):
    run("none", tiny, tmp_path / "run", agents=2)
    assert digest(tmp_path / "run") == whole


@pytest.mark.slow
def test_two_agents_go_on_behind_a_rank_that_is_killed(whole, tiny, tmp_path):
    """With a store of its own for each start, as several machines need."""
    own = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    out = run("kill", tiny, tmp_path / "run", torchrun=("--max-restarts", "3"), agents=2, env=own).stdout
    assert "exitcode: -9" in out
    assert digest(tmp_path / "run") == whole


FAULTS = {
    "raise": "Rank 1 of 2: ConnectionError: no sandbox is free",
    "full": "[Rr]ank 1.*No space left on device",
    "memory": "Rank 1 of 2: OutOfMemoryError: CUDA out of memory",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", FAULTS if EVERY else ["raise"])
def test_what_one_rank_meets_ends_all_and_one_sentence_names_it(how, tiny, tmp_path):
    done = run(how, tiny, tmp_path / "run", check=False)
    assert done.returncode != 0
    assert re.search(FAULTS[how], done.stdout), done.stdout
    assert "Timeout (0:" not in done.stdout  # the stacks that the limit prints
    assert (tmp_path / "run" / "latest").resolve().name == "checkpoint-000002"


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_behind_their_step(whole, tiny, tmp_path):
    done = run("stop", tiny, tmp_path / "run")
    assert (tmp_path / "run" / "latest").resolve().name == "checkpoint-000003"
    assert "To continue, add to the same command" in done.stdout
    run("none", tiny, tmp_path / "run")
    assert digest(tmp_path / "run") == whole
