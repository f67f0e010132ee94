"""The raw routes as OpenAPI has them: FastAPI cannot see into bodies judged by row."""

import json
from collections.abc import Mapping
from typing import Any

from service.ingest import limits
from service.ingest.arrow import ARROW
from service.ingest.bodies import JSON, NDJSON

_TIME = {"type": "string", "format": "date-time", "description": "RFC 3339, with a zone"}
_CLASS = {"type": ["string", "number", "boolean", "null"]}
_TARGETS = {
    "model": {"type": ["string", "null"], "description": "unless the request names it"},
    "version": {"type": ["string", "null"], "description": "unless the request names it"},
}
_ID = {"type": "string", "minLength": 1, "maxLength": limits.MAX_ID}

PREDICTION: dict[str, Any] = {
    "type": "object",
    "description": "It has a prediction, a score or both.",
    "required": ["prediction_id", "ts"],
    "additionalProperties": False,
    "properties": {
        **_TARGETS,
        "prediction_id": _ID,
        "ts": _TIME,
        "features": {
            "type": ["object", "null"],
            "maxProperties": limits.MAX_FEATURES,
            "additionalProperties": {
                "type": ["string", "number", "boolean", "array", "null"],
                "items": {"type": "number"},
            },
            "description": (
                "by the names of the version's schema; what is left out is missing. A datetime is"
                " text of RFC 3339 or a date, an embedding an array of as many numbers as its"
                " length"
            ),
        },
        "attributions": {
            "type": ["object", "null"],
            "maxProperties": limits.MAX_FEATURES,
            "additionalProperties": {"type": ["number", "null"]},
            "description": (
                "what each feature contributed to the prediction, such as SHAP values; for versions"
                " that declare attributions"
            ),
        },
        "prediction": {**_CLASS, "description": "the predicted class, or number"},
        "score": {
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": 1,
            "description": "the probability of the positive class",
        },
        "scores": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
            "description": "class to probability, instead of score; of many classes all",
        },
        "weight": {"type": ["number", "null"], "minimum": 0},
        "subject": {"type": ["string", "null"], "description": "whom the prediction is about"},
        "tags": {
            "type": ["object", "null"],
            "maxProperties": limits.MAX_TAGS,
            "additionalProperties": {"type": "string"},
        },
    },
}
LABEL: dict[str, Any] = {
    "type": "object",
    "required": ["prediction_id", "label", "label_ts"],
    "additionalProperties": False,
    "properties": {
        **_TARGETS,
        "prediction_id": _ID,
        "label": {
            "type": ["string", "number", "boolean"],
            "description": "the true class, or number",
        },
        "label_ts": {
            **_TIME,
            "description": "since when it is known; of several the newest counts",
        },
    },
}

_ANSWER: dict[str, Any] = {
    "type": "object",
    "description": "accepted, duplicates and rejected add up to what was sent",
    "required": ["accepted", "duplicates", "rejected", "warnings"],
    "properties": {
        "accepted": {"type": "integer", "description": "rows stored by this request"},
        "duplicates": {"type": "integer", "description": "rows that were stored before"},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "prediction_id", "field", "code", "detail"],
                "properties": {
                    "index": {"type": "integer"},
                    "prediction_id": {"type": ["string", "null"]},
                    "field": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
        "warnings": {
            "type": "array",
            "maxItems": limits.MAX_WARNINGS,
            "items": {
                "type": "object",
                "required": ["index", "field", "code"],
                "properties": {
                    "index": {"type": "integer"},
                    "field": {"type": "string"},
                    "code": {"type": "string"},
                },
            },
        },
    },
}

_PREDICTION_EXAMPLE = {
    "prediction_id": "0190c7a2-0001",
    "ts": "2026-11-20T10:00:00Z",
    "features": {"income": 41000, "region": "north"},
    "prediction": "1",
    "score": 0.83,
    "weight": 1,
    "tags": {"channel": "web"},
    "subject": "customer-17",
}
_LABEL_EXAMPLE = {
    "prediction_id": "0190c7a2-0001",
    "label": "1",
    "label_ts": "2026-12-01T00:00:00Z",
}


_COLUMNS = {
    "predictions": (
        "`prediction_id`, `ts`, `prediction`, `score`, `weight`, `subject`, `tags.*`, `scores.*`"
        " and `attributions.*` are what they are in a record, every other column is a feature;"
        " `model` and `version` stand in the metadata of the schema, in columns or in the query"
    ),
    "labels": (
        "`prediction_id`, `label` and `label_ts`; `model` stands in the metadata of the schema, in"
        " a column or in the query"
    ),
}


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "description": (
        "names the batch: for an hour the same batch with the same key gets the same answer, with"
        " `Idempotency-Replayed: true`, and another batch with it is refused"
    ),
    "example": "0190c7a2-6d0e-7c5f-b2a4-5d1f0c8e9a11",
}


def _operation(
    what: str, record: Mapping[str, Any], target: Mapping[str, str], example: Mapping[str, Any]
) -> dict[str, Any]:
    answer = {"accepted": 1, "duplicates": 0, "rejected": [], "warnings": []}
    return {
        "tags": ["ingest"],
        "description": (
            f"Log {what}; the answer, a verdict for each row, is given after the commit.\n\n"
            f"`{JSON}` is one envelope, `{NDJSON}` one record a line, `{ARROW}` a stream of record"
            f" batches: {_COLUMNS[what]}. Each may have `Content-Encoding: gzip` or `zstd`; buffers"
            " of Arrow may be compressed by LZ4 or Zstandard. A request may be repeated: a row is"
            " stored once."
        ),
        "operationId": f"log_{what}",
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "schema": {"type": "string"},
                "description": f"{name} of the lines or columns that name none (not for {JSON})",
            }
            for name in target
        ]
        + [_KEY],
        "requestBody": {"required": True, "content": _bodies(record, target, example)},
        "responses": {
            "200": {
                "description": "what became of every row, all that is accepted being committed",
                "content": {JSON: {"schema": _ANSWER, "example": answer}},
            }
        },
    }


def _bodies(
    record: Mapping[str, Any], target: Mapping[str, str], example: Mapping[str, Any]
) -> dict[str, Any]:
    envelope = {
        "type": "object",
        "required": ["records"],
        "additionalProperties": False,
        "properties": {**_TARGETS, "records": {"type": "array", "minItems": 1, "items": record}},
    }
    return {
        JSON: {"schema": envelope, "example": {**target, "records": [example]}},
        NDJSON: {
            "schema": {"type": "string", "description": "one record a line"},
            "example": json.dumps({**target, **example}) + "\n",
        },
        ARROW: {"schema": {"type": "string", "format": "binary"}},
    }


PATHS: dict[str, Any] = {
    "/v1/predictions": {
        "post": _operation(
            "predictions", PREDICTION, {"model": "loans", "version": "7"}, _PREDICTION_EXAMPLE
        )
    },
    "/v1/labels": {"post": _operation("labels", LABEL, {"model": "loans"}, _LABEL_EXAMPLE)},
}
