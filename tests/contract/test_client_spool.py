import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from modelwatch import spool as module
from modelwatch.spool import Spool, SpoolError
from modelwatch.spoolfile import APPLICATION, LAYOUT, Destination
from tests.conftest import sized

RUNS = sized(default=60, full=2_000)
ROOM = 1 << 30
MAX_AGE = 100.0
LOANS = Destination("http://here", "/v1/predictions", "loans", b'{"model": "loans", "version": "7"')
LABELS = LOANS._replace(path="/v1/labels", head=b'{"model": "loans"')
CARDS = LOANS._replace(model="cards", head=b'{"model": "cards", "version": "1"')
DESTINATIONS = st.sampled_from([LOANS, LABELS, CARDS])


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "a.spool"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    spool = Spool(path)
    yield spool
    spool.close()


def bodies(spool: Spool, to: Destination = LOANS, after: int = 0) -> list[bytes]:
    found = [one.body for one in spool.take(to, 1_000_000, ROOM, after)]
    spool.release(to)
    return found


class AgainstAList(RuleBasedStateMachine):
    """What a spool does, beside a list that does the same."""

    room: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.room))
        self.lives = count()
        self.names = count()
        self.now = 1_000.0
        self.rows: list[tuple[Destination, float, bytes]] = []
        self.refused = dict.fromkeys((LOANS, LABELS, CARDS), 0)
        self.expired = dict.fromkeys((LOANS, LABELS, CARDS), 0)
        self.path = self.folder / "0"
        self.begin()

    def begin(self) -> None:
        self.taken: dict[Destination, list[Any]] = {}
        self.spool = Spool(self.path, max_age=MAX_AGE, now=lambda: self.now)

    def of(self, to: Destination) -> list[bytes]:
        return [body for place, _, body in self.rows if place == to]

    @rule(to=st.lists(DESTINATIONS, min_size=1, max_size=5), size=st.sampled_from([1, 600, 9_000]))
    def add(self, to: list[Destination], size: int) -> None:
        group = [(one, b"%d" % next(self.names) + b"." * size) for one in to]
        self.spool.store(group)
        self.rows += [(one, self.now, body) for one, body in group]

    @rule(to=DESTINATIONS, rows=st.integers(1, 4), room=st.sampled_from([1, 1_000, ROOM]))
    def take(self, to: Destination, rows: int, room: int) -> None:
        found = self.spool.take(to, rows, room)
        if to in self.taken:
            assert found == []
            return
        expected = self.of(to)[:rows]
        while len(expected) > 1 and sum(map(len, expected)) > room:
            expected.pop()
        assert [one.body for one in found] == expected
        if found:
            self.taken[to] = found

    @rule(to=DESTINATIONS, refused=st.booleans())
    def acknowledge(self, to: Destination, refused: bool) -> None:
        if to in self.taken:
            found = self.taken.pop(to)
            gone = {one.body for one in found}
            before = len(self.rows)
            self.rows = [row for row in self.rows if row[2] not in gone]
            removed = self.spool.remove(to, found[0].id, found[-1].id, int(refused))
            assert removed == before - len(self.rows)
            self.refused[to] += int(refused)
            self.spool.release(to)

    @rule(to=DESTINATIONS)
    def give_back(self, to: Destination) -> None:
        self.taken.pop(to, None)
        self.spool.release(to)

    @rule(seconds=st.sampled_from([1.0, 60.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        old = [row for row in self.rows if row[1] < self.now - MAX_AGE]
        assert self.spool.expire() == len(old)
        for to, _, _ in old:
            self.expired[to] += 1
        self.rows = [row for row in self.rows if row not in old]

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.begin()

    @rule()
    def crash(self) -> None:
        """Go on with what is on the disk while the file is still open."""
        old, self.path = self.path, self.folder / str(1 + next(self.lives))
        for suffix in ("", "-wal"):
            if Path(f"{old}{suffix}").exists():
                shutil.copy(f"{old}{suffix}", f"{self.path}{suffix}")
        self.spool.close()
        self.begin()

    @invariant()
    def the_same_is_in_both(self) -> None:
        counts = {one.destination: one for one in self.spool.counts()}
        for to in (LOANS, LABELS, CARDS):
            held = self.of(to)
            if to not in counts:
                assert held == []
                continue
            found = counts[to]
            assert (found.rows, found.bytes) == (len(held), sum(map(len, held)))
            assert self.spool.rows([to]) == len(held)
            assert (found.refused, found.expired) == (self.refused[to], self.expired[to])

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)


def test_a_spool_does_what_a_list_does_through_crashes_and_time(folder: Path) -> None:
    AgainstAList.room = folder
    run_state_machine_as_test(
        AgainstAList, settings=settings(max_examples=RUNS, stateful_step_count=30, deadline=None)
    )


def test_a_number_is_never_used_again(spool: Spool) -> None:
    first = spool.store([(LOANS, b"1")])
    spool.remove(LOANS, first, first)
    assert spool.store([(LOANS, b"2")]) > first
    spool.remove(LOANS, first, first)
    assert bodies(spool) == [b"2"]


def test_the_file_is_durable_and_its_owners_alone(spool: Spool, path: Path) -> None:
    before = os.umask(0)
    try:
        spool.store([(LOANS, b"1")])
    finally:
        os.umask(before)
    files = sorted(path.parent.iterdir())
    assert [one.name for one in files] == ["a.spool", "a.spool-lock", "a.spool-shm", "a.spool-wal"]
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    assert spool._file is not None
    assert spool._file._value("PRAGMA journal_mode") == "wal"
    assert spool._file._value("PRAGMA synchronous") == 2


def test_a_missing_directory_is_made(folder: Path) -> None:
    spool = Spool(folder / "a" / "b" / "c")
    spool.store([(LOANS, b"1")])
    assert bodies(spool) == [b"1"]
    spool.close()


def test_a_full_spool_keeps_what_it_has_and_goes_on_when_there_is_room(path: Path) -> None:
    spool = Spool(path, max_bytes=1 << 20)
    kept = 0
    with suppress(SpoolError):
        while kept < 10_000:
            spool.store([(LOANS, b"%d" % kept + b"." * 1_000)])
            kept += 1
    assert 700 < kept < 1_100
    assert path.stat().st_size <= 1 << 20
    with pytest.raises(SpoolError, match="full"):
        spool.store([(LOANS, b"." * 5_000)])
    found = spool.take(LOANS, 100, ROOM)
    assert spool.remove(LOANS, found[0].id, found[-1].id) == 100
    spool.release(LOANS)
    spool.store([(LOANS, b"." * 5_000)])
    assert len(bodies(spool)) == kept - 100 + 1
    spool.close()


def test_an_empty_spool_gives_the_disk_back(path: Path) -> None:
    spool = Spool(path)
    last = spool.store([(LOANS, b"." * 10_000)] * 2_500)
    spool.remove(LOANS, 1, last)
    spool.expire()
    spool.close()
    assert path.stat().st_size < 1 << 20
    assert spool.store([(LOANS, b"1")]) == last + 1
    spool.close()


def test_a_group_is_stored_whole_or_not_at_all(path: Path) -> None:
    spool = Spool(path, max_bytes=1 << 20)
    spool.store([(LOANS, b"1")])
    with pytest.raises(SpoolError, match="full"):
        spool.store([(CARDS, b"." * 10_000)] * 200)
    assert [one.destination for one in spool.counts()] == [LOANS]
    spool.store([(CARDS, b"2")])
    assert (bodies(spool), bodies(spool, CARDS)) == ([b"1"], [b"2"])
    spool.close()


@pytest.mark.parametrize("content", [b"id,income\n1,2\n" * 500, b"\0" * 8_192])
def test_a_file_that_is_no_spool_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(SpoolError, match="not a database; it is left as it is"):
        Spool(path).store([(LOANS, b"1")])
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_refused_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE record (name TEXT)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(SpoolError, match="of something else"):
        Spool(path).store([(LOANS, b"1")])
    assert path.read_bytes() == content


def test_a_directory_is_no_spool_and_gets_no_lock(folder: Path) -> None:
    (folder / "a").mkdir()
    with pytest.raises(SpoolError, match="Is a directory"):
        Spool(folder / "a").store([(LOANS, b"1")])
    assert [one.name for one in folder.iterdir()] == ["a"]


def test_a_file_that_was_open_in_a_fork_is_not_used_by_the_child(spool: Spool) -> None:
    spool.store([(LOANS, b"1")])
    # As in a child of a fork that ran no hook before it.
    spool.after_fork_in_child()
    with pytest.raises(SpoolError, match="in use when this process was forked"):
        spool.store([(LOANS, b"2")])


def test_a_file_that_was_closed_in_a_fork_is_opened_by_the_child(spool: Spool) -> None:
    spool.store([(LOANS, b"1")])
    spool.close()
    spool.after_fork_in_child()
    spool.store([(LOANS, b"2")])
    assert bodies(spool) == [b"1", b"2"]


def test_the_spool_of_a_newer_release_is_refused(spool: Spool, path: Path) -> None:
    spool.store([(LOANS, b"1")])
    spool.close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    newer.close()
    with pytest.raises(SpoolError, match="newer release"):
        Spool(path).store([(LOANS, b"1")])


def test_a_broken_spool_is_kept_aside_and_a_new_one_is_begun(spool: Spool, path: Path) -> None:
    spool.store([(LOANS, b"." * 3_000)] * 50)
    spool.close()
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(os.urandom(20 * 4_096))
    with pytest.raises(SpoolError, match=r"kept as .*a\.spool\.broken"):
        spool.store([(LOANS, b"2")])
    spool.store([(LOANS, b"3")])
    assert bodies(spool) == [b"3"]
    assert (path.parent / "a.spool.broken").stat().st_size > 4_096


def test_what_is_removed_or_replaced_meanwhile_is_not_written_to(spool: Spool, path: Path) -> None:
    spool.store([(LOANS, b"1")])
    for one in path.parent.iterdir():
        one.unlink()
    spool.store([(LOANS, b"2")])
    assert bodies(spool) == [b"2"]
    assert path.exists()


def test_a_directory_that_is_gone_is_not_made_again(folder: Path) -> None:
    spool = Spool(folder / "disk" / "a.spool")
    spool.store([(LOANS, b"1")])
    shutil.rmtree(folder / "disk")
    with pytest.raises(SpoolError, match="No such file or directory"):
        spool.store([(LOANS, b"2")])
    assert list(folder.iterdir()) == []


def test_where_no_file_can_be_the_reason_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    spool = Spool(folder / "file" / "a.spool")
    for _ in range(2):
        with pytest.raises(SpoolError, match=r"a\.spool cannot be used: Not a directory"):
            spool.store([(LOANS, b"1")])
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0)
    (folder / "file").unlink()
    spool._again = 0
    spool.store([(LOANS, b"1")])
    spool.close()


def test_what_was_written_last_may_be_cut_off_but_never_what_was_before(path: Path) -> None:
    spool = Spool(path)
    for group in range(30):
        spool.store([(LOANS, b"%d" % group)] * 3)
    wal = Path(f"{path}-wal").read_bytes()
    main = path.read_bytes()
    cut = path.parent / "cut"
    found = []
    for size in range(0, len(wal) + 1, 997):
        cut.write_bytes(main)
        Path(f"{cut}-wal").write_bytes(wal[:size])
        other = Spool(cut)
        other.store([(CARDS, b"new")])
        rows = bodies(other)
        assert rows == [b"%d" % group for group in range(len(rows) // 3) for _ in range(3)]
        found.append(len(rows))
        other.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{cut}{suffix}").unlink(missing_ok=True)
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 90 - 3)
    spool.close()


def test_nothing_that_opens_a_door_is_on_the_disk() -> None:
    assert Destination._fields == ("url", "path", "model", "head")
    assert APPLICATION.to_bytes(4, "big") == b"mwSP"
