"""The figure of an algorithm's page: value and gradient factor over the importance ratio, as a small SVG file.

The file has no date and no library's mark, so the same numbers give the same bytes; its colours can be read on white
and on black.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from curves import Line, Token, batch_of, lines, parts

from llmrl.algorithms import Algorithm
from llmrl.losses import CovarianceGate, DynamicClip, EntropyAdaptiveClip, EntropyRatioGate, PolicyLoss
from llmrl.losses.clip import as_tensor
from llmrl.losses.other_clips import DetachedWeight
from llmrl.losses.ratio import SegmentRatio, SequenceRatio

GREY, SIGNS = "#7d7d7d", {1.0: "#2f86d1", -1.0: "#d9702e"}
DASHES = ("", ' stroke-dasharray="6 4"')
WIDTH, PANEL, TALL = 480, 186, 140
LEFTS, TOPS = (46, 284), (44, 234)

OWNERS = {SequenceRatio: "s of the response", SegmentRatio: "s of the segment"}
"""Whose importance ratio it is, where it is not the token's."""


@dataclass(frozen=True)
class Shown:
    """Tokens that a figure shows, and what it says of them."""

    tokens: tuple[Token, ...]
    names: tuple[str, ...]


READS = {
    EntropyAdaptiveClip: Shown(
        (Token(old_entropy=0.2), Token(old_entropy=0.8)),
        ("old entropy 0.2 log |V|", "0.8 log |V|"),
    ),
    DynamicClip: Shown(
        (Token(old_probability=0.8), Token(old_probability=0.05)),
        ("old probability 0.8, so r is at most 1.25", "0.05"),
    ),
    EntropyRatioGate: Shown(
        (Token(entropy_ratio=1.0), Token(entropy_ratio=1.2)),
        ("entropy unchanged", "entropy 1.2 times the old one"),
    ),
    DetachedWeight: Shown((Token(old_probability=0.1),), ("old probability 0.1",)),
}
"""Components whose curve depends on more than ratio and advantage."""
PLAIN = Shown((Token(),), ())


def shown(algorithm: Algorithm) -> Shown:
    """The tokens for the figure of this algorithm."""
    found = [READS[type(part)] for part in (algorithm.clip, *algorithm.gates) if type(part) in READS]
    return found[0] if found else PLAIN


def owner(algorithm: Algorithm) -> str:
    """Whose importance ratio the algorithm reads, and its letter."""
    return OWNERS.get(type(algorithm.ratio), "r of the token")


def left_out(algorithm: Algorithm) -> list[str]:
    """The parts of the algorithm that the figure leaves out."""
    rows = (("added terms", algorithm.terms), ("corrections of the weight", algorithm.corrections))
    return [name for name, given in rows if given]


def needs_a_batch(algorithm: Algorithm) -> bool:
    """Whether a component compares tokens with each other, so that one token has no curve."""
    return any(isinstance(gate, CovarianceGate) for gate in algorithm.gates)


def view(algorithm: Algorithm, tokens: tuple[Token, ...]) -> tuple[float, float]:
    """The range of ratios to draw: the bounds of the clip with an equal margin on both sides, or 0 to 2.5."""
    loss = PolicyLoss(parts(algorithm))
    one = torch.ones(1, dtype=torch.float64)
    found = [bounds for token in tokens if (bounds := loss.bounds(loss.batch(batch_of(one, 1.0, token)))) is not None]
    if not found:
        return 0.001, 2.5
    low = min(as_tensor(bounds[0], one).min().item() for bounds in found)
    high = max(as_tensor(bounds[1], one).max().item() for bounds in found)
    width = max(1 - low, high - 1)
    return (1 - 3 * width, 1 + 3 * width) if width < 0.1 else (0.001, max(2.5, 1.3 * high))


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the two, at most so many."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (size * factor) <= most)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def labels(numbers: list[float]) -> list[str]:
    """The numbers with as many decimals as tell them apart."""
    for decimals in range(8):
        texts = [f"{x:.{decimals}f}" for x in numbers]
        if all(abs(float(text) - x) < 1e-9 for text, x in zip(texts, numbers, strict=True)):
            return texts
    raise ValueError(f"{numbers} are no round numbers.")


def _fits(numbers: list[float]) -> bool:
    return sum(8 * len(text) + 4 for text in labels(numbers)) < PANEL  # a digit takes about 8 pixels


def _at(x: float) -> str:
    return f"{round(round(x, 6), 1):g}"  # twice: a number halfway between two pixels falls the same way everywhere


class Panel:
    """One of the four: a range of ratios, a range of heights, a place."""

    def __init__(self, left: int, top: int, ratios: tuple[float, float], curves: list[Line]) -> None:
        self.left, self.top, self.ratios = left, top, ratios
        heights = [height for curve in curves for _, height in curve]
        spare = 0.08 * (max(heights) - min(heights))
        self.heights = min(heights) - spare, max(heights) + spare

    def x(self, ratio: float) -> float:
        low, high = self.ratios
        return self.left + PANEL * (ratio - low) / (high - low)

    def y(self, height: float) -> float:
        low, high = self.heights
        return self.top + TALL * (high - height) / (high - low)

    def axes(self, name: str) -> list[str]:
        """Frame, ticks and name."""
        right, bottom = self.left + PANEL, self.top + TALL
        up = ticks(*self.heights, most=5)
        across = next(found for n in (5, 4, 3) if _fits(found := ticks(*self.ratios, most=n)))
        out = [f'<path class="a" d="M{self.left} {self.top}V{bottom}H{right}"/>']
        for tick, text in zip(across, labels(across), strict=True):
            out.append(f'<text x="{_at(self.x(tick))}" y="{bottom + 15}" text-anchor="middle">{text}</text>')
        for tick, text in zip(up, labels(up), strict=True):
            out.append(f'<path class="g" d="M{self.left} {_at(self.y(tick))}H{right}"/>')
            out.append(f'<text x="{self.left - 5}" y="{_at(self.y(tick) + 4)}" text-anchor="end">{text}</text>')
        return [*out, f'<text x="{self.left}" y="{self.top - 8}" class="b">{name}</text>']

    def line(self, curve: Line, style: str) -> str:
        """A curve."""
        return f'<path {style} d="M' + "L".join(f"{_at(self.x(r))} {_at(self.y(h))}" for r, h in curve) + '"/>'


def svg(algorithm: Algorithm) -> str:
    """Four panels: value and gradient, for both signs of the advantage; grey is the plain product r A."""
    about = shown(algorithm)
    ratios = view(algorithm, about.tokens)
    out = []
    for left, (advantage, colour) in zip(LEFTS, SIGNS.items(), strict=True):
        found = [
            lines(parts(algorithm), advantage, token, ratios[0], min(ratios[1], 1 / token.old_probability), 1e-4)
            for token in about.tokens
        ]
        plain: Line = tuple((ratio, ratio * advantage) for ratio in ratios)
        for top, kind, name in zip(TOPS, (0, 1), ("value", "gradient by log π"), strict=True):
            curves = [line[kind] for line in found]
            panel = Panel(left, top, ratios, [*curves, plain])
            out += panel.axes(f"{name}, A = {advantage:+.0f}")
            out.append(panel.line(plain, 'class="p"'))
            for curve, dash in zip(curves, DASHES, strict=False):
                out.append(panel.line(curve, f'class="c" stroke="{colour}"{dash}'))
    bottom = TOPS[1] + TALL + 34
    name = f"importance ratio {owner(algorithm)}; grey: r A"
    foot = [f'<text x="{WIDTH // 2}" y="{bottom}" text-anchor="middle">{name}</text>']
    if about.names:
        text = "; ".join(map("".join, zip(_styles(about.names), about.names, strict=True)))
        foot.append(f'<text x="{WIDTH // 2}" y="{bottom + 20}" text-anchor="middle">{text}</text>')
    height = bottom + 10 + 20 * (len(foot) - 1)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' role="img">',
            f"<title>{algorithm.name}: value and gradient of one token over its importance ratio</title>",
            f"<style>text{{font:13px sans-serif;fill:{GREY}}}.b{{font-weight:bold}}path{{fill:none}}"
            f".a{{stroke:{GREY}}}.g{{stroke:{GREY};stroke-opacity:.25}}.p{{stroke:{GREY};stroke-dasharray:2 3}}"
            ".c{stroke-width:2.5;stroke-linejoin:round}</style>",
            *out,
            *foot,
            "</svg>",
            "",
        ]
    )


def _styles(names: tuple[str, ...]) -> tuple[str, ...]:
    return ("solid: ", "dashed: ") if len(names) > 1 else ("",)
