"""Counts of what was wrong stay few, whatever names are sent, and stay exact."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.faults import MANY, MOST_NAMES, Faults, fold_faults
from service.ingest.tables import OTHERS, IngestFault

Sessions = sessionmaker[Session]
HOUR = datetime(2026, 11, 1, 10, tzinfo=UTC)
UNKNOWN, WRONG = "unknown-feature", "wrong-type"


def count(sessions: Sessions, faults: list[tuple[str, str, int]], version: int | None = 7) -> None:
    place = {"model_id": 1, "version_id": version, "bucket": HOUR}
    with sessions.begin() as session:
        session.execute(
            insert(IngestFault),
            [{**place, "field": field, "code": code, "rows": n} for field, code, n in faults],
        )


def counted(sessions: Sessions) -> dict[tuple[str, str], int]:
    with sessions() as session:
        found = session.execute(select(IngestFault.field, IngestFault.code, IngestFault.rows)).all()
    assert len(found) == len({(field, code) for field, code, _ in found})
    return {(field, code): rows for field, code, rows in found}


def test_names_of_the_fewest_rows_are_counted_together(sessions: Sessions) -> None:
    names = [(f"made up {i:03}", UNKNOWN, 1 + i) for i in range(MOST_NAMES + 30)]
    own = [(f"own {i:03}", WRONG, 1) for i in range(MOST_NAMES + 30)]
    rest = [("", UNKNOWN, 10_000), ("", WRONG, 5), (OTHERS, UNKNOWN, 100_000)]
    for _ in range(3):
        count(sessions, [*names, *own, *rest])
        with sessions.begin() as session:
            fold_faults(session, 1, 7, [HOUR])
    found = counted(sessions)
    assert (found["", UNKNOWN], found["", WRONG]) == (30_000, 15)
    assert {field for field, code in found if code == WRONG} == {"", *(name for name, *_ in own)}
    kept = {field: rows for (field, code), rows in found.items() if code == UNKNOWN and field}
    assert len(kept) == MOST_NAMES + 1
    assert sum(kept.values()) == 3 * (100_000 + sum(rows for *_, rows in names))
    assert kept[names[-1][0]] == 3 * names[-1][2]


@pytest.mark.parametrize("version", [7, None], ids=["predictions", "labels"])
def test_what_is_never_profiled_is_added_up_too(sessions: Sessions, version: int | None) -> None:
    faults = Faults(sessions)
    assert not faults.fold()
    sent = [(f"made up {i}", UNKNOWN, 1) for i in range(MANY)]
    count(sessions, [*sent, ("", UNKNOWN, MANY)], version)
    # It has looked a moment ago.
    assert not faults.fold()
    assert Faults(sessions).fold()
    codes = Counter[bool]()
    for (field, _), rows in counted(sessions).items():
        codes[bool(field)] += rows
    assert codes == {True: MANY, False: MANY}
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(IngestFault)) == MOST_NAMES + 2
    assert not Faults(sessions).fold()
