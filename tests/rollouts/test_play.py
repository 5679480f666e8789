"""Episodes of several turns: whose token is whose, and that holes in a row change nothing that learns."""

from __future__ import annotations

import json
import math
from typing import Any

import gymnasium
import pytest
import torch
from command import train
from tensordict import TensorDict
from tiny import MODEL, USER, tiny_folder, tiny_policy

from llmrl import keys
from llmrl.algorithms import ALGORITHMS, algorithm
from llmrl.credit import GAE
from llmrl.envs.spaces import FreeText
from llmrl.evaluation import evaluate
from llmrl.policies.policy import PolicyError
from llmrl.rollouts.batch import Batch
from llmrl.rollouts.collect import collect, concatenate
from llmrl.rollouts.environments import Environments
from llmrl.training.command_line import parse
from llmrl.training.session import build


class Chat(gymnasium.Env[str, str]):
    """Goes on for 1, 2 or 3 turns, by the problem; each turn earns a quarter."""

    reset_options = frozenset({"problem_id"})

    def __init__(self, split: str = "train", turns: int | None = None) -> None:
        self.observation_space = FreeText()
        self.action_space = FreeText()
        self.turns = turns
        self.heard: list[str] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        number = (options or {}).get("problem_id", 0)
        self.left = self.turns or 1 + number % 3
        self.heard = []
        return f"question {number}" + number * "?", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.heard.append(action)
        self.left -= 1
        over = self.left == 0
        return "" if over else f"go on, {self.left} left", 0.25, over, False, {}


class Echo(gymnasium.Env[str, str]):
    """Says a letter in its second turn and rewards its repetition; always the same letter earns 5/8."""

    def __init__(self, split: str = "train") -> None:
        self.observation_space = FreeText()
        self.action_space = FreeText()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.letter = "ab"[int(self.np_random.integers(2))]
        self.first = True
        return "?", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.first:
            self.first = False
            return self.letter, 0.0, False, False, {}
        reward = 1.0 if action == self.letter else 0.25 * (action in ("a", "b"))
        return "", reward, True, False, {}


class Dice(gymnasium.Env[str, str]):
    """Draws its problem, and then a reward that no answer can change."""

    def __init__(self, split: str = "train") -> None:
        self.observation_space = FreeText()
        self.action_space = FreeText()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return f"guess {self.np_random.integers(1000)}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", float(self.np_random.random()), True, False, {}


for name, env in (("tests/Chat-v0", Chat), ("tests/Echo-v0", Echo), ("tests/Dice-v0", Dice)):
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=env)


def chatty(*, chat: bool = True, max_response_length: int = 200):
    """A policy whose responses end soon: a third of the bytes are end tokens."""
    policy = tiny_policy(chat=chat, max_response_length=max_response_length)
    policy.end_ids |= set(range(60, 150))
    return policy


def play_some(policy, rows: int = 6, **options: Any):
    environments = Environments("tests/Chat-v0", options)
    rollouts = collect(policy, environments, range(rows), seed=0, group_size=2)
    heard = [env.unwrapped.heard for env in environments.of_size(2 * rows).envs]
    return rollouts, heard


def spans(tokens: torch.Tensor, mask: torch.Tensor, want: bool) -> list[list[int]]:
    """Runs of tokens where the mask is ``want``."""
    runs: list[list[int]] = []
    previous = not want
    for token, flag in zip(tokens.tolist(), mask.tolist(), strict=True):
        if flag == want:
            if previous != want:
                runs.append([])
            runs[-1].append(token)
        previous = flag
    return runs


def real_rows(data: TensorDict) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [
        (tokens[attention], mask[attention])
        for tokens, attention, mask in zip(data[keys.TOKENS], data[keys.ATTENTION], data[keys.MASK], strict=True)
    ]


def test_the_rows_of_a_group_have_one_problem_and_draws_of_their_own():
    def play(first_group: int) -> list[dict[str, Any]]:
        environments = Environments("tests/Dice-v0", {})
        return collect(chatty(), environments, range(2), seed=0, group_size=4, first_group=first_group).records

    records = play(0)
    assert len({record["problem"] for record in records}) == 2
    assert len({record["reward"] for record in records}) == 8
    assert play(0) == records
    later = play(2)
    assert [record["problem"] for record in later] == [record["problem"] for record in records]
    assert not {record["reward"] for record in later} & {record["reward"] for record in records}


@pytest.mark.parametrize("chat", [True, False])
def test_the_mask_says_whose_token_is_whose(chat):
    policy = chatty(chat=chat)
    rollouts, heard = play_some(policy)
    decode = policy.tokenizer.decode
    turns = [len(said) for said in heard]
    assert turns == [1, 1, 2, 2, 3, 3] * 2
    for row, (tokens, mask) in enumerate(real_rows(rollouts.data)):
        said = spans(tokens, mask, True)
        assert [decode(ids, skip_special_tokens=True) for ids in said] == heard[row]
        assert all(ids[-1] in policy.end_ids for ids in said)
        assert not any(set(ids[:-1]) & policy.end_ids for ids in said)
        number = row // 2
        replies = [f"question {number}" + number * "?"]
        replies += [f"go on, {left} left" for left in range(turns[row] - 1, 0, -1)]
        read = [decode(ids) for ids in spans(tokens, mask, False)]
        assert read == [f"{USER}{text}{MODEL}" if chat else text for text in replies]
    assert (rollouts.data[keys.SAMPLER_LOG_PROB][~rollouts.data[keys.MASK]] == 0).all()


def test_records_hold_the_whole_transcript_and_rewards_add_up():
    rollouts, heard = play_some(chatty())
    for record, said, reward in zip(rollouts.records, heard, rollouts.data[keys.REWARD][:, 0].tolist(), strict=True):
        transcript = record["transcript"]
        assert [turn["response"] for turn in transcript] == said
        assert record["response"] == said[-1]
        assert record["turns"] == len(said) == len(transcript)
        assert record["reward"] == reward == 0.25 * len(said)
        assert sum(turn["tokens"] for turn in transcript) == record["tokens"]
        assert transcript[0]["observation"] == record["problem"]
        assert all(turn["observation"].startswith("go on") for turn in transcript[1:])
    assert rollouts.data[keys.TERMINATED].all()
    assert not rollouts.data[keys.TRUNCATED].any()


@pytest.mark.parametrize("chat", [True, False])
def test_scores_of_rows_with_holes_are_those_of_one_dense_forward_pass(chat):
    policy = chatty(chat=chat)
    data = play_some(policy)[0].data
    with torch.no_grad():
        scored = policy.score(data, entropy=True)
        for row, (tokens, mask) in enumerate(real_rows(data)):
            log_p = policy.model(input_ids=tokens[None]).logits[0].float().log_softmax(-1)
            at = mask.nonzero().squeeze(1)
            want = log_p[at - 1, tokens[at]]
            inside = data[keys.MASK][row]
            for key in (keys.LOG_PROB, keys.SAMPLER_LOG_PROB):
                torch.testing.assert_close(scored[key][row][inside], want, atol=5e-5, rtol=1e-4)
            entropy = -(log_p.exp() * log_p).sum(-1)[at - 1]
            torch.testing.assert_close(scored[keys.ENTROPY][row][inside], entropy, atol=5e-5, rtol=1e-4)
    assert (scored[keys.LOG_PROB][~data[keys.MASK]] == 0).all()


def test_joining_and_trimming_keep_the_holes():
    policy = chatty()
    short, _ = play_some(policy, rows=1)
    long, _ = play_some(policy, rows=3)
    joined = concatenate([short, long])
    for data in (joined.data, Batch.of(joined.data).data):
        got = [(t.tolist(), m.tolist()) for t, m in real_rows(data)]
        want = [(t.tolist(), m.tolist()) for part in (short, long) for t, m in real_rows(part.data)]
        assert got == want


def test_the_length_limit_ends_an_episode():
    """The limit holds for all that follows the prompt, and a row that is cut is stepped no more."""
    policy = chatty(max_response_length=60)
    rollouts, heard = play_some(policy, turns=50)
    data = rollouts.data
    assert data[keys.TRUNCATED].all()
    assert not data[keys.TERMINATED].any()
    assert len({len(said) for said in heard}) > 1
    for row, (_, mask) in enumerate(real_rows(data)):
        begin = int(mask.int().argmax())
        assert len(mask) - begin <= 60
        assert mask[-1]  # a reply that nobody can answer is left out
        assert rollouts.records[row]["turns"] == len(heard[row]) == len(spans(mask, mask, True))
        assert rollouts.records[row]["finish_reason"] == "length"


def test_a_prompt_that_is_too_long_plays_no_second_turn():
    policy = chatty()
    policy.max_prompt_length = len(policy.prompts.encode(["question 1?"])[0])
    rollouts, heard = play_some(policy, rows=3, turns=2)
    assert rollouts.dropped_prompts == 1
    assert [record["problem_id"] for record in rollouts.records] == [0, 0, 1, 1]
    assert heard[4:] == [[""], [""]]


def test_a_template_that_rewrites_earlier_turns_is_refused():
    policy = chatty()
    policy.prompts.chat_template = policy.prompts.chat_template.replace(
        "{{ m['content'] }}", "{{ m['content'].split('</think>')[-1] }}"
    )
    assert play_some(policy, turns=1)[0].records
    with pytest.raises(PolicyError, match=r"rewrites what came before.*Give --policy.chat-templ"):
        play_some(policy, turns=2)


def test_evaluation_plays_all_turns():
    result = evaluate(chatty(), Environments("tests/Chat-v0", {}), 6, samples=2)
    turns = {(r["problem_id"], r["greedy"]): r["turns"] for r in result.records}
    ended = [r for r in result.records if r["finish_reason"] == "end"]
    assert len(turns) == 12
    assert all(r["turns"] == 1 + r["problem_id"] % 3 for r in ended)
    assert max(r["turns"] for r in ended) == 3


def holed(rows: int = 6, width: int = 24, seed: int = 0) -> tuple[TensorDict, TensorDict]:
    """A batch with holes, and the same sampled tokens side by side."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, width, generator=draw) < 0.6
    mask[:, 0] = False
    wide = TensorDict({}, [rows])
    wide[keys.MASK] = mask
    base = -torch.rand(rows, width, generator=draw) * 3
    wide[keys.OLD_LOG_PROB] = base
    wide[keys.SAMPLER_LOG_PROB] = base + 0.05 * torch.randn(rows, width, generator=draw)
    wide[keys.REF_LOG_PROB] = base + 0.3 * torch.randn(rows, width, generator=draw)
    wide[keys.LOG_PROB] = base + 0.3 * torch.randn(rows, width, generator=draw)
    for key in (keys.ENTROPY, keys.OLD_ENTROPY, keys.VALUE, keys.OLD_VALUE):
        wide[key] = torch.rand(rows, width, generator=draw)
    wide[keys.ADVANTAGE] = torch.randn(rows, 1, generator=draw).expand(rows, width).clone()
    wide[keys.VALUE_TARGET] = torch.rand(rows, width, generator=draw)
    order = torch.argsort(~mask, dim=1, stable=True)[:, : int(mask.sum(1).max())]
    dense = wide.apply(lambda x: x.gather(1, order), batch_size=[rows])
    for data in (wide, dense):
        data[keys.MAX_ENTROPY] = torch.full((rows, 1), 5.0)
        data[keys.GROUP] = torch.arange(rows) // 2
        data[keys.REWARD] = torch.linspace(0, 1, rows)[:, None]
        data[keys.VALID] = torch.ones(rows, dtype=torch.bool)
    return wide, dense


def test_gae_takes_sampled_tokens_for_consecutive_steps():
    wide, dense = (GAE(gamma=0.9, lam=0.8, whiten=False)(data) for data in holed())
    for key in (keys.ADVANTAGE, keys.VALUE_TARGET):
        torch.testing.assert_close(wide[key][wide[keys.MASK]], dense[key][dense[keys.MASK]])
        assert (wide[key][~wide[keys.MASK]] == 0).all()


@pytest.mark.parametrize("name", [*ALGORITHMS, "erc+gspo"])
def test_no_loss_sees_the_holes(name):
    recipe = algorithm(name)
    results = []
    for data in holed():
        mask = data[keys.MASK]
        log_prob = data[keys.LOG_PROB].clone().requires_grad_()
        weighed = recipe.weigh(data)
        weighed[keys.LOG_PROB] = log_prob
        out = recipe.loss()(weighed)
        total = sum(value for key, value in out.items() if key.startswith("loss_"))
        gradient = torch.autograd.grad(total, log_prob)[0]
        results.append((total.detach(), gradient[mask], weighed[keys.WEIGHT][mask]))
        assert (gradient[~mask] == 0).all()
    for wide, dense in zip(*results, strict=True):
        torch.testing.assert_close(wide, dense)


def test_reward_rises_where_only_the_second_turn_tells_what_to_say(tmp_path):
    """The best that can be had without reading the reply is 5/8."""
    config = parse(
        [
            "--algo",
            "grpo",
            "--seed",
            "3",
            "--policy",
            str(tiny_folder(tmp_path, sharpness=1.0)),
            "--env",
            "tests/Echo-v0",
            "--policy.max-response-length",
            "16",
            "--train.prompts-per-step",
            "16",
            "--train.group-size",
            "16",
            "--train.updates-per-step",
            "2",
            "--train.learning-rate",
            "4e-3",
            "--train.warmup-steps",
            "1",
        ]
    )
    trainer, _ = build(config)
    trainer.policy.end_ids = set(range(trainer.policy.vocab_size))  # a response is one token
    steps = [trainer.step()[0] for _ in range(60)]
    rewards = [metrics["reward/mean"] for metrics in steps]
    assert sum(rewards[:2]) / 2 < 0.1, rewards
    assert sum(rewards[-5:]) / 5 > 0.8, rewards
    assert all(metrics["turns/mean"] == metrics["turns/max"] == 2 for metrics in steps)
    assert all(metrics["response_length/mean"] == 2 for metrics in steps)
    assert all(metrics["prompt_length/mean"] == 3 for metrics in steps)


def test_the_command_line_trains_on_an_environment_of_several_turns(tmp_path):
    folder = tmp_path / "run"
    arguments = [
        "--env",
        "llmrl/MathRetry-v0",
        "--output",
        str(folder),
        "--train.steps",
        "2",
        "--train.prompts-per-step",
        "2",
        "--train.group-size",
        "4",
        "--eval.problems",
        "8",
        "--eval.samples",
        "0",
        "--threads",
        "1",
    ]
    assert train(arguments) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(value is not None and math.isfinite(value) for line in lines for value in line.values())
    assert max(line["turns/max"] for line in lines) > 1
    text = (folder / "rollouts/step_000001.jsonl").read_text()
    rollouts = [json.loads(line) for line in text.splitlines()]
    assert all(len(record["transcript"]) == record["turns"] for record in rollouts)
