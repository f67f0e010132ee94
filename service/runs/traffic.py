"""What a window is told of its traffic beside the rows that were stored."""

from sqlalchemy.orm import Session

from service.buckets.faults import load_faults
from service.evaluation.traffic import Traffic
from service.ledger.repository import Item

WRONG_TYPE = "wrong-type"


def load_traffic(session: Session, item: Item) -> Traffic:
    """Read what ingest counted of the span."""
    type_errors, rejected, unknown = {}, {}, {}
    for field, code, rows in load_faults(session, item):
        if not field:
            rejected[code] = rows
        elif code == WRONG_TYPE:
            type_errors[field] = rows
        else:
            unknown[field] = rows
    return Traffic(type_errors, rejected, unknown)
