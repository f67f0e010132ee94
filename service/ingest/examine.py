"""Records that are not plainly right: field by field, with a verdict for each fault.

A feature of the wrong type costs the feature, anything else that is wrong costs the row.  No
detail repeats what was sent; names are of this interface, of the schema, or plain words.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from service.ingest import limits
from service.ingest.times import Horizon, seconds_of
from service.ingest.verdicts import Code, RowError
from service.registry.classes import class_text
from service.registry.values import FeatureSpec, VersionSpec

# Tab and the ends of lines are text; PostgreSQL stores no NUL, and the rest is never meant.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CONTROL_IN_ID = re.compile("[\x00-\x1f]")
_LONGEST_TOLD = 64

PREDICTION_FIELDS = frozenset(
    {
        *("model", "version", "prediction_id", "ts", "features", "prediction"),
        *("score", "scores", "weight", "subject", "tags", "attributions"),
    }
)
LABEL_FIELDS = frozenset({"model", "version", "prediction_id", "label", "label_ts"})


LARGEST_REAL = (2 - 2**-23) * 2.0**127
Stored = float | str | tuple[float, ...] | None


class Fields(msgspec.Struct, gc=False):
    """What is stored of one record; features in the order of their layout."""

    prediction_id: str
    ts: int
    prediction: str | float | None
    score: float | None
    scores: tuple[float, ...] | None
    weight: float | None
    subject: str | None
    tags: bytes | None
    numbers: tuple[float | None, ...]
    texts: tuple[str | None, ...]
    vectors: tuple[Sequence[float] | None, ...] = ()
    attributions: tuple[float | None, ...] = ()


class WrongTypeError(Exception):
    """A feature's value is not of its kind."""


def check_names(record: Any, known: frozenset[str]) -> dict[str, Any]:
    """Return the record if it is an object with fields of this interface only."""
    if not isinstance(record, dict):
        raise RowError(Code.BAD_RECORD, None, "the record is not an object")
    if not known.issuperset(record):
        raise RowError(Code.UNKNOWN_FIELD, None, "the record has a field that is not known")
    return record


def read_id(record: Mapping[str, Any]) -> str:
    """Return the prediction's id."""
    value = record.get("prediction_id")
    if value is None:
        raise RowError(Code.MISSING_FIELD, "prediction_id", "the record has no prediction_id")
    if not isinstance(value, str) or not 1 <= len(value) <= limits.MAX_ID:
        raise RowError(
            Code.BAD_PREDICTION_ID,
            "prediction_id",
            f"a prediction_id is a string of 1 to {limits.MAX_ID} characters",
        )
    if _CONTROL_IN_ID.search(value):
        message = "a prediction_id holds no control characters"
        raise RowError(Code.BAD_PREDICTION_ID, "prediction_id", message)
    return value


def is_name(value: str) -> bool:
    """Say whether the name of a feature that nobody declared is short and plain text."""
    return 1 <= len(value) <= limits.MAX_ID and not _CONTROL_IN_ID.search(value)


def unknown_feature(names: tuple[str, ...], part: str = "features") -> RowError:
    """Refuse names that a schema lacks; the first is told if it is a plain word or some."""
    first = names[0]
    told = len(first) <= _LONGEST_TOLD and all(c.isalnum() or c in "_-. " for c in first)
    more = f", nor {len(names) - 1} more" if len(names) > 1 else ""
    message = f"the version's schema does not have this feature{more}"
    return RowError(Code.UNKNOWN_FEATURE, first if told and first else part, message, names)


def read_text(value: str, field: str) -> str:
    """Return a text that can be stored."""
    if len(value) > limits.SAFE_TEXT and len(value.encode()) > limits.MAX_TEXT_BYTES:
        message = f"a text has at most {limits.MAX_TEXT_BYTES} bytes"
        raise RowError(Code.STRING_TOO_LONG, field, message)
    if _CONTROL.search(value):
        raise RowError(Code.CONTROL_CHARACTER, field, "the text holds a control character")
    return value


def read_number(value: float, field: str) -> float:
    """Return a number as it is stored: integers beyond 64 bits are faults of a client."""
    if isinstance(value, int) and not -limits.MAX_INTEGER <= value < limits.MAX_INTEGER:
        raise RowError(Code.NUMBER_OUT_OF_RANGE, field, "the integer does not fit 64 bits")
    return float(value)


def read_feature(value: object, feature: FeatureSpec) -> Stored:
    """Return a feature as it is stored, or raise ``WrongTypeError``."""
    kind, field = feature.kind, feature.name
    if value is None:
        return None
    if (
        kind in {"numeric", "attribution"}
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ):
        return read_number(value, field)
    if kind == "boolean" and isinstance(value, bool):
        return float(value)
    if kind in {"categorical", "text"} and isinstance(value, str):
        return read_text(value, field)
    if kind == "datetime" and isinstance(value, str) and (at := seconds_of(value)) is not None:
        return at
    if kind == "embedding" and isinstance(value, list) and len(value) == feature.length:
        return tuple(_element(number) for number in value)
    raise WrongTypeError


def _element(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > LARGEST_REAL:
        raise WrongTypeError
    return float(value)


def read_class(value: object, classes: tuple[str, ...], field: str, code: Code) -> str | None:
    """Return the canonical class of a prediction or label."""
    if value is None:
        return None
    text = class_text(value, classes) if isinstance(value, str | int | float) else None
    if text is None:
        raise RowError(code, field, "a class is a string, a number or a boolean")
    if classes and text not in classes:
        raise RowError(Code.UNKNOWN_CLASS, field, "the class is not one of the version's classes")
    return read_text(text, field)


def read_amount(value: object, field: str, code: Code) -> float:
    """Return the number that a regression model predicts, or that is its label."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RowError(code, field, "the model's task is regression: a number is needed")
    number = read_number(value, field)
    if not math.isfinite(number):
        raise RowError(Code.NUMBER_OUT_OF_RANGE, field, "the number is not finite")
    return number


def read_score(record: Mapping[str, Any], spec: VersionSpec) -> float | None:
    """Return the positive class's probability, from ``score`` or from ``scores``."""
    value = record.get("score")
    scores = record.get("scores")
    if spec.task == "regression" and (value is not None or scores is not None):
        name = "scores" if value is None else "score"
        raise RowError(Code.BAD_SCORE, name, "the model's task is regression, which has no scores")
    if value is None and scores is not None:
        value = _positive_score(scores, spec)
    if value is None:
        return None
    return _probability(value, "score")


def read_scores(record: Mapping[str, Any], spec: VersionSpec) -> tuple[float, ...] | None:
    """Return the probabilities of a model of many classes, in the order of the classes."""
    if record.get("score") is not None:
        message = "the model has more than two classes: scores maps each to its probability"
        raise RowError(Code.BAD_SCORE, "score", message)
    scores = record.get("scores")
    if scores is None:
        return None
    if not isinstance(scores, dict):
        raise RowError(Code.BAD_SCORE, "scores", "scores maps classes to probabilities")
    if not spec.classes:
        raise RowError(Code.BAD_SCORE, "scores", "the version has no classes yet; declare them")
    if not set(spec.classes).issuperset(scores):
        raise RowError(Code.UNKNOWN_CLASS, "scores", "scores names a class that the version lacks")
    if len(scores) < len(spec.classes):
        raise RowError(Code.BAD_SCORE, "scores", "scores needs a probability for every class")
    return tuple(_probability(scores[name], "scores") for name in spec.classes)


def _probability(value: object, field: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise RowError(Code.BAD_SCORE, field, "a score is a probability between 0 and 1")
    return float(value)


def _positive_score(scores: object, spec: VersionSpec) -> float | None:
    if not isinstance(scores, dict):
        raise RowError(Code.BAD_SCORE, "scores", "scores maps classes to probabilities")
    if not spec.classes or spec.positive_class is None:
        raise RowError(Code.BAD_SCORE, "scores", "the version has no classes; send score")
    if not set(spec.classes).issuperset(scores):
        raise RowError(Code.UNKNOWN_CLASS, "scores", "scores names a class that the version lacks")
    known = {name: _probability(p, "scores") for name, p in scores.items() if p is not None}
    if spec.positive_class in known:
        return known[spec.positive_class]
    return 1.0 - next(iter(known.values())) if known else None


def read_weight(value: object) -> float | None:
    """Return the weight of a row."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise RowError(Code.BAD_WEIGHT, "weight", "a weight is a number that is not negative")
    return read_number(value, "weight")


def read_subject(value: object) -> str | None:
    """Return whom the row is about."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowError(Code.BAD_SUBJECT, "subject", "a subject is a string")
    return read_text(value, "subject")


def read_tags(value: object) -> bytes | None:
    """Return the tags as JSON in one canonical order, so that equal tags hash equally."""
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > limits.MAX_TAGS:
        raise RowError(Code.BAD_TAGS, "tags", f"tags is an object of at most {limits.MAX_TAGS}")
    for name, text in value.items():
        read_text(name, "tags")
        if not isinstance(text, str):
            raise RowError(Code.BAD_TAGS, "tags", "tags maps names to strings")
        read_text(text, "tags")
    return msgspec.json.encode(value, order="deterministic") if value else None


def read_time(record: Mapping[str, Any], field: str, horizon: Horizon) -> int:
    """Return the time of a record; one without a time is refused, never stamped here."""
    if record.get(field) is None:
        raise RowError(Code.MISSING_FIELD, field, f"the record has no {field}")
    return horizon.parse(record[field], field)
