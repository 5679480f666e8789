"""Are the tests able to fail?  Breaks the losses on purpose, one small change at a time.

    python tests/mutants.py              all mutants; exit status 1 if one survives
    python tests/mutants.py 0 10         the first ten
    python tests/mutants.py --no-baseline    without first running the tests on the unchanged copy
    python tests/mutants.py --list       what there is

Each change is made in a temporary copy of package and tests, never in place.  The tests of the part must
then fail; a mutant that survives is a missing test.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import torchrl.objectives  # noqa: F401  what every run needs, read once

ROOT = Path(__file__).resolve().parents[1]
TABLE = "tests/algorithms/test_table.py"
PARITY = ("tests/losses/test_parity.py", "tests/losses/test_components.py")  # quick, and kill most
FINITE = (f"{TABLE}::test_loss_and_gradient_are_finite",)
MASKED = (f"{TABLE}::test_what_lies_under_the_mask_is_never_read",)
DETACHED = (f"{TABLE}::test_no_gradient_flows_into_anything_but_the_log_probability",)
HALF = (f"{TABLE}::test_half_precision_inputs_are_computed_in_float32",)
PPO = (*PARITY, "tests/algorithms/test_ppo.py")
GPPO = (*PARITY, "tests/algorithms/test_gppo.py")
ESPO = ("tests/losses/test_components.py", "tests/algorithms/test_espo.py")
RELATIVES = (*PARITY, "tests/algorithms/test_relatives.py")
BOUNDS = ("tests/losses/test_bounds.py",)
GATES = ("tests/algorithms/test_erc.py", "tests/algorithms/test_relatives.py")
METRICS = (
    "tests/losses/test_metrics.py",
    f"{TABLE}::test_the_fraction_without_gradient_is_counted",
)
RECIPES = ("tests/losses/test_parity.py", "tests/algorithms/test_algorithm.py", "tests/algorithms")
TERMS = ("tests/losses/test_terms.py",)
MODULE = ("tests/losses/test_torchrl.py",)
CREDIT = ("tests/credit/test_credit.py",)
SHAPED = ("tests/credit/test_shaped_reward.py",)
MISMATCH = ("tests/training/test_mismatch.py",)
PROBE = ("tests/training/test_probe.py",)
REWARDED = ("tests/rollouts/test_rewards.py",)
PENALTIES = ("tests/credit/test_penalty.py",)
HISTORY = ("tests/credit/test_history.py",)
LEARNER = ("tests/training/test_learner.py",)
CASES = ("tests/verifiers/test_cases.py",)
DENIED = ("tests/verifiers/test_denials.py",)
UNCHANGED = ("tests/training/test_unchanged_weights.py",)


class Mutant(NamedTuple):
    """One change, and the tests that must notice."""

    file: str
    original: str
    replacement: str
    tests: tuple[str, ...]


BATCH, CLIP, OTHER, POLICY = "losses/batch.py", "losses/clip.py", "losses/other_clips.py", "losses/policy.py"
POOL, AGGREGATE, SPLIT = "losses/segments.py", "losses/aggregate.py", "losses/partition.py"
GATE, RATIO, TERM = "losses/gate.py", "losses/ratio.py", "losses/terms.py"
GAP, PAST, RECALL = "losses/correction.py", "credit/history.py", "training/past_rewards.py"
PENALTY = "credit/penalty.py"
GROUPS, REWARDS, COMPARE, CRITIC = "credit/groups.py", "credit/rewards.py", "credit/advantage.py", "credit/gae.py"

MUTANTS = [
    # the door
    Mutant(BATCH, "LOG_RATIO_LIMIT = 20.0", "LOG_RATIO_LIMIT = 200.0", FINITE),
    Mutant(
        BATCH,
        "return torch.where(mask, x, torch.as_tensor(safe, dtype=x.dtype, device=x.device))",
        "return x * mask + safe * ~mask",
        MASKED,
    ),
    Mutant(
        BATCH,
        "log_ratio=bounded(select(mask, log_prob.to(dtype) - old))",
        "log_ratio=select(mask, log_prob.to(dtype) - old)",
        FINITE,
    ),
    Mutant(
        BATCH,
        "return log_prob.clamp(-LOG_PROB_LIMIT, LOG_PROB_LIMIT)",
        "return log_prob",
        FINITE,
    ),
    Mutant(BATCH, "select(mask, advantage.detach(), dtype=dtype)", "select(mask, advantage, dtype=dtype)", DETACHED),
    Mutant(BATCH, "for x in tensors) else torch.float32", "for x in tensors) else tensors[0].dtype", HALF),
    Mutant(
        POOL,
        "self.inside = known if inside is None else known & inside",
        "self.inside = known",
        (*PARITY, *ESPO, *MASKED),
    ),
    # clips
    Mutant(CLIP, "plain.masked_fill(held, 0)", "torch.where(held, inside * advantage, plain)", PPO),
    Mutant(CLIP, "torch.where(held, inside * advantage, plain)", "plain", PPO),
    Mutant(CLIP, "(ratio < low) & (advantage < 0)", "ratio < low", (*PPO, *METRICS)),
    Mutant(CLIP, "(ratio < low) & (advantage < 0)", "(ratio <= low) & (advantage < 0)", (*PPO, *METRICS)),
    Mutant(CLIP, "(ratio > high) & (advantage > 0)", "ratio > high", (*PPO, *METRICS)),
    Mutant(CLIP, "(ratio > high) & (advantage > 0)", "(ratio >= high) & (advantage > 0)", (*PPO, *METRICS)),
    Mutant(
        CLIP,
        "return torch.addcmul(value, slope, log_ratio - log_ratio.detach())",
        "return torch.addcmul(value, slope, log_ratio)",
        GPPO,
    ),
    Mutant(
        CLIP,
        "return 1 - self.low, 1 + self.high",
        "return 1 - self.high, 1 + self.low",
        PPO,
    ),
    Mutant(CLIP, "ppo.low.to(value.dtype) * self.beta_low", "ppo.low.to(value.dtype) * self.beta_high", GPPO),
    Mutant(
        CLIP, "with_gradient(ppo.objective, beta * value, log_ratio)", "ppo.objective + beta * value * log_ratio", GPPO
    ),
    Mutant(
        CLIP, "with_gradient(ppo.objective, beta * value, log_ratio)", "with_gradient(value, value, log_ratio)", GPPO
    ),
    Mutant(CLIP, "if self.scale_value:", "if False:", GPPO),
    Mutant(CLIP, "(ppo.low | ppo.high) & (beta == 0)", "ppo.low | ppo.high", (*METRICS, *BOUNDS)),
    Mutant(CLIP, "return self.base.bounds(batch)", "return PPOClip().bounds(batch)", BOUNDS),
    Mutant(CLIP, "*self.bounds(batch))\n        value =", "*PPOClip().bounds(batch))\n        value =", BOUNDS),
    Mutant(CLIP, "if not isinstance(self.base, BoundedClip):", "if False:", BOUNDS),
    Mutant(CLIP, "while isinstance(clip, DualClip):", "while False:", BOUNDS),
    Mutant(POLICY, "(high - low) / 2", "high - low", METRICS),
    Mutant(
        CLIP,
        "over = (log_ratio.detach().exp() > self.bound) & (batch.advantage < 0)",
        "over = log_ratio.detach().exp() > self.bound",
        PPO,
    ),
    Mutant(
        CLIP,
        "torch.where(over, self.bound * batch.advantage, base.objective)",
        "torch.where(over, base.objective.detach(), base.objective)",
        PPO,
    ),
    Mutant(
        CLIP,
        "return batch.segment_mean(batch.old_entropy) / _max_entropy(batch)",
        "return batch.segment_mean(batch.old_entropy)",
        ESPO,
    ),
    Mutant(CLIP, "width.clamp(min=self.floor).clamp(max=self.ceiling)", "width.clamp(max=self.ceiling)", ESPO),
    Mutant(CLIP, "width.clamp(min=self.floor).clamp(max=self.ceiling)", "width.clamp(min=self.floor)", ESPO),
    Mutant(CLIP, "return 1 - width, 1 + width", "return 1 - width, 1 + 2 * width", ESPO),
    Mutant(
        OTHER,
        "ratio = log_ratio.detach().exp()\n        low, high",
        "ratio = log_ratio.exp()\n        low, high",
        RELATIVES,
    ),
    Mutant(
        OTHER,
        "objective = weight * batch.advantage * batch.log_prob",
        "objective = weight * batch.advantage * log_ratio",
        RELATIVES,
    ),
    Mutant(
        OTHER,
        "torch.where(batch.advantage > 0, self.tau_positive, self.tau_negative)",
        "torch.where(batch.advantage > 0, self.tau_negative, self.tau_positive)",
        RELATIVES,
    ),
    Mutant(OTHER, "* (4 / tau)", "* 4", RELATIVES),
    Mutant(
        OTHER,
        "high = (log_ratio.detach() > self.high) & (batch.advantage > 0)",
        "high = log_ratio.detach() > self.high",
        RELATIVES,
    ),
    Mutant(OTHER, "torch.where(advantage > 0, (-detached).exp(), ratio)", "ratio", RELATIVES),
    Mutant(OTHER, "ratio).clamp(max=self.cap)", "ratio)", RELATIVES),
    Mutant(OTHER, "slope = value.masked_fill(low | high, 0)", "slope = value", RELATIVES),
    Mutant(CLIP, "return low, high.clamp(max=self.cap)", "return low, high", RELATIVES),
    # ratios and pooling
    Mutant(
        RATIO,
        "return sequence_mean(own.detach(), batch.mask) + (own - own.detach())",
        "return sequence_mean(own, batch.mask) + (own - own.detach())",
        (*PARITY, *ESPO),
    ),
    Mutant(
        RATIO,
        "return batch.segment_mean(own.detach()) + (own - own.detach())",
        "return sequence_mean(own.detach(), batch.mask) + (own - own.detach())",
        (*PARITY, *ESPO),
    ),
    Mutant(
        RATIO,
        "bounded(batch.segment_mean(own.detach()) + own)",
        "bounded(batch.segment_mean(own) + own)",
        (*PARITY, *ESPO),
    ),
    Mutant(POOL, "/ mask.sum(1, keepdim=True).clamp_min(1)", "/ mask.shape[1]", (*PARITY, *ESPO, *MASKED)),
    Mutant(
        POOL,
        "self.bucket = torch.where(self.inside, segment, self.width)",
        "self.bucket = torch.where(self.inside, segment, 0)",
        (*PARITY, *ESPO, *MASKED),
    ),
    Mutant(
        POOL, "self.width = max(segment.shape[1], MAX_SEGMENTS)", "self.width = MAX_SEGMENTS", (*PARITY, *ESPO, *MASKED)
    ),
    # weights
    Mutant(AGGREGATE, "return mask.double() / mask.sum().clamp_min(1)", "return mask.double() / mask.numel()", PARITY),
    Mutant(AGGREGATE, "clamp_min(1) * _rows(mask))", "clamp_min(1) * mask.shape[0])", PARITY),
    Mutant(AGGREGATE, "(_rows(mask) * (PAPER_LENGTH", "(mask.shape[0] * (PAPER_LENGTH", PARITY),
    Mutant(AGGREGATE, "rows = (total > 0).sum().clamp_min(1)", "rows = mask.shape[0]", PARITY),
    Mutant(AGGREGATE, "share = segments.share(torch.float64)", "share = segments.inside.double()", PARITY),
    # partitions
    Mutant(SPLIT, " + 1e-9).floor().long()", ").floor().long()", ESPO),
    Mutant(SPLIT, " + 1e-9).floor().long()", ").round().long()", ESPO),
    Mutant(SPLIT, "index += rank >= cut", "index += rank > cut", ESPO),
    Mutant(
        SPLIT,
        "torch.where(mask, entropy.detach().double(), torch.inf)",
        "torch.where(mask, entropy.detach().double(), 0.0)",
        ESPO,
    ),
    Mutant(
        SPLIT,
        "cut = torch.where(room, cut.clamp_min(k + 1).minimum(count - (segments - 1 - k)), cut)",
        "cut = cut",
        ESPO,
    ),
    Mutant(SPLIT, "edges, right=True)", "edges)", ESPO),
    # gates
    Mutant(GATE, "_TINY = 1e-8", "_TINY = 0.0", (*GATES, *FINITE)),
    Mutant(
        GATE,
        "(ratio > self.low) & (ratio < self.high)",
        "(ratio >= self.low) & (ratio <= self.high)",
        (*GATES, *FINITE),
    ),
    Mutant(
        GATE,
        "torch.maximum(new, old) < self.min_entropy",
        "torch.minimum(new, old) < self.min_entropy",
        (*GATES, *FINITE),
    ),
    Mutant(
        GATE,
        "candidate = batch.mask & ~clipped.low & ~clipped.high",
        "candidate = batch.mask.clone()",
        (*GATES, *FINITE),
    ),
    Mutant(GATE, "(covariance > self.low) & (covariance < self.high)", "covariance > self.low", (*GATES, *FINITE)),
    # the module
    Mutant(
        POLICY,
        "objective = torch.where(keep, objective, objective.detach())",
        "objective = torch.where(keep, objective, 0)",
        (*PARITY, *METRICS, *GATES),
    ),
    Mutant(
        POLICY,
        "        loss = -(found.weight * found.objective).sum()",
        "        loss = -(found.weight * found.objective).mean()",
        (*PARITY, *METRICS, *GATES),
    ),
    Mutant(POLICY, "batch.mask & (batch.advantage != 0)", "batch.mask", (*PARITY, *METRICS, *GATES)),
    Mutant(POLICY, "zero = zero | ~self.kept", "pass", (*PARITY, *METRICS, *GATES)),
    Mutant(POLICY, "zero = zero | batch.beyond", "pass", METRICS),
    Mutant(BATCH, ".abs() > LOG_RATIO_LIMIT", ".abs() >= LOG_RATIO_LIMIT", METRICS),
    Mutant(OTHER, "through_ratio=False", "through_ratio=True", METRICS),
    Mutant(
        POLICY,
        "(tokens if kept is None else (kept & mask).sum()) / count",
        "(tokens if kept is None else (~kept & mask).sum()) / count",
        (*PARITY, *METRICS, *GATES),
    ),
    Mutant(
        POLICY,
        "zero = clipped.low | clipped.high if clipped.lost is None",
        "zero = clipped.low | clipped.high if True",
        (*PARITY, *METRICS, *GATES),
    ),
    Mutant(POLICY, "kept = keep if kept is None else kept & keep", "kept = keep", (*PARITY, *METRICS, *GATES)),
    Mutant(POLICY, "beyond = (1 - live) * (2 * LOG_RATIO_LIMIT)", "beyond = 0 * live", (*PARITY, *METRICS, *GATES)),
    Mutant(POLICY, "ratio = excess + 1 if log_ratio is own", "ratio = excess + 1 if True", (*PARITY, *METRICS, *GATES)),
    Mutant("losses/module.py", "buffer.to(fn(buffer).device)", "fn(buffer)", MODULE),
    # terms
    Mutant(TERM, "return d.square() / 2", "return d.square()", TERMS),
    Mutant(
        TERM,
        "return gradient + (k3(d, log_ratio) - gradient).detach()",
        "return gradient + (k3(d, log_ratio) - gradient)",
        TERMS,
    ),
    Mutant(
        TERM,
        "return log_ratio.exp() * self.base(d, log_ratio)",
        "return log_ratio.exp().detach() * self.base(d, log_ratio)",
        TERMS,
    ),
    Mutant(
        TERM,
        "self.estimator(bounded(ref - log_prob), bounded(log_prob - old))",
        "self.estimator(bounded(log_prob - ref), bounded(log_prob - old))",
        TERMS,
    ),
    Mutant(TERM, "error = torch.maximum(error, held)", "error = torch.minimum(error, held)", TERMS),
    Mutant(
        TERM,
        "loss = (self.coefficient * weight * error).sum() / 2",
        "loss = (self.coefficient * weight * error).sum()",
        TERMS,
    ),
    Mutant(TERM, "(reward.detach() >= self.min_reward", "(reward.detach() > self.min_reward", TERMS),
    Mutant(TERM, "TokenMean()(positive)", "TokenMean()(mask) * positive", TERMS),
    Mutant(TERM, "tensordict, keys.POSITIVE_WEIGHT)\n", "tensordict, keys.WEIGHT)\n", TERMS),
    # corrections
    Mutant(
        GAP,
        "return bounded(_gap(old_log_prob, sampler_log_prob, mask)).exp().clamp(max=self.cap)",
        "return bounded(_gap(old_log_prob, sampler_log_prob, mask)).exp()",
        RELATIVES,
    ),
    Mutant(GAP, "(rho >= self.low) & (rho <= self.high)", "rho <= self.high", RELATIVES),
    Mutant(GAP, "return old - sampler", "return sampler - old", RELATIVES),
    Mutant(
        GAP,
        "return gap.sum(1, keepdim=True).expand_as(gap)",
        "return gap.mean(1, keepdim=True).expand_as(gap)",
        RELATIVES,
    ),
    Mutant(GAP, "rho if self.weigh else torch.ones_like(rho)", "rho", RELATIVES),
    Mutant(POLICY, "keys.POLICY_WEIGHT if self.components.corrections else keys.WEIGHT", "keys.WEIGHT", RELATIVES),
    Mutant(
        "algorithms/algorithm.py",
        "out[keys.POLICY_WEIGHT] = weight",
        "out[keys.POLICY_WEIGHT] = out[keys.WEIGHT] = weight",
        RELATIVES,
    ),
    Mutant("algorithms/mismatch.py", "correction = replace(correction, weigh=False)", "pass", RELATIVES),
    # recipes
    Mutant("algorithms/algorithm.py", "trained = mask & (segment >= 0)", "trained = mask", RECIPES),
    Mutant(
        "algorithms/algorithm.py",
        "weight = weight * correction(",
        "weight = weight + 0 * correction(",
        RECIPES,
    ),
    Mutant(
        "algorithms/gspo.py", "aggregate=SequenceMean()", "aggregate=__import__('llmrl').losses.TokenMean()", RECIPES
    ),
    Mutant("algorithms/dapo.py", "clip_high: float = 0.28", "clip_high: float = 0.2", RECIPES),
    Mutant("algorithms/espo.py", "alpha: float = 0.02", "alpha: float = 0.03", RECIPES),
    Mutant("algorithms/espo.py", "Partition | None = (0.8,)", "Partition | None = (0.7,)", RECIPES),
    Mutant(
        "algorithms/gppo.py",
        "beta_low=beta_low, beta_high=beta_high",
        "beta_low=beta_high, beta_high=beta_low",
        RECIPES,
    ),
    Mutant("algorithms/erc.py", "gates=(*made.gates, gate)", "gates=(gate,)", RECIPES),
    Mutant("algorithms/cispo.py", "clip_low: float = 1.0", "clip_low: float = 0.2", RECIPES),
    Mutant("algorithms/grpo.py", "advantage=LeaveOneOut()", "advantage=GroupAdvantage()", RECIPES),
    # credit
    Mutant(
        GROUPS,
        "return ~(self.largest - self.smallest > torch.finfo(torch.float32).eps * size)",
        "return torch.zeros_like(size, dtype=torch.bool)",
        CREDIT,
    ),
    Mutant(GROUPS, "torch.finfo(torch.float32).eps * size)", "1e-3 * size)", CREDIT),
    Mutant(GROUPS, "free = (self.count - ddof).clamp_min(1)", "free = self.count.clamp_min(1)", CREDIT),
    Mutant(
        GROUPS,
        "self.sum(torch.where(self.valid, self.reward, 0)) / self.count.clamp_min(1)",
        "self.sum(torch.where(self.valid, self.reward, 0)) / self.rows",
        CREDIT,
    ),
    Mutant(
        COMPARE,
        "others = (groups.count - 1).clamp_min(1)[groups.index]",
        "others = groups.count.clamp_min(1)[groups.index]",
        CREDIT,
    ),
    Mutant(CRITIC, "self.gamma * self.lam * ahead", "self.lam * ahead", CREDIT),
    Mutant(CRITIC, "last = last & ~now", "last = last & now", CREDIT),
    Mutant(CRITIC, "next_value = torch.where(now, v, next_value)", "next_value = v", CREDIT),
    Mutant(CRITIC, "target = advantage + value", "target = advantage", CREDIT),
    Mutant(CRITIC, "used = mask & valid[:, None]", "used = mask", CREDIT),
    Mutant(REWARDS, "/ window).clamp(0, 1)", "/ window).clamp(0)", CREDIT),
    Mutant(GROUPS, "| (groups.rows == 1)", "", CREDIT),
    Mutant(GROUPS, "used = torch.where(self.valid, self.reward, neutral)", "used = self.reward", CREDIT),
    Mutant(COMPARE, "out[keys.MASK] = td[keys.MASK] & whole", "out[keys.MASK] = td[keys.MASK]", CREDIT),
    Mutant(
        COMPARE,
        "return per_token(td, torch.where(zero, 0, reward - baseline))",
        "return per_token(td, reward - baseline)",
        CREDIT,
    ),
    # raw and shaped rewards
    Mutant("algorithms/dapo.py", "overlong_penalty: float = 0.5", "overlong_penalty: float = 1.0", SHAPED),
    Mutant(GROUPS, "groups = Groups(td, raw=True)", "groups = Groups(td)", SHAPED),
    Mutant(GROUPS, "td.get(keys.SHAPED_REWARD, td[keys.REWARD])", "td[keys.REWARD]", SHAPED),
    Mutant(
        TERM,
        "mask, reward = self.read_mask(tensordict), self.read(tensordict, keys.REWARD)",
        "mask, reward = self.read_mask(tensordict), tensordict['shaped_reward']",
        SHAPED,
    ),
    Mutant(RECALL, "seen.add(group)", "seen.update(range(99))", SHAPED),
    Mutant("algorithms/algorithm.py", "isinstance(self.clip, ChecksAdvantages)", "False", SHAPED),
    Mutant("algorithms/grpo.py", "aggregate=FixedLength(length=1)", "aggregate=SequenceMean()", (TABLE,)),
    # options that recipes share
    Mutant("algorithms/options.py", 'kind = ESTIMATORS[self.kl_estimator or "k3"]', "kind = k3", RECIPES),
    Mutant("algorithms/espo.py", "@takes_kl()\n", "", RECIPES),
    # sampler against scorer, and single tokens
    Mutant("training/mismatch.py", "return math.inf if given == 0 else given", "return given", MISMATCH),
    Mutant("training/mismatch.py", "return policy.rounding.tolerance", "return math.inf", MISMATCH),
    Mutant("training/mismatch.py", "if self.options.ahead and records", "if False and records", PROBE),
    Mutant("training/mismatch.py", "short, seeds=range(len(episodes))", "short", PROBE),
    Mutant("training/mismatch.py", "self.world.largest(mean)", "pass", PROBE),
    Mutant("training/mismatch.py", ".nan_to_num(math.inf)", ".nan_to_num(0.0)", PROBE),
    Mutant("training/measures.py", "_mean(gap.abs(), mask)", "_mean(gap, mask).abs() / 2", MISMATCH),
    Mutant("training/learner.py", "log_prob.grad.abs()", "log_prob.grad.square()", LEARNER),
    # raw and shaped rewards
    Mutant("training/past_rewards.py", "reward_statistics(td, raw=True)", "reward_statistics(td)", REWARDED),
    Mutant(
        "losses/terms.py", "self.read(tensordict, keys.REWARD)", "self.read(tensordict, keys.SHAPED_REWARD)", REWARDED
    ),
    # the divergence in the reward
    Mutant(PENALTY, "-coefficient * kl", "coefficient * kl", PENALTIES),
    Mutant(PENALTY, "bounded(ref - old)", "bounded(old - ref)", PENALTIES),
    Mutant(PENALTY, "clamp(-0.2, 0.2)", "clamp(-0.2, 0.5)", PENALTIES),
    Mutant(PENALTY, "td[keys.MASK] & valid_of(td)[:, None]", "td[keys.MASK]", PENALTIES),
    Mutant(PENALTY, "before.reshape(-1)[0].to(kl.dtype)", "kl.new_tensor(self.coefficient)", PENALTIES),
    Mutant(GROUPS, "reward + token_reward_of(td).sum(1)", "reward + token_reward_of(td).mean(1)", PENALTIES),
    Mutant(CRITIC, "own[:, t] + torch", "own.sum(1) * last + torch", PENALTIES),
    Mutant("training/run_state.py", 'trainer.kl_coefficient = state["kl_coefficient"]', "pass", PENALTIES),
    # what follows the response limit
    Mutant("algorithms/algorithm.py", "_compose(name, outer, base.default)", "outer", RECIPES),
    Mutant("training/build.py", "return recipe.resolve(limit)", "return recipe", LEARNER),
    Mutant(REWARDS, "max(limit // 5, 1)", "max(limit // 4, 1)", RECIPES),
    Mutant(AGGREGATE, "if self.length is None else self\n", "\n", RECIPES),
    # rows without a trained token
    Mutant("training/learner.py", "if loss.requires_grad:", "if True:", LEARNER),
    Mutant("training/trainer.py", 'set(keys.MASK, data[keys.MASK].to("cpu"))', "copy()", LEARNER),
    Mutant(
        "training/old_scores.py",
        "            for part in parts:\n                part.score(",
        "            for part in parts[:1]:\n                part.of(part.whole).score(",
        UNCHANGED,
    ),
    Mutant(
        "training/trainer.py",
        "epoch == 0 else self.shuffled(mini_batches)",
        "epoch == 0 else self.mini_batches(len(batch))",
        UNCHANGED,
    ),
    Mutant(
        "training/trainer.py", "self.mini_batches(len(batch), peek=True)", "self.mini_batches(len(batch))", UNCHANGED
    ),
    # rounded coefficients
    Mutant("verifiers/math/scalars.py", "or _rounds(answer) or", "or", CASES),
    Mutant("verifiers/math/scalars.py", "wanted.keys() != found.keys()", "False", CASES),
    Mutant("verifiers/math/scalars.py", "// target.denominator)) < 3:", "// target.denominator)) < 1:", CASES),
    # answers that are taken back
    Mutant(
        "verifiers/math/denials.py",
        "or _rejects(after, begin, end, value, numbers, confirmed):",
        ":",
        DENIED,
    ),
    Mutant("verifiers/math/denials.py", "(not named or of_it)", "True", CASES),
    Mutant("verifiers/math/denials.py", 'PATTERNS["wrong way"].search(way) is not None', "False", DENIED),
    Mutant("verifiers/math/denials.py", "_COUNTED.match(after) and ", "", DENIED),
    Mutant(
        "verifiers/math/denials.py", "elif confirmed or _comes_to(value, after, begin, end):", "elif confirmed:", DENIED
    ),
    Mutant("verifiers/math/denials.py", "and not harmless(after[begin:end])", "and False", DENIED),
    Mutant("verifiers/math/denials.py", "(begin > 0 or _NEW_SENTENCE.match(after))", "begin > 0", DENIED),
    Mutant("verifiers/math/harmless.py", "start += 0 < start", "start += 0 > start", DENIED),
    Mutant("verifiers/math/harmless.py", "return subject not in _HERE\n", "return True\n", DENIED),
    Mutant("verifiers/math/harmless.py", '_TURNS.search(" ".join(words[start:]))', "False", DENIED),
    Mutant("verifiers/math/harmless.py", 'if "?" in text:', "if False:", DENIED),
    Mutant("verifiers/math/harmless.py", 'or (doubts and "i" in words)', "", CASES),
    Mutant("verifiers/math/harmless.py", 'start += phrase.group().count(" ") if phrase else 0', "start += 0", DENIED),
    Mutant("verifiers/math/harmless.py", " and said[1] in _SEEN", "", DENIED),
    Mutant("verifiers/math/extract.py", "text = _without_struck(text)", "pass", DENIED),
    Mutant("verifiers/math/extract.py", "text = _of_this_problem(text)", "pass", CASES),
    Mutant("verifiers/math/unannounced.py", "phrases.UNFINISHED.search(text[-20:]) or", "", CASES),
    Mutant("verifiers/math/unannounced.py", " or phrases.ASKED.search(before, begin)", "", CASES),
    Mutant(
        "verifiers/math/harmless.py",
        "(not doubts and _is_aside(words, text, sentence))",
        "_is_aside(words, text, sentence)",
        CASES,
    ),
    Mutant("verifiers/math/harmless.py", " and words[-1] not in _OBJECTS", "", DENIED),
    Mutant("verifiers/math/harmless.py", "if len(words) < 6 or", "if", CASES),
    Mutant("verifiers/math/scalars.py", "or (percents and self", "or (self", CASES),
    Mutant("verifiers/math/extract.py", "(len(text) - len(rest), readings_of", "(place, readings_of", CASES),
    Mutant("verifiers/math/extract.py", "text = _without_programs(text)", "pass", CASES),
    Mutant("verifiers/math/denials.py", "and not chooses_other(after[begin:end])", "", CASES),
    Mutant("verifiers/math/harmless.py", "and _REASONS.isdisjoint(words)", "", CASES),
    Mutant("verifiers/math/unannounced.py", "and harmless(aside.group(1))", "", CASES),
    # earlier steps
    Mutant(
        PAST,
        "torch.where(first.abs() < second.abs(), first, second)",
        "torch.where(first.abs() > second.abs(), first, second)",
        HISTORY,
    ),
    Mutant(
        PAST,
        "every * blend + one * (1 - blend), one * blend",
        "every * blend + one * (1 - blend), every * blend",
        HISTORY,
    ),
    Mutant(PAST, "torch.where(groups.valid, advantage, 0)", "advantage", HISTORY),
    Mutant(PAST, "std = torch.where(groups.uniform(), 0, groups.std(1))", "std = groups.std(1)", HISTORY),
    Mutant(PAST, "(within + between).sqrt()", "within.sqrt()", HISTORY),
    Mutant(PAST, "deviation > torch.finfo(torch.float32).eps * size", "deviation > 0", HISTORY),
    Mutant(PAST, "(groups.count > 0).double()", "torch.ones_like(std)", HISTORY),
    Mutant(RECALL, "return past\n", "return merge_statistics(past, reward_statistics(td))\n", HISTORY),
]


def run(folder: Path, tests: tuple[str, ...], extra: list[str]) -> bool:
    """Whether the tests pass in a copy of the repository; in a child, which has the imports already."""
    log = folder / "log.txt"
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        with log.open("w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        sys.path.insert(0, str(folder))
        code = 3
        try:
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests, *extra]))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # whatever happened, the folder is the parent's to delete
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 1, 2):  # 2: a mutant that cannot be imported is noticed, too
        raise SystemExit(log.read_text())
    return code == 0


def main(arguments: list[str]) -> int:
    """Break, test, restore; the status is 1 if something survived."""
    if "--list" in arguments:
        for number, mutant in enumerate(MUTANTS):
            print(number, mutant.file, "|", " ".join(mutant.original.split()))
        return 0
    os.environ.setdefault("HYPOTHESIS_PROFILE", "dev")
    os.environ.setdefault("LLMRL_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    # The children copy this process; it must not have read the package itself.
    sys.path = [path for path in sys.path if Path(path or ".").resolve() != ROOT]
    assert not any(name.partition(".")[0] == "llmrl" for name in sys.modules)
    numbers = [int(x) for x in arguments if x.isdigit()]
    extra = [x for x in arguments if not x.isdigit() and x != "--no-baseline"]
    chosen = list(enumerate(MUTANTS))[slice(*numbers)] if numbers else list(enumerate(MUTANTS))
    survivors = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ignore = shutil.ignore_patterns("__pycache__", "*.safetensors", ".hypothesis")
        shutil.copytree(ROOT / "llmrl", folder / "llmrl", ignore=ignore)
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "benchmarks").mkdir()
        shutil.copy(ROOT / "benchmarks" / "loss_parity.py", folder / "benchmarks")
        used = dict.fromkeys(test for _, mutant in chosen for test in mutant.tests)
        if "--no-baseline" not in arguments and not run(folder, tuple(used), extra):
            raise SystemExit(f"{' '.join(used)} fail without any change: repair them first.")
        for number, mutant in chosen:
            file = folder / "llmrl" / mutant.file
            text = file.read_text()
            if text.count(mutant.original) != 1:
                survivors.append(number)
                count = text.count(mutant.original)
                print(f"{number:3} STALE     {mutant.file}: {count} x {mutant.original!r}", flush=True)
                continue
            file.write_text(text.replace(mutant.original, mutant.replacement))
            survived = all(run(folder, (tests,), extra) for tests in mutant.tests)
            file.write_text(text)
            if survived:
                survivors.append(number)
            state = "SURVIVED" if survived else "killed"
            print(f"{number:3} {state:9} {mutant.file}: {mutant.replacement!r}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
