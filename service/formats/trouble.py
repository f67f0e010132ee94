"""What can be wrong with a payload that somebody else designed."""

from enum import StrEnum


class Trouble(StrEnum):
    """Every verdict that costs a whole event or line."""

    BAD_CSV = "bad-csv"
    BAD_EVENT = "bad-event"
    BAD_SHAPE = "bad-shape"
    BAD_TENSOR = "bad-tensor"
    BINARY_PAYLOAD = "binary-payload"
    COLUMN_COUNT = "column-count"
    MALFORMED_PAYLOAD = "malformed-payload"
    NO_DATA = "no-data"
    NO_SCHEMA = "no-schema"
    TOO_DEEP = "too-deep"
    TOO_MANY_ROWS = "too-many-rows"
    UNKNOWN_ENCODING = "unknown-encoding"
    UNKNOWN_ORDER = "unknown-order"
    UNKNOWN_OUTPUT = "unknown-output"
    UNKNOWN_PAYLOAD = "unknown-payload"
    UNSUPPORTED_EVENT = "unsupported-event"


class PayloadError(Exception):
    """One payload cannot be read; the detail repeats nothing of it."""

    def __init__(self, code: Trouble, field: str | None, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.field = field
        self.detail = detail
