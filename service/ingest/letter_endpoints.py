"""Routes of dead letters: reading, replaying and deleting them."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from service.access.audit import audit
from service.access.scopes import Actor
from service.errors import NotFoundError
from service.ingest import repository
from service.ingest.repository import StoredLetter
from service.ingest.verdicts import Verdicts
from service.registry.repository import find_model
from service.web import ReadSession, WriteSession

if TYPE_CHECKING:
    from service.ingest.service import Ingest

router = APIRouter(prefix="/v1/dead-letters", tags=["ingest"])

_LARGEST_ID = 2**63 - 1
Model = Annotated[str, Query(description="the model whose letters these are")]


class UnknownLetterError(NotFoundError):
    """No dead letter has that id; it may have been replayed, deleted or grown too old."""

    code = "unknown-dead-letter"
    title = "Unknown dead letter"

    def __init__(self) -> None:
        super().__init__("no dead letter has that id")


class LetterAnswer(BaseModel):
    """A row that only the database refused."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    model: str
    version: str | None
    kind: str
    prediction_id: str | None
    state: str
    """The SQLSTATE of the refusal."""
    received_at: datetime
    record: str
    """The JSON of the record, as it may be kept."""


class LetterList(BaseModel):
    """Dead letters, oldest first."""

    dead_letters: list[LetterAnswer]
    next: str | None


class RefusedLetter(BaseModel):
    """A letter that is kept, for its row was refused again."""

    id: int
    field: str | None
    code: str
    detail: str


class ReplayAnswer(BaseModel):
    """What became of the rows; letters of those that are stored are gone."""

    accepted: int
    duplicates: int
    rejected: list[RefusedLetter]


class DeletedAnswer(BaseModel):
    """How many letters are gone."""

    deleted: int


@router.get("")
def list_letters(
    session: ReadSession,
    model: Model,
    cursor: Annotated[
        int, Query(ge=0, le=_LARGEST_ID, description="`next` of the page before")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="letters a page")] = 50,
) -> LetterList:
    """List a model's dead letters, oldest first: rows that only the database refused."""
    found = repository.list_letters(session, find_model(session, model).id, cursor, limit + 1)
    page = found[:limit]
    following = str(page[-1].id) if len(found) > limit else None
    letters = [LetterAnswer.model_validate(letter) for letter in page]
    return LetterList(dead_letters=letters, next=following)


def _one(request: Request, letter_id: int) -> list[StoredLetter]:
    with request.app.state.sessions() as session:
        return [_find(session, letter_id)]


def _all(request: Request, model: Model) -> list[StoredLetter]:
    with request.app.state.sessions() as session:
        return repository.list_letters(session, find_model(session, model).id)


async def _replay(request: Request, letters: list[StoredLetter]) -> ReplayAnswer:
    """Send rows the way that every row goes; it is asynchronous, as that way is."""
    ingest: Ingest = request.app.state.ingest
    answers = await asyncio.gather(*map(ingest.replay, letters))
    pairs = list(zip(letters, answers, strict=True))
    return ReplayAnswer(
        accepted=sum(verdicts.accepted for _, verdicts in pairs),
        duplicates=sum(verdicts.duplicates for _, verdicts in pairs),
        rejected=[refused for pair in pairs for refused in _refused(*pair)],
    )


def _refused(letter: StoredLetter, verdicts: Verdicts) -> list[RefusedLetter]:
    return [
        RefusedLetter(id=letter.id, field=own.field, code=own.code, detail=own.detail)
        for own in verdicts.refusals
    ]


@router.post("/replay")
async def replay_letters(
    request: Request, letters: Annotated[list[StoredLetter], Depends(_all)]
) -> ReplayAnswer:
    """Replay all dead letters of a model; what is stored now is no letter any more."""
    return await _replay(request, letters)


@router.post("/{letter_id}/replay")
async def replay_letter(
    request: Request, letters: Annotated[list[StoredLetter], Depends(_one)]
) -> ReplayAnswer:
    """Replay a dead letter: its row is judged and stored like any other, and leaves the letters."""
    return await _replay(request, letters)


@router.delete("")
def delete_letters(session: WriteSession, actor: Actor, model: Model) -> DeletedAnswer:
    """Delete all dead letters of a model."""
    deleted = repository.delete_letters(session, find_model(session, model).id)
    audit(session, actor, "dead-letters.delete", f"model:{model}", {"deleted": deleted})
    return DeletedAnswer(deleted=deleted)


@router.delete("/{letter_id}")
def delete_letter(session: WriteSession, actor: Actor, letter_id: int) -> DeletedAnswer:
    """Delete a dead letter."""
    letter = _find(session, letter_id)
    repository.delete_letter(session, letter.id)
    details = {"letter": letter.id}
    audit(session, actor, "dead-letters.delete", f"model:{letter.model}", details)
    return DeletedAnswer(deleted=1)


def _find(session: Session, letter_id: int) -> StoredLetter:
    possible = 0 < letter_id <= _LARGEST_ID
    found = repository.find_letter(session, letter_id) if possible else None
    if found is None:
        raise UnknownLetterError
    return found
