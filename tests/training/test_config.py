"""Settings: where values come from, and what is said of those that cannot be used."""

import io
import subprocess
import sys

import pytest
import yaml

from llmrl.errors import ConfigError
from llmrl.terminal import Terminal
from llmrl.training.command_line import from_settings, parse
from llmrl.training.display import Display


def test_the_command_line_beats_a_file_and_a_file_beats_the_default(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("train: {steps: 7, group_size: 4}\nalgo: {name: dapo, clip_high: 0.3}\n")
    config = parse(["--config", str(path), "--train.steps", "9", "--env.source", "generated"])
    assert (config.train.steps, config.train.group_size) == (9, 4)
    assert (config.algo.name, config.algo.clip_high) == ("dapo", 0.3)
    assert config.origins["train.steps"] == "command line"
    assert config.origins["algo.clip_high"] == str(path)


def test_options_of_an_algorithm_may_stand_in_its_name():
    config = parse(["--algo", "dapo[clip_low=0.1, clip_high=1e-1]", "--algo.clip-high", "0.3"])
    assert (config.algo.clip_low, config.algo.clip_high) == (0.1, 0.3)
    with pytest.raises(ConfigError, match=r"--algo dapo\[clip_lo=1\]: .*Did you mean 'clip_low'"):
        parse(["--algo", "dapo[clip_lo=1]"])


def test_settings_that_a_file_gives_at_their_defaults_are_not_shown(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(parse(["--policy", "tiny", "--train.steps", "7"]).to_dict()))
    console = Terminal(record=True, width=100, file=io.StringIO())
    Display(console).settings(parse(["--config", str(path)]))
    options = {line.split()[0] for line in console.export_text().splitlines()[2:]}
    assert options == {"algo.name", "env.id", "policy.path", "train.steps"}


def test_what_a_run_writes_down_can_be_read_again(tmp_path):
    first = parse(["--algo", "gspo", "--env.levels", "1", "2", "--train.learning-rate", "2e-5", "--seed", "4"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(first.to_dict()))
    assert parse(["--config", str(path)]).to_dict() == first.to_dict()


@pytest.mark.parametrize("given", [{"enable_thinking": False, "date": "today"}, {"enable_thinking": "false"}, {}])
def test_arguments_of_the_chat_template_are_read_from_a_file_and_from_python(given, tmp_path):
    config = from_settings({"policy": {"template_arguments": given, "instruction": "-- the end"}})
    expected = {key: "false" if value is False else value for key, value in given.items()}
    assert (config.policy.template_arguments, config.policy.instruction) == (expected, "-- the end")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert parse(["--config", str(path)]).to_dict() == config.to_dict()


@pytest.mark.parametrize("option", ["levels: [--output, x]", "levels: {--output: x}", "subjects: [-h]"])
def test_a_value_of_a_file_cannot_be_another_option(option, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "training.yaml").write_text(f"env: {{{option}}}\n")
    with pytest.raises(ConfigError, match="must not begin with a dash"):
        parse(["--policy", str(folder)])


def test_a_policys_own_settings_are_below_a_file(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "training.yaml").write_text("train: {steps: 3, group_size: 2}\n")
    config = parse(["--policy", str(folder), "--train.group-size", "6"])
    assert (config.train.steps, config.train.group_size) == (3, 6)
    assert config.origins["train.steps"] == f"{folder}/training.yaml"


def test_options_of_a_composed_algorithm_are_those_of_both(tmp_path):
    config = parse(["--algo", "erc+gspo", "--algo.low", "0.9", "--algo.clip-low", "1e-3"])
    assert (config.algo.low, config.algo.clip_low) == (0.9, 1e-3)


def test_an_unknown_key_in_a_file_names_the_file_and_the_nearest(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("train: {learning_rte: 1}\n")
    with pytest.raises(
        ConfigError,
        match=r"settings.yaml: there is no option 'train.learning_rte'. Did you mean 'train.learning_rate'",
    ):
        parse(["--config", str(path)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train.steps", "0"], "--train.steps must be greater than 0, got 0"),
        (["--checkpoint.every", "0"], "--checkpoint.every must be greater than 0, got 0"),
        (["--train.max-lost-steps", "0"], "--train.max-lost-steps must be greater than 0, got 0"),
        (["--checkpoint.rollouts-every", "-1"], "--checkpoint.rollouts-every must be 0 or more, got -1"),
        (["--train.learning-rate", "inf"], "--train.learning-rate must be a finite number, got inf"),
        (["--train.adam-betas", "0.9", "1.0"], "--train.adam-betas must be from 0 to below 1, got (0.9, 1.0)"),
        (["--policy.temperature", "0"], "--policy.temperature must be greater than 0"),
        (["--train.critic-warmup-steps", "-3"], "--train.critic-warmup-steps must be 0 or more, got -3"),
        (["--policy.temperature", "0.01"], "almost greedy"),
        (["--eval.temperature", "0"], "--eval.temperature must be greater than 0, got 0"),
        (["--seed", "9" * 30], "--seed must be a whole number of 64 bits, got 9999"),
        (["--policy", "./nowhere", "--seed", "-9223372036854775809"], "of 64 bits"),
        (
            ["--train.prompts-per-step", "1", "--train.group-size", "2", "--train.updates-per-step", "4"],
            "cannot share the 2 responses",
        ),
        (["--env", "llmrl/MTH-v0"], "Did you mean 'llmrl/MATH-v0'"),
        (["--env", "no_such_module:mine/Env-v0"], "No module named 'no_such_module'"),
        (["--config", "nowhere.yaml"], "no configuration file 'nowhere.yaml'"),
    ],
)
def test_settings_that_cannot_be_used_say_why(arguments, words):
    with pytest.raises(ConfigError) as caught:
        parse(arguments)
    assert words in str(caught.value)


def test_an_environment_and_an_algorithm_outside_the_package_bring_their_own_options():
    config = parse(
        [
            "--env",
            "examples.custom_environment:mine/Sorting-v0",
            "--env.length",
            "3",
            "--algo",
            "examples.custom_algorithm:steady",
            "--algo.slope",
            "1.5",
        ]
    )
    assert (config.env.length, config.algo.slope) == (3, 1.5)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmrl.algorithms.run", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_unknown_algorithm_is_one_line_with_the_nearest_name():
    done = command("--algo", "dapoo")
    assert done.returncode == 2
    assert "No algorithm is called 'dapoo'. Did you mean 'dapo'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_composition_that_does_not_exist_is_an_error_of_the_option():
    with pytest.raises(ConfigError, match=r"--algo grpo\+tis: .*Before the \+ can stand"):
        parse(["--algo", "grpo+tis"])


def test_an_unknown_option_suggests_the_nearest():
    done = command("--algo", "dapo", "--algo.clip-hihg", "0.3")
    assert done.returncode == 2
    assert "--algo.clip-high" in done.stderr + done.stdout


def test_help_explains_the_options_of_the_chosen_algorithm():
    done = command("--algo", "espo", "--help")
    assert done.returncode == 0
    assert "--algo.alpha" in done.stdout
    assert "clip width at the largest possible entropy" in " ".join(done.stdout.replace("│", " ").split())


def test_names_are_spelt_the_same_in_a_file_and_on_the_command_line(tmp_path):
    path = tmp_path / "settings.yaml"
    for text in ("algo: dapo\nenv: llmrl/Countdown-v0\n", "algo: {name: dapo}\nenv: {id: llmrl/Countdown-v0}\n"):
        path.write_text(text)
        config = parse(["--config", str(path)])
        assert (config.algo.name, config.env.id) == ("dapo", "llmrl/Countdown-v0")
    config = parse(["--algo.name", "dapo", "--env.id=llmrl/Countdown-v0"])
    assert (config.algo.name, config.env.id) == ("dapo", "llmrl/Countdown-v0")


@pytest.mark.parametrize("given", [["1", "2"], ["1,2"], ["[1,2]"], ["1,", "2"]])
def test_several_values_may_have_commas_between_them(given):
    assert parse(["--env.levels", *given, "--seed", "3"]).env.levels == (1, 2)
    assert parse(["--policy.instruction", "first, then"]).policy.instruction == "first, then"


def test_help_shows_the_values_that_will_be_used(tmp_path, capsys):
    path = tmp_path / "settings.yaml"
    path.write_text("train: {steps: 77}\n")
    with pytest.raises(SystemExit):
        parse(["--config", str(path), "--help"])
    said = capsys.readouterr().out
    assert "--train.steps 77 " in said
    assert "--train.learning-rate 0.0002" in said  # llmrl/nano's own
    assert "(default: 77)" in said
    assert said.index("--policy llmrl/nano") < said.index("--config")


def test_an_environment_of_ones_own_misspelt_names_those_of_its_module():
    with pytest.raises(ConfigError) as caught:
        parse(["--env", "examples.custom_environment:mine/Sortin-v0"])
    said = str(caught.value)
    assert "No environment in examples.custom_environment is called 'mine/Sortin-v0'" in said
    assert "Did you mean 'mine/Sorting-v0'? Known: mine/Sorting-v0." in said


def test_case_and_other_libraries_names_are_understood(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'llmrl/MATH-v0'"):
        parse(["--env", "llmrl/Math-v0"])
    path = tmp_path / "settings.yaml"
    path.write_text("train: {lr: 3}\n")
    with pytest.raises(ConfigError, match=r"no option 'train.lr'. Did you mean 'train.learning_rate'") as caught:
        parse(["--config", str(path)])
    assert len(str(caught.value)) < 400


def test_packing_with_gradient_checkpointing_is_refused():
    with pytest.raises(ConfigError, match="do not go together"):
        parse(["--train.packing", "--policy.gradient-checkpointing"])


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--train.lr", "--train.learning-rate"),
        ("--lr=1", "--train.learning-rate"),
        ("--train.stepz", "--train.steps"),
        ("--algo.quantiles", "--algo.partition"),
        ("--algo.whole-batch", "--algo.partition"),
        ("--no-forse", "--force"),
    ],
)
def test_an_unknown_flag_is_refused_in_a_sentence_that_names_the_nearest(flag, meant) -> None:
    with pytest.raises(ConfigError, match=rf"There is no option {flag.split('=')[0]}\. Did you mean '{meant}'\?"):
        parse([flag, "1"])


@pytest.mark.parametrize("flag", ["--train.no-rescore", "--no-force", "--train.group_size=4", "--algo.name=dapo"])
def test_every_spelling_of_an_option_is_known(flag) -> None:
    assert parse(["--algo", "dapo", flag]).algo.name == "dapo"


def test_a_model_may_not_suggest_more_responses_than_fit_into_memory(tmp_path):
    (tmp_path / "training.yaml").write_text("train: {prompts_per_step: 1000000000000}")
    with pytest.raises(ConfigError, match=r"--train.prompts-per-step 1000000000000 .* at most 1000000 can be held"):
        parse(["--policy", str(tmp_path)])
