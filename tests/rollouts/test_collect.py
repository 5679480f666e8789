"""Batches of rollouts: cutting, padding and joining them changes nothing that a loss reads."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict

from llmrl import keys
from llmrl.rollouts.collect import (
    ProblemStream,
    Rollouts,
    by_rows,
    concatenate,
    micro_batches,
    problem_seed,
    trim,
)
from llmrl.rollouts.play import info_rows


def batch(lengths: list[tuple[int, int]], left: int = 0, right: int = 0) -> TensorDict:
    """Rows of (prompt, response) tokens, left- and right-padded as the policy does, with padding beside."""
    prompt, response = max(p for p, _ in lengths), max(r for _, r in lengths)
    width = left + prompt + response + right
    tokens = torch.zeros(len(lengths), width, dtype=torch.long)
    attention = torch.zeros(len(lengths), width, dtype=torch.bool)
    mask = attention.clone()
    for row, (p, r) in enumerate(lengths):
        begin = left + prompt
        attention[row, begin - p : begin + r] = True
        mask[row, begin : begin + r] = True
        tokens[row, begin - p : begin + r] = torch.arange(1, p + r + 1) + 100 * row
    data = TensorDict({}, batch_size=[len(lengths)])
    data[keys.TOKENS], data[keys.ATTENTION], data[keys.MASK] = tokens, attention, mask
    data[keys.REWARD] = torch.arange(len(lengths), dtype=torch.float32)[:, None]
    return data


LENGTHS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=8)


def rows_of(data: TensorDict) -> list[tuple[list[int], list[int]]]:
    """Per row, its real tokens and its sampled ones: what must survive any reshaping."""
    return [
        (tokens[attention].tolist(), tokens[mask].tolist())
        for tokens, attention, mask in zip(data[keys.TOKENS], data[keys.ATTENTION], data[keys.MASK], strict=True)
    ]


@given(LENGTHS, st.integers(0, 3), st.integers(0, 3))
def test_trim_takes_away_padding_and_nothing_else(lengths, left, right):
    data = batch(lengths, left, right)
    cut = trim(data)
    assert rows_of(cut) == rows_of(data)
    assert cut[keys.ATTENTION][:, 0].any()
    assert cut[keys.ATTENTION][:, -1].any()
    assert torch.equal(cut[keys.REWARD], data[keys.REWARD])


@given(LENGTHS, LENGTHS, st.integers(0, 3))
def test_concatenate_keeps_every_row_and_aligns_the_responses(first, second, left):
    parts = [
        Rollouts(batch(first, left=left), [{"row": i} for i in range(len(first))]),
        Rollouts(batch(second), [{"row": i} for i in range(len(second))]),
    ]
    joined = concatenate(parts)
    assert rows_of(joined.data) == rows_of(parts[0].data) + rows_of(parts[1].data)
    begins = joined.data[keys.MASK].int().argmax(1)
    assert len(begins.unique()) == 1
    assert len(joined.records) == len(first) + len(second)


@given(LENGTHS, st.integers(1, 40))
def test_micro_batches_cover_every_row_once_within_the_budget(lengths, budget):
    data = batch(lengths)
    parts = micro_batches(data, budget)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(lengths)))
    for rows in parts:
        # The last token is not read.
        size = int(data[keys.ATTENTION][rows].sum(1).max() - 1) * len(rows)
        assert size <= budget or len(rows) == 1


@given(LENGTHS, st.integers(1, 40), st.integers(0, 3), st.integers(0, 3))
def test_by_rows_puts_every_score_back_in_its_place(lengths, budget, left, right):
    data = batch(lengths, left, right)

    def score(part: TensorDict) -> TensorDict:
        out = part.copy()
        out["score"] = part[keys.TOKENS].float() * part[keys.MASK]
        out["total"] = out["score"].sum(1, keepdim=True)
        return out

    scored = by_rows(score, data, ["score", "total"], budget)
    whole = score(data)
    assert torch.equal(scored["score"], whole["score"])
    assert torch.equal(scored["total"], whole["total"])


def test_selecting_rows_takes_tensors_and_texts_together():
    rollouts = Rollouts(batch([(1, 2), (2, 1), (3, 3)]), [{"row": i} for i in range(3)])
    chosen = rollouts.select(torch.tensor([True, False, True]))
    assert [record["row"] for record in chosen.records] == [0, 2]
    assert chosen.data[keys.REWARD][:, 0].tolist() == [0.0, 2.0]


@given(st.integers(1, 20), st.integers(0, 50), st.integers(0, 5))
def test_a_stream_goes_on_from_its_position(size, taken, seed):
    whole = ProblemStream(seed, size).take(taken + 10)
    stream = ProblemStream(seed, size)
    stream.take(taken)
    resumed = ProblemStream(seed, size, stream.position)
    assert resumed.take(10) == whole[taken:]


def test_each_pass_over_the_problems_is_complete_and_in_an_order_of_its_own():
    stream = ProblemStream(seed=0, size=50)
    first, second = stream.take(50), stream.take(50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_problems_without_end_are_counted_through():
    assert ProblemStream(seed=3, size=None, position=7).take(3) == [7, 8, 9]


def test_the_seed_of_a_problem_depends_on_both_its_arguments():
    seeds = {problem_seed(s, i) for s in range(20) for i in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_info_rows_reads_gymnasiums_vector_form():
    infos = {
        "level": np.array([1, 0]),
        "_level": np.array([True, False]),
        "reward_parts": {"answer": np.array([1.0, 0.5]), "_answer": np.array([True, True])},
        "_reward_parts": np.array([True, True]),
    }
    assert info_rows(infos, 2) == [
        {"level": 1, "reward_parts": {"answer": 1.0}},
        {"reward_parts": {"answer": 0.5}},
    ]
