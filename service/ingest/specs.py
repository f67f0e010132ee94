"""Schemas as this process knows them, looked up again every second."""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from service.db.visibility import is_visible
from service.errors import DatabaseAwayError, UnknownModelError, UnknownVersionError
from service.ingest.codec import Codec
from service.ingest.labels import LabelSpec
from service.ingest.registration import register_version
from service.ingest.times import Kept
from service.registry.privacy import Pseudonyms
from service.registry.repository import find_model, find_retention, find_version, list_versions
from service.registry.service import require_key
from service.registry.values import VersionSpec

FRESH_SECONDS = 1.0
LOOKUP_SECONDS = 4.0
MOST_KNOWN = 10_000
_THREADS = 2
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Versions:
    """A model and its versions, oldest first."""

    model_id: int
    model: str
    task: str
    auto_register: bool
    versions: tuple[VersionSpec, ...]


class Specs:
    """Codecs of versions and label schemas of models; one lookup at a time for each."""

    def __init__(
        self, sessions: sessionmaker[Session], pseudonyms: Pseudonyms | None = None
    ) -> None:
        self._sessions = sessions
        self._pseudonyms = pseudonyms
        self._known: dict[Any, tuple[float, Any]] = {}
        self._lookups: dict[Any, asyncio.Future[Any]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ingest-specs")

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def codec(self, model: str, version: str, *, newer_than: float = 0.0) -> Codec:
        """Return the codec of a version, or raise that it or its model is unknown."""
        _require_model(model)
        if not _NAME.fullmatch(version):
            raise UnknownVersionError
        key = (model, version)
        return await self._get(key, lambda: self._load_codec(model, version), newer_than)

    async def register(self, model: str, version: str, records: Sequence[Any]) -> Codec:
        """Register a version from its first records, and return its codec."""

        def load() -> None:
            with self._sessions.begin() as session:
                register_version(session, model, version, records)

        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(self._threads, load), LOOKUP_SECONDS)
        except (DBAPIError, PoolTimeoutError, TimeoutError):
            raise DatabaseAwayError from None
        return await self.codec(model, version)

    async def labels(self, model: str, *, newer_than: float = 0.0) -> LabelSpec:
        """Return what labels of a model may say."""
        _require_model(model)
        return await self._get(model, lambda: self._load_labels(model), newer_than)

    async def versions(self, model: str) -> Versions | None:
        """Return what versions a model has; ``None`` if there is no such model."""
        if not _NAME.fullmatch(model) or not is_visible(model):
            return None
        if len(self._known) > MOST_KNOWN:
            self._known.clear()
        return await self._get((model,), lambda: self._load_versions(model), 0.0)

    async def _get(self, key: Any, load: Callable[[], Value], newer_than: float) -> Value:
        known = self._known.get(key)
        oldest = max(newer_than, time.monotonic() - FRESH_SECONDS)
        if known is not None and known[0] >= oldest:
            value: Value = known[1]
            return value
        lookup = self._lookups.get(key)
        if lookup is None:
            loop = asyncio.get_running_loop()
            lookup = loop.run_in_executor(self._threads, self._load, key, load)
            self._lookups[key] = lookup
            lookup.add_done_callback(lambda done: self._ended(key, done))
        try:
            result: Value = await asyncio.wait_for(asyncio.shield(lookup), LOOKUP_SECONDS)
        except (DBAPIError, PoolTimeoutError, TimeoutError):
            raise DatabaseAwayError from None
        return result

    def _ended(self, key: Any, lookup: asyncio.Future[Any]) -> None:
        del self._lookups[key]
        if not lookup.cancelled():
            # Whoever waited has seen it; without a waiter it would be logged as forgotten.
            lookup.exception()

    def _load(self, key: Any, load: Callable[[], Value]) -> Value:
        started = time.monotonic()
        try:
            value = load()
        except (UnknownModelError, UnknownVersionError):
            self._known.pop(key, None)
            raise
        self._known[key] = (started, value)
        return value

    def _load_codec(self, model: str, version: str) -> Codec:
        with self._sessions.begin() as session:
            require_key(session, self._pseudonyms)
            spec = find_version(session, model, version)
            kept = Kept.of(find_retention(session, spec.model_id), spec.rows_since)
        known = self._known.get((model, version))
        # Building a codec costs more than looking whether anything has changed.
        if known is not None and (known[1].spec, known[1].kept) == (spec, kept):
            codec: Codec = known[1]
            return codec
        return Codec(spec, self._pseudonyms, kept)

    def _load_versions(self, model: str) -> Versions | None:
        # That there is none is remembered as well: each event of a stranger asks for two names.
        with self._sessions() as session:
            try:
                row = find_model(session, model)
            except UnknownModelError:
                return None
            found = tuple(list_versions(session, model))
            return Versions(row.id, model, row.task, row.auto_register, found)

    def _load_labels(self, model: str) -> LabelSpec:
        with self._sessions() as session:
            row = find_model(session, model)
            versions = list_versions(session, model)
            kept = Kept.of(find_retention(session, row.id), row.rows_since)
        classes = {name for spec in versions for name in spec.classes}
        return LabelSpec(row.id, model, tuple(sorted(classes)), row.task, kept)


def _require_model(model: str) -> None:
    """Refuse what can be no model's name, and the models that the request's key is not for."""
    if not _NAME.fullmatch(model) or not is_visible(model):
        raise UnknownModelError
