"""Names are found, and a name that is not says what is near."""

import importlib.util
import inspect
import re
import sys

import pytest

import llmrl
from llmrl import other_names, registry
from llmrl.algorithms import ALGORITHMS, find_algorithm
from llmrl.commands import cli
from llmrl.registry import Registry, UnknownName, load_object, suggest
from llmrl.training.options import env_class


def test_a_name_that_is_taken_is_not_overwritten():
    registry = Registry[int]("thing")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="'one' is taken by 1"):
        registry.add("one", 2)
    assert registry["one"] == 1


def test_module_colon_name_needs_no_registration():
    assert Registry[object]("thing")["math:pi"] == pytest.approx(3.14159, abs=1e-4)


def test_a_module_that_does_not_exist_is_named():
    with pytest.raises(UnknownName, match="'no_such_module', which cannot be found"):
        load_object("no_such_module:thing")


@pytest.mark.parametrize(
    "look_up",
    [
        lambda: find_algorithm("./mine.py:steady"),
        lambda: find_algorithm("mine.py"),
        lambda: env_class("envs/mine.py:mine/Env-v0"),
        lambda: load_object("/home/x/mine:grade"),
    ],
)
def test_the_path_of_a_file_is_told_from_a_module(look_up):
    with pytest.raises(UnknownName, match=r"is the path of a file, and a module is expected\. Write mine:NAME"):
        look_up()


def test_an_attribute_that_does_not_exist_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"has no 'sqrtt'\. Did you mean 'sqrt'"):
        load_object("math:sqrtt")


def test_a_module_that_breaks_on_import_shows_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_on_import.py").write_text("import a_library_that_is_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_missing"):
        load_object("broken_on_import:thing")


@pytest.fixture
def downloaded(tmp_path, monkeypatch):
    """A command was given in a folder whose file has the name of an optional package."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(registry, "SEARCHED", registry.SEARCHED[:])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "optional_package.py").write_text("thing = 'of the current folder'\n")
    assert cli.main(["algos"]) == 0


def test_no_file_of_the_current_folder_passes_for_a_package(downloaded):
    assert importlib.util.find_spec("optional_package") is None


def test_a_module_of_the_current_folder_is_found_where_it_is_named(downloaded):
    assert load_object("optional_package:thing") == "of the current folder"


OPTIONS = [
    *("train.learning_rate", "train.steps", "train.epochs", "train.prompts_per_step", "train.group_size"),
    *("train.max_grad_norm", "train.adam_betas", "policy.max_response_length", "policy.path", "output"),
    *("checkpoint.every", "eval.every", "eval.batch", "algo.clip_low", "algo.kl", "log.to", "env.source"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train.lr", "train.learning_rate"),
        ("lr", "train.learning_rate"),
        ("train_batch_size", "train.prompts_per_step"),
        ("actor.adam.lr", "train.learning_rate"),
        ("batch", "eval.batch"),
        ("train.num_generations", "train.group_size"),
        ("max_new_tokens", "policy.max_response_length"),
        ("train.max-tokens", "policy.max_response_length"),
        ("beta", "algo.kl"),
        ("algo.epsilon", "algo.clip_low"),
        ("train.Learning-Rate", "train.learning_rate"),
        ("train.num_train_epochs", "train.epochs"),
        ("train.grad_clip", "train.max_grad_norm"),
        ("model", "policy.path"),
        ("train.kl", "algo.kl"),
        ("report_to", "log.to"),
        ("output_dir", "output"),
        ("train.learning_rte", "train.learning_rate"),
        ("save_steps", "checkpoint.every"),
    ],
)
def test_the_nearest_option_is_the_one_that_is_meant(name, meant):
    said = suggest(name, OPTIONS)
    assert said.startswith(f"Did you mean {meant!r}? ")
    assert "There are 17 names." in said
    assert len(said) < 300


def test_an_alias_names_something_that_exists():
    import dataclasses

    from llmrl.training.config import SECTIONS, Config

    known = {f.name for section in (Config, *SECTIONS.values()) for f in dataclasses.fields(section)}
    known |= {f"{name}.{f.name}" for name, section in SECTIONS.items() for f in dataclasses.fields(section)}
    recipes = {option for name in ALGORITHMS for option in inspect.signature(find_algorithm(name)).parameters}
    known |= recipes | {f"algo.{name}" for name in recipes}
    options = inspect.signature(env_class("llmrl/MATH-v0")).parameters
    known |= {*options, *(f"env.{name}" for name in options), "answer", "problem", "response"}
    known |= set(inspect.signature(llmrl.study).parameters)
    for alias, meant in other_names.OPTIONS.items():
        assert set(meant) & known, alias
    for sentence in other_names.WITHOUT.values():
        assert set(re.findall(r"--(\w+\.[\w-]+\w)", sentence.replace("-", "_").replace("__", "--"))) <= known, sentence


def test_case_alone_finds_an_environment():
    known = ["llmrl/MATH-v0", "llmrl/MathTool-v0", "llmrl/MathRetry-v0"]
    assert suggest("llmrl/Math-v0", known).startswith("Did you mean 'llmrl/MATH-v0'?")
    assert suggest("LLMRL/mathtool-V0", known).startswith("Did you mean 'llmrl/MathTool-v0'?")
