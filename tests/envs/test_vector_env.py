"""Many text environments at once: graded in one call, reset by mask, ending at different steps."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from llmrl.envs.math import MathEnv
from llmrl.envs.spaces import FreeText
from llmrl.envs.text import Turn
from llmrl.envs.vector import TextVectorEnv
from llmrl.envs.wrappers import FormatReward
from llmrl.errors import ArgumentError
from llmrl.verifiers import FunctionVerifier

ENV = "llmrl/MATH-v0"


@pytest.fixture
def envs(grader):
    return gymnasium.make_vec(ENV, num_envs=4, source="generated", verifier=grader)


def box(answers):
    return [f"\\boxed{{{answer}}}" for answer in answers]


def test_make_vec_gives_ours(envs):
    assert isinstance(envs, TextVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert envs.num_problems is None
    assert repr(envs) == "TextVectorEnv(llmrl/MATH-v0, num_envs=4)"
    envs.close()
    assert envs.closed


def test_a_step_grades_everything_in_one_call(envs, grader):
    problems, info = envs.reset(options={"problem_id": [3, 3, 4, 9]})
    assert problems in envs.observation_space
    assert problems[0] == problems[1] != problems[2]
    assert info["problem_id"].tolist() == [3, 3, 4, 9]
    answers = box(info["answer"])
    replies, rewards, terminated, truncated, info = envs.step([answers[0], "?", "hang", answers[3]])
    assert grader.calls == [4]
    assert replies == ("", "", "", "")
    assert rewards.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert terminated.all()
    assert not truncated.any()
    assert info["verdict"].tolist() == ["correct", "no_answer", "timeout", "correct"]
    assert info["valid"].tolist() == [True, True, False, True]
    assert info["valid"].dtype == bool
    assert info["reward_parts"]["answer"].tolist() == rewards.tolist()
    assert info["_verdict"].all()


def test_it_does_what_single_environments_do(envs, grader):
    problems, _ = envs.reset(seed=7)
    single = [MathEnv(source="generated", verifier=grader) for _ in range(4)]
    assert problems == tuple(env.reset(seed=7 + i)[0] for i, env in enumerate(single))
    actions = ["a", "\\boxed{2}", "\\boxed{5}", ""]
    _, rewards, *_, info = envs.step(actions)
    for i, env in enumerate(single):
        _, reward, _, _, own = env.step(actions[i])
        assert reward == rewards[i]
        assert {key: info[key][i] for key in own if key != "reward_parts"} == {
            key: value for key, value in own.items() if key != "reward_parts"
        }


def test_one_seed_for_all_rows_of_a_group(envs):
    problems, _ = envs.reset(seed=[5, 5, 6, 6])
    assert problems[0] == problems[1] != problems[2] == problems[3]


def test_reset_by_mask(envs):
    problems, _ = envs.reset(options={"problem_id": [0, 1, 2, 3]})
    _, _, earlier, *_ = envs.step(["x"] * 4)
    mask = np.array([False, True, False, True])
    again, info = envs.reset(options={"problem_id": [9, 1, 9, 3], "reset_mask": mask})
    assert again == ("", problems[1], "", problems[3])
    assert info["_problem_id"].tolist() == mask.tolist()
    assert earlier.all()  # what was returned before has not changed
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"environments 0, 2 are over"):
        envs.step(["x"] * 4)
    _, _, terminated, _, info = envs.step([None, "x", None, "x"])
    assert terminated.all()
    assert info["_verdict"].tolist() == mask.tolist()


def test_episodes_may_end_at_different_steps(grader):
    envs = gymnasium.make_vec("llmrl/MathRetry-v0", 3, source="generated", verifier=grader)
    _, info = envs.reset(seed=0)
    right = box(info["answer"])
    replies, rewards, terminated, _, _ = envs.step([right[0], "?", right[2]])
    assert terminated.tolist() == [True, False, True]
    assert replies[0] == "" != replies[1]
    replies, rewards, terminated, _, info = envs.step([None, right[1], None])
    assert rewards.tolist() == [0.0, 1.0, 0.0]
    assert terminated.all()
    assert info["_verdict"].tolist() == [False, True, False]
    assert grader.calls == [3, 1]


@pytest.mark.parametrize(
    ("actions", "error", "text"),
    [
        (["x"] * 3, ValueError, "one entry for each of the 4 environments, got 3"),
        ("text", ValueError, "one entry for each of the 4 environments, got 'text'"),
        (["x", None, "x", "x"], ValueError, "environments 1 go on, so their action must be a str"),
        (["x", "x", 5, "x"], TypeError, "An action is the response as a str, got int"),
    ],
)
def test_wrong_actions(envs, actions, error, text):
    envs.reset(seed=0)
    with pytest.raises(error, match=text):
        envs.step(actions)


def test_wrong_resets(envs):
    with pytest.raises(ValueError, match="problem_id must have one entry for each"):
        envs.reset(options={"problem_id": [1]})
    with pytest.raises(ValueError, match=r"reset_mask must be bool of shape \(4,\), got int64"):
        envs.reset(options={"reset_mask": np.ones(4, dtype=np.int64)})
    with pytest.raises(ValueError, match="unknown option 'probem_id'"):
        envs.reset(options={"probem_id": 1})
    with pytest.raises(ValueError, match="needs at least one environment"):
        TextVectorEnv([])
    with pytest.raises(gymnasium.error.ResetNeeded, match="never began"):
        envs.step(["x"] * 4)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasiums_own_vector_environments(mode, grader):
    kwargs = {"autoreset_mode": AutoresetMode.DISABLED}
    if mode == "async":
        kwargs["shared_memory"] = False  # Gymnasium cannot share texts
    envs = gymnasium.make_vec(*(ENV, 2, mode), vector_kwargs=kwargs, source="generated", verifier=grader)
    assert isinstance(envs, (SyncVectorEnv, AsyncVectorEnv))
    problems, info = envs.reset(seed=3)
    ours = gymnasium.make_vec(ENV, 2, source="generated", verifier=grader)
    assert problems == ours.reset(seed=3)[0]
    _, rewards, terminated, _, info = envs.step((box(info["answer"])[0], "?"))
    assert rewards.tolist() == [1.0, 0.0]
    assert terminated.all()
    assert info["verdict"].tolist() == ["correct", "no_answer"]
    envs.close()


def test_wrappers_are_graded_together_too(grader):
    options = {"source": "generated", "verifier": grader}
    envs = TextVectorEnv.make(ENV, 3, wrappers=[FormatReward], **options)
    _, info = envs.reset(seed=0)
    _, rewards, *_, info = envs.step([*box(info["answer"][:2]), "?"])
    assert rewards.tolist() == [1.1, 1.1, 0.0]
    assert info["reward_parts"]["format"].tolist() == [0.1, 0.1, 0.0]
    assert grader.calls == [3]


def test_a_time_limit_cuts_off(grader):
    envs = gymnasium.make_vec("llmrl/MathRetry-v0", 2, source="generated", verifier=grader, max_episode_steps=2)
    envs.reset(seed=0)
    envs.step(["?", "?"])
    _, _, terminated, truncated, _ = envs.step(["?", "?"])
    assert truncated.all()
    assert not terminated.any()
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"environments 0, 1 are over"):
        envs.step(["?", "?"])
    replies, _, _, still, _ = envs.step([None, None])
    assert (replies, still.tolist()) == (("", ""), [True, True])
    envs.reset(seed=0)
    _, _, terminated, truncated, _ = envs.step(["?", "?"])
    assert not (terminated | truncated).any()


class Coin(gymnasium.Env):
    """An environment from elsewhere that knows nothing of problems or verifiers."""

    observation_space = FreeText()
    action_space = FreeText()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        assert not options
        self.side = ("heads", "tails")[int(self.np_random.integers(2))]
        return f"Which side is up? {self.np_random.integers(10**6)}", {}

    def step(self, action):
        return "", float(action == self.side), True, False, {}


def test_an_environment_from_elsewhere():
    gymnasium.register("elsewhere/Coin-v0", entry_point=Coin)
    try:
        envs = TextVectorEnv.make("elsewhere/Coin-v0", 4)
    finally:
        del gymnasium.registry["elsewhere/Coin-v0"]
    asked, infos = envs.reset(seed=[1, 1, 2, 2], options={"problem_id": [0, 0, 1, 1]})
    assert infos == {}
    assert asked[0] == asked[1] != asked[2] == asked[3]
    _, rewards, terminated, _, _ = envs.step(["heads", "tails", "heads", "tails"])
    assert rewards.sum() == 2
    assert terminated.all()
    assert envs.num_problems is None


def test_what_an_environment_returns_by_mistake_is_named_with_what_it_should():
    class Answers(MathEnv):
        given: object = "again"

        def respond(self, response, verdict):
            return self.given

    env = Answers(source="generated")
    for given, text in (
        ("again", r"Answers\.respond must return a Turn, got 'again'"),
        (Turn("", 1.0, terminated=True), r"the reward_parts of its Turn must be a dict such as .*, got 1\.0"),
    ):
        env.given = given
        env.reset()
        with pytest.raises(ArgumentError, match=text):
            env.step("1")

    class Alone(Coin):
        def reset(self, *, seed=None, options=None):
            return "heads or tails?"

    with pytest.raises(ValueError, match=r"reset must return observation and info, got 'heads or tails\?'"):
        TextVectorEnv([Alone()]).reset()


def test_episodes_can_be_cut_off(grader):
    env = TextVectorEnv.make("llmrl/MathRetry-v0", 3, source="generated", verifier=grader, attempts=2)
    env.reset(seed=0)
    env.step(["\\boxed{?}"] * 3)
    env.truncate(np.array([True, False, False]))
    *_, terminated, truncated, _ = env.step([None, "\\boxed{?}", "\\boxed{?}"])
    assert terminated.tolist() == [False, True, True]
    assert truncated.tolist() == [True, False, False]
    env.truncate([True] * 3)  # what is over stays as it is
    assert env.step([None] * 3)[3].tolist() == [True, False, False]
    with pytest.raises(ValueError, match=r"^mask must be bool of shape \(3,\)"):
        env.truncate([True])
    env.reset(seed=0)
    assert not env.step(["\\boxed{?}"] * 3)[3].any()


def test_a_reward_function_reads_the_prompt_and_its_faults_are_no_verdicts():
    def reward(prompt, response, answer):
        if response == "raise":
            raise SystemExit("broken")
        return float("nan") if response == "nan" else float(prompt.startswith("Q") and response == answer) / 2

    verifier = FunctionVerifier(reward, threshold=0.5)
    rows = [{"problem": f"Q{i}", "answer": str(i)} for i in range(4)]
    envs = TextVectorEnv.make("llmrl/Data-v0", 4, source=rows, verifier=verifier)
    envs.reset(options={"problem_id": [0, 1, 2, 3]})
    _, rewards, _, _, infos = envs.step(["0", "raise", "nan", "0"])
    assert list(rewards) == [0.5, 0, 0, 0]
    assert list(infos["valid"]) == [True, False, False, True]
    assert list(infos["verdict"]) == ["correct", "error", "error", "wrong"]
    assert "SystemExit: broken" in infos["detail"][1]
    assert "no finite number" in infos["detail"][2]
