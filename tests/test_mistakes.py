"""What a wrong call says: one exception type, and one sentence that names what was given and what to do.

Not ours, and so not here: an environment's keyword or id that gym.make does not know (Python's TypeError and
Gymnasium's NameNotFound).
"""

from __future__ import annotations

import gymnasium
import pytest
import trivial
from tiny import tiny_folder

import llmrl
from llmrl.algorithms import algorithm
from llmrl.errors import UserError
from llmrl.policies import Policy

ROWS = [{"problem": "1+1", "answer": "2"}]


async def later(prompt, response, answer):
    return 1.0


class Bare(gymnasium.Env):
    """An environment whose author forgot the spaces."""


class Late(llmrl.Callback):
    def on_step(self, metrics):
        """Takes too little."""


TRAIN = {
    "algorithm": ({"algo": "dapoo"}, "Did you mean 'dapo'"),
    "environment": ({"env": "llmrl/Math-v0"}, "Did you mean"),
    "policy": ({"policy": "./nowhere"}, "nowhere"),
    "section": ({"training": {"steps": 1}}, "no argument 'training'"),
    "option": ({"train": {"stepz": 1}}, "no option 'train.stepz'. Did you mean 'train.steps'"),
    "type": ({"train": {"steps": "many"}}, "many"),
    "value": ({"train": {"steps": -1}}, "must be greater than 0"),
    "no dict": ({"train": 3}, "train must be a dict or an object of TrainConfig, got 3"),
    "kind of env": ({"env": 3}, "env must be an id"),
    "algo_options": ({"algo_options": {"clip_hihg": 0.3}, "algo": "dapo"}, "clip_high"),
    "env_options": ({"env_options": {"level": 3}}, "levels"),
    "option of rows": (
        {"env": ROWS * 1000, "env_options": {"anwser_column": "x"}},
        r"^llmrl/Data-v0 has no option 'anwser_column'. Did you mean 'answer_column'",
    ),
    "long seed": ({"seed": 2**70}, "--seed must be a whole number of 64 bits"),
    "options of an object": (
        {"algo": algorithm("grpo"), "algo_options": {"clip_low": 0.1}},
        "An Algorithm is an object",
    ),
    "temperature": ({"policy_options": {"temperature": 0.0}}, "temperature"),
    "group of one": ({"train": {"group_size": 1}, "algo": "grpo"}, "at least 2"),
    "resume": ({"resume": "nowhere"}, "not a checkpoint"),
    "reward": ({"reward": "math"}, "reward is for data"),
    "rows without answers": ({"env": [{"question": "1+1"}]}, "answer"),
    "no rows": ({"env": []}, "env: "),
    "engine": ({"policy_options": {"engine": "vlm"}}, "Did you mean 'vllm'"),
    "tracker": ({"log": {"to": ["wandbb"]}}, "wandbb"),
    "model without its tokenizer": (
        {"policy": 3},
        "policy must be a folder, a run, an id of the hub or a Policy, got 3",
    ),
    "algorithm's class": (
        {"algo": llmrl.Algorithm},
        "algo must be a name such as 'espo' or an Algorithm, got the class",
    ),
    "class of an environment": ({"env": trivial.SayA}, "a gymnasium.Env, or data, got the class SayA"),
    "file as environment": (
        {"env": "mine.jsonl"},
        "Data are given as --data mine.jsonl, in Python as env='llmrl",
    ),
    "data set as environment": ({"env": "openai/gsm8k"}, "Data are given as --data openai/gsm8k"),
    "no evaluation": ({"eval": False}, "No evaluation is eval={'problems': 0}"),
    "vector environment": ({"env": gymnasium.make_vec("llmrl/Countdown-v0", 2)}, "Give a single environment"),
    "environment with options": (
        {"env": trivial.SayA(), "env_options": {"goal": "b"}},
        "env_options apply to what is given",
    ),
    "options in a list": ({"algo_options": ["clip_low"]}, "algo_options must be a dict, got list"),
    "reward that is no function": ({"env": ROWS, "reward": 3}, "takes prompt, response and answer, got 3"),
    "reward of two arguments": (
        {"env": ROWS, "reward": lambda p, r: 1.0},
        r"takes prompt, response and answer, got .*\(p, r\)",
    ),
    "reward of nothing": ({"env": ROWS, "reward": lambda p, r, a: None}, "gave None, no finite number"),
    "reward in words": ({"env": ROWS, "reward": lambda p, r, a: "1.0"}, "gave '1.0', no finite number"),
    "reward that raises": (
        {"env": ROWS, "reward": lambda p, r, a: p["x"]},
        "got a verdict: the reward function raised",
    ),
    "reward to be awaited": ({"env": ROWS, "reward": later}, "got one that is async"),
    "function among options": (
        {"env_options": {"verifier": print}},
        r"env_options\['verifier'\] must be a value that a file can hold",
    ),
    "option of TRL": ({"num_generations": 4}, r"no argument 'num_generations'. Did you mean train=\{'group_size'"),
    "model by another name": ({"model": "m"}, "no argument 'model'. Did you mean 'policy'"),
    "environment without spaces": ({"env": Bare()}, "Bare has no observation_space or no action_space"),
    "callback of two arguments": (
        {"callbacks": [Late()]},
        r"Late.on_step is called with \(trainer, metrics, rollouts\), and takes \(metrics\)",
    ),
    "function as callback": ({"callbacks": [print]}, "list of Callback objects"),
    "callbacks that are no list": ({"callbacks": print}, "list of Callback objects, got builtin"),
    "number as output": ({"output": 4}, "output must be the path of a folder, got 4"),
    "truth as a number": ({"train": {"steps": True}}, "train.steps takes a value that is not true or false, got True"),
    "half of a name": ({"train": {"prompts": 4}}, "Did you mean 'train.prompts_per_step'"),
    "one callback": ({"callbacks": llmrl.Callback()}, r"Write callbacks=\[callback\]"),
    "class as callback": ({"callbacks": [llmrl.Callback]}, "got a list with the class Callback"),
    "seed": ({"seed": "a"}, "--seed: expected a whole number, got 'a'"),
    "half a step": ({"train": {"steps": 1.5}}, "--train.steps: expected a whole number, got '1.5'"),
    "learning rate in words": (
        {"train": {"learning_rate": "low"}},
        "--train.learning-rate: expected a number, got 'low'",
    ),
    "negative learning rate": ({"train": {"learning_rate": -1.0}}, "--train.learning-rate must be 0 or more, got -1.0"),
    "no threads": ({"threads": 0}, "--threads must be greater than 0, got 0"),
    "negative problems": ({"eval": {"problems": -3}}, "--eval.problems must be 0 or more, got -3"),
    "type of weights": (
        {"policy_options": {"dtype": "float16"}},
        "--policy.dtype: expected float32 or bfloat16, got 'float16'",
    ),
    "more updates than responses": ({"train": {"updates_per_step": 999}}, "--train.updates-per-step 999 cannot share"),
}

EVALUATE = {
    "argument": ({"problem": 3}, r"evaluate\(\) has no argument 'problem'. Did you mean 'problems'"),
    "no policy": ({"policy": None}, "policy must be a folder, a run, an id of the hub or a Policy, got None"),
    "a policy that is nowhere": ({"policy": "./nowhere"}, "'./nowhere' does not exist"),
    "misspelt environment": ({"env": "llmrl/MATH-v1"}, "Did you mean 'llmrl/MATH-v0'"),
    "number as environment": ({"env": 3}, "env must be an id such as"),
    "no problems": ({"problems": 0}, "problems must be a whole number of at least 1, got 0"),
    "problems in words": ({"problems": "all"}, "problems must be a whole number of at least 1, got 'all'"),
    "negative samples": ({"samples": -1}, "samples must be a whole number of at least 0, got -1"),
    "empty batch": ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
    "reward of a named environment": ({"reward": lambda p, r, a: 1.0}, "reward is for data"),
    "rows without answers": ({"env": [{"question": "1"}]}, "no column is called answer"),
    "level": ({"env": "llmrl/MATH-v0", "env_options": {"source": "generated", "levels": [9]}}, "among 1 to 5, got 9"),
}

STUDY = {
    "argument": ({"algos": ["dapo"]}, r"study\(\) has no argument 'algos'. Did you mean 'algorithms'"),
    "one name": ({"algorithms": "dapo"}, "algorithms must be a list of names, got 'dapo'"),
    "object": ({"algorithms": [algorithm("dapo")]}, "list of names, got one with Algorithm"),
    "none": ({"algorithms": []}, "Name at least one"),
    "misspelt": ({"algorithms": ["dappo"]}, "Did you mean 'dapo'"),
    "option": ({"algorithms": ["dapo[clip=1]"]}, "'dapo' has no option 'clip'. Did you mean 'clip_low'"),
    "open bracket": ({"algorithms": ["dapo[clip_high=1"]}, "a name with options: erc"),
    "task": ({"tasks": ["hck"]}, "Did you mean 'hack'"),
    "no seeds": ({"seeds": 0}, "seeds must be 1 or more, got 0"),
    "half a seed": ({"seeds": 1.5}, "seeds must be a list of whole numbers, got 1.5"),
    "one learning rate": ({"learning_rates": 1e-3}, "learning_rates must be a list of numbers, got 0.001"),
    "learning rate in words": ({"learning_rates": ["low"]}, "list of numbers, got one with 'low'"),
    "jobs in words": ({"jobs": "2"}, "jobs must be a whole number, got '2'"),
    "executor": ({"executor": "slurm"}, "Known: processes, ray"),
    "baseline": ({"baseline": "gspo"}, "not among the algorithms. Add it"),
}

REPORT = {
    "argument": ((".",), {"out": "x"}, r"report\(\) has no argument 'out'. Did you mean 'output'"),
    "none": ((), {}, "Give the folders of runs"),
    "nowhere": (("nowhere",), {}, "There is no folder nowhere"),
    "list": ((["a"],), {}, "A run is a folder, or what llmrl.train returned, got list"),
    "no run": ((".",), {}, "not the folder of a run"),
    "folder as page": ((".",), {"output": "."}, "output must be a file, and . is a folder"),
    "no steps": ((".",), {"steps": 0}, "steps must be 1 or more, got 0"),
    "one algorithm": ((".",), {"algorithms": "dapo"}, "algorithms must be a list of names, got 'dapo'"),
}

ALGORITHM = {
    "misspelt": (("dapoo",), {}, "Did you mean 'dapo'"),
    "capital letters": (("DAPO",), {}, "Did you mean 'dapo'"),
    "no name": ((None,), {}, "made by its name, such as 'dapo', got None"),
    "option": (("dapo",), {"clip_hihg": 0.3}, "Did you mean 'clip_high'"),
    "value": (("dapo",), {"clip_high": -1.0}, "high must be 0 or more, got -1"),
    "type": (("dapo",), {"clip_high": "wide"}, "'dapo' takes a number as 'clip_high', got 'wide'"),
    "truth": (("erc+dapo",), {"clip_high": True}, "takes a number as 'clip_high', got True"),
    "base": (("erc+nothing",), {}, "No algorithm is called 'nothing'"),
    "no base": (("dapo+gspo",), {}, "does not change another algorithm"),
    "module": (("nowhere:mine",), {}, "the module 'nowhere', which cannot be found"),
    "attribute": (("math:nothing",), {}, "The module 'math' has no 'nothing'"),
    "number": (("math:pi",), {}, "must be a function that returns an Algorithm"),
    "other function": (("math:sqrt",), {}, "'math:sqrt' cannot be made"),
}

GYM = {
    "level": ({"levels": [9]}, {}, None, "levels must be among 1 to 5, got 9"),
    "split": ({"split": "validation"}, {}, None, "There is no split 'validation'. Known: test, train"),
    "verifier": ({"verifier": "mth"}, {}, None, "Did you mean 'math'"),
    "render mode": ({"render_mode": "rgb_array"}, {}, None, "'human', 'ansi' or None, got 'rgb_array'"),
    "source": ({"source": "nowhere.jsonl"}, {}, None, "There is no file or folder 'nowhere.jsonl'"),
    "problem before the first": ({}, {"problem_id": -5}, None, "There is no problem -5: problem_id must be 0 or more"),
    "option of reset": ({}, {"problem": 5}, None, "Did you mean 'problem_id'"),
    "action that is no text": ({}, {}, 3, "An action is the response as a str, got int: 3"),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return Policy.from_pretrained(str(tiny_folder(tmp_path_factory.mktemp("tiny"))))


def says(call, said):
    """The call raises the one type, with one line that holds ``said``."""
    with pytest.raises(UserError, match=said) as error:
        call()
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize("name", TRAIN)
def test_train(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given, said = TRAIN[name]
    says(lambda: llmrl.train(**{"quiet": True, **given}), said)
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_an_environment_without_texts(policy, tmp_path):
    env = gymnasium.make("CartPole-v1")
    train = {"steps": 1, "group_size": 2, "prompts_per_step": 1, "updates_per_step": 1}
    says(
        lambda: llmrl.train(policy, env, "grpo", train=train, eval={"problems": 0}, output=tmp_path / "r", quiet=True),
        r"An observation must be a str, got array\(.*Try it alone",
    )


@pytest.mark.parametrize(
    ("swapped", "said"),
    [
        (lambda p: Policy(p.tokenizer, p.model), r"loads them, got \w+ and LlamaForCausalLM"),
        (lambda p: Policy("here", p.tokenizer), r"loads them, got 'here' and \w+\."),
        (lambda p: Policy(p.model, "gpt2"), "got LlamaForCausalLM and 'gpt2'"),
    ],
)
def test_what_is_no_model_or_no_tokenizer(policy, swapped, said):
    says(lambda: swapped(policy), said)


def test_options_of_a_policy_that_is_given(policy):
    says(lambda: llmrl.train(policy, policy_options={"temperature": 0.5}, quiet=True), "A Policy is an object")


@pytest.mark.parametrize("name", EVALUATE)
def test_evaluate(name, policy):
    given, said = EVALUATE[name]
    says(lambda: llmrl.evaluate(**{"policy": policy, "env": "tests/SayA-v0", **given}), said)


@pytest.mark.parametrize("name", STUDY)
def test_study(name, tmp_path):
    given, said = STUDY[name]
    says(
        lambda: llmrl.study(**{"output": tmp_path, "algorithms": ["dapo"], "tasks": ["hack"], "seeds": 1, **given}),
        said,
    )
    assert not any(tmp_path.iterdir())


def test_a_study_into_a_file(tmp_path):
    (tmp_path / "file").touch()
    says(lambda: llmrl.study(output=tmp_path / "file", algorithms=["dapo"], seeds=1), "output must be a folder")


@pytest.mark.parametrize("name", REPORT)
def test_report(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs, options, said = REPORT[name]
    says(lambda: llmrl.report(*runs, **options), said)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ALGORITHM)
def test_algorithm(name):
    given, options, said = ALGORITHM[name]
    says(lambda: algorithm(*given, **options), said)


@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")  # Gymnasium's own word on it
@pytest.mark.parametrize("name", GYM)
def test_gym_make(name):
    options, at_reset, action, said = GYM[name]

    def call():
        env = gymnasium.make("llmrl/MATH-v0", **{"source": "generated", **options})
        env.reset(options=at_reset)
        env.step(action)

    says(call, said)
