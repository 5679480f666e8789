"""A recursive-descent parser for one expression: LaTeX, plain text, and what models mix of the two."""

from __future__ import annotations

from fractions import Fraction

from llmrl.verifiers.nodes import (
    Node,
    add,
    call,
    divided,
    mul,
    negative,
    num,
    power,
    sym,
)
from llmrl.verifiers.text import Unreadable
from llmrl.verifiers.tokens import FUNCTIONS, Token

MAX_DEPTH = 80
MAX_CELLS = 256
MAX_NODES = 1_500

END = Token("symbol", "")
_CLOSERS = frozenset([")", "]", "}", "rfloor", "rceil", "rangle", "|"])
_ACCENTS = frozenset(
    "hat bar vec dot ddot overline tilde widehat widetilde overrightarrow underline mathscr mathfrak".split()
)
_MATRICES = frozenset("matrix pmatrix bmatrix Bmatrix smallmatrix array tabular".split())
_ALIASES = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arsinh",
    "acosh": "arcosh",
    "atanh": "artanh",
    "lg": "log",
}
_FENCES = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}
_BIG = {"sum", "prod", "int", "lim"}


class Parser:
    """Parses a whole token sequence; anything left over is an error.

    Args:
        tight: whether ``a/bc`` is ``a/(bc)``; else it is ``(a/b)c``.
    """

    def __init__(self, tokens: list[Token], tight: bool = False) -> None:
        self.tokens = list(tokens)
        self.at = 0
        self.tight = tight
        self.depth = 0
        self.nodes = 0
        self.bars = 0

    def whole(self) -> Node:
        """The expression of all tokens."""
        node = self.sum()
        if self.at < len(self.tokens):
            raise Unreadable(f"unexpected {self.peek.value!r}")
        return node

    # -- moving

    @property
    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else END

    def next(self) -> Token:
        token = self.peek
        if token is END:
            raise Unreadable("it ends too early")
        self.at += 1
        return token

    def accept(self, *values: str) -> bool:
        if self.peek.value in values and self.peek.kind in ("symbol", "command"):
            self.at += 1
            return True
        return False

    def expect(self, *values: str) -> None:
        if not self.accept(*values):
            raise Unreadable(f"expected {values[0]!r}, found {self.peek.value!r}")

    # -- grammar

    def sum(self) -> Node:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("it nests too deep")
        terms = []
        while True:
            sign, ambiguous = 1, 0
            while self.peek.value in ("+", "-", "pm", "mp") and self.peek.kind != "letter":
                value = self.next().value
                if value in ("pm", "mp"):
                    if ambiguous:
                        raise Unreadable("two ± in a row")
                    ambiguous = 1 if value == "pm" else -1
                elif value == "-":
                    sign = -sign
            term = self.term()
            if sign < 0:
                term = negative(term)
            terms.append(Node("sign", (term,), ambiguous) if ambiguous else term)
            if self.peek.value not in ("+", "-", "pm", "mp") or self.peek.kind == "letter":
                break
        self.depth -= 1
        return terms[0] if len(terms) == 1 else add(*terms)

    def term(self) -> Node:
        factors = [self.factor()]
        while True:
            if self.accept("*", "cdot", "times"):
                factors.append(self.signed_factor())
            elif self.accept("/", "div"):
                bottom = self.signed_factor()
                if self.tight:
                    rest = [bottom]
                    while self.starts_factor():
                        rest.append(self.factor())
                    bottom = rest[0] if len(rest) == 1 else mul(*rest)
                factors[-1:] = [divided(factors[-1], bottom)] if len(factors) == 1 else [
                    factors[-1],
                    power(bottom, num(-1)),
                ]
            elif self.starts_factor():
                self.reject_adjacent_numbers()
                factors.append(self.factor())
            else:
                break
        return factors[0] if len(factors) == 1 else mul(*factors)

    def reject_adjacent_numbers(self) -> None:
        if self.peek.kind == "number" and self.at and self.tokens[self.at - 1].kind == "number":
            before = self.tokens[self.at - 2] if self.at > 1 else END
            if before.value != "^":
                raise Unreadable("two numbers side by side")

    def signed_factor(self) -> Node:
        sign = 1
        while self.peek.value in ("+", "-") and self.peek.kind == "symbol":
            sign = -sign if self.next().value == "-" else sign
        factor = self.factor()
        return negative(factor) if sign < 0 else factor

    def starts_factor(self) -> bool:
        token = self.peek
        if token is END:
            return False
        if token.kind in ("number", "letter"):
            return True
        if token.kind == "words":
            return True
        if token.value == "|":
            return self.bars == 0
        if token.kind == "symbol":
            return token.value in ("(", "[", "{")
        return (
            token.value in FUNCTIONS
            or token.value in _ACCENTS
            or token.value in _FENCES
            or token.value in _BIG
            or token.value in ("frac", "surd", "cuberoot", "pi", "infty", "binom", "langle", "text")
            or token.value.startswith("begin:")
        )

    def factor(self) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Unreadable("it has too many parts")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("it nests too deep")
        node = self.primary()
        node = self.postfix(node)
        self.depth -= 1
        return node

    def postfix(self, node: Node) -> Node:
        while True:
            token = self.peek
            if token.value == "^" and token.kind == "symbol":
                self.at += 1
                node = self.raised(node)
            elif token.value == "!" and token.kind == "symbol":
                self.at += 1
                if self.peek.value == "!":
                    raise Unreadable("a double factorial")
                node = call("factorial", node)
            elif token.value == "'" and node.op == "sym":
                self.at += 1
                node = sym(node.value + "'")
            elif token.value == "circ" and token.kind == "command":
                self.at += 1
                node = Node("degree", (node,))
            elif token.value == "%" and token.kind == "symbol":
                self.at += 1
                node = divided(node, num(100))
            else:
                return node

    def raised(self, node: Node) -> Node:
        """The base with the exponent that follows the caret."""
        if self.is_degree():
            return Node("degree", (node,))
        if self.accept("{"):
            if self.accept("'"):
                while self.accept("'"):
                    pass
                self.expect("}")
                return sym(f"{_name(node)}'")
            exponent = self.sum()
            self.expect("}")
        else:
            sign = 1
            while self.peek.value in ("-", "+") and self.peek.kind == "symbol":
                sign = -sign if self.next().value == "-" else sign
            exponent = self.primary()
            if self.peek.value == "^":  # a^b^c is a^(b^c)
                exponent = self.postfix(exponent)
            exponent = negative(exponent) if sign < 0 else exponent
        if exponent == sym("T") or (exponent.op == "call" and exponent.value == "prime"):
            raise Unreadable("a transposed matrix")
        return power(node, exponent)

    def is_degree(self) -> bool:
        start = self.at
        braced = self.accept("{")
        if self.accept("circ") and (not braced or self.accept("}")):
            return True
        self.at = start
        return False

    def primary(self) -> Node:
        token = self.next()
        value = token.value
        if token.kind == "number":
            return self.number(value)
        if token.kind == "letter":
            return self.letter(value)
        if token.kind == "words":
            if len(value) > 3 or not value.isalpha():
                raise Unreadable(f"the word {value!r}")
            self.tokens[self.at - 1 : self.at] = [Token("letter", c) for c in value]
            self.at -= 1
            return self.primary()
        if value in ("(", "[", "{"):
            bars, self.bars = self.bars, 0
            node = self.sum()
            self.bars = bars
            self.expect({"(": ")", "[": "]", "{": "}"}[value])
            return node
        if value == "|":
            self.bars += 1
            node = self.sum()
            self.bars -= 1
            self.expect("|")
            return call("abs", node)
        if value in _FENCES:
            close, name = _FENCES[value]
            node = self.sum()
            self.expect(close)
            return call(name, node)
        return self.command(value)

    def number(self, digits: str) -> Node:
        if "." in digits and self.peek.value in ("overline", "bar", "dot") and not self.peek.space:
            self.at += 1
            block = "".join(token.value for token in self.group())
            if not block.isdigit():
                raise Unreadable("a repeating decimal without digits")
            whole, _, part = digits.partition(".")
            shift = 10 ** len(part)
            value = Fraction(int((whole + part) or "0"), shift)
            return num(value + Fraction(int(block), shift * (10 ** len(block) - 1)))
        value = Fraction(digits if digits != "." else "0")
        node = num(value)
        if self.is_mixed(digits):
            part = self.primary()
            return add(node, part)
        return node

    def is_mixed(self, digits: str) -> bool:
        """Whether a fraction of two whole numbers follows: 2 1/3."""
        if "." in digits:
            return False
        if self.at >= 2 and self.tokens[self.at - 2].value in ("^", "_"):
            return False
        rest = self.tokens[self.at : self.at + 7]
        if not rest:
            return False
        if rest[0].kind == "number":
            plain = len(rest) >= 3 and rest[1].value == "/" and rest[2].kind == "number"
            if plain and rest[0].space and "." not in rest[0].value + rest[2].value:
                top, bottom = int(rest[0].value), int(rest[2].value)
                if bottom:
                    node = Fraction(top, bottom)
                    self.tokens[self.at : self.at + 3] = [
                        Token("symbol", "("),
                        Token("number", str(node.numerator)),
                        Token("symbol", "/"),
                        Token("number", str(node.denominator)),
                        Token("symbol", ")"),
                    ]
                    return True
            return False
        if rest[0].value != "frac":
            return False
        values = [token.value for token in rest[1:] if token.value not in ("{", "}")]
        numbers = [token for token in rest[1:] if token.kind == "number"]
        if len(numbers) >= 2:
            shape = "".join("0" if token.kind == "number" else token.value for token in rest[1:])
            return shape.startswith(("{0}{0}", "0{0}", "{0}0", "00"))
        return len(numbers) == 1 and len(values) >= 1 and rest[1].kind == "number" and len(rest[1].value) == 2

    def letter(self, name: str) -> Node:
        if self.accept("_"):
            name = f"{name}_{self.subscript()}"
        return sym(name)

    def subscript(self) -> str:
        if self.peek.value == "{":
            return "".join(token.value for token in self.group() if token.value not in "{}")
        token = self.next()
        return token.value

    def group(self) -> list[Token]:
        """The tokens of a braced group, or the single token where there is no brace."""
        if self.peek.value != "{":
            return [self.next()]
        start, depth = self.at + 1, 0
        while True:
            token = self.next()
            if token.kind == "symbol" and token.value == "{":
                depth += 1
            elif token.kind == "symbol" and token.value == "}":
                depth -= 1
                if depth == 0:
                    return self.tokens[start : self.at - 1]

    def argument(self) -> Node:
        """What follows a command: a group, or a single digit, letter or command."""
        if self.accept("{"):
            bars, self.bars = self.bars, 0
            node = self.sum()
            self.bars = bars
            self.expect("}")
            return node
        token = self.peek
        if token.kind == "number" and len(token.value) > 1 and token.value.isdigit():
            self.tokens[self.at : self.at + 1] = [
                Token("number", token.value[0]),
                Token("number", token.value[1:]),
            ]
            self.at += 1
            return num(int(token.value[0]))
        if token.kind == "number":
            self.at += 1
            return num(Fraction(token.value))
        return self.primary()

    def command(self, value: str) -> Node:
        if value == "frac":
            top = self.argument()
            return divided(top, self.argument())
        if value in ("sqrt", "surd", "cuberoot", "cbrt"):
            return self.root(value)
        if value == "binom":
            top = self.argument()
            return call("binom", top, self.argument())
        if value in ("pi", "infty"):
            return self.letter(value) if value == "pi" else sym("infty")
        if value in _ACCENTS:
            return self.letter(value + ":" + "".join(token.value for token in self.group()))
        if value in FUNCTIONS:
            return self.function(_ALIASES.get(value, value))
        if value in _BIG:
            return self.big(value)
        if value == "langle":
            raise Unreadable("angle brackets")
        if value.startswith("begin:"):
            return self.matrix(value[6:])
        raise Unreadable(f"the command {value!r}")

    def root(self, value: str) -> Node:
        degree = num(3 if value in ("cuberoot", "cbrt") else 2)
        if value == "sqrt" and self.accept("["):
            degree = self.sum()
            self.expect("]")
        if self.peek.kind == "number":
            base = num(Fraction(self.next().value))
        elif self.peek.value in ("{", "("):
            base = self.primary()
        else:
            base = self.factor()
        return call("root", base, degree)

    def function(self, name: str) -> Node:
        exponent = None
        base = None
        while True:
            if self.accept("_"):
                base = self.argument()
            elif self.peek.value == "^" and exponent is None:
                self.at += 1
                exponent = self.argument() if self.peek.value != "-" else self.signed_factor()
            else:
                break
        if name in ("max", "min", "gcd", "lcm"):
            node = call(name, *self.arguments())
        else:
            argument = self.function_argument()
            if name == "log" and base is not None:
                node = call("log", argument, base)
            elif base is not None:
                raise Unreadable(f"a subscript of {name}")
            else:
                node = _FUNCTION_NODES.get(name, lambda a: call(name, a))(argument)
        if exponent is None:
            return node
        if exponent == num(-1) and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            return call(f"arc{name}", *node.args)
        return power(node, exponent)

    def arguments(self) -> list[Node]:
        close = {"(": ")", "{": "}"}.get(self.next().value)
        if close is None:
            raise Unreadable("a function without arguments")
        if close == "}" and self.accept("("):
            self.expect("never")
        found = [self.sum()]
        while self.accept(","):
            found.append(self.sum())
        self.expect(close)
        return found

    def function_argument(self) -> Node:
        if self.peek.value in ("(", "{", "[", "|") and self.peek.kind == "symbol":
            node = self.primary()
            # sin(x)! and sin(30)^\circ read as written: the postfix belongs to the argument's degree only.
            if self.peek.value == "^" and self.tokens[self.at + 1 : self.at + 2] and self.is_degree_ahead():
                return self.postfix(node)
            return node
        sign = 1
        while self.peek.value == "-" and self.peek.kind == "symbol":
            self.at += 1
            sign = -sign
        factors = [self.factor()]
        while self.starts_factor() and self.peek.value not in FUNCTIONS and self.peek.value not in ("(", "["):
            self.reject_adjacent_numbers()
            factors.append(self.factor())
        node = factors[0] if len(factors) == 1 else mul(*factors)
        return negative(node) if sign < 0 else node

    def is_degree_ahead(self) -> bool:
        ahead = [token.value for token in self.tokens[self.at + 1 : self.at + 3]]
        return ahead[:1] == ["circ"] or ahead == ["{", "circ"]

    def big(self, value: str) -> Node:
        """A sum, product, integral or limit: compared by its parts, never worked out."""
        parts = {"_": sym(""), "^": sym("")}
        while self.peek.value in parts:
            mark = self.next().value
            parts[mark] = sym(" ".join(token.value for token in self.group()))
        return call(value, parts["_"], parts["^"], self.term())

    def matrix(self, kind: str) -> Node:
        if kind not in _MATRICES:
            raise Unreadable(f"the environment {kind!r}")
        rows: list[list[Node]] = [[]]
        cells = 0
        while not self.accept(f"end:{kind}"):
            cells += 1
            if cells > MAX_CELLS:
                raise Unreadable(f"a matrix of more than {MAX_CELLS} cells")
            rows[-1].append(self.sum())
            if self.accept("\\"):
                if self.peek.value.startswith("end:"):
                    continue
                rows.append([])
            elif not self.accept("&") and not self.peek.value.startswith("end:"):
                raise Unreadable(f"unexpected {self.peek.value!r} in a matrix")
        columns = len(rows[0])
        if not columns or any(len(row) != columns for row in rows):
            raise Unreadable("a matrix with rows of different lengths")
        return Node("mat", tuple(cell for row in rows for cell in row), (len(rows), columns))


_FUNCTION_NODES = {
    "exp": lambda a: power(sym("e"), a),
    "ln": lambda a: call("ln", a),
    "cis": lambda a: add(call("cos", a), mul(sym("i"), call("sin", a))),
}


def _name(node: Node) -> str:
    if node.op != "sym":
        raise Unreadable("a prime on something that has no name")
    return str(node.value)
