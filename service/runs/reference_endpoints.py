"""The route that takes a reference."""

import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from service.access.scopes import Actor
from service.errors import BusyError, UnsupportedTypeError
from service.ingest.bodies import limited_pieces
from service.registry.privacy import pseudonyms_of
from service.registry.schemas import FeatureAnswer
from service.runs.reference_reading import MEDIA, Limits, Upload
from service.runs.references import StoredReference, require_version, store_reference
from service.web import content_type

router = APIRouter(prefix="/v1/models", tags=["registry"])

log = logging.getLogger(__name__)


class NoFileError(BusyError):
    """The disk of temporary files is full."""

    retry_after = 30

    def __init__(self) -> None:
        super().__init__("the API has no room for the file now; send it again later")


class ReferenceAnswer(BaseModel):
    """What was stored of a reference."""

    model: str
    version: str
    revision: int
    binning_revision: int
    rows: int
    labelled: int
    features: list[FeatureAnswer]
    classes: list[str]
    positive_class: str | None
    chunks: int
    warnings: list[dict[str, Any]]

    @classmethod
    def of(cls, stored: StoredReference) -> "ReferenceAnswer":
        """Build the answer."""
        return cls(
            model=stored.version.model,
            version=stored.version.version,
            revision=stored.revision,
            binning_revision=stored.binning_revision,
            rows=stored.rows,
            labelled=stored.labelled,
            features=[FeatureAnswer.of(feature) for feature in stored.version.features],
            classes=list(stored.version.classes),
            positive_class=stored.version.positive_class,
            chunks=stored.chunks,
            warnings=stored.warnings,
        )


def _judge(request: Request, model: str, version: str) -> None:
    """Refuse what can be refused before a byte of the file has come."""
    if content_type(request) not in MEDIA:
        message = f"a reference is one of {', '.join(MEDIA)}"
        raise UnsupportedTypeError(message)
    if _coding(request) not in {"identity", "gzip"}:
        message = "the content encoding of a reference is gzip or none"
        raise UnsupportedTypeError(message)
    state = request.app.state
    require_version(state.sessions, model, version, pseudonyms_of(state.settings))


def _coding(request: Request) -> str:
    return request.headers.get("content-encoding", "identity").strip().lower()


async def _receive(
    request: Request, _judged: Annotated[None, Depends(_judge)]
) -> AsyncIterator[int]:
    """Write the body, as it comes, to a file that goes with this process; yield its descriptor."""
    limit = request.app.state.settings.max_reference_bytes
    # What a buffer could not write would be written once more where the file is closed.
    with (
        request.app.state.references.upload() as share,
        tempfile.TemporaryFile(buffering=0) as file,
    ):
        async for piece in limited_pieces(request, limit, share):
            _write(file, piece)
        yield file.fileno()


def _write(file: IO[bytes], piece: bytes) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        log.warning("a reference cannot be written to a file: %s", error.strerror)
        raise NoFileError from None


_BODY = {
    "requestBody": {
        "required": True,
        "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA},
    }
}


@router.put("/{model}/versions/{version}/reference", openapi_extra=_BODY)
def put_reference(
    request: Request,
    model: str,
    version: str,
    file: Annotated[int, Depends(_receive)],
    actor: Actor,
    ts: Annotated[str | None, Query(description="the file's column of times")] = None,
    score: Annotated[str | None, Query(description="of scores")] = None,
    prediction: Annotated[str | None, Query(description="of predicted classes or numbers")] = None,
    label: Annotated[str | None, Query(description="of true classes or numbers")] = None,
    weight: Annotated[str | None, Query(description="of weights")] = None,
    ignore: Annotated[tuple[str, ...], Query(description="columns to leave out")] = (),
) -> ReferenceAnswer:
    """Store what a version's windows are compared with; a new one is a new revision."""
    state, settings = request.app.state, request.app.state.settings
    given = {"ts": ts, "score": score, "prediction": prediction, "label": label, "weight": weight}
    upload = Upload(
        path=Path(f"/dev/fd/{file}"),
        media=content_type(request),
        names={ours: theirs for ours, theirs in given.items() if theirs},
        ignore=frozenset(name for each in ignore for name in (each, *each.split(",")) if name),
        limits=Limits(settings.max_reference_rows, settings.max_reference_inflated_bytes),
        gzip=_coding(request) == "gzip",
        descriptors=(file,),
    )
    pseudonyms = pseudonyms_of(settings)
    with state.references.place():
        stored = store_reference(state.sessions, model, version, upload, pseudonyms, actor=actor)
    return ReferenceAnswer.of(stored)
