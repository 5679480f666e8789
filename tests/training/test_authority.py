"""A folder that was downloaded suggests sizes and rates; it does not command."""

import shutil

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
import yaml

from llmrl.commands.eval import EvalOptions, evaluate_policy
from llmrl.errors import ConfigError
from llmrl.training.command_line import parse
from llmrl.training.files import SUGGESTIONS

ATTACKS = {
    "output": "elsewhere",
    "force": True,
    "resume": "auto",
    "algo.name": "evil:algorithm",
    "env.id": "evil:Env-v0",
    "env.verifier": "evil:grade",
    "env.source": "/etc/passwd",
    "eval.env": "evil:Env-v0",
    "policy.engine": "http://203.0.113.1:8000",
    "policy.path": "someone/else",
    "policy.chat_template": "/etc/passwd",
    "log.to": ["wandb"],
    "seed": 3,
    "dry_run": True,
    "made_up": 1,
}


@pytest.fixture
def model(tiny, tmp_path):
    """A copy of a model, whose training.yaml the result writes."""
    folder = shutil.copytree(tiny, tmp_path / "model")

    def suggest(text):
        (folder / "training.yaml").write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return str(folder)

    return suggest


@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_model_may_not_set_is_refused_by_name(model, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('code ran')")
    monkeypatch.syspath_prepend(tmp_path)
    tree = ATTACKS[name]
    for part in reversed(name.split(".")):
        tree = {part: tree}
    with pytest.raises(
        ConfigError, match=rf"training.yaml sets {name} to .* may only suggest.*--{name.replace('_', '-')}"
    ):
        parse(["--policy", model(tree)])


def test_what_a_model_may_suggest_is_taken_and_named(model):
    config = parse(["--policy", model({"train": {"steps": 7}, "policy": {"temperature": 0.7}})])
    assert (config.train.steps, config.policy.temperature) == (7, 0.7)
    assert config.origins["train.steps"].endswith("training.yaml")
    assert not {"algo", "env", "policy.path", "output"} & {key.split(".")[0] for key in SUGGESTIONS} - {"env"}


BROKEN = {
    "yaml": "train: [1",
    "list": "- 1",
    "binary": "\x00\x01",
    "alias": "a: &a [1, 2]\nb: [*a, *a]",
    "python": "!!python/object/apply:os.system ['true']",
    "deep": "[" * 5000,
    "a time that is none": "train: !!timestamp x",
    "a truth that is none": "train: {steps: !!bool x}",
    "a tag of its own": "train: !mine {steps: 1}",
    "a date that is none": "train: {steps: 2001-99-99}",
    "five thousand digits": "train: {steps: " + "9" * 5000 + "}",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("where", ["model", "config"])
def test_a_broken_file_is_one_sentence(model, kind, where, tmp_path):
    if where == "model":
        arguments = ["--policy", model(BROKEN[kind])]
    else:
        (tmp_path / "settings.yaml").write_text(BROKEN[kind])
        arguments = ["--config", str(tmp_path / "settings.yaml")]
    with pytest.raises(ConfigError, match=r"(not valid YAML|must hold settings)") as error:
        parse(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("env: [1]", "env is"),
        ("policy: 7", "policy is 7"),
        ("policy: {temperature: [1]}", "temperature is"),
        ("policy: {max_response_length: {a: 1}}", "max_response_length is"),
    ],
)
def test_what_an_evaluation_takes_from_a_model_has_the_right_kind(model, text, words, tmp_path):
    options = EvalOptions(policy=model(text), env=("tests/SayA-v0",), problems=1, output=tmp_path / "eval")
    with pytest.raises(ConfigError, match=words):
        evaluate_policy(options)
