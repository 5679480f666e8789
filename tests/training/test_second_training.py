"""A policy that a run made is trained on as it was asked there; what else differs is noted."""

import shutil

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
import yaml
from command import trained
from small_run import small_run

from llmrl.errors import ConfigError
from llmrl.training.command_line import from_settings, parse

ASKED = {
    "temperature": 0.7,
    "max_prompt_length": 512,
    "max_response_length": 5,
    "system_prompt": "Be brief.",
    "instruction": "--box it: now",
    "prompt_template": "Q: {problem}",
    "template_arguments": {"enable_thinking": "false"},
}


@pytest.fixture
def run(tiny, tmp_path):
    """The folder of a run, whose settings the result writes."""
    folder = tmp_path / "my run"
    shutil.copytree(tiny, folder / "checkpoint-000001")
    (folder / "latest").symlink_to("checkpoint-000001")
    (folder / "run.json").write_text("{}")

    def write(tree):
        (folder / "config.yaml").write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
        return folder

    return write


@pytest.mark.parametrize("name", ["", "latest", "checkpoint-000001"])
def test_a_policy_is_asked_as_in_the_run_that_made_it(run, name):
    folder = run({"policy": {**ASKED, "engine": "vllm", "path": "other/model"}, "train": {"steps": 7}, "seed": 3})
    for config in (parse(["--policy", str(folder / name)]), from_settings({"policy": {"path": str(folder / name)}})):
        assert {option: getattr(config.policy, option) for option in ASKED} == ASKED
        assert {config.origins[f"policy.{option}"] for option in ASKED} == {str(folder / "config.yaml")}
        assert (config.policy.engine, config.train.steps, config.seed) == ("transformers", 100, 0)
    assert parse(["--policy", str(folder), "--policy.instruction", "None"]).policy.instruction is None


def test_a_template_that_is_a_file_and_other_settings_are_not_taken(run, tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }}")
    folder = run({"algo": "dapo", "output": "x", "policy": {"chat_template": str(tmp_path / "mine.jinja")}})
    config = parse(["--policy", str(folder)])
    assert (config.policy.chat_template, config.algo.name, config.output) == ("auto", "espo", None)


def test_a_folder_beside_settings_is_no_run(run):
    folder = run({"policy": ASKED})
    (folder / "run.json").unlink()
    assert parse(["--policy", str(folder / "latest")]).policy.instruction is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: {temperature: false}", "temperature takes a value that is not true or false"),
        ("policy: [1]", "policy is"),
        ("- 1", "must hold settings"),
        ("policy: {template_arguments: {--output: x}}", "must not begin with a dash"),
        ("policy: {max_response_length: 0}", "max-response-length must be greater than 0"),
    ],
)
def test_settings_that_cannot_be_used_are_a_sentence(run, text, said):
    with pytest.raises(ConfigError, match=said):
        parse(["--policy", str(run(text))])


def test_the_start_report_says_what_differs(run, capsys):
    before = parse(
        small_run(
            "llmrl/nano", "--algo", "grpo", "--env.goal", "b", "--train.learning-rate", "0.5", "--train.steps", "50"
        )
    )
    folder = run(before.to_dict())
    command = small_run(folder, "--algo", "grpo", "--train.steps", "2", "--dry-run")
    trained(parse(command))
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"differs from {folder / 'config.yaml'}, which made it: env.goal a (there b), train.steps 2 (there 50)," in said
    )
    assert "train.learning_rate 1e-06 (there 0.5)" in said
    assert "algo.name" not in said.partition("differs from")[2].partition("there 0.5")[0]
    trained(parse([*command, "--train.steps", "50", "--train.learning-rate", "0.5", "--env.goal", "b"]))
    assert "differs from" not in capsys.readouterr().out
