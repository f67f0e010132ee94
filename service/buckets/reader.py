"""Rows out of Postgres as Arrow, a batch at a time, under the names that people use."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import adbc_driver_postgresql.dbapi
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import ColumnElement, Select, and_, func, literal, over, select
from sqlalchemy.dialects import postgresql

from service.buckets.columns import most_rows
from service.ingest.tables import Label, prediction
from service.profiles.arrays import LABEL, RELABELLED, score_column
from service.registry.values import VersionSpec

_LIMITS = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "options": "-c lock_timeout=10s -c statement_timeout=30min",
}


class RowReader:
    """One ADBC connection, opened on first use and again after a failure."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    def features(
        self, version: VersionSpec, start: datetime, end: datetime
    ) -> Iterator[pa.RecordBatch]:
        """Yield ts, prediction, score, weight and every feature of the rows in [start, end)."""
        return self._named(version, select(*_columns(version)).where(_span(version, start, end)))

    def labelled(
        self, version: VersionSpec, start: datetime, end: datetime
    ) -> Iterator[pa.RecordBatch]:
        """Yield ts, prediction, score, weight and label of the labelled rows in [start, end).

        The label is the newest; ``RELABELLED`` says whether the row was given another one, too.
        """
        read = replace(version, features=(), attributions=())
        return self._named(read, _with_newest_label(version, _fixed(version), start, end))

    def with_labels(
        self, version: VersionSpec, start: datetime, end: datetime, names: Collection[str]
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows in [start, end), labelled or not, with the named features and tags.

        A tag is named ``tags.<name>``; what the version does not have is left out.  Labels are as
        for ``labelled``.
        """
        features = tuple(feature for feature in version.features if feature.name in names)
        tags = _tags(names)
        read = replace(version, features=features, attributions=())
        columns = [*_columns(read), *_tag_columns(tags)]
        query = _with_newest_label(version, columns, start, end, unlabelled=True)
        for batch in self._named(read, query):
            yield _with_tags(batch, tags)

    def sample(
        self,
        version: VersionSpec,
        start: datetime,
        end: datetime,
        rows: int,
        names: Collection[str] = (),
    ) -> pa.Table:
        """Return at most ``rows`` rows of [start, end): those with the smallest hashes of their id.

        The same rows every time, whatever order they came in; with every feature, the named tags,
        and the label where it is known.
        """
        # Vectors are large, and a few thousand of them tell as much.
        rows = min(rows, most_rows(sum(feature.length or 0 for feature in version.features)))
        tags = _tags(names)
        read = [*_columns(version), *_tag_columns(tags)]
        chosen = (
            select(*read, prediction.c.model_id, prediction.c.prediction_id)
            .where(_span(version, start, end))
            .order_by(*_by_hash(prediction.c.prediction_id))
            .limit(rows)
            .subquery()
        )
        newest = (
            select(_label(version))
            .where(
                Label.model_id == chosen.c.model_id, Label.prediction_id == chosen.c.prediction_id
            )
            .order_by(Label.label_ts.desc())
            .limit(1)
            .scalar_subquery()
        )
        kept = [column for column in chosen.c if column.name not in {"model_id", "prediction_id"}]
        query = select(*kept, newest.label("label"))
        batches = self._named(version, query.order_by(*_by_hash(chosen.c.prediction_id)))
        return _table(_with_tags(batch, tags) for batch in batches)

    def first_rows(self, version: VersionSpec, rows: int) -> pa.Table:
        """Return the version's first rows by time, to freeze edges on where no reference is."""
        batches = self._named(
            version,
            select(*_columns(version))
            .where(
                prediction.c.model_id == version.model_id,
                prediction.c.version_id == version.version_id,
            )
            .order_by(prediction.c.ts, prediction.c.prediction_id)
            .limit(rows),
        )
        return _table(batches)

    def close(self) -> None:
        """Close the connection; the next read opens another."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _named(self, version: VersionSpec, query: Select[Any]) -> Iterator[pa.RecordBatch]:
        for batch in self._batches(query):
            arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
            for position, name in enumerate(_many(version)):
                arrays[score_column(name)] = arrays.pop(f"scores_{position}")
            for own in (*version.features, *version.attributions):
                arrays[own.name] = _meant(own.kind, arrays.pop(own.slot))
            yield pa.RecordBatch.from_pydict(arrays)

    def _batches(self, query: Select[Any]) -> Iterator[pa.RecordBatch]:
        if self._connection is None:
            self._connection = adbc_driver_postgresql.dbapi.connect(
                _with_limits(self._url), autocommit=True
            )
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(as_text(query))
                yield from cursor.fetch_record_batch()
        except adbc_driver_postgresql.dbapi.Error:
            self.close()
            raise


def as_text(query: Select[Any]) -> str:
    """Return a query with its values in it."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's omission
    return str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def _with_limits(url: str) -> str:
    """Return the address with what ends a connection that leads nowhere, or a read without end.

    No one can wait for this driver with a limit of his own.
    """
    return f"{url}{'&' if '?' in url else '?'}{urlencode(_LIMITS, quote_via=quote)}"


def _by_hash(prediction_id: ColumnElement[str]) -> tuple[ColumnElement[Any], ...]:
    return (func.hashtextextended(prediction_id, 0), prediction_id)


def _tags(names: Collection[str]) -> list[str]:
    return [name for name in sorted(names) if name.startswith("tags.")]


def _tag_columns(tags: Collection[str]) -> list[ColumnElement[Any]]:
    # Neither a feature nor a tag has such a name; their own may be too long for Postgres.
    return [
        prediction.c.tags[name.removeprefix("tags.")].astext.label(f"tags.#{i}")
        for i, name in enumerate(tags)
    ]


def _with_tags(batch: pa.RecordBatch, tags: Collection[str]) -> pa.RecordBatch:
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    for i, name in enumerate(tags):
        arrays[name] = arrays.pop(f"tags.#{i}")
    return pa.RecordBatch.from_pydict(arrays)


def _meant(kind: str, values: pa.Array) -> pa.Array:
    """Return what is in a slot as its kind is known: booleans are not 0, times are seconds."""
    if kind == "boolean":
        return pc.not_equal(values, 0.0)
    if kind == "datetime":
        micros = pc.round(pc.multiply(values, 1e6))
        return micros.cast(pa.int64()).cast(pa.timestamp("us", "UTC"))
    return values


def _with_newest_label(
    version: VersionSpec,
    columns: Collection[ColumnElement[Any]],
    start: datetime,
    end: datetime,
    *,
    unlabelled: bool = False,
) -> Select[Any]:
    # One sort tells which label is the newest and whether all are the same; two lookups of each
    # label would take longer.
    label, row = _label(version), prediction.c.prediction_id
    # Not as a constant: PostgreSQL would look it up among the models that its statistics know, take
    # the labels of one that is newer than these for a single row, and search all the predictions
    # once for each of them: minutes where it is seconds.
    model_id = select(literal(version.model_id)).scalar_subquery()
    of_row = and_(Label.model_id == model_id, Label.prediction_id == row)
    given = (
        select(
            *columns,
            label.label(LABEL),
            Label.label_ts.label("given_at"),
            over(func.max(Label.label_ts), partition_by=row).label("newest"),
            _differs(label, row).label(RELABELLED),
        )
        .join_from(prediction, Label, of_row, isouter=unlabelled)
        .where(_span(version, start, end))
        .subquery()
    )
    kept = [column for column in given.c if column.name not in {"given_at", "newest"}]
    return select(*kept).where(given.c.given_at.is_not_distinct_from(given.c.newest))


def _differs(label: ColumnElement[Any], row: ColumnElement[str]) -> ColumnElement[bool]:
    least, most = func.min(label), func.max(label)
    return over(least, partition_by=row) != over(most, partition_by=row)


def _table(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    collected = list(batches)
    return pa.Table.from_batches(collected) if collected else pa.table({})


def _columns(version: VersionSpec) -> list[ColumnElement[Any]]:
    slots = [prediction.c[own.slot] for own in (*version.features, *version.attributions)]
    return [*_fixed(version), *slots]


def _fixed(version: VersionSpec) -> list[ColumnElement[Any]]:
    columns = prediction.c
    if version.task == "regression":
        return [columns.ts, columns.predicted_value.label("prediction"), columns.weight]
    if version.task == "multiclass":
        # Arrays begin at 1; the labels are not the classes' names, which may hold anything.
        scores = [columns.scores[i + 1].label(f"scores_{i}") for i in range(len(version.classes))]
        return [columns.ts, columns.prediction, columns.weight, *scores]
    return [columns.ts, columns.prediction, columns.score, columns.weight]


def _many(version: VersionSpec) -> tuple[str, ...]:
    return version.classes if version.task == "multiclass" else ()


def _label(version: VersionSpec) -> ColumnElement[Any]:
    table = Label.__table__
    return table.c.label_value if version.task == "regression" else table.c.label


def _span(version: VersionSpec, start: datetime, end: datetime) -> ColumnElement[bool]:
    columns = prediction.c
    return and_(
        columns.model_id == version.model_id,
        columns.version_id == version.version_id,
        columns.ts >= start,
        columns.ts < end,
    )
