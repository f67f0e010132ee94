"""The ``where`` of a slice: a small SQL-like expression, parsed to a tree.

Nothing here reaches SQL: ``service.buckets.predicates`` evaluates the tree on Arrow columns.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

from service.registry.documents import hint

LONGEST = 2_000
# Parentheses and NOTs within each other; people write two, the recursion must end.
DEEPEST = 30
MOST_LISTED = 1_000
MOST_PARTS = 500

Value = str | float | bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """``column operator value``; the operator is one of = != < <= > >=."""

    column: str
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """``column in (…)``."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """``column is null``."""

    column: str


@dataclass(frozen=True, slots=True)
class Not:
    """``not …``; of what is unknown it is unknown."""

    part: "Predicate"


@dataclass(frozen=True, slots=True)
class Both:
    """``… and …``."""

    parts: tuple["Predicate", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """``… or …``."""

    parts: tuple["Predicate", ...]


Predicate = Comparison | OneOf | IsNull | Not | Both | Either


class PredicateSyntaxError(ValueError):
    """The expression cannot be read; ``position`` counts its characters from 1."""

    def __init__(self, position: int, detail: str) -> None:
        super().__init__(f"position {position}: {detail}")
        self.position = position


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![\w.])
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<word>[^\W\d][\w.\-]*)
      | (?P<operator><=|>=|<>|!=|==|=|<|>)
      | (?P<mark>[(),])""",
    re.VERBOSE,
)
# Tabs and the ends of lines are blanks; no value that is logged has one of the others.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_KEYWORDS = ("and", "or", "not", "in", "between", "is", "null", "true", "false")
_SPELLING = {"==": "=", "<>": "!="}
_HINTS = {
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not'",
    "'": "the text has no closing quote",
    '"': "the name has no closing quote",
}


@lru_cache(maxsize=1_000)
def parse(text: str) -> Predicate:
    """Parse an expression.

    Names stand alone or, with blanks and the like, in double quotes; texts in single quotes.

    Raises
    ------
    PredicateSyntaxError
        It names the position and what was expected there.
    """
    if len(text) > LONGEST:
        message = f"an expression has at most {LONGEST} characters"
        raise PredicateSyntaxError(LONGEST + 1, message)
    if control := _CONTROL.search(text):
        raise PredicateSyntaxError(control.start() + 1, "a control character")
    return _Parser(list(_tokens(text))).all()


def columns_of(predicate: Predicate) -> frozenset[str]:
    """Return the columns that a predicate reads."""
    if isinstance(predicate, Not):
        return columns_of(predicate.part)
    if isinstance(predicate, (Both, Either)):
        return frozenset().union(*(columns_of(part) for part in predicate.parts))
    return frozenset({predicate.column})


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            said = _HINTS.get(text[at], "no expression has this character here")
            raise PredicateSyntaxError(at + 1, said)
        kind, word = str(found.lastgroup), found.group()
        if kind == "word" and word.lower() in _KEYWORDS:
            yield _Token(word.lower(), word, at + 1)
        elif kind == "quoted":
            yield _Token("word", word[1:-1].replace('""', '"'), at + 1)
        elif kind == "text":
            yield _Token("text", word[1:-1].replace("''", "'"), at + 1)
        elif kind == "mark":
            yield _Token(word, word, at + 1)
        elif kind != "space":
            yield _Token(kind, _SPELLING.get(word, word), at + 1)
        at = found.end()
    yield _Token("end", "", len(text) + 1)


class _Parser:
    """Recursive descent: or, and, not, then one test of a column."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._parts = 0

    def all(self) -> Predicate:
        found = self._either()
        token = self._tokens[self._at]
        if token.kind != "end":
            said = "expected 'and', 'or' or the end"
            if token.kind == "word":
                said += hint(token.text.lower(), ("and", "or"))
            raise PredicateSyntaxError(token.position, said)
        return found

    def _take(self, *kinds: str) -> _Token | None:
        token = self._tokens[self._at]
        if token.kind not in kinds:
            return None
        self._at += 1
        return token

    def _need(self, kind: str, said: str) -> _Token:
        token = self._take(kind)
        if token is None:
            raise PredicateSyntaxError(self._tokens[self._at].position, f"expected {said}")
        return token

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Predicate:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _not(self) -> Predicate:
        token = self._take("not", "(")
        if token is None:
            return self._test()
        self._depth += 1
        if self._depth > DEEPEST:
            raise PredicateSyntaxError(token.position, f"nested deeper than {DEEPEST}")
        if token.kind == "not":
            found: Predicate = Not(self._not())
        else:
            found = self._either()
            self._need(")", "')'")
        self._depth -= 1
        return found

    def _test(self) -> Predicate:
        column = self._need("word", "a column; texts stand in single quotes on the right")
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise PredicateSyntaxError(column.position, f"more than {MOST_PARTS} tests")
        operator = self._take("operator")
        if operator is not None:
            return Comparison(column.text, operator.text, self._value())
        if self._take("is"):
            negated = self._take("not")
            self._need("null", "'null'")
            null = IsNull(column.text)
            return Not(null) if negated else null
        negated = self._take("not")
        found = self._listed(column.text) if self._take("in") else self._between(column.text)
        return Not(found) if negated else found

    def _listed(self, column: str) -> Predicate:
        self._need("(", "'(' and the values")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
            if len(values) > MOST_LISTED:
                position = self._tokens[self._at].position
                raise PredicateSyntaxError(position, f"more than {MOST_LISTED} values")
        self._need(")", "',' or ')'")
        return OneOf(column, tuple(values))

    def _between(self, column: str) -> Predicate:
        token = self._tokens[self._at]
        if self._take("between") is None:
            said = "expected a comparison, 'in', 'between' or 'is null' after the column"
            if token.kind == "word":
                said += hint(token.text.lower(), ("in", "between", "is"))
            raise PredicateSyntaxError(token.position, said)
        low = self._value()
        self._need("and", "'and' and the upper end")
        return Both((Comparison(column, ">=", low), Comparison(column, "<=", self._value())))

    def _value(self) -> Value:
        token = self._take("number", "text", "true", "false")
        if token is None:
            found = self._tokens[self._at]
            said = "expected a number, a 'text', true or false"
            if found.kind == "null":
                said += "; write 'is null'"
            elif found.kind == "word":
                said += "; a text stands in single quotes"
            raise PredicateSyntaxError(found.position, said)
        if token.kind == "text":
            return token.text
        if token.kind != "number":
            return token.kind == "true"
        number = float(token.text)
        if not isfinite(number):
            raise PredicateSyntaxError(token.position, "the number is too large")
        return number
