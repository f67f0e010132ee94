"""The where of a slice: precedence, every mistake with its position, and no end of recursion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.registry.predicates import (
    DEEPEST,
    LONGEST,
    Both,
    Comparison,
    Either,
    IsNull,
    Not,
    OneOf,
    Predicate,
    PredicateSyntaxError,
    columns_of,
    parse,
)

A, B, C = (Comparison(name, "=", 1.0) for name in "abc")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a = 1", A),
        ("a == 1", A),
        ("A<>'it''s'", Comparison("A", "!=", "it's")),
        ('"my col" >= -1.5e3', Comparison("my col", ">=", -1500.0)),
        ("tags.channel = 'web'", Comparison("tags.channel", "=", "web")),
        ("new = TRUE", Comparison("new", "=", True)),
        ("a = 1 or b = 1 and c = 1", Either((A, Both((B, C))))),
        ("(a = 1 or b = 1) AND c = 1", Both((Either((A, B)), C))),
        ("not a = 1 and b = 1", Both((Not(A), B))),
        ("a in (1, 'x')", OneOf("a", (1.0, "x"))),
        ("a not in (1)", Not(OneOf("a", (1.0,)))),
        ("a is null", IsNull("a")),
        ("a is not null", Not(IsNull("a"))),
        (
            "a between 1 and 2 and b = 1",
            Both((Both((Comparison("a", ">=", 1.0), Comparison("a", "<=", 2.0))), B)),
        ),
    ],
)
def test_an_expression_becomes_its_tree(text: str, tree: Predicate) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 1, "expected a column"),
        ("a", 2, "expected a comparison"),
        ("a = ", 5, "expected a number"),
        ("a = b", 5, "a text stands in single quotes"),
        ("a = null", 5, "write 'is null'"),
        ("a = 1 & b = 1", 7, "write 'and'"),
        ("a = 1 adn b = 1", 7, "did you mean 'and'?"),
        ("a betwen 1 and 2", 3, "did you mean 'between'?"),
        ("a = 'x", 5, "no closing quote"),
        ("(a = 1", 7, "expected ')'"),
        ("a in 1", 6, "expected '('"),
        ("a in (1 2)", 9, "expected ',' or ')'"),
        ("a between 1 or 2", 13, "expected 'and'"),
        ("a = 1; drop table prediction", 6, "no expression has this character"),
        ("a = 1e999", 5, "too large"),
        ("1 = a", 1, "expected a column"),
        ("a = 'x\0'", 7, "control character"),
        ('"a\x1f" = 1', 3, "control character"),
    ],
)
def test_a_mistake_is_named_with_its_position(text: str, position: int, said: str) -> None:
    with pytest.raises(PredicateSyntaxError) as caught:
        parse(text)
    assert caught.value.position == position
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["(" * 5000, "not " * 400 + "a = 1", "(" * (DEEPEST + 1) + "a=1" + ")" * (DEEPEST + 1)],
)
def test_nesting_ends(text: str) -> None:
    with pytest.raises(PredicateSyntaxError):
        parse(text)


def test_an_expression_is_not_endless() -> None:
    with pytest.raises(PredicateSyntaxError, match="characters"):
        parse("a = 1 or " * LONGEST)


@given(st.text(alphabet="ab=<>!'\"()., 10notandbetwisulr", max_size=40))
def test_any_text_is_a_tree_or_a_syntax_error(text: str) -> None:
    position = 1
    try:
        parse(text)
    except PredicateSyntaxError as error:
        position = error.position
    assert 1 <= position <= len(text) + 1


def test_the_columns_of_an_expression_are_all_of_them() -> None:
    assert columns_of(parse("not (a = 1 or b in (2)) and c is null")) == {"a", "b", "c"}
