"""The live keys as this process knows them."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from service.access.grants import Grant, Scope
from service.access.quotas import Meter
from service.access.repository import live_keys, note_use
from service.access.tables import ApiKey
from service.access.tokens import digest_of, kid_of
from service.db.outage import DATABASE
from service.db.revisions import require_migrated
from service.db.trouble import lacks_tables
from service.errors import DatabaseAwayError, NotMigratedError, UnauthenticatedError

REFRESH_SECONDS = 10.0
STALE_SECONDS = 30.0
"""A key that was revoked elsewhere opens nothing after this, while the database answers."""
RETRY_SECONDS = 1.0
# However many unknown keys are tried, the database is asked no more often than this, and reading
# takes no more than a tenth of the time.
PACE_SECONDS = 0.2
_SHARE = 10
# After a reading that took long, a key that was made just now must not wait until it is refused.
LONGEST_PACE_SECONDS = 2.0
LOAD_SECONDS = 4.0
STOP_SECONDS = 1.0
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    grant: Grant
    ends: float


class KeyRing:
    """All live keys, read again every few seconds and whenever an unknown one is shown.

    While the database is away the keys that are known go on working: nobody can be told that one
    was revoked, and nothing that is not there already can be read or stored with it either.
    """

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._known: dict[bytes, _Known] = {}
        self._used: set[str] = set()
        self._began = _NEVER
        self._tried = _NEVER
        self._not_before = _NEVER
        self._failed = False
        self._lacks_tables = False
        self._pace = PACE_SECONDS
        self._load: asyncio.Task[bool] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="access-keys")

    def start(self) -> None:
        """Start in the running event loop; the first reading does not hold up the caller."""
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def stop(self) -> None:
        """Write down which keys were used, unless the database keeps us waiting for it."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._used and not self._is_failing():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._loaded_after(time.monotonic())
        if self._load is not None:
            # Who reads gives a connection back.
            load = self._load
            await asyncio.wait({load}, timeout=STOP_SECONDS)
            load.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def forget(self, kid: str) -> None:
        """Look the key up again before it opens anything: it has been changed just now."""
        self._not_before = time.monotonic()
        self._known.pop(kid.encode(), None)

    async def grant(self, token: bytes) -> Grant:
        """Return what a key grants.

        Raises
        ------
        UnauthenticatedError
            If it is no key, or none that is live.
        DatabaseAwayError
            If it is not known here, and cannot be looked up.
        NotMigratedError
            If there is nowhere to look it up.
        """
        grant = self._check(token)
        if grant is not None and self._is_current():
            return grant
        if kid_of(token) is None:
            raise UnauthenticatedError
        # Unknown, wrong, expired and revoked keys all take this way: none is told from another.
        answered = await self._loaded_after(time.monotonic())
        grant = self._check(token)
        if grant is not None:
            return grant
        if answered:
            raise UnauthenticatedError
        raise NotMigratedError if self._lacks_tables else DatabaseAwayError

    def _check(self, token: bytes) -> Grant | None:
        """Find the key by its id, which stands third from the left between underscores."""
        kid = b"".join(token.split(b"_", 3)[2:3])
        known = self._known.get(kid)
        if known is None or not hmac.compare_digest(digest_of(token), known.digest):
            return None
        if time.monotonic() >= known.ends:
            return None
        self._used.add(known.grant.actor)
        return known.grant

    def _is_current(self) -> bool:
        return time.monotonic() - self._began < STALE_SECONDS or self._is_failing()

    def _is_failing(self) -> bool:
        hangs = self._load is not None and time.monotonic() - self._tried > LOAD_SECONDS
        return self._failed or hangs

    async def _refresh(self) -> None:
        while True:
            await self._loaded_after(time.monotonic())
            await asyncio.sleep(RETRY_SECONDS if self._is_failing() else REFRESH_SECONDS)

    async def _loaded_after(self, moment: float) -> bool:
        """Wait for a reading that began after a moment; return whether there was one."""
        while self._began < moment:
            if self._load is None:
                self._load = asyncio.get_running_loop().create_task(self._load_once())
            try:
                loaded = await asyncio.wait_for(asyncio.shield(self._load), LOAD_SECONDS)
            except TimeoutError:
                return False
            if not loaded:
                return False
        return True

    async def _load_once(self) -> bool:
        try:
            await asyncio.sleep(self._tried + self._pace - time.monotonic())
            self._tried = began = time.monotonic()
            used, self._used = self._used, set()
            loop = asyncio.get_running_loop()
            known = await loop.run_in_executor(self._thread, self._read, used)
        except (DBAPIError, PoolTimeoutError, NotMigratedError) as error:
            DATABASE.fails("keys", error)
            self._failed = True
            self._lacks_tables = lacks_tables(error)
            return False
        finally:
            self._load = None
        DATABASE.works("keys")
        self._failed = False
        took = time.monotonic() - began
        self._pace = min(max(PACE_SECONDS, _SHARE * took), LONGEST_PACE_SECONDS)
        # What was read before a key was changed here would bring it back.
        if began >= self._not_before:
            self._known, self._began = known, began
        return True

    def _read(self, used: Collection[str]) -> dict[bytes, _Known]:
        kids = [actor.partition(":")[2] for actor in used]
        if kids:
            # Nobody is refused because this could not be written down.
            with contextlib.suppress(SQLAlchemyError), self._sessions.begin() as session:
                note_use(session, kids)
        began = time.monotonic()
        with self._sessions() as session:
            # Before a key opens anything, what is behind it is there.
            require_migrated(session.connection())
            rows = live_keys(session)
        return {
            key.kid.encode(): _Known(
                digest=key.digest,
                grant=self._grant_of(key),
                ends=float("inf") if left is None else began + left,
            )
            for key, left in rows
        }

    def _grant_of(self, key: ApiKey) -> Grant:
        limits = (key.requests_per_minute, key.rows_per_minute, key.bytes_per_minute)
        before = self._known.get(key.kid.encode())
        meter = None if before is None else before.grant.meter
        # What was sent already still counts, unless the limits are others now.
        if meter is None or meter.limits != limits:
            meter = None if limits == (None, None, None) else Meter(*limits)
        return Grant(
            actor=f"key:{key.kid}",
            # A scope of a later release is not this one's to grant.
            scopes=frozenset(Scope(each) for each in key.scopes if each in set(Scope)),
            models=None if key.models is None else frozenset(key.models),
            meter=meter,
        )
