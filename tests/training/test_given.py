"""The record of a run tells the truth of parts that were given as objects."""

from __future__ import annotations

import json
import re

import gymnasium
import pytest
import trivial
import yaml
from tiny import SMALLEST, tiny_folder, tiny_model, tiny_tokenizer

import llmrl
from llmrl.algorithms import algorithm
from llmrl.errors import ConfigError
from llmrl.policies import LoraOptions, Policy
from llmrl.policies.adapters import add_adapters
from llmrl.training.card import model_card
from llmrl.training.given import ORIGIN, policy_settings

SMALL = {"steps": 1, "group_size": 2, "prompts_per_step": 2, "updates_per_step": 1}


def policy(**options) -> Policy:
    return Policy(tiny_model(sharpness=1.0, **SMALLEST), tiny_tokenizer(), max_response_length=3, **options)


def test_what_is_given_stands_in_the_record_as_it_is(tmp_path, capsys):
    made = gymnasium.make("tests/SayA-v0", goal="b")
    run = llmrl.train(
        policy(temperature=0.75, max_prompt_length=48, system_prompt=None, instruction="Say it.", share_prompts=False),
        made,
        algorithm("dr_grpo"),
        eval_env=[{"problem": "1 + 1", "answer": "2"}],
        train=SMALL,
        eval={"problems": 0},
        output=tmp_path / "run",
    )
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    told = {name: config["policy"][name] for name in ("temperature", "max_prompt_length", "max_response_length")}
    assert told == {"temperature": 0.75, "max_prompt_length": 48, "max_response_length": 3}
    assert (config["policy"]["instruction"], config["policy"]["dtype"]) == ("Say it.", "float32")
    assert config["policy"]["path"] == "LlamaForCausalLM"
    assert config["train"]["share_prompts"] is False
    assert config["env"] == {"id": "tests/SayA-v0", "goal": "b"}
    assert (config["algo"], config["eval"]["env"]) == ({"name": "dr_grpo"}, "the given data")
    (session,) = json.loads((run.folder / "environment.json").read_text())["sessions"]
    named = {name for name, origin in session["origins"].items() if origin == ORIGIN}
    assert {"policy.path", "policy.temperature", "env.goal", "algo.name", "eval.env", "train.share_prompts"} <= named
    assert session["origins"]["train.steps"] == "Python"
    said = capsys.readouterr().out
    assert re.search(rf"policy\.max_response_length +3 +{ORIGIN}", said)
    assert re.search(rf"policy\.temperature +0\.75 +{ORIGIN}", said)
    card = model_card(run.folder, (run.folder / "latest").resolve())
    assert "max_response_length: 3" in card
    assert "temperature: 0.75" in card


def test_types_engines_and_adapters_are_read_off_the_policy():
    model = tiny_model(sharpness=1.0, **SMALLEST).bfloat16()
    given = Policy(add_adapters(model, LoraOptions(rank=2, alpha=8.0, targets=("q_proj", "v_proj"))), tiny_tokenizer())
    told = policy_settings(given)
    assert (told.dtype, told.device, told.engine) == ("bfloat16", "cpu", "transformers")
    assert (told.lora_rank, told.lora_alpha, told.lora_targets) == (2, 8.0, ("q_proj", "v_proj"))

    class Engine:
        pass

    given.engine = Engine()  # type: ignore[assignment]
    assert policy_settings(given).engine == "Engine"


def test_data_and_functions_are_named_by_their_types(tmp_path):
    rows = [{"problem": f"say {letter}", "answer": letter} for letter in "abc"]
    run = llmrl.train(
        policy(),
        rows,
        "grpo",
        reward=lambda prompt, response, answer: float(len(response) % 2),
        train=SMALL,
        eval={"problems": 0},
        output=tmp_path / "run",
        quiet=True,
    )
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["env"] == {
        "id": "llmrl/Data-v0",
        "source": "an object of type list",
        "verifier": "an object of type FunctionVerifier",
    }


def test_another_way_of_scoring_than_the_policys_own_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"train.packing is for a policy that is given by its name.*packing=True"):
        llmrl.train(policy(), trivial.SayA(), "grpo", train={**SMALL, "packing": True}, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_algorithm_object_does_not_resume_a_run(tmp_path):
    name = str(tiny_folder(tmp_path / "model", sharpness=1.0, **SMALLEST))

    def go_on(recipe, **more):
        return llmrl.train(
            name,
            "tests/SayA-v0",
            recipe,
            policy_options={"max_response_length": 3},
            train={**SMALL, "steps": more.pop("steps", 2)},
            eval={"problems": 0},
            output=tmp_path / "run",
            **more,
        )

    go_on(algorithm("dapo"), steps=1)
    other = algorithm("dapo", clip_high=9.0)
    with pytest.raises(ConfigError, match=r"was: .*0\.28[\s\S]*is: .*9\.0"):
        go_on(other, resume="auto")
    assert len(go_on(algorithm("dapo"), resume="auto").metrics) == 2
    assert len(go_on(other, resume="auto", force=True, steps=3).metrics) == 3
