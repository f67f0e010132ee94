"""Labels: records to rows of the label table, and the marks that they leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import psycopg

from service.ingest import copy
from service.ingest.decode import Record, load_record
from service.ingest.examine import (
    LABEL_FIELDS,
    check_names,
    read_amount,
    read_class,
    read_id,
    read_time,
)
from service.ingest.times import HOUR, Horizon, Kept
from service.ingest.verdicts import Code, Fault, RowError, Verdicts


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """What labels of a model may say: the classes of all its versions, or numbers."""

    model_id: int
    model: str
    classes: tuple[str, ...]
    task: str = "binary"
    kept: Kept | None = None

    def fault(self, ts: int, field: str, code: str) -> Fault:
        """Return where a fault of this model's labels is counted."""
        return Fault(self.model_id, None, ts // HOUR, field, code)


class PreparedLabel(msgspec.Struct, gc=False):
    """A label that can be stored; ``key`` names it, ``tail`` is what it says."""

    key: bytes
    tail: bytes
    spec: LabelSpec
    label_ts: int
    prediction_id: str
    index: int
    owner: Verdicts

    conflict: ClassVar[RowError] = RowError(
        Code.CONFLICTING_LABEL,
        "label",
        "another label of the same label_ts is stored; a correction has a newer label_ts",
    )

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self.spec.model

    def aside(self, raw: Record) -> Record:
        """Return the record as it may be put aside: a label is nobody's but its prediction's."""
        return raw

    def fault(self, code: str) -> Fault:
        """Return where a fault that costs this label is counted."""
        return self.spec.fault(self.label_ts, "", code)


def read_label(
    raw: Record, index: int, spec: LabelSpec, horizon: Horizon, owner: Verdicts
) -> PreparedLabel:
    """Return the label of a record, or raise its verdict."""
    record: dict[str, Any] = check_names(load_record(raw, owner.depth), LABEL_FIELDS)
    if record.get("model") not in (None, spec.model):
        raise RowError(
            Code.MODEL_MISMATCH, "model", "the record names another model than its batch"
        )
    prediction_id = read_id(record)
    kept = horizon if spec.kept is None else horizon.kept(spec.kept)
    label_ts = read_time(record, "label_ts", kept)
    if record.get("label") is None:
        raise RowError(Code.MISSING_FIELD, "label", "the record has no label")
    if spec.task == "regression":
        said = copy.NULL + copy.float8_field(read_amount(record["label"], "label", Code.BAD_LABEL))
    else:
        text = read_class(record["label"], spec.classes, "label", Code.BAD_LABEL)
        said = copy.text_field(text) + copy.NULL
    key = b"".join(
        (
            copy.int8_field(spec.model_id),
            copy.text_field(prediction_id),
            copy.time_field(label_ts),
        )
    )
    return PreparedLabel(key, said, spec, label_ts, prediction_id, index, owner)


def mark_labels(cursor: psycopg.Cursor, labels: Sequence[PreparedLabel]) -> None:
    """Say which hours of which versions have new labels.

    Labels whose prediction cannot be seen yet are listed by id.  The worker looks for them after
    this commit: either it finds the prediction then, or the prediction commits later and leaves
    a mark of its own.
    """
    if not labels:
        return
    wanted = {(label.spec.model_id, label.prediction_id) for label in labels}
    models, ids = zip(*sorted(wanted), strict=True)
    cursor.execute(
        "WITH wanted AS (SELECT m, p FROM unnest(%s::bigint[], %s::text[]) AS wanted (m, p)), "
        "found AS (SELECT w.m, w.p, i.version_id, date_trunc('hour', i.ts, 'UTC') AS bucket "
        "FROM wanted w LEFT JOIN prediction_identity i "
        "ON i.model_id = w.m AND i.prediction_id = w.p), "
        "noted AS (INSERT INTO pending_label (model_id, prediction_id) SELECT m, p FROM found "
        "WHERE version_id IS NULL ORDER BY m, p ON CONFLICT DO NOTHING) "
        "INSERT INTO arrival (model_id, version_id, bucket, kind, pending) "
        "SELECT m, version_id, bucket, 'labels', "
        "CASE WHEN version_id IS NULL THEN array_agg(p) END "
        "FROM found GROUP BY m, version_id, bucket",
        (list(models), list(ids)),
    )
