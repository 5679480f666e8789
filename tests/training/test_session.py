"""A whole run: its files, stopping and going on, and what it refuses before anything is lost."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from command import trained
from small_run import EASY, press_control_c_after, small_run, untimed_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmrl.errors import ConfigError, UserError
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.faults import TrainingError
from llmrl.training.metrics_file import read_metrics


def arguments(tiny: Path, output: Path, *more: str) -> list[str]:
    size = (
        "--algo ppo --train.learning-rate 1e-3 --train.steps 4 --eval.problems 3 --eval.samples 2 --checkpoint.every 2"
    )
    return small_run(tiny, "--output", str(output), *size.split(), "--env.goal", EASY, *more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_a_run_leaves_its_files_and_a_model_that_transformers_loads(tiny, tmp_path):
    folder = trained(parse(arguments(tiny, tmp_path / "run")))
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        "run.json",
        "environment.json",
        "config.yaml",
        "metrics.jsonl",
        "rollouts",
        "eval",
        "checkpoint-000002",
        "checkpoint-000004",
        "latest",
    }
    assert len(read_metrics(folder / "metrics.jsonl")) == 4
    line = json.loads((folder / "rollouts" / "step_000001.jsonl").read_text().splitlines()[0])
    assert {
        "step",
        "problem",
        "response",
        "reward",
        "advantage",
        "finish_reason",
        "tokens",
        "group",
    } <= set(line)
    AutoTokenizer.from_pretrained(folder / "latest")
    before, after = weights(tiny), weights(folder / "latest")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_stopping_and_going_on_gives_the_very_run_that_was_not_stopped(tiny, tmp_path, monkeypatch):
    whole = trained(parse(arguments(tiny, tmp_path / "whole")))
    with monkeypatch.context() as patch:
        press_control_c_after(patch, 3)
        stopped = trained(parse(arguments(tiny, tmp_path / "stopped")))
    assert (stopped / "latest").resolve().name == "checkpoint-000003"
    trained(parse(arguments(tiny, stopped, "--resume", "auto")))
    first, second = weights(whole / "latest"), weights(stopped / "latest")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert untimed_rows(whole) == untimed_rows(stopped)
    last = "rollouts/step_000004.jsonl"
    assert (whole / last).read_text() == (stopped / last).read_text()


def test_a_changed_setting_is_not_resumed_unless_forced(tiny, tmp_path):
    trained(parse(arguments(tiny, tmp_path / "run", "--train.steps", "2")))
    changed = arguments(tiny, tmp_path / "run", "--resume", "auto", "--train.learning-rate", "5e-3")
    with pytest.raises(ConfigError, match=r"train.learning_rate: was 0.001, is 0.005"):
        trained(parse(changed))
    assert trained(parse([*changed, "--force"])) is not None


def test_a_setting_that_nobody_typed_is_named_when_it_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r"no file or folder 'absent.jsonl'.*\(From llmrl/nano/training.yaml: env"):
        trained(parse(["--env.source", "absent.jsonl", "--output", str(tmp_path / "run")]))


def test_what_a_model_suggests_for_one_environment_does_not_reach_another():
    config = parse(["--env", "llmrl/GSM8K-v0"])
    assert not any(key.startswith("env.") and key != "env.id" for key in config.origins)


def test_a_policy_that_does_not_exist_is_named_before_the_problems(monkeypatch):
    monkeypatch.setattr("llmrl.training.session.resolve", None)
    with pytest.raises(UserError, match=r"The policy folder '\./nowhere' does not exist"):
        trained(parse(["--policy", "./nowhere", "--env", "llmrl/MATH-v0", "--dry-run"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (1, "of the first 2 problems, 1 are longer"),
        (900, "first 2 problems are all longer than --policy.max-prompt-length 50"),
    ],
)
def test_problems_that_are_too_long_are_counted_before_the_first_step(tiny, tmp_path, capsys, words, said):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"problem": "x " * length, "answer": "2"}) + "\n" for length in (900, words))
    )
    options = ("--env.source", str(tmp_path / "rows.jsonl"), "--policy.max-prompt-length", "50", "--dry-run")
    try:
        trained(parse(small_run(tiny, *options, env="llmrl/Data-v0")))
        output = capsys.readouterr().out
    except ConfigError as error:
        output = str(error)
    assert said in " ".join(output.split())


def test_an_output_folder_that_is_not_empty_is_left_alone(tiny, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty, and what it holds is no run.*another --output"):
        trained(parse(arguments(tiny, tmp_path)))
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_dry_run_writes_nothing(tiny, tmp_path):
    assert trained(parse(arguments(tiny, tmp_path / "run", "--dry-run"))) is None
    assert not (tmp_path / "run").exists()


def test_prompts_that_are_too_long_are_named_before_the_first_step(tiny, tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"problem": text, "answer": "2"}) + "\n" for text in ("x" * 2000, "1+1")))
    options = ["--dry-run", "--env.source", str(rows), "--policy.max-prompt-length", "100"]
    trained(parse(small_run(tiny, *options, env="llmrl/Data-v0")))
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of the first 2 problems left out: more than 100 tokens" in shown


def test_a_filter_of_equal_groups_is_refused_where_they_have_an_advantage(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"--filter.visits 2: ppo learns from groups of equal rewards too"):
        trained(parse(arguments(tiny, tmp_path / "a", "--algo", "ppo", "--filter.visits", "2")))


def test_a_group_of_one_is_refused_where_the_group_is_the_baseline(tiny, tmp_path):
    alone = ["--train.group-size", "1", "--train.prompts-per-step", "8"]
    with pytest.raises(ConfigError, match=r"grpo compares the responses.*at least 2"):
        trained(parse(arguments(tiny, tmp_path / "a", "--algo", "grpo", *alone)))
    assert not (tmp_path / "a" / "metrics.jsonl").exists()
    trained(parse(arguments(tiny, tmp_path / "b", *alone, "--train.steps", "1")))


def test_a_sampler_that_disagrees_with_the_scorer_is_found_before_training(tiny, tmp_path, monkeypatch):
    from llmrl.policies.policy import Policy

    respond = Policy.respond
    off = {"temperature": 0.5}
    monkeypatch.setattr(Policy, "respond", lambda self, e, o, **k: respond(self, e, replace(o, **off), **k))
    with pytest.raises(ConfigError, match="log-probabilities differ from the scorer's"):
        trained(parse(arguments(tiny, tmp_path / "run", "--dry-run")))


def test_an_update_without_a_finite_gradient_is_skipped_and_stops_the_run_in_the_end(tiny, tmp_path):
    config = parse(arguments(tiny, tmp_path / "run", "--train.max-bad-steps", "3"))
    trainer, _ = build(config)
    before = {name: p.clone() for name, p in trainer.policy.model.named_parameters()}
    trainer.learner.parameters[0].register_hook(lambda gradient: gradient * float("nan"))
    metrics, _ = trainer.step()
    assert metrics["actor/skipped_updates"] == 2
    assert all(torch.equal(before[n], p) for n, p in trainer.policy.model.named_parameters())
    with pytest.raises(TrainingError, match="not finite in 3 updates in a row"):
        trainer.step()


def test_micro_batches_change_nothing_but_rounding(tiny, tmp_path):
    results = []
    for budget in ("100000", "12"):
        config = parse(arguments(tiny, tmp_path / budget, "--train.micro-batch-tokens", budget))
        trainer, _ = build(config)
        metrics, _ = trainer.step()
        results.append((metrics, [p.detach().clone() for p in trainer.learner.parameters]))
    (one, first), (two, second) = results
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)
    for name in ("actor/loss", "actor/grad_norm", "actor/clip_fraction_high", "critic/loss"):
        assert one[name] == pytest.approx(two[name], rel=1e-3, abs=1e-5)
