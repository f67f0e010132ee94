import asyncio
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.settings import Settings
from tests.integration.foreign.conftest import (
    ANSWERED,
    ASKED,
    REQUEST,
    RESPONSE,
    Api,
    Run,
    register,
    running,
)

IRIS = [{"name": name, "kind": "numeric"} for name in ("sl", "sw", "pl", "pw")]
PETALS = [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]
BOTH = {"sl": 6.8, "sw": 2.8, "pl": 4.8, "pw": 1.4}


def a_matrix() -> dict[str, Any]:
    return {"inputs": [{"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": PETALS}]}


def a_frame() -> dict[str, Any]:
    columns = zip(*PETALS, strict=True)
    return {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {"name": own["name"], "shape": [2, 1], "datatype": "FP64", "data": list(values),
             "parameters": {"content_type": "np"}}
            for own, values in zip(IRIS, columns, strict=True)
        ],
    }  # fmt: skip


def predicted(name: str = "predict") -> dict[str, Any]:
    tensor = {"name": name, "shape": [2], "datatype": "INT64", "data": [1, 1]}
    return {"model_name": "sklearn-iris", "id": "x", "outputs": [tensor]}


@pytest.mark.parametrize("asked", [a_matrix(), a_frame(), {"instances": PETALS}])
def test_kserve_v1_and_both_shapes_of_v2(
    run: Run, sessions: sessionmaker[Session], asked: Any
) -> None:
    register(sessions, "iris", features=IRIS)

    async def body(api: Api) -> None:
        answer = await api.pair("b", asked, predicted(), "?model=iris")
        assert answer["rows"]["accepted"] == 2
        row = await api.row("b#0", "iris")
        assert (row["features"], row["prediction"]) == (BOTH, "1")

    run(body)


def test_seldons_events_are_paired_by_their_request_id(run: Run) -> None:
    async def body(api: Api) -> None:
        for name, side, payload in (("x1", RESPONSE, ANSWERED), ("x2", REQUEST, ASKED)):
            answer = await api.event(
                side,
                name,
                payload,
                specversion="0.3",
                requestid="r-1",
                type=f"io.seldon.serving.inference.{side}",
            )
            assert answer.status_code == 200, answer.text
        assert answer.json()["rows"]["accepted"] == 1
        assert (await api.row("r-1"))["score"] == 0.8

    run(body)


def azure(kind: str, data: Any, **overrides: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{kind}-{overrides.get('correlationid', 'c-1')}",
        "source": "/subscriptions/s/resourceGroups/g/workspaces/w/onlineEndpoints/loans"
        "/deployments/blue",
        "type": f"azureml.inference.{kind}",
        "datacontenttype": "application/json",
        "time": "2026-01-02T03:04:05Z",
        "data": data,
        "correlationid": "c-1",
        "xrequestid": "c-1",
        "modelversion": "7",
        "collectdatatype": "pandas.core.frame.DataFrame",
        "agent": "azureml-ai-monitoring/1.0.0",
        "contentrange": "bytes 0-116/117",
        **overrides,
    }


def test_azures_lines_are_paired(run: Run) -> None:
    async def body(api: Api) -> None:
        frame = [{"income": 1, "region": "n", "owner": True}, {"income": 2, "region": "s"}]
        outputs = [{"prediction": 1, "probability": 0.9}, {"prediction": 0, "probability": 0.1}]
        lines = azure("model_outputs", outputs), b"{", azure("model_inputs", frame)
        answer = await api.lines(*lines)
        found = answer.json()
        assert (found["accepted"], found["rejected"][0]["code"]) == (2, "malformed-payload")
        assert found["rows"]["accepted"] == 2
        row = await api.row("c-1#1")
        assert (row["score"], row["prediction"]) == (0.1, "0")
        assert row["features"] == {"income": 2, "region": "s", "owner": None}

    run(body)


def test_a_table_of_inputs_and_outputs_is_whole(run: Run) -> None:
    async def body(api: Api) -> None:
        rows = [{"income": 1, "region": "n", "prediction": 1, "probability": 0.9}]
        for query in ("", "?only=response"):
            name = f"c{len(query)}"
            event = azure("model_inputs_outputs", rows, correlationid=name)
            answer = await api.lines(event, path=f"/v1/cloudevents{query}")
            assert answer.json()["rows"]["accepted"] == 1
            row = await api.row(name)
            assert (row["score"], row["prediction"]) == (0.9, "1")
            assert row["features"] == {"income": 1, "region": "n", "owner": None}
            again = (await api.lines(event, path=f"/v1/cloudevents{query}")).json()
            assert (again["accepted"], again["duplicates"]) == (0, 1)
        odd = azure("model_inputs_outputs", [{"income": 1, "a": 1, "b": 2}], correlationid="x")
        refused = await api.lines(odd)
        assert refused.json()["rejected"][0]["code"] == "unknown-output"

    run(body)


def test_an_unnamed_output_of_azure_is_the_prediction(run: Run) -> None:
    async def body(api: Api) -> None:
        lines = azure("model_inputs", [{"income": 1}]), azure("model_outputs", [{"0": 1}])
        assert (await api.lines(*lines)).json()["rows"]["accepted"] == 1
        assert (await api.row("c-1"))["prediction"] == "1"

    run(body)


UNREADABLE: list[tuple[str, Any, int, str | None]] = [
    ("application/cloudevents+json", azure("inputs", [{}]), 200, None),
    ("application/json", azure("inputs", [{}]), 200, None),
    ("application/cloudevents+json", b"{", 400, "malformed-json"),
    ("application/cloudevents+json", b"\xef\xbb\xbf{}", 400, "malformed-json"),
    ("application/cloudevents+json", b"[" * 99, 400, "malformed-json"),
    ("application/cloudevents+json", b"[" * 99 + b"]" * 99, 400, "too-deep"),
    ("application/cloudevents+json", [], 400, "bad-envelope"),
    ("application/cloudevents-batch+json", [], 400, "empty-batch"),
    ("application/cloudevents-batch+json", [7], 422, "all-rejected"),
    ("application/cloudevents-batch+json", [{}] * 5_001, 413, "too-many-rows"),
    ("application/x-ndjson", b"\n \n", 400, "empty-batch"),
    ("application/x-ndjson", b"{\n", 422, "all-rejected"),
    ("text/plain", b"{}", 415, "unsupported-type"),
    ("", b"{}", 415, "unsupported-type"),
]


def test_requests_that_cannot_be_read(run: Run) -> None:
    async def body(api: Api) -> None:
        for media, document, status, code in UNREADABLE:
            answer = await api.send(media, document)
            found = (answer.status_code, answer.json().get("code"))
            assert found == (status, code), (media, answer.text)

    run(body)


def test_a_parameter_that_is_wrong_is_not_lost(run: Run) -> None:
    async def body(api: Api) -> None:
        for query in ("?shoe=44", "?only=request", "?decide=2", "?decide=nan", "?classes=a,a"):
            answer = await api.event(REQUEST, "a", ASKED, query)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")

    run(body)


def test_many_rows_in_few_bytes_are_refused_before_they_take_memory(run: Run) -> None:
    async def body(api: Api) -> None:
        ones = {"predictions": [1] * 5_000}
        events = [azure("outputs", ones["predictions"], correlationid=f"c{n}") for n in range(5)]
        answer = await api.send("application/cloudevents-batch+json", events)
        assert (answer.status_code, answer.json()["code"]) == (413, "too-many-rows")
        assert api.count("pending_pair") == 0

    run(body)


def test_a_payload_takes_room_for_what_it_is_decoded_to(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    register(sessions)

    async def inside() -> None:
        narrow = Settings(_env_file=None, max_bytes_in_flight=1 << 20)
        async with running(database_url, sessions, narrow) as api:
            large = await api.event(REQUEST, "a", {"instances": [{}] * 20_000})
            assert (large.status_code, large.json()["code"]) == (503, "busy")
            assert (await api.event(REQUEST, "a", ASKED)).status_code == 200

    asyncio.run(inside())


def test_a_class_is_decided_where_the_address_says_how(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.pair("a", query="?decide=0.9")
        assert (await api.row("a"))["prediction"] == "0"
        await api.pair("b", query="?decide=argmax")
        assert (await api.row("b"))["prediction"] == "1"

    run(body)


def a_capture(name: str, given: str, answered: str, encoding: str = "CSV") -> dict[str, Any]:
    return {
        "captureData": {
            "endpointInput": {"observedContentType": "text/csv", "mode": "INPUT",
                              "data": given, "encoding": encoding},
            "endpointOutput": {"observedContentType": "text/csv; charset=utf-8", "mode": "OUTPUT",
                               "data": answered, "encoding": "CSV"},
        },
        "eventMetadata": {"eventId": "aaaa", "inferenceId": name,
                          "inferenceTime": "2022-02-14T17:25:49Z"},
        "eventVersion": "0",
    }  # fmt: skip


def a_truth(name: str, label: str) -> dict[str, Any]:
    return {
        "groundTruthData": {"data": label, "encoding": "CSV"},
        "eventMetadata": {"eventId": name},
        "eventVersion": "0",
    }


IMPORT = "/v1/import/sagemaker?model=loans&label_ts=2022-02-15T00:00:00Z"


def test_captures_become_rows_and_truths_labels(run: Run) -> None:
    async def body(api: Api) -> None:
        lines = (
            a_capture("42", "41000,north,1", "0.0254"),
            a_capture("43", "1,n,0\n2,,1\n", "1\n0\n"),
            b"{",
            a_capture("44", "1,2", "0"),
            a_truth("42", "1"),
        )
        answer = await api.lines(*lines, path=IMPORT)
        found = answer.json()
        assert (found["accepted"], found["duplicates"]) == (3, 0)
        assert [(each["index"], each["code"]) for each in found["rejected"]] == [
            (2, "malformed-payload"), (3, "column-count"),
        ]  # fmt: skip
        assert found["rows"] == {"accepted": 4, "duplicates": 0, "rejected": 0, "reasons": []}
        row = await api.row("42")
        assert row["features"] == {"income": 41000, "region": "north", "owner": True}
        assert row["score"] == 0.0254
        assert (await api.row("43#1"))["features"]["region"] is None
        assert api.query("SELECT prediction_id, label FROM label") == [("42", "1")]
        again = (await api.lines(*lines, path=IMPORT)).json()
        assert again["rows"] == {"accepted": 0, "duplicates": 4, "rejected": 0, "reasons": []}

    run(body)


def test_ground_truth_is_recognised_on_the_route_of_labels(run: Run) -> None:
    async def body(api: Api) -> None:
        path = "/v1/labels?model=loans"
        missing = await api.lines(a_truth("42", "1"), path=path)
        assert missing.json()["rejected"][0]["field"] == "label_ts"
        native = {"prediction_id": "n", "label": 1, "label_ts": "2026-01-02T00:00:00Z"}
        dated = f"{path}&label_ts=2026-01-01T00:00:00Z"
        answer = await api.lines(a_truth("42", "1"), native, a_truth("43", "0\n1"), path=dated)
        assert answer.json()["accepted"] == 4
        assert api.query("SELECT prediction_id, label FROM label ORDER BY 1") == [
            ("42", "1"), ("43#0", "0"), ("43#1", "1"), ("n", "1"),
        ]  # fmt: skip
        broken = await api.lines(b'{"groundTruthData": 7}', path=dated)
        assert broken.json()["rejected"][0]["code"] == "unknown-field"

    run(body)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/import/sagemaker", 422, "invalid-request"),
        ("/v1/import/sagemaker?model=loans&only=response", 422, "invalid-request"),
        ("/v1/import/sagemaker?model=nobody", 422, "all-rejected"),
        ("/v1/import/sagemaker?model=loans&version=9", 422, "all-rejected"),
    ],
)
def test_an_import_for_nobody_is_refused(run: Run, path: str, status: int, code: str) -> None:
    async def body(api: Api) -> None:
        answer = await api.lines(a_capture("1", "1,2,3", "1"), path=path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    run(body)
