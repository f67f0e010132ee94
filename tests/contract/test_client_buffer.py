from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelwatch.buffer import LABELS, POLICIES, PREDICTIONS, Buffer
from modelwatch.errors import NotStoredError
from modelwatch.receipt import Receipt

ROOM = 1 << 30
adding = st.tuples(st.sampled_from([PREDICTIONS, LABELS]), st.integers(1, 5))
steps = st.lists(st.one_of(adding, st.just("acknowledge"), st.integers(1, 5)), max_size=60)


def sizes(buffer: Buffer) -> int:
    waiting = [entry for lane in buffer._lanes for entry in lane]
    return sum(size for _, size, _ in (*waiting, *buffer._taken))


@given(st.integers(1, 8), st.integers(1, 20), st.sampled_from(POLICIES), steps)
def test_every_record_is_sent_once_in_order_or_counted_as_dropped(
    rows: int, room: int, policy: str, actions: list[Any]
) -> None:
    buffer = Buffer(rows, room, policy=policy)
    added: dict[int, list[int]] = {PREDICTIONS: [], LABELS: []}
    sent: dict[int, list[int]] = {PREDICTIONS: [], LABELS: []}
    number = 0

    def acknowledge() -> bool:
        lane, entries = buffer.due(3, ROOM)
        taken = [record["row"] for record, _, _ in entries]
        sent[lane] += taken
        buffer.acknowledge()
        return bool(taken)

    for action in actions:
        if action == "acknowledge":
            acknowledge()
        elif isinstance(action, tuple):
            number += 1
            lane, size = action
            if buffer.add(lane, {"row": number}, size):
                added[lane].append(number)
        else:
            assert buffer.due(action, ROOM) == buffer.due(action + 1, ROOM)
        assert len(buffer) <= rows
        assert buffer.bytes == sizes(buffer) <= room
    while acknowledge():
        pass
    for lane, numbers in sent.items():
        # Once and in order; with this policy, less those that made room for others.
        assert numbers == [one for one in added[lane] if one in numbers]
        assert policy == "oldest" or numbers == added[lane]
    assert sum(map(len, sent.values())) + buffer.dropped == number == buffer.offered
    assert (len(buffer), buffer.bytes) == (0, 0)


@pytest.mark.parametrize(("policy", "left"), [("newest", [0, 1]), ("oldest", [1, 2])])
def test_a_full_buffer_drops_the_newest_or_the_oldest(policy: str, left: list[int]) -> None:
    buffer = Buffer(2, ROOM, policy=policy)
    for row in range(3):
        buffer.add(PREDICTIONS, {"row": row}, 1)
    assert [record["row"] for record, _, _ in buffer.due(9, ROOM)[1]] == left
    assert buffer.dropped == 1


def test_what_is_being_sent_makes_no_room_for_others() -> None:
    buffer = Buffer(2, ROOM, policy="oldest")
    buffer.add(PREDICTIONS, {"row": 0}, 1)
    buffer.due(1, ROOM)
    assert buffer.add(PREDICTIONS, {"row": 1}, 1)
    assert buffer.add(PREDICTIONS, {"row": 2}, 1)
    assert [record["row"] for record, _, _ in buffer.due(9, ROOM)[1]] == [0]


def test_a_record_larger_than_all_the_room_costs_no_other() -> None:
    buffer = Buffer(10, 100, policy="oldest")
    buffer.add(PREDICTIONS, {}, 60)
    assert not buffer.add(PREDICTIONS, {}, 101)
    assert len(buffer) == 1


def test_a_batch_is_bounded_by_bytes_and_has_one_record_at_least() -> None:
    buffer = Buffer(10, 1_000)
    for size in (50, 60, 200, 10):
        buffer.add(PREDICTIONS, {"size": size}, size)
    taken = []
    while entries := buffer.due(9, 100)[1]:
        taken.append([size for _, size, _ in entries])
        buffer.acknowledge()
    assert taken == [[50], [60], [200], [10]]


def test_labels_do_not_wait_for_predictions_without_end() -> None:
    buffer = Buffer(100, ROOM)
    for row in range(20):
        buffer.add(PREDICTIONS, {"row": row}, 1)
    buffer.add(LABELS, {"row": 0}, 1)
    lanes = []
    while entries := buffer.due(5, ROOM)[1]:
        lanes.append(buffer.due(5, ROOM)[0])
        assert entries
        buffer.acknowledge()
    assert lanes == [PREDICTIONS, LABELS, PREDICTIONS, PREDICTIONS, PREDICTIONS]


def test_who_waits_for_a_record_that_is_dropped_is_told() -> None:
    buffer = Buffer(1, ROOM, policy="oldest")
    receipt = Receipt()
    buffer.add(PREDICTIONS, {}, 1, receipt)
    buffer.add(PREDICTIONS, {}, 1)
    with pytest.raises(NotStoredError, match="the buffer is full"):
        receipt.wait(0)


def test_what_interrupts_the_buffer_may_use_it() -> None:
    buffer = Buffer(10, ROOM)
    with buffer._lock:
        # As a signal handler does, or a finaliser, in the thread that is adding.
        assert buffer.add(PREDICTIONS, {}, 1)
    assert len(buffer) == 1
