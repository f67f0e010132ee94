"""Buckets that were profiled, but not under the edges or for the slices that a window needs."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.buckets.repository import starts_lacking, starts_unsliced
from service.buckets.slicing import Slicing
from service.ledger.calendar import BUCKET
from service.ledger.marks import BUCKET_KINDS, Item, mark
from service.registry.tables import Model


def are_gone(session: Session, model_id: int, starts: Iterable[datetime]) -> bool:
    """Say whether rows of one of the buckets have been dropped."""
    since = rows_since(session, model_id)
    return since is not None and any(start < since for start in starts)


def rows_since(session: Session, model_id: int) -> datetime | None:
    """Return before when a model's rows have been dropped, if ever."""
    return session.scalar(select(Model.rows_since).where(Model.id == model_id))


def mark_lacking(session: Session, span: Item, binning_id: int, slicing: Slicing) -> bool | None:
    """Mark the buckets in a span that lack its binning or its slices; say whether any does.

    ``None`` if rows of one of them are gone: it cannot be profiled again.
    """
    version, times = span.version_id, (span.start, span.end)
    lacking = starts_lacking(session, version, binning_id, *times)
    unsliced = []
    if not slicing.is_empty:
        unsliced = starts_unsliced(session, version, binning_id, slicing.family, *times)
    if are_gone(session, span.model_id, (*lacking, *unsliced)):
        return None
    for kind, starts in (
        *((kind, lacking) for kind in BUCKET_KINDS),
        ("bucket_labels", unsliced),
    ):
        stale = [Item(span.model_id, version, at, at + BUCKET) for at in starts]
        mark(session, kind, stale, details={"binning": binning_id})
    return bool(lacking or unsliced)
