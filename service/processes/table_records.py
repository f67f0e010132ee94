"""A table as prediction and label records, batch by batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from service.processes.files import File, SourceError
from service.processes.table_files import (
    as_utc,
    as_values,
    column_names,
    fingerprint,
    pieces,
)

# Columns like `scores.north` are parts of one field of a record.
FIELDS: Final = ("attributions", "scores", "tags")
ROLES: Final = (
    *("prediction_id", "ts", "prediction", "score", "weight", "subject"),
    *("label", "label_ts"),
)


@dataclass(frozen=True)
class Options:
    """How the columns of the file are read, and where its time starts.

    ``columns`` names the column of each role that is not called like its role; ``shift`` is
    added to every timestamp, and ``start``, when given, is where the first row's time is moved.
    """

    columns: Mapping[str, str]
    ignore: frozenset[str] = frozenset()
    shift: timedelta = timedelta(0)
    start: datetime | None = None
    label_delay: timedelta = timedelta(0)
    batch: int = 1_000


@dataclass(frozen=True)
class Batch:
    """Records of consecutive rows; ``newest`` is the latest time among them."""

    predictions: list[dict[str, Any]]
    labels: list[tuple[datetime, dict[str, Any]]]
    newest: datetime

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.predictions)


class Source:
    """A file that gives the same records each time it is read, ids included."""

    def __init__(self, file: File, identity: Sequence[str], options: Options) -> None:
        self._file = file
        self._options = options
        names = column_names(file)
        self._roles = _roles(names, options)
        rest = [name for name in names if name not in {*self._roles.values(), *options.ignore}]
        self._parts = {name: parts for name in rest if (parts := _parts(name))}
        self._features = [name for name in rest if name not in self._parts]
        # Features that are times: they are moved as the rows are.
        self.times: frozenset[str] = frozenset()
        self._clock = self._roles.get("ts") or self._roles.get("label_ts")
        if self._clock is None:
            message = (
                f"{file.address} has no column `ts`; name the one that holds it: --map ts=COLUMN"
            )
            raise SourceError(message)
        self._shift = options.shift
        if options.start is not None:
            self._shift += options.start - self._first_time()
        self.fingerprint = fingerprint(file, [*identity, str(self._shift)])

    @property
    def address(self) -> str:
        """What the file is called."""
        return self._file.address

    @property
    def features(self) -> list[str]:
        """The columns that are sent as features."""
        return list(self._features)

    @property
    def has_predictions(self) -> bool:
        """Whether the rows have a time, and a prediction or a score."""
        scored = any(field == "scores" for field, _ in self._parts.values())
        return "ts" in self._roles and (
            scored or not self._roles.keys().isdisjoint({"prediction", "score"})
        )

    @property
    def has_labels(self) -> bool:
        """Whether there is a label column."""
        return "label" in self._roles

    def batches(self, skip: int = 0) -> Iterator[Batch]:
        """Yield the file's records in its own order, without the first rows to ``skip``."""
        first = 0
        for piece in pieces(self._file, self._options.batch):
            end = first + piece.num_rows
            if end > skip:
                done = max(0, skip - first)
                yield self._batch(piece.slice(done), first + done)
            first = end

    def _first_time(self) -> datetime:
        piece = next(pieces(self._file, 1), None)
        if piece is None:
            message = f"{self._file.address} has no rows"
            raise SourceError(message)
        assert self._clock is not None
        return _times(piece, self._clock)[0]

    def _batch(self, piece: pa.Table, first: int) -> Batch:
        assert self._clock is not None
        times = [ts + self._shift for ts in _times(piece, self._clock)]
        roles = {
            role: as_values(piece.column(name))
            for role, name in self._roles.items()
            if role not in {"ts", "label_ts"}
        }
        ids = [f"{self.fingerprint}-{row}" for row in range(first, first + piece.num_rows)]
        if "prediction_id" in roles:
            ids = [str(value) for value in roles["prediction_id"]]
        labels: list[tuple[datetime, dict[str, Any]]] = []
        if self.has_labels:
            labels = _labels(ids, roles["label"], self._label_times(piece, times))
        features = [self._values(piece, name) for name in self._features]
        predictions = self._predictions(ids, times, features, roles)
        for name, (field, part) in self._parts.items():
            for record, value in zip(predictions, as_values(piece.column(name)), strict=True):
                if value is not None or field == "attributions":
                    own = record.setdefault(field, {})
                    own[part] = str(value) if field == "tags" else value
        return Batch(predictions, labels, max(times))

    def _values(self, piece: pa.Table, name: str) -> list[Any]:
        column = piece.column(name)
        if name not in self.times:
            return as_values(column)
        try:
            times = as_utc(column).to_pylist()
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            # The service says of each value that it is no time.
            return as_values(column)
        return [None if ts is None else _text(ts + self._shift) for ts in times]

    def _predictions(
        self,
        ids: list[str],
        times: list[datetime],
        features: list[list[Any]],
        roles: Mapping[str, list[Any]],
    ) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = [
            {
                "prediction_id": one,
                "ts": _text(ts),
                "features": {
                    name: column[row] for name, column in zip(self._features, features, strict=True)
                },
            }
            for row, (one, ts) in enumerate(zip(ids, times, strict=True))
        ]
        for role in ("prediction", "score", "weight", "subject"):
            for record, value in zip(records, roles.get(role, ()), strict=False):
                if value is not None:
                    record[role] = str(value) if role == "subject" else value
        return records

    def _label_times(self, piece: pa.Table, times: list[datetime]) -> list[datetime]:
        if "label_ts" in self._roles:
            return [ts + self._shift for ts in _times(piece, self._roles["label_ts"])]
        return [ts + self._options.label_delay for ts in times]


def _parts(name: str) -> tuple[str, str] | None:
    """Return the field of a record that a column is a part of, and which part."""
    field, dot, part = name.partition(".")
    return (field, part) if dot and part and field in FIELDS else None


def _labels(
    ids: list[str], labels: list[Any], times: list[datetime]
) -> list[tuple[datetime, dict[str, Any]]]:
    return [
        (ts, {"prediction_id": one, "label": label, "label_ts": _text(ts)})
        for one, label, ts in zip(ids, labels, times, strict=True)
        if label is not None
    ]


def _roles(names: Sequence[str], options: Options) -> dict[str, str]:
    roles = {role: role for role in ROLES if role in names and role not in options.ignore}
    roles.update(options.columns)
    missing = sorted({*roles.values(), *options.ignore} - set(names))
    if missing:
        message = f"the file has no column {missing[0]!r}; it has {', '.join(names)}"
        raise SourceError(message)
    return roles


def _times(piece: pa.Table, column: str) -> list[datetime]:
    try:
        times: list[datetime] = as_utc(piece.column(column)).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        message = f"column {column!r} cannot be read as time; name another with --map ts=COLUMN"
        raise SourceError(message) from None
    if None in times:
        message = f"column {column!r} has rows without a time"
        raise SourceError(message)
    return times


def _text(ts: datetime) -> str:
    return ts.isoformat().replace("+00:00", "Z")
