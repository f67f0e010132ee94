"""Labels whose prediction has not come: counted while they wait, and deleted when it never does."""

from collections import Counter
from datetime import timedelta
from time import monotonic

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.tables import Label, PendingLabel, PredictionIdentity
from service.registry.tables import Model
from service.telemetry import LABELS_EXPIRED

LOOK_SECONDS = 60.0
_AT_ONCE = 5_000


class WaitingLabels:
    """One worker's part in looking after them."""

    def __init__(self, sessions: sessionmaker[Session], ttl: timedelta) -> None:
        self._sessions = sessions
        self._ttl = ttl
        self._look_at = 0.0

    def sweep(self) -> bool:
        """Let go of what has come or is too old; return whether there may be more."""
        if monotonic() < self._look_at:
            return False
        with self._sessions.begin() as session:
            session.execute(delete(PendingLabel).where(_has_come(PendingLabel)))
            looked_at, deleted = self._expire(session)
        for model, count in deleted.items():
            LABELS_EXPIRED.labels(model).inc(count)
        if looked_at < _AT_ONCE:
            self._look_at = monotonic() + LOOK_SECONDS
        return looked_at > 0

    def _expire(self, session: Session) -> tuple[int, Counter[str]]:
        """Delete labels that are too old; return how many there may be, and were, by model."""
        old = (
            select(PendingLabel.model_id, PendingLabel.prediction_id)
            .where(PendingLabel.received_at < func.now() - self._ttl)
            .limit(_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        keys = [(model_id, name) for model_id, name in session.execute(old)]
        if not keys:
            return 0, Counter()
        own = tuple_(Label.model_id, Label.prediction_id).in_(keys)
        gone = session.scalars(
            delete(Label).where(own, ~_has_come(Label)).returning(Label.model_id)
        ).all()
        pending = tuple_(PendingLabel.model_id, PendingLabel.prediction_id).in_(keys)
        session.execute(delete(PendingLabel).where(pending))
        counts = Counter(gone)
        named = select(Model.id, Model.name).where(Model.id.in_(counts))
        return len(keys), Counter({name: counts[own] for own, name in session.execute(named)})


def _has_come(table: type[Label | PendingLabel]) -> ColumnElement[bool]:
    return exists().where(
        PredictionIdentity.model_id == table.model_id,
        PredictionIdentity.prediction_id == table.prediction_id,
    )
