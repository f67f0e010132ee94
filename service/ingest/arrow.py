"""Arrow streams of requests, read where a hostile one harms nobody."""

from functools import partial

import msgspec
from starlette.requests import Request

from service.errors import BadRequestError, BusyError, TooLargeError
from service.ingest.arrow_messages import Asked, Told
from service.ingest.intake import Sent
from service.isolation.process import Job, ProcessDiedError, ProcessGrownError, ProcessLateError
from service.isolation.room import ProcessRoom, RoomFullError
from service.settings import Settings
from service.telemetry import PARSER_DEATHS

ARROW = "application/vnd.apache.arrow.stream"
PARSERS = 2
MOST_WAITING = 32
JOB = Job("service.ingest.arrow_streams:parse", memory=512 << 20, processor=5, seconds=8.0)
# JSON repeats the names of the columns in every row.
_WRITTEN = 2

_encode = msgspec.msgpack.Encoder().encode
_told = msgspec.msgpack.Decoder(Told)
_TOO_LARGE = {
    own.keywords["code"]: own
    for own in (
        partial(
            TooLargeError,
            "the columns, or their rows written out, are over the limit",
            code="body-too-large",
        ),
        partial(TooLargeError, "the stream has too many columns", code="too-many-columns"),
        partial(TooLargeError, "the request has too many records", code="too-many-rows"),
    )
}


class ArrowReader:
    """Turns streams into the records that JSON would have brought."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._room = ProcessRoom(JOB, processes=PARSERS, most=MOST_WAITING)

    def close(self) -> None:
        """End the processes."""
        self._room.close()

    async def read(self, kind: str, body: bytes, request: Request) -> Sent:
        """Return the records of a stream of predictions or of labels."""
        told = await self._ask(kind, body)
        if told.code in _TOO_LARGE:
            raise _TOO_LARGE[told.code](limit=told.limit)
        if told.code is not None:
            raise _malformed()
        query = request.query_params
        return Sent(
            records=told.lines.splitlines(),
            model=query.get("model", told.model),
            version=query.get("version", told.version),
            depth=0,
            escapes=b"\\" in told.lines,
            lines=told.named,
        )

    async def _ask(self, kind: str, body: bytes) -> Told:
        most = self._settings.max_inflated_bytes
        asked = Asked(kind, body, self._settings.max_batch_rows, most, _WRITTEN * most)
        try:
            return _told.decode(await self._room.ask(_encode(asked)))
        except ProcessGrownError:
            raise _TOO_LARGE["body-too-large"](limit=most) from None
        except ProcessDiedError:
            PARSER_DEATHS.inc()
            raise _malformed() from None
        except (ProcessLateError, RoomFullError):
            message = "too many Arrow streams wait to be read; send it again later"
            raise BusyError(message) from None


def _malformed() -> BadRequestError:
    message = "the body is not an Arrow stream that can be read"
    return BadRequestError(message, code="malformed-arrow")
