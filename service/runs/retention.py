"""Rows that are older than a model keeps them go month by month; what was measured stays.

The end of a month that goes is written down first: from then on its buckets are not profiled
again, so that no profile is made of a part of its rows.  Then its partition is detached, which
waits for nobody but its readers, the identities and labels of its rows are deleted a batch at a
time, and it is dropped.  Each step can be done again, by any worker, wherever one was killed.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import psycopg
from psycopg import sql
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from service.db.trouble import cause_of
from service.db.turns import Turn, table_turn
from service.ingest.partitions import month_bounds, partition_name
from service.registry.repository import find_retention
from service.registry.tables import Model

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
# Rows that were accepted just before they grew too old are committed by then.
MARGIN = timedelta(hours=1)
# Of a partition; some twenty rows are on one.
BATCH_PAGES = 256
_LEAF = re.compile(r"prediction_m([0-9]+)_([0-9]{4})_([0-9]{2})")
_OPTIONS = "-c timezone=UTC -c lock_timeout=5000"

_LEAVES = """
    SELECT c.relname, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relkind = 'r' AND c.relname LIKE 'prediction\\_m%'
    ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A month of one model's rows: whether its partition is attached still, or half detached."""

    name: str
    model_id: int
    start: datetime
    end: datetime
    attached: bool
    pending: bool


class Retention:
    """One worker's part in it: a look now and then, and a batch at a time while there is work."""

    def __init__(self, sessions: sessionmaker[Session], url: str) -> None:
        self._sessions = sessions
        self._url = url
        self._look_at = 0.0
        self._work: Iterator[None] | None = None

    def drop(self) -> bool:
        """Do one step; return whether there was one."""
        if self._work is None:
            if monotonic() < self._look_at:
                return False
            self._look_at = monotonic() + LOOK_SECONDS
            self._work = self._steps()
        try:
            next(self._work)
        except StopIteration:
            self._work = None
            return False
        except psycopg.Error as error:
            # What is left is found again at the next look.
            log.warning("retention: %s", cause_of(error))
            self._work = None
            return False
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._work = None

    def _steps(self) -> Iterator[None]:
        with self._sessions() as session:
            cuts = _cuts(session)
        if not cuts:
            return
        with (
            psycopg.connect(self._url, options=_OPTIONS) as guard,
            psycopg.connect(self._url, options=_OPTIONS, autocommit=True) as connection,
        ):
            if not _alone(guard):
                return
            for leaf in _leaves(connection):
                if leaf.model_id in cuts and leaf.end <= cuts[leaf.model_id]:
                    yield from self._drop(connection, leaf)

    def _drop(self, connection: psycopg.Connection, leaf: Leaf) -> Iterator[None]:
        connection.execute(
            "UPDATE model SET rows_since = %s WHERE id = %s "
            "AND (rows_since IS NULL OR rows_since < %s)",
            (leaf.end, leaf.model_id, leaf.end),
        )
        _detach(connection, leaf)
        yield
        yield from _forget(connection, leaf)
        with connection.transaction():
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(leaf.name)))
            # It shows rows, and cannot be made again.
            connection.execute(
                'DELETE FROM report USING "window" w WHERE w.id = window_id '
                'AND w.model_id = %s AND w."end" <= %s',
                (leaf.model_id, leaf.end),
            )
            # Rows of that time are refused for their age.
            connection.execute(
                "DELETE FROM erased_prediction WHERE model_id = %s AND ts < %s",
                (leaf.model_id, leaf.end),
            )
        log.info("rows of model %s before %s were dropped", leaf.model_id, leaf.end)
        yield


def _alone(guard: psycopg.Connection) -> bool:
    """Say whether this worker alone drops rows, as long as the guard's transaction lasts."""
    try:
        guard.execute(f"{table_turn(Turn.__tablename__)} NOWAIT".encode())
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def _cuts(session: Session) -> dict[int, datetime]:
    """Return for each model that does not keep its rows for ever until when they may go."""
    now = session.scalars(select(func.now())).one()
    found = {}
    for model_id in session.scalars(select(Model.id)):
        kept = find_retention(session, model_id)
        if kept is not None:
            found[model_id] = now - kept - MARGIN
    return found


def _leaves(connection: psycopg.Connection) -> list[Leaf]:
    found = []
    for name, attached, pending in connection.execute(_LEAVES).fetchall():
        match = _LEAF.fullmatch(name)
        if match is not None:
            model_id = int(match[1])
            start, end = month_bounds(int(match[2]), int(match[3]))
            found.append(Leaf(name, model_id, start, end, attached, pending))
    return found


def _detach(connection: psycopg.Connection, leaf: Leaf) -> None:
    if not leaf.attached:
        return
    how = "FINALIZE" if leaf.pending else "CONCURRENTLY"
    connection.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {} " + how).format(
            sql.Identifier(partition_name(leaf.model_id)), sql.Identifier(leaf.name)
        )
    )


def _forget(connection: psycopg.Connection, leaf: Leaf) -> Iterator[None]:
    """Delete the identities and the labels of a detached partition's rows."""
    row = connection.execute(
        "SELECT pg_relation_size(to_regclass(%s)) / current_setting('block_size')::bigint",
        (leaf.name,),
    ).fetchone()
    pages = int(row[0]) if row else 0
    rows = sql.SQL(
        "SELECT DISTINCT prediction_id FROM {} WHERE ctid >= %s::tid AND ctid < %s::tid"
    ).format(sql.Identifier(leaf.name))
    for first in range(0, pages, BATCH_PAGES):
        with connection.transaction():
            span = (f"({first},0)", f"({first + BATCH_PAGES},0)")
            ids = [found for (found,) in connection.execute(rows, span)]
            # A later month may have an id again, of another version.
            connection.execute(
                "DELETE FROM prediction_identity WHERE model_id = %s "
                "AND prediction_id = ANY(%s) AND ts >= %s AND ts < %s",
                (leaf.model_id, ids, leaf.start, leaf.end),
            )
            connection.execute(
                "DELETE FROM label l WHERE l.model_id = %s AND l.prediction_id = ANY(%s) "
                "AND NOT EXISTS (SELECT FROM prediction_identity i "
                "WHERE i.model_id = l.model_id AND i.prediction_id = l.prediction_id)",
                (leaf.model_id, ids),
            )
        yield
