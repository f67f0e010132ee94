"""The routes of foreign payloads as OpenAPI has them."""

import json
from typing import Any

from service.formats.events import BATCHED, STRUCTURED
from service.ingest.bodies import JSON, NDJSON

_EVENT = {
    "specversion": "1.0",
    "id": "0009174a-24a8-4603-b098-09c8799950e9",
    "source": "http://localhost:9081/",
    "type": "org.kubeflow.serving.inference.response",
    "time": "2026-11-20T10:00:00.0789Z",
    "inferenceservicename": "loans",
    "namespace": "default",
    "datacontenttype": "application/json",
    "data": {
        "outputs": [
            {"name": "predict", "shape": [1], "datatype": "INT64", "data": [1]},
            {"name": "predict_proba", "shape": [1, 2], "datatype": "FP64", "data": [0.17, 0.83]},
        ],
    },
}
_CAPTURE = {
    "captureData": {
        "endpointInput": {
            "observedContentType": "application/json",
            "mode": "INPUT",
            "data": '{"income": 41000, "region": "north"}',
            "encoding": "JSON",
        },
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": '{"predictions": [{"predict": 1, "predict_proba": 0.83}]}',
            "encoding": "JSON",
        },
    },
    "eventMetadata": {
        "eventId": "f39ad2ba-b9b1-42b4-b3c1-a2d6ba8cfd40",
        "inferenceId": "42",
        "inferenceTime": "2026-11-20T10:00:00Z",
    },
    "eventVersion": "0",
}
_EVENT_SCHEMA = {
    "type": "object",
    "description": "an event of CloudEvents 1.0 or 0.3; its data is V1, V2 or a list of rows",
    "required": ["specversion", "id", "source", "type", "time"],
}
_REASON = {
    "type": "object",
    "required": ["index", "prediction_id", "field", "code", "detail"],
    "properties": {
        "index": {"type": "integer", "description": "of the event or line"},
        "prediction_id": {"type": ["string", "null"]},
        "field": {"type": ["string", "null"]},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}
_COUNT = {"type": "integer"}
_ANSWER = {
    "type": "object",
    "description": "accepted, duplicates and rejected add up to the events or lines sent",
    "required": ["accepted", "duplicates", "rejected", "warnings", "rows"],
    "properties": {
        "accepted": {"type": "integer", "description": "committed, as rows or until its pair"},
        "duplicates": {"type": "integer", "description": "taken before"},
        "rejected": {"type": "array", "items": _REASON},
        "warnings": {"type": "array", "items": {"type": "object"}},
        "rows": {
            "type": "object",
            "description": "what became of the rows that this request completed",
            "required": ["accepted", "duplicates", "rejected", "reasons"],
            "properties": {
                "accepted": _COUNT,
                "duplicates": _COUNT,
                "rejected": _COUNT,
                "reasons": {"type": "array", "items": _REASON},
            },
        },
    },
}
_ANSWERED = {
    "accepted": 1,
    "duplicates": 0,
    "rejected": [],
    "warnings": [],
    "rows": {"accepted": 1, "duplicates": 0, "rejected": 0, "reasons": []},
}
_TARGETS = {
    "model": ("loans", "the model; else the one that is called like the deployment"),
    "version": ("7", "its version; else the event's, or the only one that is live"),
}
_MAPPING = {
    "prediction": ("predict", "name of the output, tensor or column that is the prediction"),
    "score": (
        "predict_proba",
        "name of the output, tensor or column that is the score or the scores",
    ),
    "classes": ("0,1", "order of the probabilities in a vector, separated by commas"),
    "decide": ("argmax", "`argmax` or a threshold: makes a class of scores where there is none"),
}
_ONLY = {"only": ("response", "`response`: requests are not logged, and none is waited for")}
_LABEL_TS = {"label_ts": ("2026-11-21T00:00:00Z", "since when lines of ground truth are known")}


def _operation(
    name: str,
    description: str,
    parameters: dict[str, tuple[str, str]],
    content: dict[str, Any],
) -> dict[str, Any]:
    return {
        "tags": ["ingest"],
        "description": description,
        "operationId": name,
        "parameters": [
            {
                "name": key,
                "in": "query",
                "required": False,
                "schema": {"type": "string"},
                "description": text,
                "example": example,
            }
            for key, (example, text) in parameters.items()
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "what became of every event or line; what is accepted is committed",
                "content": {JSON: {"schema": _ANSWER, "example": _ANSWERED}},
            }
        },
    }


_LINE = {"type": "string", "description": "one JSON document a line"}

PATHS: dict[str, Any] = {
    "/v1/cloudevents": {
        "post": _operation(
            "log_events",
            "Log requests and responses of an inference server; both halves of an inference are"
            " paired, in either order.\n\n"
            "CloudEvents 1.0 and 0.3 of KServe, Seldon, MLServer and Azure Machine Learning: in"
            f" binary mode (attributes in `ce-` headers), `{STRUCTURED}`, `{BATCHED}`, or one event"
            " a line. The answer is 200 after the commit, for servers take 202 for an error.",
            {**_TARGETS, **_MAPPING, **_ONLY},
            {
                STRUCTURED: {"schema": _EVENT_SCHEMA, "example": _EVENT},
                BATCHED: {
                    "schema": {"type": "array", "minItems": 1, "items": _EVENT_SCHEMA},
                    "example": [_EVENT],
                },
                NDJSON: {"schema": _LINE, "example": json.dumps(_EVENT) + "\n"},
                JSON: {"schema": {"type": "object", "description": "binary mode: V1 or V2"}},
            },
        )
    },
    "/v1/import/sagemaker": {
        "post": _operation(
            "import_captures",
            "Import captured data or ground truth of SageMaker, a JSON document a line; encodings"
            " CSV, JSON and BASE64.\n\n"
            "CSV without a header has the columns of the version's schema, in its order. A row is"
            " called after `inferenceId`, else `eventId`. Ground truth needs `label_ts`.",
            {**_TARGETS, **_MAPPING, **_LABEL_TS},
            {NDJSON: {"schema": _LINE, "example": json.dumps(_CAPTURE) + "\n"}},
        )
    },
}
