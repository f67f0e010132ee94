"""The route that takes a reference."""

import tempfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from service.access.scopes import Actor
from service.errors import BadRequestError, TooLargeError, UnsupportedTypeError
from service.registry.privacy import pseudonyms_of
from service.registry.schemas import FeatureAnswer
from service.runs.reference_reading import MEDIA, Limits, Upload
from service.runs.references import StoredReference, store_reference
from service.web import body_pieces, content_type

router = APIRouter(prefix="/v1/models", tags=["registry"])

GZIP = 16 + zlib.MAX_WBITS


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


async def _receive(request: Request) -> AsyncIterator[Path]:
    """Write the body to a file; only this is asynchronous."""
    if content_type(request) not in MEDIA:
        message = f"a reference is one of {', '.join(MEDIA)}"
        raise UnsupportedTypeError(message)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        message = "the content encoding of a reference is gzip or none"
        raise UnsupportedTypeError(message)
    limit = request.app.state.settings.max_reference_bytes
    with (
        request.app.state.references.received.share() as share,
        tempfile.NamedTemporaryFile(prefix="modelwatch-reference-") as file,
    ):
        inflater = zlib.decompressobj(GZIP) if encoding == "gzip" else None
        async for piece in body_pieces(request):
            # At most one byte more than is allowed leaves the inflater, whatever went in.
            room = limit - file.tell() + 1
            written = file.write(piece if inflater is None else _inflate(inflater, piece, room))
            if file.tell() > limit:
                message = "the reference is too large"
                raise TooLargeError(message, limit=limit)
            share.take(written)
        if inflater is not None and (not inflater.eof or inflater.unused_data):
            raise _bad_gzip()
        file.flush()
        yield Path(file.name)


def _inflate(inflater: "zlib._Decompress", piece: bytes, room: int) -> bytes:
    try:
        return inflater.decompress(piece, room)
    except zlib.error:
        raise _bad_gzip() from None


def _bad_gzip() -> BadRequestError:
    return BadRequestError("the body is not one whole gzip stream", code="bad-gzip")


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
    file: Annotated[Path, Depends(_receive)],
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
        path=file,
        media=content_type(request),
        names={ours: theirs for ours, theirs in given.items() if theirs},
        ignore=frozenset(name for each in ignore for name in (each, *each.split(",")) if name),
        limits=Limits(settings.max_reference_rows, settings.max_reference_inflated_bytes),
    )
    pseudonyms = pseudonyms_of(settings)
    with state.references.place():
        stored = store_reference(state.sessions, model, version, upload, pseudonyms, actor=actor)
    return ReferenceAnswer.of(stored)
