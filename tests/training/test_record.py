"""The record of a run: its settings, and each of its sessions."""

import json

import yaml
from command import trained
from trivial import SAY_A, SMALL

from llmrl.training.command_line import parse


def test_the_record_says_what_was_done(tiny, tmp_path):
    settings = ["--policy", str(tiny), *SAY_A, *SMALL, "--output", str(tmp_path / "run")]
    run = trained(parse([*settings, "--train.steps", "1"]))
    trained(parse([*settings, "--train.steps", "2", "--resume", "auto"]))
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["steps"] == 2
    sessions = json.loads((run / "environment.json").read_text())["sessions"]
    assert [bool(session["resumed_from"]) for session in sessions] == [False, True]
    assert {"torch", "transformers"} <= sessions[0]["packages"].keys()
    assert {"date", "command", "commit", "platform", "cpus", "gpus", "data"} <= sessions[0].keys()
