"""Buckets that were profiled, but not under the edges or for the slices that a window needs."""

from sqlalchemy.orm import Session

from service.buckets.repository import starts_lacking, starts_unsliced
from service.buckets.slicing import Slicing
from service.ledger.calendar import BUCKET
from service.ledger.repository import BUCKET_KINDS, Item, mark


def mark_lacking(session: Session, span: Item, binning_id: int, slicing: Slicing) -> bool:
    """Mark the buckets in a span that lack its binning or its slices; say whether any does."""
    version, times = span.version_id, (span.start, span.end)
    lacking = starts_lacking(session, version, binning_id, *times)
    unsliced = []
    if not slicing.is_empty:
        unsliced = starts_unsliced(session, version, binning_id, slicing.family, *times)
    for kind, starts in (
        *((kind, lacking) for kind in BUCKET_KINDS),
        ("bucket_labels", unsliced),
    ):
        stale = [Item(span.model_id, version, at, at + BUCKET) for at in starts]
        mark(session, kind, stale, details={"binning": binning_id})
    return bool(lacking or unsliced)
