"""The OpenAPI document: what FastAPI finds, completed in one place for every route."""

import re
from collections.abc import Iterator
from copy import deepcopy
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from service.access.gate import WITHOUT_KEY
from service.access.scopes import need_of
from service.foreign.interface import PATHS as FOREIGN_PATHS
from service.ingest.interface import PATHS as INGEST_PATHS

PATHS = {**INGEST_PATHS, **FOREIGN_PATHS}
METHODS = ("get", "put", "post", "patch", "delete")
PROBLEM = "application/problem+json"

_PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457; `limit` and `rejected` are there when they say something.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "instance": {"type": "string"},
        "limit": {"type": "integer"},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code"],
                "properties": {
                    "code": {"type": "string"},
                    "index": {"type": "integer"},
                    "prediction_id": {"type": ["string", "null"]},
                    "field": {"type": ["string", "null"]},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": (
        "`mw_<env>_<kid>_<secret>`; a route names the scope that it wants, and `admin` includes"
        " the others. A key that is bound to models finds no others: they are 404 to it."
    ),
}

# An example of every parameter, by its name.
_PARAMETERS: dict[str, Any] = {
    "after": 0,
    "cursor": None,
    "deed": "acknowledge",
    "delivery": 7,
    "evaluation": 17,
    "from": "2026-11-01T00:00:00Z",
    "ignore": ["row_nr"],
    "incident_id": 3,
    "kid": "5f3a9c0d1e2b4a68",
    "label": "repaid",
    "letter_id": 5,
    "limit": 50,
    "metric": "drift",
    "model": "loans",
    "prediction": "y_pred",
    "prediction_id": "0190c7a2-0001",
    "request_id": 12,
    "revision": 3,
    "score": "y_pred_proba",
    "slice": "region=north",
    "start": "2026-11-20T00:00:00Z",
    "state": "open",
    "subject": "income",
    "to": "2026-12-01T00:00:00Z",
    "ts": "timestamp",
    "version": "7",
    "webhook": "ci",
    "weight": "weight",
}

_CSV = (
    "timestamp,income,region,y_pred_proba,y_pred,repaid\n"
    "2026-10-01T00:00:00Z,41000,north,0.83,1,1\n"
)
_LINE = (
    '{"timestamp":"2026-10-01T00:00:00Z","income":41000,"region":"north",'
    '"y_pred_proba":0.83,"y_pred":"1","repaid":"1"}\n'
)
_REFERENCE_EXAMPLES = {"text/csv": _CSV, "application/x-ndjson": _LINE}

# What a parameter can be wrong about.
_OF_PARAMETER = {
    "model": ("404 unknown-model",),
    "version": ("404 unknown-version",),
    "start": ("404 unknown-window",),
    "evaluation": ("404 unknown-evaluation",),
    "request_id": ("404 unknown-retraining-request",),
    "incident_id": ("404 unknown-incident",),
    "revision": ("404 unknown-revision",),
    "letter_id": ("404 unknown-dead-letter",),
    "prediction_id": ("404 unknown-prediction",),
    "webhook": ("404 unknown-webhook",),
    "delivery": ("404 unknown-delivery",),
    "cursor": ("400 bad-cursor",),
    "kid": ("404 unknown-key",),
}
_BODY = ("408 stalled-body", "415 unsupported-type")
_DOCUMENT = (
    *("400 malformed-json", "400 malformed-yaml", "413 too-large", "422 invalid-document"),
    "422 not-implemented",
)
_KEY = ("503 pii-key-missing", "503 pii-key-wrong")
_UPLOAD = (
    *("400 bad-gzip", "409 conflict", "413 too-large", "422 bad-column"),
    *("422 derived-name", "422 duplicate-column", "422 empty-reference", "422 invalid-document"),
    *("422 malformed-reference", "422 too-many-classes", "422 too-many-features"),
    *("422 unknown-classes", "503 busy", *_KEY),
)
_INGEST = (
    *("400 bad-envelope", "400 bad-gzip", "400 bad-idempotency-key", "400 bad-zstd"),
    *("400 empty-batch", "422 key-reused"),
    *("400 malformed-arrow", "400 malformed-json", "400 too-deep"),
    *("404 unknown-model", "413 body-too-large", "413 too-many-columns", "413 too-many-rows"),
    *("415 unsupported-encoding", "422 all-rejected", "503 busy", "503 not-durable"),
)
_FOREIGN = (
    *("400 bad-gzip", "400 bad-zstd", "400 empty-batch", "400 malformed-json"),
    *("413 body-too-large", "413 too-many-rows", "415 unsupported-encoding"),
    *("422 all-rejected", "422 invalid-request", "503 busy"),
)
# What no parameter and no type of body tells.
_OF_ROUTE: dict[tuple[str, str], tuple[str, ...]] = {
    ("get", "/readyz"): ("503 not-durable", "503 not-migrated", "503 not-ready"),
    ("get", "/metrics/models"): ("503 not-ready",),
    ("put", "/v1/models/{model}"): ("409 conflict", "422 bad-name"),
    ("put", "/v1/models/{model}/versions/{version}"): (
        *("409 conflict", "409 policy-changed", "422 bad-name", "422 derived-name"),
        *("422 pii-key-needed", "422 too-many-features", *_KEY),
    ),
    ("put", "/v1/models/{model}/monitor"): ("409 conflict",),
    ("get", "/v1/incidents"): ("422 invalid-document",),
    ("post", "/v1/keys/{kid}/rotate"): ("409 conflict",),
    ("post", "/v1/incidents/{incident_id}/{deed}"): ("409 conflict",),
    ("post", "/v1/retraining-requests/{request_id}/{deed}"): ("409 conflict",),
    ("get", "/v1/models/{model}/windows/{start}/report"): (
        "409 report-failed",
        "422 no-reference",
    ),
    ("put", "/v1/webhooks/{webhook}"): (
        *("409 conflict", "409 no-secret-key", "422 bad-name", "422 forbidden-address"),
    ),
    ("delete", "/v1/webhooks/{webhook}"): ("409 conflict",),
    ("post", "/v1/webhooks/{webhook}/test"): ("409 conflict",),
    ("post", "/v1/webhooks/{webhook}/deliveries/{delivery}/replay"): ("409 conflict",),
    ("delete", "/v1/subjects/{subject}"): ("409 pii-key-unset", *_KEY),
    ("post", "/v1/predictions"): (
        *(*_INGEST, *_KEY, "404 unknown-version", "422 too-many-features"),
    ),
    ("post", "/v1/labels"): _INGEST,
    ("post", "/v1/cloudevents"): (*_FOREIGN, "400 bad-envelope", "400 too-deep"),
    ("post", "/v1/import/sagemaker"): _FOREIGN,
    ("post", "/v1/dead-letters/replay"): (*_KEY, "503 busy"),
    ("post", "/v1/dead-letters/{letter_id}/replay"): (*_KEY, "503 busy"),
}
# What a PUT names in its last place it makes; these cannot be unknown to it.
_NEVER = {
    ("put", "/v1/models/{model}/versions/{version}"): {"404 unknown-version"},
    ("put", "/v1/webhooks/{webhook}"): {"404 unknown-webhook"},
}
# What the gate and the scopes answer, before a route is asked.
_KEYED = (
    *("401 unauthenticated", "403 forbidden", "403 foreign-origin", "429 rate-limited"),
    "503 not-migrated",
)


class DocumentedApi(FastAPI):
    """An application whose OpenAPI document is complete."""

    def openapi(self) -> dict[str, Any]:
        """Return the document; it is made once."""
        if not hasattr(self.state, "openapi"):
            self.state.openapi = completed(super().openapi())
        document: dict[str, Any] = self.state.openapi
        return document


def completed(found: dict[str, Any]) -> dict[str, Any]:
    """Add the raw routes, summaries, examples and problems to what FastAPI has found."""
    document = deepcopy(found)
    document["paths"] = {**document["paths"], **deepcopy(PATHS)}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM_SCHEMA
    document["components"]["securitySchemes"] = {"key": _BEARER}
    for method, path, operation in operations(document):
        operation["summary"] = _summary(operation.setdefault("description", ""))
        if path not in WITHOUT_KEY:
            operation["security"] = [{"key": [need_of(method, path).scope.value]}]
        for parameter in operation.get("parameters", ()):
            example = _PARAMETERS.get(parameter["name"])
            if example is not None:
                parameter.setdefault("example", example)
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            schemas.update(content["schema"].pop("$defs", {}))
            if media in _REFERENCE_EXAMPLES:
                content.setdefault("example", _REFERENCE_EXAMPLES[media])
        operation["responses"].pop("422", None)
        operation["responses"].update(_problems(_codes(method, path, operation)))
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Walk over method, path and operation."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def _summary(description: str) -> str:
    """Return the first clause of a docstring."""
    return re.split(r"[.;:](?:\s|$)", description, maxsplit=1)[0].replace("``", "")


def _codes(method: str, path: str, operation: dict[str, Any]) -> set[str]:
    """Return the problems of an operation, each as its status and its code."""
    found = set(_OF_ROUTE.get((method, path), ()))
    parameters = operation.get("parameters", [])
    media = operation.get("requestBody", {}).get("content", {})
    if path not in PATHS:
        for parameter in parameters:
            found.update(_OF_PARAMETER.get(parameter["name"], ()))
        if parameters or media:
            found.add("422 invalid-request")
    if media:
        found.update(_BODY)
    if "application/yaml" in media:
        found.update(_DOCUMENT)
    if "text/csv" in media:
        found.update(_UPLOAD)
    if path not in WITHOUT_KEY:
        found.update(_KEYED)
    if path != "/healthz":
        found.add("503 database-away")
    return found - _NEVER.get((method, path), set())


def _problems(codes: set[str]) -> dict[str, Any]:
    """Return the answers of an operation, a status each, and what else may go wrong."""
    by_status: dict[str, list[str]] = {}
    for status, code in sorted(entry.split() for entry in codes):
        by_status.setdefault(status, []).append(code)
    answers = {
        status: _answer(HTTPStatus(int(status)).phrase, c) for status, c in by_status.items()
    }
    return {**answers, "default": _answer("The service failed", ["internal-error"])}


def _answer(description: str, codes: list[str]) -> dict[str, Any]:
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/Problem"},
            {"properties": {"code": {"enum": codes}}},
        ]
    }
    return {
        "description": f"{description}: {', '.join(codes)}",
        "content": {PROBLEM: {"schema": schema}},
    }
