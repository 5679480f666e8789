"""How a batch is cut into micro-batches."""

import pytest
import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.policies.scoring.forward import PACKED, PADDED, Sequences
from llmrl.policies.scoring.sharing import SHARED
from llmrl.rollouts.batch import EVEN, LAYOUT, Batch


def batch_of(prompts, responses):
    """Rows with these lengths; those with prompts of one length have the same prompt."""
    width = max(p + r for p, r in zip(prompts, responses, strict=True))
    column = torch.arange(width)
    prompt, response = torch.tensor(prompts)[:, None], torch.tensor(responses)[:, None]
    attention = column < prompt + response
    tokens = torch.where(attention, 1 + (column + prompt) % 7, 0)
    mask = attention & (column >= prompt)
    data = TensorDict({keys.TOKENS: tokens, keys.ATTENTION: attention, keys.MASK: mask}, [len(prompts)])
    return Batch.of(data)


def read(part, forward_pass):
    """Tokens that a model reads of a part, with their padding."""
    rows, length = forward_pass.extent(Sequences.of(*(part.layout[key] for key in LAYOUT)))
    return rows * length


@pytest.mark.parametrize("forward_pass", [PADDED, PACKED, SHARED])
@pytest.mark.parametrize("budget", [150, 400, 1000])
def test_several_micro_batches_are_about_equal_and_a_multiple(forward_pass, budget):
    draw = torch.Generator().manual_seed(budget)
    prompts = [10 + 5 * (i // 8) for i in range(64)]
    responses = torch.randint(20, 41, (64,), generator=draw).tolist()
    batch = batch_of(prompts, responses)
    parts = list(batch.micro_batches(budget, forward_pass))
    assert sorted(row for part in parts for row in part.rows.tolist()) == list(range(64))
    sizes = [read(part, forward_pass) for part in parts]
    assert max(sizes) <= budget
    if len(parts) <= 16:  # with more parts a single row is a large share of one
        assert len(parts) % EVEN == 0
        halves = sorted(sizes)[::2], sorted(sizes)[1::2]
        assert max(map(sum, halves)) < 0.58 * sum(sizes)
    coarse = forward_pass.batches(Sequences.of(*(batch.layout[key] for key in LAYOUT)), budget)
    assert len(parts) < len(coarse) + EVEN


def test_what_fits_at_once_is_not_cut():
    assert len(list(batch_of([3] * 6, [4] * 6).micro_batches(1000))) == 1


def test_fewer_rows_than_parts_are_one_each():
    assert [len(part) for part in batch_of([3] * 3, [7] * 3).micro_batches(10)] == [1, 1, 1]
