r"""Harmless sentences after a final answer: they explain it, check it, restate it, or close the response.

A denial can be worded in any way, and no list of denials is complete.  So the harmless sentences are listed,
by their first words.  Any other sentence after the answer takes it back.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(","))


_OPENERS = _words(
    """
    a accordingly additionally also alternative alternatively although always an and another any are as because
    besides both by clearly consequently consider each either equality equivalently every finally first from
    furthermore generally geometrically given hence here if indeed interestingly its loosely moreover
    namely neither next notably now observe obviously of other others our recall regardless remember second
    similarly since so specifically suppose their then there therefore these they those thus we when
    whenever where whereas which while why with

    answer case challenge check checks conclusion confirm confidence confirmation explanation final key method note
    notes notice output proof qed reason reasoning remark remarks solution step steps summary time verification verify

    adding applying checking combining comparing computing counting distributing dividing drawing expanding
    factoring following graphing listing multiplying plugging putting recalling setting simplifying solving squaring
    substituting subtracting summing taking testing using verifying

    assistant best bye cheers congratulations correct done feel good great happy hope hopefully human nice ok okay
    perfect question regards thank thanks user yes
    """
)
"""Words that lead to a further step, name a part of a solution, do a step, or close."""
_PHRASES = _phrases(
    """
    let us, let be, let and, let denote, let me know, let me verify, let me check, let me double, i hope, i checked,
    i double checked, i verified, i used, i am confident, i am sure, i am certain, one can, one could, one may, you can,
    you could, you may, please let me know, please feel free, in other words, in particular, in summary,
    in conclusion, in short, in total, in general, in the, in this, in our, in addition, in both, in each, on the other,
    at the, no other, no further, no larger, no smaller, no more, no need, no calculus,
    for all, for any, for completeness, for each, for every, for example, for instance, for this, to check, to confirm,
    to find, to get, to prove, to see, to show, to summarize, to verify, in base, rounded to
    """
)
"""Longer openings."""
_TURNS = _words("actually but except however i maybe my ought perhaps should though unfortunately wait")
"""Words that may turn a sentence wherever they stand, ..."""
_HERE = _words("again let never no not please")
"""... and words that do so only right behind an opening."""
_NAMES = _words("above answer answers box boxed one result results solution solutions total value values")
"""Nouns that mean the answer."""
_ADVERBS = _words("also clearly exactly indeed just precisely simply then therefore thus")
_IS = _words("is are s does")
_SO = _words(
    """
    achievable achieved as at attained because clear confirmed consistent correct due easy equal equivalent found
    given how in it maximal maximized minimal minimized obtained our right similar since the true unique valid
    verified what when where why
    """
)
"""What the answer may be."""
_NOT_SO = _words("change depend difficult hard matter necessary needed surprising")
"""What the answer, or a step, may well not be or do."""
_DOES = _words(
    """
    adds agrees checks comes completes concludes confirms corresponds ends equals fits follows gives happens has
    holds implies leads makes matches means occurs proves represents satisfies shows simplifies uses verifies works
    yields
    """
)
"""What the answer may do."""
_SEEN = _words("checked confirmed found proved proven seen shown verified written")
"""What may be done with the answer."""

_FORMULA = re.compile(
    r"\$[^$]*\$?|\\\(.*?(?:\\\)|\Z)|\\\[.*?(?:\\\]|\Z)|\\(?:begin|end)\{[^}]*\}|\\[A-Za-z]+|<[^>]{0,40}>", re.DOTALL
)
"""Formulas, commands and tags, which are no words."""
_NOT = re.compile(r"n['’]t\b")
_WORD = re.compile(r"[^\W\d_]{2,}|\b[ai]\b|(?<=['’])s\b")


def harmless(sentence: str) -> bool:
    r"""Whether a sentence after an answer leaves it as it is, by the words that it opens with.

    >>> harmless("Since $x > 0$, we are done."), harmless("This is the largest."), harmless(r"\end{align*}")
    (True, True, True)
    >>> harmless("Kidding."), harmless("This is absurd."), harmless("So the answer above is a guess.")
    (False, False, False)
    """
    words = _WORD.findall(_NOT.sub(" not", _FORMULA.sub(" ", sentence)).lower())
    start = next((place for place, word in enumerate(words) if word not in _OPENERS), len(words))
    text = " ".join((*words[start:], ""))
    phrase = next((phrase for phrase in _PHRASES if text.startswith(phrase + " ")), "")
    start += len(phrase.split())
    if "?" in sentence or not _TURNS.isdisjoint(words[start:]):
        return False
    if phrase:
        return True
    start += 0 < start < len(words) and words[start] == "that"
    subject, *rest = [*words[start:], ""]
    named = next((place for place, word in enumerate(rest[:2], 1) if word in _NAMES), 0)
    if subject not in ("this", "that", "it", "the") or (subject == "the" and not named):
        return subject in ("the", "") or (start > 0 and subject not in _HERE)
    verb, *said = [*(word for word in rest[named:] if word not in _ADVERBS), "", ""][:3]
    if verb in _IS:
        return said[0] in _SO or (said[0] == "not" and said[1] in _NOT_SO)
    return verb in _DOES or (verb in ("can", "could", "may") and said[0] == "be" and said[1] in _SEEN)
