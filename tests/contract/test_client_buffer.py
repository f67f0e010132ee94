from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelwatch.buffer import Buffer

steps = st.lists(st.one_of(st.just("add"), st.just("acknowledge"), st.integers(1, 5)), max_size=60)


@given(st.integers(1, 8), steps)
def test_every_record_is_sent_once_in_order_or_counted_as_dropped(
    limit: int, actions: list[Any]
) -> None:
    buffer = Buffer(limit)
    added, kept, sent = 0, [], []
    for action in actions:
        if action == "add":
            if buffer.add({"row": added}):
                kept.append(added)
            added += 1
        elif action == "acknowledge":
            sent += [record["row"] for record in buffer.due(1)]
            buffer.acknowledge()
        else:
            assert list(buffer.due(action)) == list(buffer.due(action + 1))
        assert len(buffer) <= limit
    while due := buffer.due(3):
        sent += [record["row"] for record in due]
        buffer.acknowledge()
    assert sent == kept
    assert len(kept) + buffer.dropped == added
    assert len(buffer) == 0


def test_a_full_buffer_drops_the_newest() -> None:
    buffer = Buffer(2)
    results = [buffer.add({"row": row}) for row in range(3)]
    assert results == [True, True, False]
    assert [record["row"] for record in buffer.due(9)] == [0, 1]
    assert buffer.dropped == 1
