"""Scoring by blocks equals the dense computation, in value and in gradient."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmrl.policies.scoring import head as scoring
from llmrl.policies.scoring.head import Head, score_tokens

SETTINGS = [
    {},
    {"temperature": 0.7},
    {"scale": 0.25},
    {"softcap": 3.0},
    {"bias": True},
    {"bias": True, "scale": 1.7, "softcap": 5.0, "temperature": 1.3},
]


@pytest.fixture(params=["kept", "recomputed", "tiles"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The three ways through the function: small and kept, one block, many uneven blocks."""
    if request.param != "kept":
        monkeypatch.setattr(scoring, "KEEP_ELEMENTS", 0)
    if request.param == "tiles":
        monkeypatch.setattr(scoring, "TILE_VOCABULARY", 5)
        monkeypatch.setattr(scoring, "TILE_ELEMENTS", 5 * 64)
    return request.param


def problem(
    size: int, width: int, vocabulary: int, *, bias: bool = False, dtype: torch.dtype, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(size, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
    offset = torch.randn(vocabulary, generator=generator, dtype=torch.float64) if bias else None
    targets = torch.randint(vocabulary, (size,), generator=generator)
    leaves = [None if x is None else x.to(dtype).requires_grad_() for x in (hidden, weight, offset)]
    return leaves[0], targets, leaves[1], leaves[2]  # type: ignore[return-value]


def dense(hidden, targets, weight, bias, temperature=1.0, scale=1.0, softcap=None):
    """Written down from the definition, in the input's own type."""
    z = hidden @ weight.t() + (0 if bias is None else bias)
    z = z * scale
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    p = torch.softmax(z / temperature, -1)
    log_p = torch.log_softmax(z / temperature, -1)
    return log_p[torch.arange(len(targets)), targets], -(p * log_p).sum(-1)


@pytest.mark.parametrize("settings", SETTINGS)
def test_values_and_gradients_equal_the_dense_ones(settings, mode):
    settings = dict(settings)
    biased = bool(settings.pop("bias", False))
    hidden, targets, weight, bias = problem(130, 6, 23, bias=biased, dtype=torch.float64)
    temperature = settings.pop("temperature", 1.0)
    head = Head(weight=weight, bias=bias, **settings)
    got = score_tokens(hidden, targets, head, temperature=temperature, entropy=True)
    want = dense(hidden, targets, weight, bias, temperature, **settings)
    leaves = [x for x in (hidden, weight, bias) if x is not None]
    factors = torch.randn(2, 130, dtype=torch.float64)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-10)
    for use in ((1, 0), (0, 1), (1, 1)):  # each gradient alone and both together
        total_got = sum(u * (f * x).sum() for u, f, x in zip(use, factors, got, strict=True))
        total_want = sum(u * (f * x).sum() for u, f, x in zip(use, factors, want, strict=True))
        gradients = torch.autograd.grad(total_got, leaves, retain_graph=True)
        expected = torch.autograd.grad(total_want, leaves, retain_graph=True)
        for g, w in zip(gradients, expected, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Backwards compatibility. New undefined gradient:UserWarning")
@pytest.mark.parametrize("settings", SETTINGS)
def test_gradcheck(settings, mode):
    settings = dict(settings)
    biased = bool(settings.pop("bias", False))
    hidden, targets, weight, bias = problem(4, 3, 7, bias=biased, dtype=torch.float64)
    temperature = settings.pop("temperature", 1.0)

    def f(hidden, weight, bias):
        head = Head(weight=weight, bias=bias, **settings)
        return score_tokens(hidden, targets, head, temperature=temperature, entropy=True)

    assert torch.autograd.gradcheck(f, (hidden, weight, bias))


def test_only_one_of_the_two_outputs_in_the_loss(mode):
    hidden, targets, weight, _ = problem(9, 4, 11, dtype=torch.float64)
    for index in (0, 1):
        score = score_tokens(hidden, targets, Head(weight=weight), entropy=True)[index]
        got = torch.autograd.grad(score.sum(), (hidden, weight))
        want = torch.autograd.grad(dense(hidden, targets, weight, None)[index].sum(), (hidden, weight))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-9)


def test_float32_is_within_1e_5(mode):
    hidden, targets, weight, _ = problem(257, 32, 300, dtype=torch.float32)
    weight = (weight.detach() / 4).requires_grad_()
    got = score_tokens(hidden, targets, Head(weight=weight), temperature=0.8, entropy=True)
    exact = [hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()]
    want = dense(exact[0], targets, exact[1], None, 0.8)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == torch.float32
        torch.testing.assert_close(g.double(), w, rtol=1e-5, atol=1e-5)
    got_grad = torch.autograd.grad(got[0].mean() + got[1].mean(), (hidden, weight))
    want_grad = torch.autograd.grad(want[0].mean() + want[1].mean(), exact)
    for g, w in zip(got_grad, want_grad, strict=True):
        torch.testing.assert_close(g.double(), w, rtol=1e-5, atol=1e-6)


def test_bfloat16_weights_are_accumulated_in_float32(mode):
    hidden, targets, weight, _ = problem(65, 48, 130, dtype=torch.bfloat16)
    got, entropy = score_tokens(hidden, targets, Head(weight=weight), entropy=True)
    want, want_entropy = dense(hidden.double(), targets, weight.double(), None)
    assert got.dtype == torch.float32
    # bfloat16 logits of this size would be off by 0.03 and more.
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(entropy.double(), want_entropy, rtol=1e-4, atol=1e-4)
    got.sum().backward()
    assert weight.grad.dtype == hidden.grad.dtype == torch.bfloat16


def test_frozen_parts_get_no_gradient(mode):
    hidden, targets, weight, bias = problem(9, 4, 11, bias=True, dtype=torch.float64)
    frozen = Head(weight=weight.detach(), bias=bias.detach())
    score_tokens(hidden, targets, frozen)[0].sum().backward()
    assert hidden.grad is not None
    score_tokens(hidden.detach(), targets, Head(weight=weight, bias=bias.detach()))[0].sum().backward()
    assert weight.grad is not None
    assert bias.grad is None
    with torch.no_grad():
        assert not score_tokens(hidden, targets, frozen)[0].requires_grad


def test_without_entropy_there_is_none():
    hidden, targets, weight, _ = problem(3, 4, 5, dtype=torch.float32)
    assert score_tokens(hidden, targets, Head(weight=weight))[1] is None


@given(
    size=st.integers(1, 70),
    vocabulary=st.integers(2, 40),
    magnitude=st.sampled_from([1e-3, 1.0, 30.0, 1000.0]),
    seed=st.integers(0, 100),
)
def test_finite_and_within_bounds_whatever_the_size_of_the_logits(size, vocabulary, magnitude, seed):
    hidden, targets, weight, _ = problem(size, 4, vocabulary, dtype=torch.float32, seed=seed)
    log_prob, entropy = score_tokens(hidden * magnitude, targets, Head(weight=weight), entropy=True)
    assert (log_prob <= 1e-4 * magnitude + 1e-6).all()
    assert (entropy >= -1e-5).all()
    assert (entropy <= math.log(vocabulary) + 1e-5).all()
    (log_prob.sum() + entropy.sum()).backward()
    assert torch.isfinite(hidden.grad).all()
    assert torch.isfinite(weight.grad).all()


def test_memory_does_not_hold_all_logits(monkeypatch):
    """The largest tensor that comes into being is a block, not [M, V]."""
    monkeypatch.setattr(scoring, "KEEP_ELEMENTS", 0)
    monkeypatch.setattr(scoring, "TILE_VOCABULARY", 64)
    monkeypatch.setattr(scoring, "TILE_ELEMENTS", 64 * 64)
    hidden, targets, weight, _ = problem(256, 8, 512, dtype=torch.float32)

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple) else (out,):
                if isinstance(x, torch.Tensor):
                    self.numel = max(self.numel, x.numel())
            return out

    with Largest() as seen:
        log_prob, entropy = score_tokens(hidden, targets, Head(weight=weight), entropy=True)
        (log_prob + entropy).sum().backward()
    assert seen.numel == max(weight.numel(), 64 * 64)


def test_spans_cover_everything_once():
    spans = scoring._spans(11, 4)
    assert spans == [(0, 4), (4, 8), (8, 11)]
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_shapes_are_asserted_at_the_door():
    with pytest.raises(ValueError, match=r"hidden \[M, H\] and targets \[M\], got \[2, 3, 4\]"):
        score_tokens(torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.long), Head(weight=torch.zeros(5, 4)))


@pytest.mark.parametrize("tile", [8192, 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("peak", [10, 20, 28])
def test_values_and_gradients_keep_their_digits_where_one_token_has_nearly_all_of_the_probability(
    peak, dtype, tile, monkeypatch
):
    """Entropies of 3e-2, 3e-6 and 1e-9 nats; gradients in bfloat16 are rounded once, at the end."""
    monkeypatch.setattr(scoring, "TILE_VOCABULARY", tile)
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(64, 33, generator=draw), 0.3 * torch.randn(512, 33, generator=draw)
    hidden[:, -1], weight[:, -1], weight[7, -1] = 1, 0, peak
    targets = torch.full((64,), 7)
    targets[1::2] = torch.randint(512, (32,), generator=draw)

    def run(dtype: torch.dtype, score) -> list[torch.Tensor]:
        leaf, matrix = hidden.to(given).to(dtype).requires_grad_(), weight.to(given).to(dtype)
        log_prob, entropy = score(leaf, matrix)
        by_entropy = torch.autograd.grad(entropy.sum(), leaf, retain_graph=True)[0]
        by_both = torch.autograd.grad((log_prob[::2] + 0.5 * entropy[::2]).sum(), leaf)[0][::2]
        return [x.detach().double() for x in (log_prob, entropy, by_entropy, by_both)]

    given = dtype
    got = run(dtype, lambda leaf, matrix: score_tokens(leaf, targets, Head(weight=matrix), entropy=True))
    want = run(torch.float64, lambda leaf, matrix: dense(leaf, targets, matrix, None, 1.0))
    for g, w, tolerance in zip(got, want, (1e-4, 1e-5, 1e-2, 1e-2), strict=True):
        if dtype == torch.float32:
            tolerance = min(tolerance, 1e-4)
        size = w.abs() if w.ndim == 1 else w.norm(dim=1, keepdim=True)
        assert ((g - w).abs() <= tolerance * size).all()
