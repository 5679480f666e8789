"""Two ranks sample from two servers: the run of one process without any, also where a server is lost and returns.

The servers are real, and sample with llmrl's own loop in the place of vLLM.
"""

import json
import threading

import pytest
import torch
from engine_stand_in import TOKEN, ModelHost, running
from ranks import ROOT, launch
from safetensors.torch import load_file
from small_run import EASY, small_run
from tiny import SMALLEST, tiny_folder

PROGRAM = ROOT / "tests" / "helpers" / "one_rank.py"
FALLS = 5
"""The request for samples at which the second server falls: in the midst of the steps."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


def run(tiny, output, ranks, *more):
    """Six steps and two evaluations."""
    size = "--train.learning-rate 1e-2 --train.steps 6 --train.prompts-per-step 4 --eval.problems 4 --eval.samples 1"
    options = f"{size} --checkpoint.rollouts-every 1 --algo grpo --env.goal {EASY} --output {output}"
    arguments = small_run(tiny, *options.split(), *more)
    return launch(PROGRAM, "none", "0", *arguments, ranks=ranks, limit=150, env={"LLMRL_TOKEN": TOKEN})


def said(output):
    """Every response of training and of the evaluations."""
    files = [*sorted((output / "rollouts").glob("*.jsonl")), *sorted((output / "eval").glob("*.jsonl"))]
    assert len(files) >= 8
    return [[json.loads(line).get("response") for line in file.read_text().splitlines()] for file in files]


@pytest.mark.slow
def test_ranks_sample_from_servers_and_go_on_without_one(tiny, tmp_path):
    run(tiny, tmp_path / "alone", 1)
    back = threading.Event()
    hosts = []

    def fall(count):
        """The second server ends at a request, without an answer."""
        if count == FALLS:
            second.fall()

    def mend(count):
        """The first server has taken the rows of the second one: that one is started again, with nothing."""
        if len(hosts) == 2 and hosts[1].count >= FALLS and count > hosts[1].count + 1:
            hosts.append(ModelHost())
            second.host = hosts[2]
            second.start()
            back.set()

    hosts += [ModelHost(mend), ModelHost(fall)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with running(hosts[0], tmp_path / "one") as first, running(hosts[1], tmp_path / "two") as second:
        done = run(tiny, tmp_path / "ranks", 2, "--policy.engine", f"{first.url},{second.url}")
    assert back.is_set()
    assert "It is left out, and the others sample its rows" in done.stdout
    assert "is back, and has the weights" in done.stdout
    assert hosts[2].count >= 1
    assert said(tmp_path / "ranks") == said(tmp_path / "alone")
    for host in (hosts[0], hosts[2]):  # what the servers hold at the end are the trained weights
        for name, saved in load_file(tmp_path / "ranks" / "latest" / "model.safetensors").items():
            assert torch.equal(saved, host.engine.state_dict()[name]), name
