"""One exposition for whoever asks: what the process that renders does."""

from functools import lru_cache
from traceback import format_exc

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.db.engine import make_engine, make_sessions
from service.db.trouble import cause_of
from service.exporter.collector import read_results, render_results
from service.exporter.exposition import Exposition
from service.isolation.process import Job

RENDER = Job(
    f"{__name__}:answer",
    memory=2 << 30,
    # Less than its share of the seconds is.
    processor=60,
    seconds=300.0,
    share=0.25,
    # What libpq reads besides the address.
    environment=("PG", "SSL_CERT_", "KRB5", "HOME"),
)


class Asked(msgspec.Struct, frozen=True):
    """Where the results are."""

    url: str


class Told(msgspec.Struct, frozen=True):
    """The exposition, or why there is none."""

    exposition: Exposition | None = None
    error: str | None = None


encode = msgspec.msgpack.Encoder().encode
told_by = msgspec.msgpack.Decoder(Told).decode
_asked = msgspec.msgpack.Decoder(Asked)


def answer(request: bytes) -> bytes:
    """Read what is recorded, and render it."""
    try:
        with _sessions(_asked.decode(request).url)() as session:
            session.execute(text("SET TRANSACTION READ ONLY"))
            results = read_results(session)
        # The database waits for no rendering.
        return encode(Told(render_results(results)))
    except SQLAlchemyError as error:
        return encode(Told(error=cause_of(error)))
    except Exception:  # noqa: BLE001  who asks logs it; nobody reads what this process says
        return encode(Told(error=format_exc()))


@lru_cache(maxsize=1)
def _sessions(url: str) -> sessionmaker[Session]:
    return make_sessions(make_engine(url, pool=1))
