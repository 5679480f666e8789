"""The card of a checkpoint, and what `llmrl push` uploads: to a hub on this machine, by the hub's own client."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
import yaml
from command import trained
from hub_stand_in import TOKEN, hub
from huggingface_hub import HfApi, ModelCard, constants
from markdown_it import MarkdownIt
from small_run import EASY, small_run
from transformers import AutoModelForCausalLM

import llmrl
from llmrl.commands import eval as eval_command
from llmrl.commands.cli import main
from llmrl.envs.hub import HubError, hub_files
from llmrl.errors import ConfigError
from llmrl.policies.policy import Policy
from llmrl.training import checkpoint
from llmrl.training.card import _nested, model_card
from llmrl.training.command_line import parse
from llmrl.training.defaults import changed
from llmrl.training.licenses import license_of_base
from llmrl.training.push import PushError, push

HOSTILE = "x`</script><img src=x onerror=alert(1)>|\n# heading\n\x1b[2J```\n---\nbase_model: evil/model"


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory) -> Path:
    """A run of two steps, evaluated before and after, with every checkpoint."""
    folder = tmp_path_factory.mktemp("run") / "grpo-0"
    size = "--algo grpo --train.steps 2 --checkpoint.every 1 --eval.problems 4 --eval.samples 2 --seed 0 --env.goal"
    trained(parse(small_run(tiny, "--output", str(folder), *size.split(), EASY)))
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(finished, tmp_path / "grpo-0", symlinks=True)


@pytest.fixture
def on_this_machine(monkeypatch, tmp_path):
    """A hub, and a user who is logged in there."""
    with hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        files = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def card_of(text: str):
    """Its front matter, as the hub reads it."""
    return ModelCard(text).data.to_dict()


def test_a_finished_run_leaves_a_card_with_scores_settings_and_algorithm(finished):
    text = (finished / "latest" / "README.md").read_text()
    after = json.loads((finished / "eval" / "after.json").read_text())
    front = card_of(text)
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "text-generation")
    assert "grpo" in front["tags"]
    assert "base_model" not in front  # a folder of this machine names nothing on the hub
    (entry,) = front["model-index"]
    metrics = {m["name"].partition(",")[0]: m["value"] for m in entry["results"][0]["metrics"]}
    assert metrics["greedy"] == round(100 * after["greedy"]["mean"], 2)
    assert after["step"] == 2
    for part in ("| greedy |", "after step 2", "GroupAdvantage(divide_by_std=True", "prompts_per_step: 2"):
        assert part in text
    assert str(finished) not in text
    assert str(Path.home()) not in text
    settings = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert settings["train"] == {"steps": 2, "prompts_per_step": 2, "group_size": 4, "updates_per_step": 2}


def test_scores_belong_to_the_weights_of_the_checkpoint(finished, run):
    """The evaluation after training says nothing of the checkpoint before the last, nor of steps added later."""
    earlier = model_card(finished, finished / "checkpoint-000001")
    assert "after 1 step of" in earlier
    assert "These weights were not evaluated." in earlier
    assert "model-index" not in earlier
    shutil.copytree(run / "checkpoint-000002", run / "checkpoint-000009")
    assert "These weights were not evaluated." in model_card(run, run / "checkpoint-000009")


@pytest.mark.parametrize(
    ("remark", "said", "kind"),
    [
        ("", "Held-out problems of `tests/SayA-v0`: 4", "held-out-problems"),
        (" (2 of 4 are training problems too)", "Problems of `tests/SayA-v0 (2 of 4 are training", "problems"),
        (None, "Problems of `tests/SayA-v0`: 4", "problems"),
    ],
)
def test_the_card_calls_only_those_problems_held_out_that_are(run, remark, said, kind):
    """None: a run that began with an earlier version does not say."""
    after = json.loads((run / "eval" / "after.json").read_text())
    assert after["remark"] == ""
    (run / "eval" / "after.json").write_text(json.dumps({**after, "remark": remark}))
    text = model_card(run, run / "latest")
    assert f"\n{said}" in text
    assert card_of(text)["model-index"][0]["results"][0]["dataset"]["type"] == kind


def test_the_settings_of_the_card_repeat_the_run(tiny, tmp_path, finished):
    """Also a setting that is the default, where the model's own training.yaml has another value."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "training.yaml").write_text("train: {steps: 36}\nenv: {levels: [1]}\n")
    given = ["--policy", str(folder), "--train.steps", "100", "--env.levels", "None", "--algo", "grpo"]
    config = parse(given)
    settings = changed(config.to_dict(), config.origins)
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(_nested(settings) | {"policy": {"path": str(folder)}}))
    assert parse(["--config", str(tmp_path / "card.yaml")]).to_dict() == config.to_dict()
    text = (finished / "latest" / "README.md").read_text()
    assert "seed: 0" in text.partition("```yaml\n")[2].partition("```")[0]  # given, though it is the default


def test_a_base_model_of_the_hub_and_its_data_are_named(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["policy"]["path"] = "Qwen/Qwen2.5-0.5B-Instruct"
    config["env"]["source"] = "openai/gsm8k"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    record = json.loads((run / "environment.json").read_text())
    record["sessions"][0]["base"] = {"hub": True, "commit": "abc"}
    record["sessions"][0]["data"] = {"digest": "0f", "commits": {"openai/gsm8k": "def"}}
    (run / "environment.json").write_text(json.dumps(record))
    text = model_card(run, run / "latest")
    front = card_of(text)
    assert (front["base_model"], front["datasets"]) == ("Qwen/Qwen2.5-0.5B-Instruct", ["openai/gsm8k"])
    assert front["base_model_relation"] == "finetune"
    assert front["model-index"][0]["results"][0]["dataset"]["type"] == "openai/gsm8k"
    assert "`Qwen/Qwen2.5-0.5B-Instruct` at `abc`" in text
    assert "`openai/gsm8k` at `def`" in text


def test_the_card_says_how_to_evaluate_with_the_prompts_of_training(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    own = {"instruction": "Let's think.\n'x' $HOME", "system_prompt": None, "template_arguments": {"thinking": "false"}}
    config["policy"] |= own
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    text = model_card(run, run / "latest", "me/model")
    command = shlex.split(text.partition("```bash\n")[2].partition("```")[0])
    assert command[:2] == ["llmrl", "eval"]
    options = eval_command.parse(command[2:], prog="llmrl eval")
    assert (options.policy, tuple(options.env)) == ("me/model", (config["env"]["id"],))
    assert {name: getattr(options, name) for name in own if own[name]} == {k: v for k, v in own.items() if v}
    assert options.max_response_length == config["policy"]["max_response_length"]


@pytest.mark.parametrize(
    "place",
    ["algo.name", "env.id", "env.source", "policy.path", "policy.instruction", "policy.system_prompt", "eval.data"],
)
def test_foreign_text_stays_text_in_a_card(run, place):
    config = yaml.safe_load((run / "config.yaml").read_text())
    section, key = place.split(".")
    config[section][key] = HOSTILE
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    record = json.loads((run / "environment.json").read_text())
    record["sessions"][0] |= {"algorithm": HOSTILE, "commit": HOSTILE, "base": {"hub": True, "commit": HOSTILE}}
    (run / "environment.json").write_text(json.dumps(record))
    text = model_card(run, run / "latest")
    assert "\x1b" not in text
    assert card_of(text).get("base_model") is None
    body = text.partition("\n---\n")[2]
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("<h1>") == 1
    assert [line for line in body.splitlines() if line.startswith("## ")] == [
        f"## {title}" for title in ("Scores", "Training", "Use", "Versions", "Limits", "License")
    ]


BASE_CARD = """---
license: other
license_name: tiny-1.0
license_link: https://example.org/LICENSE
---
# Base
"""


def with_base(run: Path, folder: Path, card: str) -> None:
    """Say that the run began with the model of this folder, which has this card."""
    folder.mkdir()
    (folder / "README.md").write_text(card)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["policy"]["path"] = str(folder)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_the_licence_is_that_of_the_base_models_card_or_none(run, tmp_path):
    text = model_card(run, run / "latest")
    assert "license" not in card_of(text)
    assert "None is stated here." in text
    with_base(run, tmp_path / "base", BASE_CARD)
    text = model_card(run, run / "latest")
    front = card_of(text)
    assert (front["license"], front["license_name"]) == ("other", "tiny-1.0")
    assert front["license_link"] == "https://example.org/LICENSE"
    assert "`other` is stated by the base model's card." in text


@pytest.mark.parametrize(
    "card",
    [
        "# no front matter",
        "---\nlicense: [mit, other]\n---\n",
        "---\nlicense: 'Proprietary <b>'\n---\n",
        "---\nlicense: {a: [\n---\n",
        "---\n- mit\n---\n",
        "text\n---\nlicense: mit\n---\n",
    ],
)
def test_a_licence_is_never_guessed(run, tmp_path, card):
    with_base(run, tmp_path / "base", card)
    assert "license" not in card_of(model_card(run, run / "latest"))


@pytest.mark.parametrize(("files", "found"), [({"README.md": BASE_CARD.encode()}, "other"), ({}, None)])
def test_the_licence_of_a_base_model_of_the_hub_is_read_from_its_card(
    run, on_this_machine, tmp_path, monkeypatch, files, found
):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["policy"]["path"] = "them/base"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    record = json.loads((run / "environment.json").read_text())
    record["sessions"][0]["base"] = {"hub": True, "commit": None}
    (run / "environment.json").write_text(json.dumps(record))
    on_this_machine.private["them/base"], on_this_machine.files["them/base"] = False, files
    push(run, "me/sums")
    card = card_of(on_this_machine.files["me/sums"]["README.md"].decode())
    assert (card["base_model"], card.get("license")) == ("them/base", found)


def test_the_user_names_licence_and_tags(finished, capsys):
    command = ["push", str(finished), "me/sums", "--dry-run", "--license", "apache-2.0", "--tags", "math", "grpo"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "license: apache-2.0" in said
    assert "- math" in said
    front = card_of(push(finished, "me/sums", license="apache-2.0", tags=["math", "grpo"], dry_run=True).card)
    assert (front["license"], front["tags"]) == ("apache-2.0", ["reinforcement-learning", "llmrl", "grpo", "math"])
    with pytest.raises(ConfigError, match=r"'Apache 2\.0' is not a licence of the hub"):
        push(finished, "me/sums", license="Apache 2.0", dry_run=True)
    with pytest.raises(ConfigError, match="'a b' cannot be a tag"):
        push(finished, "me/sums", tags=["a b"], dry_run=True)


def test_push_uploads_the_model_and_its_card_and_nothing_of_the_trainer(finished, on_this_machine, capsys, tmp_path):
    (finished / "latest" / "notes.txt").write_text("mine")  # not written by the run
    assert main(["push", str(finished), "me/sums", "--private"]) == 0
    assert f"model: {on_this_machine.address}/me/sums" in capsys.readouterr().out
    assert on_this_machine.private == {"me/sums": True}
    files = on_this_machine.files["me/sums"]
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files.keys()
    assert not any("trainer" in n or n in ("SHA256SUMS", "notes.txt", "config.yaml") for n in files)
    assert b'from_pretrained("me/sums")' in files["README.md"]
    assert on_this_machine.commits == ["checkpoint-000002 of grpo-0, by llmrl"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    there = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    here = AutoModelForCausalLM.from_pretrained(finished / "latest").state_dict()
    assert all(bool((there[name] == here[name]).all()) for name in here)
    assert Policy.from_pretrained(str(tmp_path)).model is not None


def test_a_dry_run_shows_what_would_be_uploaded_and_asks_no_hub(finished, monkeypatch, capsys):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["push", str(finished / "checkpoint-000001"), "me/sums", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "model.safetensors" in said
    assert "trainer" not in said
    assert "nothing was uploaded to http://127.0.0.1:9/me/sums" in said
    assert llmrl.push(finished, "me/sums", dry_run=True).files.keys() >= {"README.md", "config.json"}


def test_a_public_repository_is_not_filled_where_a_private_one_was_asked_for(finished, on_this_machine):
    on_this_machine.private["me/sums"], on_this_machine.files["me/sums"] = False, {}
    with pytest.raises(ConfigError, match="me/sums exists and is public, and --private is given"):
        push(finished, "me/sums", private=True)
    assert on_this_machine.files["me/sums"] == {}


def test_what_the_hub_refuses_is_one_sentence(finished, on_this_machine, monkeypatch, capsys):
    on_this_machine.refuses = "preupload"
    with pytest.raises(PushError, match=r"The hub did not take me/sums: .*403"):
        push(finished, "me/sums")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert main(["push", str(finished), "me/other"]) == 1
    said = capsys.readouterr().err
    assert "The hub did not take me/other" in said
    assert "Traceback" not in said
    assert on_this_machine.commits == []


def test_an_unreachable_hub_and_no_token(finished, monkeypatch):
    monkeypatch.setattr("llmrl.training.push.get_token", lambda: None)
    with pytest.raises(ConfigError, match="no token for the Hugging Face hub"):
        push(finished, "me/sums")
    monkeypatch.setattr("llmrl.training.push.get_token", lambda: "hf_x")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PushError, match=r"The hub did not take me/sums: .*[Rr]efused"):
        push(finished, "me/sums")


@pytest.mark.parametrize("name", ["sums", "a/b/c", "me/../x", "me/a b", "", "me/" + "x" * 100])
def test_a_name_that_the_hub_cannot_have_is_refused(finished, name):
    with pytest.raises(ConfigError, match=r"cannot name a model of the hub\. Give OWNER/NAME"):
        push(finished, name, dry_run=True)


def test_what_is_no_checkpoint_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "none", tmp_path / "empty", run / "eval"):
        with pytest.raises(ConfigError, match="is neither a run nor a checkpoint"):
            push(wrong, "me/sums", dry_run=True)
    with (run / "latest" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"model\.safetensors differs .* is not uploaded"):
        push(run, "me/sums", dry_run=True)
    shutil.rmtree(run / "checkpoint-000002")
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        push(run, "me/sums", dry_run=True)


def test_a_list_of_sums_cannot_name_files_outside_of_the_checkpoint(run, tmp_path):
    """A run from elsewhere must not make its reader upload a file of this machine."""
    import hashlib

    secret = tmp_path / "secret"
    secret.write_text("key")
    digest = hashlib.sha256(b"key").hexdigest()
    sums = run / "latest" / "SHA256SUMS"
    sums.write_text(f"{digest}  ../../secret\n{sums.read_text()}")
    with pytest.raises(checkpoint.DamagedCheckpoint, match="outside of it"):
        push(run, "me/sums", dry_run=True)
    sums.write_text(sums.read_text().replace("../../secret", "link"))
    (run / "latest" / "link").symlink_to(secret)
    with pytest.raises(checkpoint.DamagedCheckpoint, match="outside of it"):
        push(run, "me/sums", dry_run=True)


def test_settings_at_their_defaults_are_not_changes():
    config = parse(["--algo", "dapo", "--env", "llmrl/Countdown-v0", "--train.steps", "7", "--policy.lora-rank", "4"])
    found = changed(config.to_dict())
    own = {name for name, value in config.origins.items() if value != "command line"}
    assert found.items() >= {"algo.name": "dapo", "train.steps": 7, "policy.lora_rank": 4}.items()
    assert set(found) - own <= {"algo.name", "env.id", "policy.path", "train.steps", "policy.lora_rank"}


@pytest.mark.parametrize("answer", [KeyError("url"), TypeError("no dict"), AttributeError("no get")], ids=repr)
def test_an_answer_that_the_hubs_library_does_not_expect_is_a_sentence(answer, run, on_this_machine, monkeypatch):
    def strange(*args, **kwargs):
        raise answer

    monkeypatch.setattr(HfApi, "create_repo", strange)
    with pytest.raises(PushError, match=f"The hub did not take me/sums: {type(answer).__name__}"):
        push(run, "me/sums")
    monkeypatch.setattr(HfApi, "hf_hub_download", strange)
    assert license_of_base("me/base", ask_hub=True) is None
    monkeypatch.setattr(HfApi, "dataset_info", strange)
    with pytest.raises(HubError, match="me/data is not on this machine"):
        hub_files("me/data", ["*.jsonl"], "Give a file.")
