"""Records of one request to a batch that can be stored, with a verdict for every other row."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.errors import BadRequestError, NotFoundError, ServiceError, UnknownVersionError
from service.ingest import limits
from service.ingest.batch import Batch
from service.ingest.codec import Codec, WrongTargetError
from service.ingest.decode import Record, load_record
from service.ingest.examine import is_name, read_id
from service.ingest.labels import LabelSpec, PreparedLabel, read_label
from service.ingest.rows import Layout, PreparedRow
from service.ingest.specs import Specs
from service.ingest.tables import OTHERS
from service.ingest.times import Horizon
from service.ingest.verdicts import Code, RowError, Verdicts

MAX_TARGETS = 64
_SYNTAX_CODES = frozenset({Code.MALFORMED_JSON, Code.TOO_DEEP})
# What a schema that has just been extended would answer differently.
_SCHEMA_CODES = frozenset({Code.UNKNOWN_FEATURE, Code.UNKNOWN_CLASS})


@dataclass(frozen=True, slots=True)
class Sent:
    """The records of a request, and what they share."""

    records: Sequence[Record]
    model: str | None
    version: str | None
    depth: int
    escapes: bool
    lines: bool


class _Target(msgspec.Struct, gc=False):
    model: str | None = None
    version: str | None = None


_target = msgspec.json.Decoder(_Target)


def _no_version(*_args: object, **_options: object) -> PreparedRow:
    raise WrongTargetError


@dataclass(slots=True)
class Intake:
    """One request while its records are read."""

    specs: Specs
    sent: Sent
    horizon: Horizon
    started: float = field(default_factory=time.monotonic)
    verdicts: Verdicts = field(init=False)
    failures: dict[Any, RowError] = field(default_factory=dict)
    targets: set[Any] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        sent = self.sent
        self.verdicts = Verdicts(
            sent.depth, len(sent.records), sent.model, sent.version, sent.records
        )

    async def predictions(self) -> Batch:
        """Read prediction records; only an unknown model or version of all of them is an error."""
        batch = Batch(self.verdicts)
        codec = await self._common_codec()
        read, horizon, verdicts = (
            (codec.read if codec else _no_version),
            self.horizon,
            self.verdicts,
        )
        escapes = self.sent.escapes
        for index, raw in enumerate(self.sent.records):
            try:
                row = read(raw, index, horizon, verdicts, escapes=escapes)
            except (WrongTargetError, RowError) as error:
                found = await self._again(raw, index, codec, error)
                if found is None:
                    continue
                row, codec = found
                read = codec.read
            batch.rows.append(row)
        return batch

    async def _common_codec(self) -> Codec | None:
        if self.sent.model is None or self.sent.version is None:
            return None
        return await self._codec(self.sent.model, self.sent.version)

    async def _codec(self, model: str, version: str) -> Codec:
        """Return a version's codec; the first batch of a version may register it."""
        try:
            return await self.specs.codec(model, version)
        except UnknownVersionError:
            own = [
                r for r in map(self._loaded, self.sent.records) if self._is_of(r, model, version)
            ]
            return await self.specs.register(model, version, own)

    def _loaded(self, raw: Record) -> Any:
        try:
            return load_record(raw, self.sent.depth)
        except RowError:
            return None

    def _is_of(self, record: Any, model: str, version: str) -> bool:
        if not isinstance(record, dict):
            return False
        named = record.get("model", self.sent.model), record.get("version", self.sent.version)
        return named == (model, version)

    async def _again(
        self, raw: Record, index: int, codec: Codec | None, error: Exception
    ) -> tuple[PreparedRow, Codec] | None:
        """Read a record with the version that it names, or with a newer schema of it."""
        try:
            if isinstance(error, WrongTargetError):
                codec = await self._named_codec(raw)
                return self._read(raw, index, codec), codec
        except RowError as failure:
            error = failure
        except WrongTargetError:
            error = RowError(
                Code.MODEL_MISMATCH, "model", "the record names another model or version"
            )
        try:
            if codec is not None and isinstance(error, RowError) and error.code in _SCHEMA_CODES:
                spec = codec.spec
                newer = await self.specs.codec(spec.model, spec.version, newer_than=self.started)
                if newer is not codec:
                    return self._read(raw, index, newer), newer
        except RowError as failure:
            error = failure
        assert isinstance(error, RowError)
        self._refuse(raw, index, error, codec.layout if codec else None, "ts")
        return None

    def _read(self, raw: Record, index: int, codec: Codec) -> PreparedRow:
        return codec.read(raw, index, self.horizon, self.verdicts, escapes=self.sent.escapes)

    async def _named_codec(self, raw: Record) -> Codec:
        """Return the codec that one record asks for."""
        model, version = self._names(raw)
        if version is None:
            raise RowError(
                Code.MISSING_FIELD, "version", "neither record nor request has a version"
            )
        key = (model, version)
        self._limit_targets(key)
        try:
            return await self._codec(model, version)
        except NotFoundError as error:
            raise self._remember(key, error) from None

    def _names(self, raw: Record) -> tuple[str, str | None]:
        try:
            named = _target.decode(raw)
        except (ValueError, RecursionError):
            load_record(raw, self.sent.depth)
            raise RowError(
                Code.BAD_RECORD, None, "the record is not an object that can be read"
            ) from None
        model = named.model if named.model is not None else self.sent.model
        if model is None:
            raise RowError(Code.MISSING_FIELD, "model", "neither record nor request has a model")
        version = named.version if named.version is not None else self.sent.version
        return model, version

    def _limit_targets(self, key: Any) -> None:
        if key in self.failures:
            raise self.failures[key]
        self.targets.add(key)
        if len(self.targets) > MAX_TARGETS:
            message = f"a request names at most {MAX_TARGETS} versions"
            raise RowError(Code.TOO_MANY_VERSIONS, "version", message)

    def _remember(self, key: Any, error: ServiceError) -> RowError:
        failure = RowError(Code(error.code), error.code.removeprefix("unknown-"), error.detail)
        self.failures[key] = failure
        return failure

    async def labels(self) -> Batch:
        """Read label records."""
        batch = Batch(self.verdicts)
        common = None if self.sent.model is None else await self.specs.labels(self.sent.model)
        for index, raw in enumerate(self.sent.records):
            spec = common
            try:
                if spec is None or self.sent.lines:
                    spec = await self._named_labels(raw)
                batch.labels.append(await self._label(raw, index, spec))
            except RowError as error:
                self._refuse(raw, index, error, spec, "label_ts")
        return batch

    async def _label(self, raw: Record, index: int, spec: LabelSpec) -> PreparedLabel:
        try:
            return read_label(raw, index, spec, self.horizon, self.verdicts)
        except RowError as error:
            if error.code not in _SCHEMA_CODES:
                raise
        newer = await self.specs.labels(spec.model, newer_than=self.started)
        return read_label(raw, index, newer, self.horizon, self.verdicts)

    async def _named_labels(self, raw: Record) -> LabelSpec:
        model, _ = self._names(raw)
        self._limit_targets(model)
        try:
            return await self.specs.labels(model)
        except NotFoundError as error:
            raise self._remember(model, error) from None

    def _refuse(
        self,
        raw: Record,
        index: int,
        error: RowError,
        schema: Layout | LabelSpec | None,
        time_field: str,
    ) -> None:
        """List and count a record that is not stored."""
        self._check_syntax(error)
        prediction_id, ts = None, self.horizon.now
        try:
            record = load_record(raw, self.sent.depth)
            if isinstance(record, dict):
                if error.code is not Code.TIMESTAMP_TOO_OLD:
                    ts = _usable_time(record, time_field, self.horizon)
                prediction_id = read_id(record)
        except RowError as fault:
            # What was refused before it was read to its end may be no JSON further on.
            self._check_syntax(fault)
        self.verdicts.refuse(index, prediction_id, error, schema.model if schema else "")
        if schema is not None:
            self.verdicts.faults[schema.fault(ts, "", error.code)] += 1
            for name in self._countable(error.unknown):
                self.verdicts.faults[schema.fault(ts, name, error.code)] += 1

    def _check_syntax(self, error: RowError) -> None:
        """Raise if the whole document is at fault: only lines confine a fault of syntax."""
        if not self.sent.lines and error.code in _SYNTAX_CODES:
            raise BadRequestError(error.detail, code=error.code)

    def _countable(self, names: Iterable[str]) -> Iterator[str]:
        """Yield the names that can be stored, of a request only the first few, else the others'."""
        for name in names:
            if len(self.unknown) < limits.MAX_UNKNOWN_NAMES and is_name(name):
                self.unknown.add(name)
            yield name if name in self.unknown else OTHERS


def _usable_time(record: dict[str, Any], time_field: str, horizon: Horizon) -> int:
    try:
        return horizon.parse(record.get(time_field), time_field)
    except RowError:
        return horizon.now
