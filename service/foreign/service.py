"""Events and captures of other people's servers, until their rows are committed."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from service.errors import BusyError, ServiceError, TooLargeError
from service.foreign.answers import Answer, Fault
from service.foreign.aside import aside
from service.foreign.bodies import SentEvents
from service.foreign.halves import Half, Reader, capture_records, pair_records, read_halves
from service.foreign.pairing import CONFLICT, DUPLICATE, ERASED, WAITING, Delivery, Pair, PairStore
from service.foreign.targets import Options, Target, find_target
from service.formats.events import Event
from service.formats.sagemaker import TRUTH, read_capture, read_truth
from service.formats.trouble import PayloadError
from service.ingest.committer import Committer
from service.ingest.erased import REFUSAL
from service.ingest.intake import Sent
from service.ingest.service import Ingest
from service.ingest.times import Horizon
from service.ingest.truths import label_record
from service.ingest.verdicts import Code, RowError
from service.registry.privacy import pseudonyms_of
from service.settings import Settings
from service.telemetry import FOREIGN_EVENTS

# Responses may go over the bound of what waits by that: they complete what fills it.
_ROOM_FOR_RESPONSES = 1.25
# Of all events of one request: each becomes objects, which take many times its bytes.
_MOST_ROWS = 20_000


class Foreign:
    """Takes what deployed models' servers log; the rows go through ingest like any others."""

    def __init__(self, settings: Settings, ingest: Ingest, store: PairStore) -> None:
        self.settings = settings
        self._ingest = ingest
        self._store = store
        self._committer: Committer[Delivery] = Committer(
            store, max_rows=settings.max_rows_in_flight
        )
        self._finishing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start in the running event loop."""
        self._committer.start()

    async def stop(self) -> None:
        """Commit what waits, then let go of everything."""
        await asyncio.gather(*self._finishing, return_exceptions=True)
        await self._committer.stop()

    async def events(self, sent: SentEvents) -> Answer:
        """Take events; what is accepted is committed, as a half or as rows, when this returns."""
        answer = Answer(len(sent.found))
        reader = Reader(sent.options, Horizon.at(self._ingest.clock()), self._ingest.pseudonyms)
        known: list[tuple[int, Event, Target]] = []
        for index, event in enumerate(sent.found):
            try:
                if isinstance(event, PayloadError):
                    raise event
                target = await find_target(self._ingest.specs, sent.options, event)
            except (PayloadError, RowError) as fault:
                _refuse(answer, index, fault)
                continue
            known.append((index, event, target))
        halves = await aside(sent.size, _read_halves, known, reader, answer)
        alone = sent.options.alone
        await self._store_alone([half for half in halves if alone and not half.whole], answer)
        await self._pair([half for half in halves if half.whole or not alone], answer)
        return answer

    async def captures(
        self, lines: Sequence[bytes], options: Options, label_ts: str | None = None
    ) -> Answer:
        """Take lines of captured data and of ground truth; all is committed afterwards."""
        answer = Answer(len(lines))
        try:
            target = await find_target(self._ingest.specs, options)
        except RowError as fault:
            for index in range(len(lines)):
                _refuse(answer, index, fault)
            return answer
        rows, labels = await aside(
            sum(map(len, lines)), _read_lines, lines, label_ts, target, options, answer
        )
        await self._store_rows(rows, answer)
        await self._store_rows(labels, answer, labels_of=target.model)
        _count(target.model, "captured", len(lines) - len(answer.rejected))
        return answer

    async def _pair(self, halves: list[Half], answer: Answer) -> None:
        if not halves:
            return
        await self._require_room(halves)
        delivery = Delivery(halves)
        await self._committer.submit(delivery)
        of_pair: dict[tuple[int, bytes], Half] = {}
        for half in halves:
            _judge(half, answer)
            # A half that is new speaks for its pair.
            if half.result == WAITING or half.key not in of_pair:
                of_pair[half.key] = half
        await self._complete(list(delivery.pairs.values()), of_pair, answer)

    async def _complete(
        self, pairs: list[Pair], of_pair: dict[tuple[int, bytes], Half], answer: Answer
    ) -> None:
        """Store the rows of complete pairs; if that fails, the worker does it later."""
        records: list[tuple[int, bytes]] = []
        for pair in pairs:
            half = of_pair[pair.key]
            try:
                found = pair_records(
                    model=half.model,
                    version=pair.version,
                    correlation=pair.correlation,
                    subject=pair.subject,
                    request=pair.request,
                    response=pair.response,
                )
            except PayloadError as fault:
                _refuse(answer, half.index, fault, half.model)
                continue
            if half.result == WAITING:
                _count(half.model, "paired")
            records += [(half.index, record) for record in found]
        await self._store_rows(records, answer)
        if pairs:
            task = asyncio.create_task(self._finish(pairs))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _finish(self, pairs: list[Pair]) -> None:
        """Let go of halves whose rows are stored; nobody waits for it."""
        with suppress(ServiceError):
            await self._committer.submit(Delivery(finished=[pair.key for pair in pairs]))

    async def _store_alone(self, halves: list[Half], answer: Answer) -> None:
        records: list[tuple[int, bytes]] = []
        for half in halves:
            if half.side == "request":
                fault = RowError(Code.MISSING_FIELD, "prediction", "a request has no prediction")
                _refuse(answer, half.index, fault, half.model)
                continue
            _count(half.model, "alone")
            found = pair_records(
                model=half.model,
                version=half.version,
                correlation=half.correlation,
                subject=half.subject,
                request=None,
                response=half.content,
            )
            records += [(half.index, record) for record in found]
        await self._store_rows(records, answer)

    async def _store_rows(
        self, records: list[tuple[int, bytes]], answer: Answer, labels_of: str | None = None
    ) -> None:
        of_event = Counter(index for index, _ in records)
        store = self._ingest.predictions if labels_of is None else self._ingest.labels
        for part in _parts(records, self.settings.max_batch_rows):
            sent = Sent(
                records=[record for _, record in part],
                model=labels_of,
                version=None,
                depth=0,
                escapes=True,
                lines=True,
            )
            answer.add_rows(await store(sent), [index for index, _ in part], of_event)

    async def _require_room(self, halves: list[Half]) -> None:
        """Shed what would wait too, where enough waits already."""
        if not self._is_full(halves):
            return
        # Nothing is counted without a commit, and what waited may have gone meanwhile.
        await self._committer.submit(Delivery())
        if self._is_full(halves):
            message = "too many events of the model wait for their other half"
            raise BusyError(message, limit=self.settings.max_pending)

    def _is_full(self, halves: list[Half]) -> bool:
        for half in halves:
            waiting = self._store.waiting.get(half.key[0])
            if waiting is None:
                continue
            more = 1.0 if half.side == "request" else _ROOM_FOR_RESPONSES
            if (
                waiting.halves >= more * self.settings.max_pending
                or waiting.size >= more * self.settings.max_pending_bytes
            ):
                return True
        return False


Numbered = list[tuple[int, bytes]]
"""Records, each with the number of its event or line."""


def _read_halves(
    known: Sequence[tuple[int, Event, Target]], reader: Reader, answer: Answer
) -> list[Half]:
    halves: list[Half] = []
    rows = 0
    for index, event, target in known:
        try:
            found = read_halves(event, target, reader, index)
        except (PayloadError, RowError) as fault:
            _refuse(answer, index, fault, target.model)
            continue
        halves += found
        rows += found[-1].rows
        _require_few(rows)
    return halves


def _read_lines(
    lines: Sequence[bytes], label_ts: str | None, target: Target, options: Options, answer: Answer
) -> tuple[Numbered, Numbered]:
    """Return the rows and the labels of lines of captured data and of ground truth."""
    rows: Numbered = []
    labels: Numbered = []
    for index, line in enumerate(lines):
        try:
            if TRUTH in line:
                found = [label_record(*label, label_ts) for label in read_truth(line)]
                labels += [(index, record) for record in found]
            else:
                capture = read_capture(line, tuple(target.kinds))
                found = capture_records(capture, target, options)
                rows += [(index, record) for record in found]
        except PayloadError as fault:
            _refuse(answer, index, fault, target.model)
        _require_few(len(rows) + len(labels))
    return rows, labels


def _require_few(rows: int) -> None:
    if rows > _MOST_ROWS:
        message = "the events of the request have too many rows"
        raise TooLargeError(message, code="too-many-rows", limit=_MOST_ROWS)


def _judge(half: Half, answer: Answer) -> None:
    if half.result == DUPLICATE:
        answer.duplicates.add(half.index)
    elif half.result == CONFLICT:
        fault = RowError(
            Code.CONFLICTING_DUPLICATE,
            "id",
            "another event of that source, id and type was taken; a retry must be the same",
        )
        _refuse(answer, half.index, fault, half.model)
        return
    elif half.result == ERASED:
        _refuse(answer, half.index, REFUSAL, half.model)
        return
    _count(half.model, half.result)


def _parts(records: list[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    rest = iter(records)
    while part := list(islice(rest, size)):
        yield part


def _refuse(answer: Answer, index: int, fault: Fault, model: str = "") -> None:
    answer.refuse(index, fault)
    _count(model, fault.code)


def _count(model: str, result: str, events: int = 1) -> None:
    if events:
        FOREIGN_EVENTS.labels(model, result).inc(events)


def create_foreign(settings: Settings, url: str, ingest: Ingest) -> Foreign:
    """Build it for a database; nothing is opened before it starts."""
    return Foreign(settings, ingest, PairStore(url, pseudonyms_of(settings)))
