"""How a reply is written behind a response, with templates of several kinds."""

from __future__ import annotations

import pytest
from tiny import END, MODEL, STOP, USER, tiny_policy

from llmrl.errors import PolicyError
from llmrl.policies.episode import Episode
from llmrl.policies.policy import Policy
from llmrl.policies.prompts import STAND_IN, continuation, written_behind
from llmrl.policies.sampling.engine import FINISH_END, FINISH_LENGTH, Sample, SamplingOptions


@pytest.fixture(scope="module")
def nano():
    return Policy.from_pretrained("llmrl/nano")


def test_nano_reads_a_reply_as_if_the_whole_conversation_were_read_at_once(nano):
    end = nano.tokenizer.eos_token_id
    response = nano.tokenizer("Add: $2+2=4$.", add_special_tokens=False)["input_ids"]
    (episode,) = nano.begin(["What is $2+2$?"])
    episode.add(Sample([*response, end], [-1.0] * (len(response) + 1), FINISH_END))
    assert nano.append_reply(episode, ["What is $2+2$?", "That is not right. Try again."])
    whole = nano.prompts.render("What is $2+2$?", "That is not right. Try again.")
    whole = whole.replace(STAND_IN, "Add: $2+2=4$.")
    assert episode.context == nano.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert nano.tokenizer.decode(episode.context).count("<|end|>") == 1
    read = [i for i, mine in zip(episode.tokens, episode.sampled, strict=True) if not mine]
    text = "<|problem|>That is not right. Try again.<|solution|>"
    assert nano.tokenizer.decode(read) == text
    assert episode.log_probs.count(-1.0) == len(response) + 1


@pytest.mark.parametrize(
    ("text", "end", "want"),
    [
        (f"{END}\n{USER}x{MODEL}", END, f"\n{USER}x{MODEL}"),
        (f" {END}{USER}x{MODEL}", END, f"{USER}x{MODEL}"),  # a blank that nobody sampled
        (f"{USER}x{END}{MODEL}", END, f"{USER}x{END}{MODEL}"),  # another one's end stays
        (f"{END}{USER}x{MODEL}", STOP, f"{END}{USER}x{MODEL}"),
        ("a reply", "e", "a reply"),
        ("a reply", "a", "a reply"),  # its own beginning, no end that a template wrote
        ("", END, ""),
    ],
)
def test_an_end_that_was_sampled_is_not_written_twice(text, end, want):
    tokenizer = tiny_policy().tokenizer
    ids = continuation(tokenizer, text, tokenizer.convert_tokens_to_ids(end))
    assert tokenizer.decode(ids) == want


def test_a_reply_without_a_template_is_the_prompt_template_again():
    policy = tiny_policy(chat=False)
    policy.prompts.prompt_template = "Q: {problem} A: "
    (episode,) = policy.begin(["1+1"])
    episode.add(Sample([50, 1], [-0.5, -0.5], FINISH_END))
    assert policy.append_reply(episode, ["1+1", "no"])
    assert policy.tokenizer.decode(episode.tokens[2:]) == "Q: no A: "


def test_a_reply_needs_room_for_one_more_token():
    said = ["1+1", "no"]
    for limit, fits in ((9, True), (8, False)):  # <|user|> no <|model|> behind 4 tokens
        for own, options in ((limit, SamplingOptions()), (17 - limit, SamplingOptions(max_new_tokens=limit))):
            policy = tiny_policy(max_response_length=own)
            (episode,) = policy.begin(said[:1])
            episode.add(Sample([50, 51, 52, 1], [-0.5] * 4, FINISH_END))
            assert policy.append_reply(episode, said, options) == fits
            assert episode.cut == (not fits)
            assert len(episode.tokens) == (8 if fits else 4)


def test_behind_a_response_that_was_cut_off_nothing_is_read():
    policy = tiny_policy()
    episode = Episode([5], finish_reason=FINISH_LENGTH)
    assert not policy.append_reply(episode, ["1+1", "no"])
    assert episode.tokens == []


@pytest.mark.parametrize("whole", ["Q A ", f"Q {STAND_IN}", f"Q A: {STAND_IN.strip('<>')} Q"])
def test_a_history_that_is_not_what_was_read_is_refused(whole):
    with pytest.raises(PolicyError, match=r"rewrites what came before.*only grows. Give --policy"):
        written_behind("Q A: ", whole)
