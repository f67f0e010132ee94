"""The metrics of a process that has no API: whether a header opens them."""

import hmac
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from service.access.grants import Scope
from service.access.repository import find_live_key
from service.access.tokens import digest_of, kid_of


class Door:
    """Looks a key up each time: a scrape comes every few seconds."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def admits(self, authorization: str | None) -> HTTPStatus:
        """Return OK for a key that reads and is bound to no model, else the answer to give."""
        scheme, _, shown = (authorization or "").partition(" ")
        token = shown.encode("latin-1", "replace")
        kid = kid_of(token) if scheme.lower() == "bearer" else None
        if kid is None:
            return HTTPStatus.UNAUTHORIZED
        try:
            with self._sessions() as session:
                key = find_live_key(session, kid)
        except SQLAlchemyError:
            return HTTPStatus.SERVICE_UNAVAILABLE
        if key is None or not hmac.compare_digest(digest_of(token), key.digest):
            return HTTPStatus.UNAUTHORIZED
        reads = {Scope.READ, Scope.ADMIN} & set(key.scopes)
        return HTTPStatus.OK if reads and key.models is None else HTTPStatus.FORBIDDEN
