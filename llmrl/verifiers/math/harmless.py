r"""Harmless sentences after a final answer: they explain it, check it, restate it, or speak of something else.

A denial can be worded in any way, and no list of denials is complete.  So a sentence that speaks of the answer, or that
turns, must have a harmless form.  Any other sentence is harmless, unless it has a word of doubt, denial or correction
and may be about the answer.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> re.Pattern[str]:
    return re.compile("|".join(f"{' '.join(phrase.split())} " for phrase in text.split(",")))


_OPENERS = _words(
    """
    a accordingly additionally also alternative alternatively although always an and another any are as because
    besides both by clearly consequently consider each either equality equivalently every finally first from
    furthermore generally geometrically given hence here if indeed interestingly its loosely moreover namely neither
    next notably now observe obviously of other others our recall regardless remember second similarly since so
    specifically suppose their then there therefore these they those thus we when whenever where whereas which while
    why with

    answer case challenge check checks conclusion confirm confidence confirmation explanation final key method note
    notes notice output proof qed reason reasoning remark remarks solution step steps summary time verification
    verify

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
    i double checked, i verified, i used, i am confident, i am sure, i am certain, one can, one could, one may, you
    can, you could, you may, please let me know, please feel free, in other words, in particular, in summary, in
    conclusion, in short, in total, in general, in the, in this, in our, in addition, in both, in each, on the
    other, at the, no other, no others, no further, no larger, no smaller, no more, no need, no calculus, hésitez
    pas, hésite pas, i happy to, i would be happy, i would be glad, do not confuse, do not forget, do not hesitate,
    do not worry, try the, try to, try it, for a, for an, for two, for three, for reference, for fun, for purposes,
    for the, for confirmation, for comparison, of course, more generally, strictly speaking, had we, had the, if you
    like, it turns out, we leave, as it happens, for all, for any, for completeness, for each, for every, for
    example, for instance, for this, to check, to confirm, to find, to get, to prove, to see, to show, to summarize,
    to verify, in base, rounded to
    """
)
"""Longer openings."""
_TURNS = re.compile(
    r"\A(?:but|except|however|though|i|my|actually no|oh|ah|hmm?|huh|look|regrettably|sadly|far so good)\b"
    r"|\b(?:maybe|perhaps|unfortunately|wait|ought)\b"
    r"|\A(?:\w+ ){0,2}actually\b|\b(?:is|was|it|this|that|answer|result|value) actually\b"
    r"|\b(?:it|this|that|which|answer|result|value) should\b"
    r"|\bshould (?:actually |really )?(?:be|have|equal)\b(?! \w+(?:ed|ne|wn)\b)"
)
"""What may turn a sentence."""
_BENDS = _words("but except however though")
"""What turns a sentence that may be about the answer."""
_HERE = _words("again let never no not please")
"""Words that turn a sentence right after an opening."""
_NAMES = _words("above answer answers box boxed conclusion one result results solution solutions total value values")
"""Nouns that mean the answer."""
RIGHT_ONE = (
    "(?:actual|best|better|correct|proper|real|right|safer|sounder|true|wiser) (?:choice|number|one|option|pick|value)"
)
"""A value that a sentence prefers."""
_OTHERS = _words("earlier first larger later longer negative other positive second shorter smaller")
"""Words after "the" by which a sentence speaks of another value than the answer, ..."""
_OTHER = rf"\bthe (?:{'|'.join(sorted(_OTHERS))})"
_CHOSEN = re.compile(
    rf"{_OTHER}\b.{{0,200}}\b(?:(?:is|are|was|be) (?:the (?:(?:right|correct|final) )?(?:answers?|ones?|solution|value)"
    r"|right|correct|what|needed|wanted|required|asked)|(?:gives?|yields?|answers?) the (?:answer|question|problem)"
    r"|instead)\b"
    r"|\b(?:is|only) the other\b"
    rf"|\b(?:an?|the) {RIGHT_ONE} (?:is|was|would be)(?: (?:as|because|since)\b|\Z)"
)
"""... and those by which it chooses that one, ..."""
_TAKEN = re.compile(rf"\b(?:choose|keep|need|pick|prefer|select|take|want) {_OTHER} (?:one|root|solution|value)\b")
_REASONS = _words("as because since")
"""... or takes it without a reason."""
_ADVERBS = _words("also clearly exactly indeed just precisely simply then therefore thus")
_IS = _words("is are s does")
_SO = _words(
    """
    called customary important instructive interesting known left natural possible standard useful worth achievable
    achieved as at attained because clear confirmed consistent correct done due easy equal equivalent found given
    how in it maximal maximized minimal minimized obtained our right similar since the true unique valid verified
    what when where why
    """
)
"""What the answer may be."""
_NOT_SO = _words("change depend difficult hard matter necessary needed surprising")
"""What the answer, or a step, may well not be or do."""
_DOES = _words(
    """
    adds agrees appears avoids checks comes completes concludes confirms corresponds depends ensures ends equals
    fits follows gives happens has helps generalizes holds illustrates implies leads makes matches means occurs
    proves represents rules satisfies shows simplifies turns uses verifies works yields
    """
)
"""What the answer may do."""
_GOOD = _words(
    """
    case classic common consequence direct example famous general good instance nice special standard
    straightforward useful valid well
    """
)
"""What follows "a" where the answer, or a step, is called something."""
_THINGS = _words(
    """
    amount angle approach argument case claim configuration construction equation example exercise expression fact
    formula function identity inequality lemma method number pattern principle problem process product property
    question relation rule sequence series step sum technique theorem triangle trick
    """
)
"""Nouns with which "this" means something else."""
_SEEN = _words(
    "achieved avoided checked computed confirmed found generalized obtained proved proven seen shown verified written"
)
"""What may be done with the answer."""

_FORMULA = re.compile(
    r"\$[^$]*\$?|\\\(.*?(?:\\\)|\Z)|\\\[.*?(?:\\\]|\Z)|\\(?:begin|end)\{[^}]*\}(?:\{[^}]*\})?|\\[A-Za-z]+|<[^>]{0,40}>",
    re.DOTALL,
)
"""Formulas, commands and tags, which are no words."""
_IDIOM = re.compile(
    r"\b(?:guess(?:ing)?(?: and |-)check\w*|as (?:it|they) should|or not"
    r"|common (?:mistake|error|pitfall|trap|misconception)s?|(?:does|do) not (?:matter|affect|change)|false start"
    r"|(?:up to|within)(?: an?)?(?: \w+)? errors?"
    r"|no(?: \w+){1,3} (?:is|are|was|were) (?:required|needed|necessary)"
    r"|plays? no (?:role|part)|makes? no difference)\b"
)
"""Idioms that hold a word of doubt but express none."""
_NOT = re.compile(r"n['’]t\b")
_DENIES_AT_ONCE = re.compile(r"\W*no\s*[,!:—–]")
_WORD = re.compile(r"[^\W\d_]{2,}|\b[ai]\b|(?<=['’])s\b")

_DOUBTS = _words(
    """
    doubt doubts doubtful guess guessed guesses guesswork guessing unsure uncertain unclear unknown perhaps maybe
    possibly probably presumably supposedly allegedly hmm hm suspect suspicious wonder dunno idk confused confusing
    unlikely implausible unverified unproven unconfirmed tentative tentatively provisional draft placeholder stub
    approximate estimate ballpark arbitrary random randomly wrong wrongly mistake mistaken mistakes error errors
    erroneous incorrect incorrectly false fault faulty flaw flawed invalid bug buggy typo slip blunder misread
    misreading misprint miscount miscounted miscalculated misunderstood astray forgot forget forgotten overlooked
    missed missing misses omitted omits ignored ignores neglected skipped dropped overcounted undercounted off
    retract retracted withdraw withdrawn revise revised revision redo recompute recount recalculate reconsider
    rethink recheck correction corrected edit erratum errata update updated disregard ignore scratch strike scrap
    cancel replace replaced instead rather nope nah nay oops whoops sorry apologies apologize pardon wait hold hang
    stop actually really kidding joke joking lol haha fooled trick tricked bluff bluffing lie lied lying liar
    pretend pretended fake faked invented fabricated fiction fantasy made fib hallucinated hallucination imaginary
    wishful absurd impossible nonsense nonsensical ridiculous silly stupid bogus strange weird odd unreasonable
    garbage rubbish trash crap bull hogwash baloney junk contradiction contradicts contradictory contradicting
    inconsistent disagree disagrees conflicts violates fails failed fail failing breaks broken incomplete unfinished
    undefined extraneous spurious rejected reject discard refuted disproved unacceptable inadmissible premature
    recalculated recomputed but however though unfortunately alas except yet unless otherwise still ought expected
    supposed must differs else better improved abandon quit surrender stuck lost hopeless clueless clue intended
    remains look

    falsch fehler irrtum leider doch sondern aber moment entschuldigung quatsch unsinn faux fausse erreur mais
    oublié pardon désolé plutôt falso falsa incorrecto incorrecta pero sino perdón espera mentira errado errada erro
    mas desculpe errore sbagliato sbagliata ma scusa però неверно неправильно ошибка ошибся но извините ложь
    """
)
"""Words with which people doubt, deny or correct, in the languages whose announcements are known."""
_NEGATIONS = _words(
    """
    no not never nothing none neither nor nobody cannot hardly barely scarcely nicht kein keine keinen keiner
    niemals non pas ne aucun aucune nunca ninguno ninguna ningún não nenhum nessun нет не никогда
    """
)
"""Words that deny, ..."""
_REFERS = _words(
    """
    this that it i my me answer answers result results value values above solution conclusion das es ich antwort
    lösung cela ce je ai réponse yo respuesta eu resposta io risposta это ответ я
    """
)
"""... and words that may stand for the answer."""
_ADDRESSED = _words("coincidence reader you your yourself vous votre usted ustedes você ihnen вам вас")
_DOUBTED = re.compile("错了|錯了|不对|不對|不是|有误|不正确|抱歉|等等|其实|更正|重新|算错|弄错|不确定|也许|猜|但")
"""Words of doubt in Chinese, which has no spaces."""
_OBJECTS = _words("this that it so these those")
_OFFERS = re.compile(r"\W*(?:would you like|do you want|if you would like|if you want|feel free|let me know)\b")
_CHINESE = re.compile("[\u4e00-\u9fff]{3}")
_LINE = re.compile(r"[=^_&]|\\\\")
"""What a line of a displayed formula holds, with names as its only words."""
_BRACKET = re.compile(r"[\s$\])\\]*\(")
_LABEL = re.compile(
    r"\s*[-–—*#_>\d.()\s]{0,20}[^\W\d_][^:.!?]{0,40}:|\s*(?:(?:#|\*\*?|\||~|==)[^.!]*\.?|[—–-][^.!?]*)\Z"
)
"""A heading, a row of a table, or the name of what follows."""


def harmless(sentence: str) -> bool:
    r"""Whether a sentence after an answer leaves it as it is.

    >>> harmless("Since $x > 0$, we are done."), harmless("This is the largest."), harmless(r"\end{align*}")
    (True, True, True)
    >>> harmless("Many students make the mistake of adding the two."), harmless("Would you like to see another way?")
    (True, True)
    >>> harmless("Kidding."), harmless("This is absurd."), harmless("So the answer above is a guess.")
    (False, False, False)
    >>> harmless("The larger one is not in the domain."), harmless("The larger one is the answer.")
    (True, False)
    """
    text = _NOT.sub(" not", _FORMULA.sub(" ", sentence).lower())
    if _DENIES_AT_ONCE.match(text):
        return False
    words = _WORD.findall(text)
    if _chooses_other(words):
        return False
    doubts = _doubts(words, text)
    if _OFFERS.match(text) or (not doubts and _is_aside(words, text, sentence)):
        return True
    if "?" in text:
        return text.lstrip().startswith("why not")
    start = next((place for place, word in enumerate(words) if word not in _OPENERS), len(words))
    rest = " ".join((*words[start:], ""))
    phrase = _PHRASES.match(rest)
    start += phrase.group().count(" ") if phrase else 0
    if not _BRACKET.match(text) and _turns(words, start, doubts and phrase is None):
        return False
    if phrase or rest == "let ":
        return True
    start += 0 < start < len(words) and words[start] == "that"
    subject, *more = [*words[start:], "", ""]
    named = next((place for place, word in enumerate(more[:2], 1) if word in _NAMES), 0)
    if subject == "the" and more[0] in _OTHERS:
        return True
    if subject in ("this", "that", "it") or (subject == "the" and named):
        said = [word for word in more[named:] if word not in _ADVERBS]
        return more[0] in _THINGS or _explains(said) or (len(said) > 6 and not named and not doubts)
    if start > 0 or not subject:
        return subject not in _HERE
    if subject == "the":
        return not doubts or _REFERS.isdisjoint(words)
    has_formula = text.strip() != sentence.strip().lower()
    return (len(words) > 3 or has_formula) and words[-1] not in _OBJECTS and not doubts


def chooses_other(sentence: str) -> bool:
    """Whether a sentence after an answer says that another value is the one.

    >>> chooses_other("The other one is right."), chooses_other("The other one is not right.")
    (True, False)
    """
    return _chooses_other(_WORD.findall(_NOT.sub(" not", sentence.lower())))


def _chooses_other(words: list[str]) -> bool:
    said = " ".join(words)
    chosen = _CHOSEN.search(said) or (_TAKEN.search(said) and _REASONS.isdisjoint(words))
    return bool(chosen) and _NEGATIONS.isdisjoint(words)


def _is_aside(words: list[str], text: str, sentence: str) -> bool:
    """Whether a sentence without doubt speaks to the reader, or is a heading, a remark in brackets or a formula."""
    return (
        (len(words) > 3 and not _ADDRESSED.isdisjoint(words))
        or (len(words) > 4 and _BRACKET.match(text) is not None)
        or (max(map(len, words), default=0) < 4 and _LINE.search(sentence) is not None)
        or (_LABEL.match(text) is not None and not _TURNS.search(" ".join(words)))
        or _CHINESE.search(text) is not None
    )


def _turns(words: list[str], start: int, doubts: bool) -> bool:
    """Whether a sentence turns against what was said before; ``start`` is the place after its opening."""
    return (
        _TURNS.search(" ".join(words[start:])) is not None
        or (doubts and "i" in words)
        or (not _BENDS.isdisjoint(words) and _refers(words))
    )


def _explains(words: list[str]) -> bool:
    """Whether what a sentence says of the answer, or of a step, explains or confirms it."""
    verb, *said = [*words, "", "", ""]
    if verb in _IS:
        names_something = not _THINGS.isdisjoint(said[:6]) and _DOUBTS.isdisjoint(said) and _NEGATIONS.isdisjoint(said)
        plain = said[0] in _SO or (said[0] in ("a", "an") and said[1] in _GOOD)
        return names_something or plain or (said[0] == "not" and said[1] in _NOT_SO)
    return (
        not verb
        or (verb in _DOES and (verb != "has" or _DOUBTS.isdisjoint(said)))
        or (verb in ("can", "could", "may") and said[0] == "be" and said[1] in _SEEN)
    )


def _doubts(words: list[str], text: str) -> bool:
    """Whether a sentence has a word of doubt or a denial, and may be about the answer."""
    if _DOUBTED.search(text):
        return True
    said = _WORD.findall(_IDIOM.sub(" ", text))
    return not (_DOUBTS.isdisjoint(said) and _NEGATIONS.isdisjoint(said)) and _refers(words)


def _refers(words: list[str]) -> bool:
    """Whether a sentence may be about the answer: it is short, or has a word that may stand for it."""
    if len(words) < 6 or not _REFERS.isdisjoint(words[:1]):
        return True
    return any(
        word in _REFERS and (word != "that" or after in _IS or after in _DOES)
        for word, after in zip(words, [*words[1:], ""], strict=True)
    )
