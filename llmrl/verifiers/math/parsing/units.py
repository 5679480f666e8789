"""Names of units, each with one canonical spelling.  Other words count as units only inside ``\\text``."""

from __future__ import annotations

import re

_SPELLINGS = {
    "deg": "deg degree degrees",
    "rad": "rad radian radians",
    "m": "m meter meters metre metres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yard yards",
    "mi": "mi mile miles",
    "g": "g gm gms gram grams",
    "kg": "kg kilogram kilograms",
    "mg": "mg milligram milligrams",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "ton": "ton tons tonne tonnes",
    "l": "l L liter liters litre litres",
    "ml": "ml mL milliliter milliliters",
    "gal": "gal gallon gallons",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years yr yrs",
    "dollar": "dollar dollars USD usd bucks",
    "gbp": "gbp GBP sterling",
    "yen": "yen JPY",
    "yuan": "yuan RMB CNY",
    "rupee": "rupee rupees INR",
    "cent": "cent cents",
    "euro": "euro euros EUR",
    "unit": "unit units different distinct possible total",
    "square": "sq square",
    "cubic": "cu cubic",
    "hz": "Hz hz hertz",
    "n": "N newton newtons",
    "j": "J joule joules",
    "w": "W watt watts",
    "pa": "Pa pascal pascals",
    "k": "K kelvin kelvins",
    "volt": "V volt volts",
    "amp": "A ampere amperes amp amps",
    "coulomb": "C coulomb coulombs",
    "farad": "F farad farads",
    "ohm": "ohm ohms",
    "celsius": "celsius centigrade",
    "fahrenheit": "fahrenheit",
    "mol": "mol mole moles",
    "am": "am",
    "pm": "pm",
    "percent": "percent",
    "per": "per",
}
CANONICAL = {spelling: name for name, words in _SPELLINGS.items() for spelling in words.split()}
"""Spelling to canonical name."""

_COUNTED = (
    "apples apple people person persons students student ways way marbles marble coins coin books book balls ball "
    "points point pieces piece cards card votes vote times items item numbers digits integers solutions children "
    "boys girls men women cats dogs eggs pages page questions games game problems seats trees tickets ticket "
    "cookies cups cup bags boxes box cars steps step sides edges vertices faces triangles squares pounds grams"
)
COUNTED = frozenset(_COUNTED.split())
"""Nouns that say what is counted."""
WORDS = frozenset(CANONICAL) | {"mph", "kph", "kmph", "kmh"} | frozenset(_COUNTED.split())
"""Words that follow a number without being factors."""


_CHANGED = "plus minus less loss losses increases decreases gains profits positives negatives evens odds"
_CHANGES = frozenset(_CHANGED.split())
"""Plurals that say more than what is counted."""


def droppable(name: str) -> bool:
    """Whether a unit may be left out: a known one, or a plural, which says what is counted.

    >>> [droppable(name) for name in ("cm", "?ways", "?widgets", "?increase", "?south")]
    [True, True, True, False, False]
    """
    word = name.removeprefix("?")
    if word == name or word in COUNTED:
        return True
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _CHANGES


def canonical(words: str) -> str:
    r"""One spelling for the unit in ``\text{...}``.

    >>> canonical(" square  Inches. ")
    'square in'
    """
    words = re.sub(r"\bmph\b", "miles per hour", re.sub(r"\bkm?ph\b|\bkmh\b", "km per h", words))
    words = re.sub(r"\bper\s+cents?\b", "percent", words)
    parts = re.findall(r"[A-Za-z]+|[^\sA-Za-z.,]+", words)
    return " ".join(CANONICAL.get(part, CANONICAL.get(part.lower(), part.lower())) for part in parts)
