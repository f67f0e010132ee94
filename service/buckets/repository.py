"""Bucket profiles in and out of the database."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session, aliased

from service.buckets.tables import BucketProfile
from service.ledger.marks import Item

Family = Literal["features", "performance"]


def store_profiles(
    session: Session,
    family: Family,
    items: Sequence[Item],
    contents: Mapping[tuple[int, datetime], tuple[int, bytes]],
) -> None:
    """Replace the profiles of the items' buckets; a bucket without content has no rows any more.

    ``contents`` maps (binning, bucket start) to rows and serialised profile.
    """
    _replace(session, BucketProfile.family == family, family, items, contents)


def store_slices(
    session: Session,
    family: str,
    items: Sequence[Item],
    contents: Mapping[tuple[int, datetime], tuple[int, bytes]],
) -> None:
    """Replace the slices of the items' buckets, whatever slices were declared before.

    ``family`` tells which are declared now: those of another document are not mistaken for them.
    """
    _replace(session, BucketProfile.family.startswith("slices:"), family, items, contents)


def load_slices(
    session: Session, version_id: int, binning_id: int, family: str, start: datetime, end: datetime
) -> list[bytes]:
    """Return the slices of the buckets in [start, end), in order of time."""
    found = session.scalars(
        select(BucketProfile.content)
        .where(
            BucketProfile.version_id == version_id,
            BucketProfile.binning_id == binning_id,
            BucketProfile.family == family,
            BucketProfile.start >= start,
            BucketProfile.start < end,
        )
        .order_by(BucketProfile.start)
    )
    return list(found)


def starts_unsliced(
    session: Session, version_id: int, binning_id: int, family: str, start: datetime, end: datetime
) -> list[datetime]:
    """Return the buckets in [start, end) that were profiled without these slices."""
    sliced = aliased(BucketProfile)
    return list(
        session.scalars(
            select(BucketProfile.start)
            .where(
                BucketProfile.version_id == version_id,
                BucketProfile.binning_id == binning_id,
                BucketProfile.family == "features",
                BucketProfile.start >= start,
                BucketProfile.start < end,
                ~exists().where(
                    sliced.version_id == version_id,
                    sliced.binning_id == binning_id,
                    sliced.family == family,
                    sliced.start == BucketProfile.start,
                ),
            )
            .order_by(BucketProfile.start)
        )
    )


def _replace(
    session: Session,
    stale: ColumnElement[bool],
    family: str,
    items: Sequence[Item],
    contents: Mapping[tuple[int, datetime], tuple[int, bytes]],
) -> None:
    version_id = items[0].version_id
    session.execute(
        delete(BucketProfile).where(
            BucketProfile.version_id == version_id,
            stale,
            BucketProfile.start.in_([item.start for item in items]),
        )
    )
    if contents:
        session.execute(
            pg_insert(BucketProfile),
            [
                {
                    "version_id": version_id,
                    "binning_id": binning_id,
                    "family": family,
                    "start": start,
                    "rows": rows,
                    "content": content,
                }
                for (binning_id, start), (rows, content) in sorted(contents.items())
            ],
        )


def load_profiles(
    session: Session, version_id: int, binning_id: int, start: datetime, end: datetime
) -> dict[Family, list[bytes]]:
    """Return the profiles of the buckets in [start, end), by family, in order of time."""
    found = session.execute(
        select(BucketProfile.family, BucketProfile.content)
        .where(
            BucketProfile.version_id == version_id,
            BucketProfile.binning_id == binning_id,
            BucketProfile.family.in_(("features", "performance")),
            BucketProfile.start >= start,
            BucketProfile.start < end,
        )
        .order_by(BucketProfile.start)
    )
    profiles: dict[Family, list[bytes]] = {"features": [], "performance": []}
    for family, content in found:
        profiles["features" if family == "features" else "performance"].append(content)
    return profiles


def bucket_starts(
    session: Session, version_id: int, start: datetime | None, end: datetime | None
) -> list[datetime]:
    """Return the starts of the version's buckets that have rows, in [start, end)."""
    query = select(BucketProfile.start).where(
        BucketProfile.version_id == version_id, BucketProfile.family == "features"
    )
    if start is not None:
        query = query.where(BucketProfile.start >= start)
    if end is not None:
        query = query.where(BucketProfile.start < end)
    return list(session.scalars(query.distinct().order_by(BucketProfile.start)))


def rows_by_bucket(
    session: Session, version_id: int, start: datetime, end: datetime
) -> list[tuple[datetime, int]]:
    """Return the rows of the version's buckets in [start, end), in order of time."""
    found = session.execute(
        select(BucketProfile.start, func.max(BucketProfile.rows))
        .where(
            BucketProfile.version_id == version_id,
            BucketProfile.family == "features",
            BucketProfile.start >= start,
            BucketProfile.start < end,
        )
        .group_by(BucketProfile.start)
        .order_by(BucketProfile.start)
    )
    return [(at, rows) for at, rows in found]


def starts_lacking(
    session: Session, version_id: int, binning_id: int, start: datetime, end: datetime
) -> list[datetime]:
    """Return the buckets in [start, end) that were profiled, but never under this binning."""
    return list(
        session.scalars(
            select(BucketProfile.start)
            .where(
                BucketProfile.version_id == version_id,
                BucketProfile.family == "features",
                BucketProfile.start >= start,
                BucketProfile.start < end,
            )
            .group_by(BucketProfile.start)
            .having(func.bool_and(BucketProfile.binning_id != binning_id))
            .order_by(BucketProfile.start)
        )
    )


def binnings_in_use(session: Session, version_id: int, start: datetime, end: datetime) -> set[int]:
    """Return the binnings under which buckets in [start, end) have been profiled so far.

    Of either family: the first labels of a bucket are read beside the features that it has.
    """
    return set(
        session.scalars(
            select(BucketProfile.binning_id)
            .where(
                BucketProfile.version_id == version_id,
                BucketProfile.start >= start,
                BucketProfile.start < end,
            )
            .distinct()
        )
    )


def count_labelled(session: Session, version_id: int) -> int:
    """Return how many labelled rows of a version have been profiled."""
    of_bucket = (
        select(func.max(BucketProfile.rows).label("rows"))
        .where(BucketProfile.version_id == version_id, BucketProfile.family == "performance")
        .group_by(BucketProfile.start)
        .subquery()
    )
    return session.scalar(select(func.coalesce(func.sum(of_bucket.c.rows), 0))) or 0
