"""Which edges a version's buckets are profiled with."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from service.buckets.columns import output_of, profiled_columns
from service.buckets.reader import RowReader
from service.profiles.freeze import freeze_binning
from service.profiles.serialise import binning_to_bytes
from service.registry.repository import latest_reference
from service.registry.tables import Binning, Model
from service.registry.values import VersionSpec

PROVISIONAL_ROWS = 10_000


def binning_id_of(sessions: sessionmaker[Session], reader: RowReader, version: VersionSpec) -> int:
    """Return the binning of the version's reference, else the model's newest.

    Without either, edges are frozen on the version's first rows, so that counts and performance
    are there before the reference is.
    """
    with sessions() as session:
        reference = latest_reference(session, version.version_id)
        known = reference.binning_id if reference else _newest(session, version.model_id)
    if known is not None:
        return known
    rows = reader.first_rows(version, PROVISIONAL_ROWS)
    content = binning_to_bytes(freeze_binning(rows, profiled_columns(version), output_of(version)))
    with sessions.begin() as session:
        session.execute(select(Model.id).where(Model.id == version.model_id).with_for_update())
        known = _newest(session, version.model_id)
        if known is not None:
            return known
        row = Binning(model_id=version.model_id, revision=1, content=content)
        session.add(row)
        session.flush()
        return row.id


def _newest(session: Session, model_id: int) -> int | None:
    return session.scalar(
        select(Binning.id).where(
            Binning.model_id == model_id,
            Binning.revision
            == select(func.max(Binning.revision))
            .where(Binning.model_id == model_id)
            .scalar_subquery(),
        )
    )
