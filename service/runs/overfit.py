"""A version that was never as good as its reference: that may hold what it was trained on."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.evaluation.measurement import Verdict
from service.registry.repository import find_monitor
from service.runs.tables import Window

WARNING = {
    "code": "overfit-gap",
    "detail": (
        "no judged window of this version has been as good as its reference yet; if that holds the "
        "rows that the model was trained on, the model has not decayed, and rows that it has not "
        "seen are the better reference"
    ),
}
SAID = "so since its first judged window: the reference may hold what the model was trained on"


class Gaps:
    """Which losses are as old as their version; asked while reading, so that order is no matter.

    Only a reference of its own, from before it went live, can be what a model was trained on.
    """

    def __init__(self, session: Session, model_id: int) -> None:
        self._session = session
        self._training = find_monitor(session, model_id).document.reference.kind == "training"
        self._first_fine: dict[int, datetime | None] = {}

    def has(self, version_id: int, start: datetime, verdicts: Mapping[str, Any]) -> bool:
        """Say whether the window alerts, and none before it was as good as the reference."""
        if not self._training or verdicts.get("performance") != Verdict.ALERT.value:
            return False
        if version_id not in self._first_fine:
            self._first_fine[version_id] = self._session.scalar(
                select(func.min(Window.start)).where(
                    Window.version_id == version_id,
                    Window.latest,
                    Window.verdicts["performance"].astext == Verdict.OK.value,
                )
            )
        fine = self._first_fine[version_id]
        return fine is None or start < fine
