"""What ingest counted of the rows of a bucket, added up and read."""

from collections.abc import Collection
from datetime import datetime
from time import monotonic

from sqlalchemy import and_, case, delete, func, insert, select
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.tables import OTHERS, IngestFault
from service.ingest.verdicts import Code
from service.ledger.marks import Item

MOST_NAMES = 50
# All codes, and the features of a version, are fewer.
MANY = 1_000
LOOK_SECONDS = 60.0
_AT_ONCE = 100
_KEY = (
    IngestFault.model_id,
    IngestFault.version_id,
    IngestFault.bucket,
    IngestFault.field,
    IngestFault.code,
)


def fold_faults(
    session: Session, model_id: int, version_id: int | None, buckets: Collection[datetime]
) -> None:
    """Replace the counts of the buckets by their sums.

    Ingest appends a row for each commit.  What is deleted by another transaction meanwhile is not
    deleted here, so nothing is counted twice.  Names that no schema has are the senders': those of
    the most rows stay, and what others count is counted as theirs together.
    """
    gone = (
        delete(IngestFault)
        .where(
            IngestFault.model_id == model_id,
            IngestFault.version_id.is_not_distinct_from(version_id),
            IngestFault.bucket.in_(buckets),
        )
        .returning(*_KEY, IngestFault.rows)
        .cte("gone")
    )
    key = [gone.c[column.key] for column in _KEY]
    rows = func.sum(gone.c.rows)
    named = and_(gone.c.code == Code.UNKNOWN_FEATURE, gone.c.field.not_in(["", OTHERS]))
    rank = func.row_number().over(
        partition_by=[*(part for part in key if part.key != "field"), named],
        order_by=[rows.desc(), gone.c.field],
    )
    sums = (
        select(*key, rows.label("rows"), and_(named, rank > MOST_NAMES).label("rare"))
        .group_by(*key)
        .cte("sums")
    )
    field = case((sums.c.rare, OTHERS), else_=sums.c.field)
    kept = [field if column.key == "field" else sums.c[column.key] for column in _KEY]
    folded = select(*kept, func.sum(sums.c.rows)).group_by(*kept)
    session.execute(insert(IngestFault).from_select([*_KEY, IngestFault.rows], folded))


class Faults:
    """One worker's part in keeping the counts few.

    A bucket is profiled when rows come, and its counts are added up then.  Where all rows are
    refused, or are labels, none comes.
    """

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._look_at = 0.0

    def fold(self) -> bool:
        """Add up where counts are many; return whether there may be more."""
        if monotonic() < self._look_at:
            return False
        bucket = IngestFault.model_id, IngestFault.version_id, IngestFault.bucket
        many = select(*bucket).group_by(*bucket).having(func.count() > MANY).limit(_AT_ONCE)
        with self._sessions() as session:
            found = session.execute(many).all()
        for model_id, version_id, start in found:
            with self._sessions.begin() as session:
                fold_faults(session, model_id, version_id, [start])
        if len(found) < _AT_ONCE:
            self._look_at = monotonic() + LOOK_SECONDS
        return bool(found)


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
