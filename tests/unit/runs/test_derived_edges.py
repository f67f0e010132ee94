"""A further reference of a model, and what is derived from its columns."""

from datetime import UTC, datetime

import pyarrow as pa

from service.profiles.columns import Classes, Column, Kind
from service.profiles.derive import derive
from service.runs.reference_edges import choose_edges, derive_reference

CLASSES = Classes("0", "1")
TEXT, TIME = Column("comment", Kind.TEXT), Column("born", Kind.DATETIME)
WORDS = pa.table({"comment": [f"good w{i % 7}" for i in range(400)]})


def test_a_reference_of_the_same_words_keeps_all_edges_and_knows_its_rows_as_strangers() -> None:
    edges = choose_edges(None, WORDS, [TEXT], CLASSES)
    again = choose_edges(edges, WORDS, [TEXT], CLASSES)
    assert again is edges
    first, second = (
        derive_reference(WORDS, [TEXT], edges, known)["comment.oov"] for known in (None, edges)
    )
    assert 100 < first.null_count < 300
    assert second.null_count == 0


def test_a_reference_of_other_words_teaches_them() -> None:
    edges = choose_edges(None, WORDS, [TEXT], CLASSES)
    other = pa.table({"comment": [f"schlecht x{i % 9}" for i in range(400)]})
    fresh = choose_edges(edges, other, [TEXT], CLASSES)
    assert "schlecht" in fresh.sources["comment"].words
    assert derive_reference(other, [TEXT], fresh, edges)["comment.oov"].null_count > 100
    shares = derive(WORDS, [TEXT], fresh.sources)[0]["comment.oov"]
    assert set(shares.to_pylist()) == {1.0}


def test_a_feature_that_is_of_another_kind_in_a_version_has_the_edges_of_that_kind() -> None:
    text = choose_edges(None, WORDS, [TEXT], CLASSES)
    category = Column("comment", Kind.CATEGORICAL)
    edges = choose_edges(text, WORDS, [category], CLASSES)
    assert (set(edges.sources), "comment" in edges.columns) == (set(), True)
    edges = choose_edges(edges, WORDS, [TEXT], CLASSES)
    assert (set(edges.sources), "comment" in edges.columns) == ({"comment"}, False)


def test_a_feature_that_is_new_leaves_the_edges_of_the_others() -> None:
    edges = choose_edges(None, WORDS, [TEXT], CLASSES)
    born = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 400)
    grown = choose_edges(edges, WORDS.append_column("born", born), [TEXT, TIME], CLASSES)
    assert grown.sources["comment"] is edges.sources["comment"]
    assert grown.columns["comment.oov"] is edges.columns["comment.oov"]
    assert grown.columns["born.hour"]
