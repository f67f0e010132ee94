"""What became of the rows of one request."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from service.ingest.limits import MAX_PROBLEM_ROWS, MAX_WARNINGS


class Code(StrEnum):
    """Every verdict that costs a row."""

    BAD_FEATURES = "bad-features"
    BAD_LABEL = "bad-label"
    BAD_PREDICTION = "bad-prediction"
    BAD_PREDICTION_ID = "bad-prediction-id"
    BAD_RECORD = "bad-record"
    BAD_SCORE = "bad-score"
    BAD_SUBJECT = "bad-subject"
    BAD_TAGS = "bad-tags"
    BAD_TIMESTAMP = "bad-timestamp"
    BAD_WEIGHT = "bad-weight"
    CONFLICTING_DUPLICATE = "conflicting-duplicate"
    CONFLICTING_LABEL = "conflicting-label"
    CONTROL_CHARACTER = "control-character"
    DATABASE_REFUSED = "database-refused"
    ERASED = "erased"
    MALFORMED_JSON = "malformed-json"
    MISSING_FIELD = "missing-field"
    MODEL_MISMATCH = "model-mismatch"
    NUMBER_OUT_OF_RANGE = "number-out-of-range"
    STRING_TOO_LONG = "string-too-long"
    TIMESTAMP_IN_FUTURE = "timestamp-in-future"
    TIMESTAMP_OUT_OF_RANGE = "timestamp-out-of-range"
    TIMESTAMP_TOO_OLD = "timestamp-too-old"
    TIMESTAMP_WITHOUT_ZONE = "timestamp-without-zone"
    TOO_DEEP = "too-deep"
    TOO_MANY_FEATURES = "too-many-features"
    TOO_MANY_VERSIONS = "too-many-versions"
    UNKNOWN_CLASS = "unknown-class"
    UNKNOWN_FEATURE = "unknown-feature"
    UNKNOWN_FIELD = "unknown-field"
    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_VERSION = "unknown-version"


class BatchKey(NamedTuple):
    """A digest of what a client calls a batch, and one of what is in it."""

    name: bytes
    content: bytes


class RowError(Exception):
    """One record cannot be stored; it never leaves its batch."""

    def __init__(
        self, code: Code, field: str | None, detail: str, unknown: tuple[str, ...] = ()
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.field = field
        self.detail = detail
        self.unknown = unknown
        """Names of features that the schema lacks, to be counted."""


class Refusal(NamedTuple):
    """Why one record was not stored; only an acceptable ``prediction_id`` is repeated."""

    at: int
    prediction_id: str | None
    field: str | None
    code: Code
    detail: str

    def document(self) -> dict[str, Any]:
        """Return the entry of the answer."""
        return {
            "index": self.at,
            "prediction_id": self.prediction_id,
            "field": self.field,
            "code": self.code,
            "detail": self.detail,
        }


class Fault(NamedTuple):
    """A kind of trouble that is counted per version and hour."""

    model_id: int
    version_id: int | None
    bucket: int
    field: str
    code: str


@dataclass(slots=True)
class Verdicts:
    """The answer to one request while it is being made."""

    depth: int = 0
    """How many levels of the document lie above a record."""
    sent: int = 0
    model: str | None = None
    version: str | None = None
    """What a record that names neither belongs to."""
    records: Sequence[Any] = ()
    """What was sent, for a row that becomes a dead letter."""
    key: BatchKey | None = None
    """What the client calls the batch."""
    accepted: int = 0
    duplicates: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    faults: Counter[Fault] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    """Refusals per registered model; those of unknown models count under an empty name."""

    def warn(self, index: int, name: str, code: str) -> None:
        """List a warning, unless enough are listed already."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append({"index": index, "field": name, "code": code})

    def refuse(
        self, index: int, prediction_id: str | None, error: RowError, model: str = ""
    ) -> None:
        """List a record that is not stored."""
        self.rejected[model] += 1
        refusal = Refusal(index, prediction_id, error.field, error.code, error.detail)
        self.refusals.append(refusal)

    def document(self) -> dict[str, Any]:
        """Return the answer; accepted, duplicates and rejected add up to what was sent."""
        return self._document(self.accepted, self.duplicates, self.refusals)

    def foretold(
        self, accepted: int, duplicates: int, conflicts: Iterable[tuple[int, RowError]]
    ) -> dict[str, Any]:
        """Return the answer as it will be after the commit, without the ids that clients chose."""
        refusals = [Refusal(at, None, e.field, e.code, e.detail) for at, e in conflicts]
        refusals += [refusal._replace(prediction_id=None) for refusal in self.refusals]
        return self._document(accepted, duplicates, refusals)

    def _document(self, accepted: int, duplicates: int, refusals: list[Refusal]) -> dict[str, Any]:
        return {
            "accepted": accepted,
            "duplicates": duplicates,
            "rejected": [refusal.document() for refusal in _in_order(refusals)],
            "warnings": self.warnings,
        }

    def problem_rows(self) -> list[dict[str, Any]]:
        """Return the first refusals, for a request of which no row was stored."""
        return [refusal.document() for refusal in _in_order(self.refusals)[:MAX_PROBLEM_ROWS]]


def _in_order(refusals: list[Refusal]) -> list[Refusal]:
    return sorted(refusals, key=lambda refusal: refusal.at)
