"""What is due, and since when: work is marked, and marked again.  Times are the database's."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

Kind = Literal["bucket_rows", "bucket_labels", "window", "maturity", "evidently", "report"]

BUCKET_KINDS: tuple[Kind, Kind] = ("bucket_rows", "bucket_labels")

# Steady trickles of labels would put a window off for ever: it waits at most this many times
# the quiet time since it was first marked.
PATIENCE = 30


@dataclass(frozen=True, slots=True)
class Item:
    """What is due: a kind of work on a span of one version."""

    model_id: int
    version_id: int
    start: datetime
    end: datetime


# An item is due at once, or `after_end` after its end and once it has been quiet for `quiet`.
_MARK = text(
    """
    INSERT INTO due_work AS due (kind, model_id, version_id, start, "end", due_at, details)
    SELECT :kind, item.model_id, item.version_id, item.start, item."end",
           CASE WHEN :at_once THEN clock_timestamp()
                ELSE greatest(item."end" + :after_end, clock_timestamp() + :quiet) END,
           CAST(:details AS jsonb)
    FROM unnest(CAST(:models AS bigint[]), CAST(:versions AS bigint[]),
                CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
         AS item (model_id, version_id, start, "end")
    ON CONFLICT (kind, model_id, version_id, start, "end") DO UPDATE SET
        mark = due.mark + 1,
        last_marked_at = clock_timestamp(),
        details = coalesce(due.details, '{}') || coalesce(excluded.details, '{}'),
        due_at = CASE WHEN :at_once THEN clock_timestamp()
                      ELSE greatest(due."end" + :after_end,
                                    least(clock_timestamp() + :quiet,
                                          due.first_marked_at + :patience * :quiet)) END
    """
)


def mark(
    session: Session,
    kind: Kind,
    items: Iterable[Item],
    *,
    after_end: timedelta | None = None,
    quiet: timedelta = timedelta(0),
    details: dict[str, Any] | None = None,
) -> None:
    """Make the items due at once; or, with ``after_end``, that long after their end and when quiet.

    Work that is already due is marked again: whoever holds it will not be able to clear it.
    """
    ordered = sorted(set(items), key=lambda item: (item.version_id, item.start, item.end))
    if not ordered:
        return
    session.execute(
        _MARK,
        {
            "kind": kind,
            "at_once": after_end is None,
            "after_end": after_end or timedelta(0),
            "quiet": quiet,
            "patience": PATIENCE,
            "details": json.dumps(details or {}),
            "models": [item.model_id for item in ordered],
            "versions": [item.version_id for item in ordered],
            "starts": [item.start for item in ordered],
            "ends": [item.end for item in ordered],
        },
    )
