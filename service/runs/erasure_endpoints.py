"""Routes that erase a subject, and list what was erased."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from service.access.scopes import Actor
from service.errors import ConflictError
from service.ingest.limits import MAX_TEXT_BYTES
from service.registry.privacy import pseudonyms_of
from service.runs.tables import Erasure
from service.web import ReadSession

if TYPE_CHECKING:
    from service.runs.erasing import Receipt

router = APIRouter(prefix="/v1", tags=["privacy"])

PAGE = 1_000


class NoKeyError(ConflictError):
    """Erasure needs a key: what is erased is remembered by hashes under it."""

    code = "pii-key-unset"
    title = "Key unset"

    def __init__(self) -> None:
        super().__init__("erasure needs the setting MODELWATCH_PII_KEY, which is not set")


class ReceiptAnswer(BaseModel):
    """What was erased; the subject is there as its hash alone."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    subject: str
    counts: dict[str, int]
    erased_at: datetime

    @classmethod
    def of(cls, receipt: "Receipt | Erasure") -> "ReceiptAnswer":
        """Build the answer."""
        return cls.model_validate(receipt)


class ErasureList(BaseModel):
    """Receipts, oldest first; ``next`` is what to ask for after these."""

    erasures: list[ReceiptAnswer]
    next: int | None


@router.delete("/subjects/{subject:path}")
def erase_subject(
    request: Request,
    actor: Actor,
    subject: Annotated[str, Path(min_length=1, max_length=MAX_TEXT_BYTES, pattern="^[^\x00]+$")],
) -> ReceiptAnswer:
    """Erase a subject of every model: rows, labels, references' rows, reports, what names them.

    The windows over its rows get a new revision.  A receipt's hash does for the subject, so that
    erasures can be done again after a backup was restored.
    """
    state = request.app.state
    pseudonyms = pseudonyms_of(state.settings)
    if pseudonyms is None:
        raise NoKeyError
    from service.runs.erasing import erase  # noqa: PLC0415  slow to import, and rarely needed

    return ReceiptAnswer.of(erase(state.sessions, pseudonyms, subject, actor=actor))


@router.get("/erasures")
def list_erasures(
    session: ReadSession, after: Annotated[int, Query(ge=0, le=2**62)] = 0
) -> ErasureList:
    """List receipts of erasures; keep them with the backups, to repeat what a backup undoes."""
    query = select(Erasure).where(Erasure.id > after).order_by(Erasure.id).limit(PAGE)
    found = [ReceiptAnswer.of(row) for row in session.scalars(query)]
    return ErasureList(erasures=found, next=found[-1].id if len(found) == PAGE else None)
