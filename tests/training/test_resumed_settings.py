"""A run that is resumed keeps its settings: only what is given again may differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
import yaml
from command import trained
from small_run import small_run
from tiny import SMALLEST, tiny_folder

import llmrl
from llmrl.errors import ConfigError
from llmrl.training.command_line import parse
from llmrl.training.metrics_file import read_metrics


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory) -> Path:
    options = "--algo grpo --algo.kl 0 --env.goal b --train.learning-rate 2e-4 --train.steps 1 --seed 3"
    folder = trained(parse(small_run(tiny, *options.split(), "--output", str(tmp_path_factory.mktemp("made") / "run"))))
    assert folder is not None
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "run", symlinks=True)


@pytest.mark.parametrize("way", ["the run", "its link", "its checkpoint", "auto"])
def test_only_what_is_typed_differs_from_the_run(way, run, tiny):
    named = {"the run": run, "its link": run / "latest", "its checkpoint": run / "checkpoint-000001"}
    resume = ["--resume", "auto", "--output", str(run)] if way == "auto" else ["--resume", str(named[way])]
    config = parse([*resume, "--train.steps", "2"])
    before = yaml.safe_load((run / "config.yaml").read_text())
    before["train"]["steps"] = 2
    assert config.to_dict() == before
    assert (config.policy.path, config.algo.kl, config.env.goal, config.seed) == (str(tiny), 0, "b", 3)
    assert config.origins["algo.kl"] == str(run / "config.yaml")
    assert config.origins["train.steps"] == "command line"


def test_a_run_goes_on_by_its_name_alone(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)
    assert trained(parse(["--resume", "run", "--train.steps", "2"])) == Path("run")
    assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == [1, 2]
    assert "run/config.yaml" in capsys.readouterr().out


def test_python_resumes_what_it_returned(run):
    more = llmrl.train(resume=run, train={"steps": 2}, quiet=True)
    assert (more.folder, len(more.metrics)) == (run, 2)
    more = llmrl.train(resume=more, train={"steps": 3}, quiet=True)
    assert len(more.metrics) == 3


def test_a_file_is_given_and_wins(run, tmp_path):
    (tmp_path / "more.yaml").write_text("train: {steps: 7, group_size: 2}")
    config = parse(["--config", str(tmp_path / "more.yaml"), "--resume", str(run), "--train.steps", "2"])
    assert (config.train.steps, config.train.group_size, config.train.prompts_per_step) == (2, 2, 2)


def test_another_algorithm_is_one_line_and_takes_none_of_the_runs_options(run):
    with pytest.raises(ConfigError) as error:
        trained(parse(["--resume", str(run), "--algo", "dapo"]))
    assert str(error.value).splitlines()[1:-1] == ["  algo.name: was 'grpo', is 'dapo'"]


def test_another_policy_is_refused_also_by_force(run):
    with pytest.raises(ConfigError, match=r"policy.path: was .*, is 'llmrl/nano'\n.*Leave out --policy"):
        trained(parse(["--resume", str(run), "--policy", "llmrl/nano", "--force"]))


def test_settings_of_a_folder_without_checkpoints_do_not_apply(run):
    shutil.rmtree(run / "checkpoint-000001")
    config = parse(["--resume", "auto", "--output", str(run)])
    assert (config.algo.name, config.seed) == ("espo", 0)


@pytest.mark.parametrize(
    ("section", "name", "value", "flag"),
    [
        ("algo", "name", "evil:algorithm", "--algo"),
        ("algo", "base", "evil:algorithm", "--algo.base"),
        ("env", "id", "evil:Env-v0", "--env"),
        ("env", "verifier", "evil:grade", "--env.verifier"),
        ("eval", "env", "evil:Env-v0", "--eval.env"),
        ("policy", "engine", "http://203.0.113.1:8000", "--policy.engine"),
        (None, "reward", ["evil:grade=0.1"], "--reward"),
    ],
)
def test_code_and_addresses_in_a_runs_folder_are_used_only_if_they_are_given_again(section, name, value, flag, run):
    tree = yaml.safe_load((run / "config.yaml").read_text())
    (tree if section is None else tree[section])[name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=rf"config.yaml names .*which is code or an address.* give {flag} again"):
        parse(["--resume", str(run)])
    if name == "engine":
        assert parse(["--resume", str(run), flag, value]).policy.engine == value


def test_objects_of_a_run_are_given_again(tiny, tmp_path):
    rows = [{"problem": f"say {letter}", "answer": letter} for letter in "abc"]
    small = {"steps": 1, "group_size": 2, "prompts_per_step": 2, "updates_per_step": 1}
    how = {"train": small, "policy_options": {"max_response_length": 3}, "eval": {"problems": 0}, "quiet": True}
    run = llmrl.train(str(tiny), rows, "grpo", output=tmp_path / "run", reward_parts=["format=0.5"], **how)
    with pytest.raises(ConfigError, match=r"was trained with an object as env.*llmrl.train\(env=\.\.\., resume="):
        llmrl.train(resume=run, quiet=True)
    more = llmrl.train(env=rows, resume=run, train={"steps": 2}, quiet=True)
    assert len(more.metrics) == 2
    assert '"format"' in (run.folder / "rollouts" / "step_000002.jsonl").read_text()
