import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ingest.tables import NUMERIC_SLOTS, TEXT_SLOTS, VECTOR_SLOTS
from service.profiles.columns import Kind, parts_of
from service.registry.slots import LIMITS, TooManyFeaturesError, allocate
from service.registry.values import ATTRIBUTION, part_names
from service.registry.views import column_names

SLOTS = {
    **dict.fromkeys(("numeric", "boolean", "datetime", ATTRIBUTION), NUMERIC_SLOTS),
    **dict.fromkeys(("categorical", "text"), TEXT_SLOTS),
}
KINDS = st.sampled_from(sorted(SLOTS))
SCHEMAS = st.lists(st.dictionaries(st.sampled_from("abcdefgh"), KINDS, max_size=8), max_size=5)


@given(SCHEMAS)
def test_a_feature_keeps_its_slot_over_versions_and_no_two_share_one(
    schemas: list[dict[str, str]],
) -> None:
    taken: dict[tuple[str, str], str] = {}
    for schema in schemas:
        held = [(name, kind, slot) for (name, kind), slot in taken.items()]
        slots = allocate(held, schema.items())
        for name, kind in schema.items():
            assert taken.setdefault((name, kind), slots[name]) == slots[name]
    assert len(set(taken.values())) == len(taken)
    for (_, kind), slot in taken.items():
        assert slot in SLOTS[kind]


def test_a_new_feature_takes_the_next_slot_of_its_kind() -> None:
    wanted = [("a", "numeric"), ("b", "categorical"), ("c", "boolean")]
    assert allocate([], wanted) == {"a": "n1", "b": "c1", "c": "n2"}
    assert allocate([("a", "numeric", "n1")], [("d", "numeric")]) == {"d": "n2"}


def test_a_feature_that_changes_its_kind_takes_another_slot() -> None:
    assert allocate([("a", "numeric", "n1")], [("a", "boolean")]) == {"a": "n2"}


def test_more_features_than_slots_is_a_clear_error() -> None:
    slots = {"n": NUMERIC_SLOTS, "c": TEXT_SLOTS, "v": VECTOR_SLOTS}
    assert {prefix: len(names) for prefix, names in slots.items()} == LIMITS
    allocate([], [(f"f{i}", "categorical") for i in range(64)])
    with pytest.raises(TooManyFeaturesError, match="at most 64 categorical"):
        allocate([], [(f"f{i}", "categorical") for i in range(65)])
    with pytest.raises(TooManyFeaturesError, match="at most 4 embedding"):
        allocate([], [(f"f{i}", "embedding") for i in range(5)])


def test_the_names_of_derived_columns_are_those_that_profiles_have() -> None:
    for kind in Kind:
        assert part_names("x", kind) == tuple(part.name for part in parts_of("x", kind))


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=20))
def test_columns_of_a_view_are_distinct_and_never_cut(names: list[str]) -> None:
    chosen = list(column_names([*names, "ts", "label", "ts~2"]))
    assert len(set(chosen)) == len(chosen)
    assert all(len(name.encode()) <= 63 for name in chosen)
    assert not {"ts", "label"} & set(chosen)
