"""Each algorithm's loss written from its paper, one plain function each, for tests to compare with.

Loops over sequences and tokens, in the papers' own symbols, minimised.  Nothing of llmrl.losses is
used.  A batch is a `strategies.Batch`; `lp` stands for its log-probabilities, which carry the
gradient.
A sequence without a sampled token does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, exp, log, sqrt

import torch
from torch import Tensor

INF = float("inf")


def sg(x: Tensor) -> Tensor:
    """The stop-gradient of the papers."""
    return x.detach()


def sequences(b) -> list[list[tuple[int, int]]]:
    """The cells of the sampled tokens, one list per sequence that has any."""
    n, t = b.mask.shape
    rows = [[(i, j) for j in range(t) if b.mask[i, j]] for i in range(n)]
    return [row for row in rows if row]


def clip(x: Tensor, lo: float, hi: float) -> Tensor:
    if x < lo:
        return torch.full_like(x, lo)
    return torch.full_like(x, hi) if x > hi else x


def surrogate(r: Tensor, a: float, lo: float, hi: float, dual: float | None = None) -> Tensor:
    """PPO eq. 7: max(-r A, -clip(r) A); for A < 0 no larger than -c A with a dual clip."""
    plain, clipped = -r * a, -clip(r, lo, hi) * a
    worst = plain if plain >= clipped else clipped
    if dual is not None and a < 0 and worst > -dual * a:
        return torch.full_like(worst, -dual * a)
    return worst


Rule = Callable[[int, int, Tensor], Tensor]


def token_mean(b, lp: Tensor, rule: Rule) -> Tensor:
    """Sum over all tokens, divided by their number."""
    terms = [rule(i, j, lp[i, j]) for row in sequences(b) for i, j in row]
    return sum(terms) / len(terms) if terms else lp.new_zeros(())


def sequence_mean(b, lp: Tensor, rule: Rule) -> Tensor:
    """The mean over sequences of their mean over tokens."""
    means = [sum(rule(i, j, lp[i, j]) for i, j in row) / len(row) for row in sequences(b)]
    return sum(means) / len(means) if means else lp.new_zeros(())


def token_rule(b, low: float, high: float, dual: float | None = None) -> Rule:
    def rule(i, j, new):
        r = (new - b.old_log_prob[i, j]).exp()
        return surrogate(r, float(b.advantage[i, j]), 1 - low, 1 + high, dual)

    return rule


def ppo(b, lp, *, low=0.2, high=0.2, dual=None) -> Tensor:
    """1707.06347 eq. 7, averaged over tokens; dual clip of 1912.09729."""
    return token_mean(b, lp, token_rule(b, low, high, dual))


def importance_sampling(b, lp) -> Tensor:
    """-r A without any clip, averaged over tokens."""
    return token_mean(b, lp, token_rule(b, INF, INF))


def grpo(b, lp, *, low=0.2, high=0.2) -> Tensor:
    """2402.03300: 1/G sum_i 1/|y_i| sum_t."""
    return sequence_mean(b, lp, token_rule(b, low, high))


def dr_grpo(b, lp, *, length, low=0.2, high=0.2) -> Tensor:
    """2503.20783: no 1/|y_i|; a constant budget of tokens a sequence."""
    rule, rows = token_rule(b, low, high), sequences(b)
    total = [rule(i, j, lp[i, j]) for row in rows for i, j in row]
    return sum(total) / (len(rows) * length) if rows else lp.new_zeros(())


def dapo(b, lp, *, low=0.2, high=0.28, dual=None) -> Tensor:
    """2503.14476: clip higher, token mean."""
    return ppo(b, lp, low=low, high=high, dual=dual)


def gppo(b, lp, *, low=0.2, high=0.28, dual=None) -> Tensor:
    """2508.07629 eq. 11: the bounds are (1 -+ eps) / sg(d) * d, which pass a gradient."""

    def rule(i, j, new):
        a, d = float(b.advantage[i, j]), (new - b.old_log_prob[i, j]).exp()
        lo, hi = (1 - low) / sg(d) * d, (1 + high) / sg(d) * d
        clipped = lo if d < 1 - low else hi if d > 1 + high else d
        plain, kept = -d * a, -clipped * a
        loss = plain if plain >= kept else kept
        if dual is not None and a < 0 and loss > -dual * a:
            return torch.full_like(loss, -dual * a)
        return loss

    return token_mean(b, lp, rule)


def ce_gppo(b, lp, *, beta_low=0.75, beta_high=1.0, low=0.2, high=0.2, literal=False) -> Tensor:
    """2509.20712 eq. 8; unless `literal`, a clipped token has the value bound * A, without beta."""

    def rule(i, j, new):
        a, d = float(b.advantage[i, j]), (new - b.old_log_prob[i, j]).exp()
        if d < 1 - low and a < 0:
            kept, beta = (1 - low) / sg(d) * d * a, beta_low
        elif d > 1 + high and a > 0:
            kept, beta = (1 + high) / sg(d) * d * a, beta_high
        else:
            return -d * a
        return -beta * kept - (0 if literal else 1 - beta) * sg(kept)

    return token_mean(b, lp, rule)


def gspo(b, lp, *, low=3e-4, high=4e-4) -> Tensor:
    """2507.18071 eq. 5 and 7: one ratio a sequence, (pi(y) / pi_old(y)) ** (1 / |y|)."""
    terms = []
    for row in sequences(b):
        s = (sum(lp[c] - b.old_log_prob[c] for c in row) / len(row)).exp()
        terms.append(surrogate(s, float(b.advantage[row[0]]), 1 - low, 1 + high))
    return sum(terms) / len(terms) if terms else lp.new_zeros(())


def gspo_token(b, lp, *, low=3e-4, high=4e-4) -> Tensor:
    """2507.18071 eq. 13 and 14: s_it = sg(s_i) * pi(y_t) / sg(pi(y_t))."""
    terms = []
    for row in sequences(b):
        s = sg((sum(lp[c] - b.old_log_prob[c] for c in row) / len(row)).exp())
        inner = [surrogate(s * (lp[c] - sg(lp[c])).exp(), float(b.advantage[c]), 1 - low, 1 + high) for c in row]
        terms.append(sum(inner) / len(row))
    return sum(terms) / len(terms) if terms else lp.new_zeros(())


def rank_groups(entropies: list[float], edges=(0.8,)) -> list[int]:
    """The share of each group by rank in (entropy, position); the last group is the most uncertain.

    A group that starts at the edge q holds the upper ceil((1 - q) n) tokens; with two tokens or
    more, both sides of a single edge hold at least one; one token is one group.

    >>> rank_groups([0.1, 3.0, 0.2, 0.3, 0.4])
    [0, 1, 0, 0, 0]
    """
    n = len(entropies)
    order = sorted(range(n), key=lambda t: (entropies[t], t))
    starts = [n - ceil((1 - q) * n - 1e-9) for q in edges]
    if n >= 2:
        starts = [min(max(s, 1), n - 1) for s in starts]
    groups = [0] * n
    for rank, t in enumerate(order):
        groups[t] = sum(rank >= s for s in starts) if n >= 2 else 0
    return groups


def espo(
    b,
    lp,
    *,
    alpha=0.02,
    groups=None,
    eps=None,
    eps_min=0.0,
    eps_max=INF,
    per_token_eps=False,
    token_ratio="current",
    segment_weights=None,
) -> Tensor:
    """2512.00499 eq. 5 to 10: ratio, clip width and average per group of tokens of like entropy.

    `groups[i, j]` says which group a token belongs to (-1: ignored); by default the top 20 % of
    each response by entropy, and the rest.  `eps` fixes (low, high) for the paper's ablation.
    """
    terms = []
    for row in sequences(b):
        if groups is None:
            ids = rank_groups([float(b.old_entropy[c]) for c in row])
        else:
            ids = [int(groups[c]) for c in row]
        parts = {k: [c for c, g in zip(row, ids, strict=True) if g == k] for k in set(ids) - {-1}}
        weights = {k: 1.0 if segment_weights is None else segment_weights[k] for k in parts}
        total = sum(weights.values())
        if total == 0:
            continue
        inner = []
        for k, cells in parts.items():
            log_s = sum(lp[c] - b.old_log_prob[c] for c in cells) / len(cells)
            width = sum(float(b.old_entropy[c]) for c in cells) / len(cells)
            losses = []
            for c in cells:
                if token_ratio == "current":
                    s = (sg(log_s) + lp[c] - sg(lp[c])).exp()
                else:
                    s = (sg(log_s) + lp[c] - b.old_log_prob[c]).exp()
                h = float(b.old_entropy[c]) if per_token_eps else width
                e = min(max(alpha * h / b.max_entropy, eps_min), eps_max)
                low, high = (e, e) if eps is None else eps
                losses.append(surrogate(s, float(b.advantage[c]), 1 - low, 1 + high))
            inner.append(weights[k] / total * sum(losses) / len(cells))
        terms.append(sum(inner))
    return sum(terms) / len(terms) if terms else lp.new_zeros(())


def entropy_kept(b, i, j, *, low=0.95, high=1.05) -> bool:
    """2512.05591: whether the ratio of entropies lies strictly within its band."""
    rho = (float(b.entropy[i, j]) + 1e-8) / (float(b.old_entropy[i, j]) + 1e-8)
    return low < rho < high


def erc(b, lp, base=dapo, *, low=0.95, high=1.05) -> Tensor:
    """2512.05591: a token outside the band keeps its value and its place, and has no gradient."""
    n, t = b.mask.shape
    kept = [[entropy_kept(b, i, j, low=low, high=high) for j in range(t)] for i in range(n)]
    return base(b, torch.where(torch.tensor(kept), lp, sg(lp)))


def cispo(b, lp, *, low=INF, high=0.28) -> Tensor:
    """2506.13585 eq. 4 and 5: sg(clip(r)) A log pi, averaged over tokens."""

    def rule(i, j, new):
        r = clip(sg((new - b.old_log_prob[i, j]).exp()), 1 - low, 1 + high)
        return -r * float(b.advantage[i, j]) * new

    return token_mean(b, lp, rule)


def sapo(b, lp, *, tau_positive=1.0, tau_negative=1.05) -> Tensor:
    """2511.20347: f(r) = sigmoid(tau (r - 1)) 4 / tau."""

    def rule(i, j, new):
        a, r = float(b.advantage[i, j]), (new - b.old_log_prob[i, j]).exp()
        tau = tau_positive if a > 0 else tau_negative
        return -torch.sigmoid(tau * (r - 1)) * 4 / tau * a

    return sequence_mean(b, lp, rule)


def gmpo(b, lp, *, low=0.4, high=0.4) -> Tensor:
    """2507.20673: the geometric mean of ratios clipped (as logs) on the side that A pushes to."""
    terms = []
    for row in sequences(b):
        a = float(b.advantage[row[0]])
        logs = [lp[c] - b.old_log_prob[c] for c in row]
        if a > 0:
            logs = [x if x <= high else torch.full_like(x, high) for x in logs]
        else:
            logs = [x if x >= -low else torch.full_like(x, -low) for x in logs]
        terms.append(-a * (sum(logs) / len(row)).exp())
    return sum(terms) / len(terms) if terms else lp.new_zeros(())


def covariances(b, lp) -> dict[tuple[int, int], float]:
    """2505.22617: (A - mean A)(log pi - mean log pi) over the sampled tokens of the batch."""
    cells = [c for row in sequences(b) for c in row]
    mean_a = sum(float(b.advantage[c]) for c in cells) / max(len(cells), 1)
    new = {c: float(lp[c].detach()) for c in cells}
    mean_l = sum(new.values()) / max(len(cells), 1)
    return {c: (float(b.advantage[c]) - mean_a) * (new[c] - mean_l) for c in cells}


def kl_cov(b, lp, *, ratio=0.002, coef=1.0) -> Tensor:
    """2505.22617: the tokens of the largest covariance pay coef |log r|; no clip anywhere."""
    cov = covariances(b, lp)
    top = sorted(cov, key=cov.__getitem__, reverse=True)[: max(1, int(ratio * len(cov)))]

    def rule(i, j, new):
        d = new - b.old_log_prob[i, j]
        penalty = coef * d.abs() if (i, j) in top else 0.0
        return -d.exp() * float(b.advantage[i, j]) + penalty

    return token_mean(b, lp, rule)


def aspo(b, lp, *, low=0.2, high=0.2, dual=3.0) -> Tensor:
    """2510.06062: for A > 0 the weight is 1 / r; weights are capped at `dual` and keep a gradient.

    Only its gradient is meant.  A > 0: F = min(1/r, c) if r <= hi, else 0.  A < 0: 0 below lo, r up
    to c, then c.
    """

    def rule(i, j, new):
        a, r = float(b.advantage[i, j]), float(sg(new - b.old_log_prob[i, j]).exp())
        if a > 0:
            factor = min(1 / r, dual) if r <= 1 + high else 0.0
        else:
            factor = 0.0 if r < 1 - low else min(r, dual)
        return -factor * a * new

    return token_mean(b, lp, rule)


def dcpo_bounds(q: float, *, low=0.16, high=0.2, cap=10.0) -> tuple[float, float]:
    """2509.02333: the range of the ratio of a token that the old policy gave the probability q."""
    lower = 0.5 + 0.5 * sqrt(max(1 - 4 * low / q, 0.0))
    return lower, min(0.5 + 0.5 * sqrt(1 + 4 * high / q), cap)


def dcpo_rule(b, *, low=0.16, high=0.2, cap=10.0) -> Rule:
    def rule(i, j, new):
        old = b.old_log_prob[i, j]
        lo, hi = dcpo_bounds(exp(float(old)), low=low, high=high, cap=cap)
        return surrogate((new - old).exp(), float(b.advantage[i, j]), lo, hi)

    return rule


def dcpo(b, lp, **options) -> Tensor:
    """2509.02333 with its only-token-mean loss, divided by the number of responses."""
    return sequence_mean(b, lp, dcpo_rule(b, **options))


def value_loss(value, old, target, *, width: float) -> Tensor:
    """PPO's clipped value loss of one token: half the larger of the two squared errors."""
    clipped = old + min(max(float(value.detach()) - old, -width), width)
    free, bound = (value - target) ** 2, (clipped - target) ** 2
    return 0.5 * (free if float(free.detach()) >= bound else torch.full_like(free, bound))


def kl_terms(new: float, ref: float) -> dict[str, float]:
    """The estimators k1, k2, k3 of KL(pi || ref) with d = log ref - log pi."""
    d = ref - new
    return {"k1": -d, "k2": d * d / 2, "k3": exp(d) - d - 1, "abs": abs(d)}


def gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """1506.02438 eq. 16, as the sum it is defined by."""
    n = len(rewards)
    after = [*values[1:], 0.0]
    delta = [rewards[t] + gamma * after[t] - values[t] for t in range(n)]
    return [sum((gamma * lam) ** k * delta[t + k] for k in range(n - t)) for t in range(n)]


def z_scores(rewards: list[float], *, ddof: int, eps: float) -> list[float]:
    """2402.03300: (R - mean) / std within one group; nothing to learn where all are equal."""
    n = len(rewards)
    if n < 2 or max(rewards) == min(rewards):
        return [0.0] * n
    mean = sum(rewards) / n
    std = sqrt(sum((r - mean) ** 2 for r in rewards) / (n - ddof))
    return [(r - mean) / (std + eps) for r in rewards]


def leave_one_out(rewards: list[float]) -> list[float]:
    """2402.14740: the reward minus the mean of the others'."""
    n = len(rewards)
    return [r - (sum(rewards) - r) / (n - 1) if n > 1 else 0.0 for r in rewards]


def soft_overlong(length: int, *, limit: int, window: int) -> float:
    """2503.14476 eq. 13."""
    expected = limit - window
    if length <= expected:
        return 0.0
    return (expected - length) / window if length <= limit else -1.0


LN_QWEN3 = log(151_936)
