"""What ingest counted of the rows of a bucket, added up and read."""

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from service.ingest.tables import IngestFault
from service.ledger.marks import Item

_KEY = (
    IngestFault.model_id,
    IngestFault.version_id,
    IngestFault.bucket,
    IngestFault.field,
    IngestFault.code,
)


def fold_faults(session: Session, items: Sequence[Item]) -> None:
    """Replace the counts of the items' buckets by their sums.

    Ingest appends a row for each commit.  What is deleted by another transaction meanwhile is not
    deleted here, so nothing is counted twice.
    """
    first = items[0]
    gone = (
        delete(IngestFault)
        .where(
            IngestFault.model_id == first.model_id,
            IngestFault.version_id == first.version_id,
            IngestFault.bucket.in_([item.start for item in items]),
        )
        .returning(*_KEY, IngestFault.rows)
        .cte("gone")
    )
    key = [gone.c[column.key] for column in _KEY]
    sums = select(*key, func.sum(gone.c.rows)).group_by(*key)
    session.execute(insert(IngestFault).from_select([*_KEY, IngestFault.rows], sums))


def load_faults(session: Session, item: Item) -> list[tuple[str, str, int]]:
    """Return field, code and rows of what was wrong with rows of a span, in order."""
    found = session.execute(
        select(IngestFault.field, IngestFault.code, func.sum(IngestFault.rows))
        .where(
            IngestFault.model_id == item.model_id,
            IngestFault.version_id == item.version_id,
            IngestFault.bucket >= item.start,
            IngestFault.bucket < item.end,
        )
        .group_by(IngestFault.field, IngestFault.code)
        .order_by(IngestFault.field, IngestFault.code)
    )
    return [(field, code, int(rows)) for field, code, rows in found]
