"""Batches of rollouts: cutting, padding and joining them changes nothing that a loss reads."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict

from llmrl import keys
from llmrl.rollouts.batch import Batch
from llmrl.rollouts.collect import Rollouts, concatenate
from llmrl.rollouts.stream import ProblemStream, problem_seed, row_seed


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
    cut = Batch.of(data).data
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
    parts = list(Batch.of(data).micro_batches(budget))
    assert sorted(torch.cat([part.rows for part in parts]).tolist()) == list(range(len(lengths)))
    for part in parts:
        # The last token is not read.
        size = int(data[keys.ATTENTION][part.rows].sum(1).max() - 1) * len(part)
        assert size <= budget or len(part) == 1
        assert rows_of(part.data) == rows_of(data[part.rows])


def test_rows_without_a_sampled_token_are_in_no_micro_batch():
    data = batch([(2, 1), (1, 3), (2, 2)])
    data[keys.MASK][1] = False
    parts = list(Batch.of(data).micro_batches(4))
    assert sorted(torch.cat([part.rows for part in parts]).tolist()) == [0, 2]
    data[keys.MASK][:] = False
    assert not list(Batch.of(data).micro_batches(4))


@given(LENGTHS, st.integers(1, 40), st.integers(0, 3), st.integers(0, 3))
def test_scoring_puts_every_score_back_in_its_place(lengths, budget, left, right):
    data = batch(lengths, left, right)

    def score(part: TensorDict) -> TensorDict:
        out = part.copy()
        out["score"] = part[keys.TOKENS].float() * part[keys.MASK]
        out["total"] = out["score"].sum(1, keepdim=True)
        return out

    cut = Batch.of(data)
    cut.score(lambda part: score(part.data), {"score": "score", "total": "sum"}, budget)
    whole = score(cut.whole)
    assert torch.equal(cut.whole["score"], whole["score"])
    assert torch.equal(cut.whole["sum"], whole["total"])


@given(LENGTHS, st.data())
def test_rows_taken_twice_still_know_their_place(lengths, data):
    cut = Batch.of(batch(lengths, left=2, right=1))
    rows = st.permutations(range(len(lengths)))
    part = cut.take(torch.tensor(data.draw(rows)))
    for small in part.micro_batches(8):
        small.put_back(small.data, {keys.TOKENS: "again"})
    sampled = cut.whole[keys.MASK]
    assert torch.equal(cut.whole["again"][sampled], cut.whole[keys.TOKENS][sampled])
    assert not cut.whole["again"][~sampled].any()


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
    seeds = {problem_seed(s, "train", i) for s in range(20) for i in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_seed_of_a_response_depends_on_each_of_its_arguments():
    places = [
        (s, name, g, m, t) for s in (0, 1) for name in ("a", "b") for g in range(3) for m in (0, 1) for t in (0, 1)
    ]
    seeds = {row_seed(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
