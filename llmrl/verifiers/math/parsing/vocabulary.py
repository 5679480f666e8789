"""The words, signs and commands that the parser knows, as tables; units have their own in :mod:`.units`."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words(
    """sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh
    tanh log ln lg exp gcd lcm min max det sgn sign floor ceil ceiling abs cis"""
)
WORD_FUNCTIONS = FUNCTIONS | {"sqrt", "cbrt", "root", "binomial", "binom", "factorial", "frac"}
"""Functions that may be named without a backslash."""
GLUED = ("sqrt", "arcsin", "arccos", "arctan", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "pi")
"""What may stand before a letter or two without a blank: ``sinx``."""
ROOTS = ("sqrt", "cbrt", "surd")
FRACTIONS = ("frac", "dfrac", "tfrac", "cfrac", "nicefrac", "sfrac")
BINOMIALS = ("binom", "dbinom", "tbinom")
CONSTANTS = {"pi": "pi", "infty": "oo", "infinity": "oo", "inf": "oo", "oo": "oo"}
MULTIPLES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}

RELATIONS = {
    "=": "=",
    "==": "=",
    ":=": "=",
    "<": "<",
    ">": ">",
    "<=": "le",
    ">=": "ge",
    "!=": "ne",
    "lt": "<",
    "gt": ">",
    "le": "le",
    "leq": "le",
    "leqslant": "le",
    "leqq": "le",
    "ge": "ge",
    "geq": "ge",
    "geqslant": "ge",
    "geqq": "ge",
    "ne": "ne",
    "neq": "ne",
    "in": "in",
    "notin": "notin",
    "approx": "approx",
    "equiv": "=",
    "sim": "approx",
    "simeq": "approx",
    "thickapprox": "approx",
    "to": "to",
    "rightarrow": "to",
    "implies": "to",
    "Rightarrow": "to",
    "=>": "to",
    "propto": "propto",
    "subset": "subset",
    "mid": "mid",
}
SETS = {"cup": "cup", "cap": "cap", "setminus": "minus", "backslash": "minus", "bigcup": "cup"}
UNION = ("U", "u", "union")
"""Words that join two sets when a bracket follows."""
TIMES = {"*": "*", "cdot": "*", "times": "*", "ast": "*", "bullet": "*", "/": "/", "div": "/"}
SIGNS = ("+", "-", "pm", "mp")
JOINERS = {
    ",": ",",
    ";": ";",
    "and": "and",
    "or": "or",
    "land": "land",
    "wedge": "land",
    "lor": "lor",
    "vee": "lor",
    "newline": ",",
}
MODULO = ("pmod", "bmod", "mod", "pod")
DOTS = ("...", "ldots", "cdots", "dots", "dotsc", "vdots")
CURRENCIES = ("dollar", "euro", "gbp", "yen", "yuan", "rupee")
"""Commands that notation makes of the signs of currencies."""
DEGREES = ("circ", "degree", "degrees")
HALVES = ("timeam", "timepm")
"""What the tokenizer makes of a.m. and p.m."""

GREEK = _words(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi
    rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon
    Phi Psi Omega ell hbar partial nabla aleph square star"""
)
DECORATIONS = _words(
    """vec hat widehat tilde widetilde overrightarrow overleftarrow overline bar dot ddot check not
    color mathbf mathrm boldsymbol overset underset arc overarc wideparen overparen"""
)
FENCES = {
    "lfloor": ("rfloor", "floor"),
    "lceil": ("rceil", "ceil"),
    "lvert": ("rvert", "abs"),
    "lVert": ("rVert", "abs"),
    "langle": ("rangle", "vector"),
}
"""Opening command to its closing one and what both mean."""
MATRICES = _words("""pmatrix bmatrix Bmatrix matrix smallmatrix array vmatrix Vmatrix psmallmatrix bsmallmatrix""")
BIG = _words("sum prod int lim iint oint bigoplus")
"""Operators with bounds, which nothing here works out."""

KNOWN = (
    {*FUNCTIONS, *GREEK, *DECORATIONS, *BIG, *CONSTANTS, *FENCES, *FRACTIONS, *BINOMIALS, *ROOTS, *DEGREES, *DOTS}
    | _words("angle triangle prime begin mathbb emptyset varnothing measuredangle Re Im checkmark arg deg Pr")
    | _words("cdotp colon dollar perp parallel")
)
"""Commands that letters may follow without a blank: ``\\pir``."""
SMALL_WORDS = _words("is as if of to in on at by an so be no do we it or us")
NO_OPERAND = {
    *RELATIONS,
    *SETS,
    *TIMES,
    *JOINERS,
    *MODULO,
    *HALVES,
    "pm",
    "mp",
    "rfloor",
    "rceil",
    "rvert",
    "rangle",
    "rVert",
    "end",
    "prime",
    "colon",
    "over",
    "choose",
}
"""Commands before which a product ends."""
STOP_ARGUMENT = {
    *SIGNS,
    ",",
    ";",
    ")",
    "]",
    "}",
    "\\}",
    "|",
    "&",
    "newline",
    "rfloor",
    "rceil",
    "rvert",
    "rangle",
    "rVert",
    "*",
    "/",
    "times",
    "cdot",
}
"""Signs before which the argument of a function without brackets ends."""

STYLE = (
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up|sc)?|mbox|hbox|math(?:rm|bf|it|sf|tt|cal|frak|scr)|boldsymbol|bm|pmb"
    r"|operatorname\*?|emph|underline|fbox|boxed|unit|bold)(?![A-Za-z])"
)
"""Commands, as a pattern, that say how their argument looks."""
