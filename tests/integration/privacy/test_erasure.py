"""A subject that is erased is nowhere: every table is searched, every blob is opened."""

import io
import json
import threading
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from service.access.tables import AuditEntry
from service.foreign.tables import PendingPair
from service.ingest.tables import DeadLetter, KnownBatch
from service.registry.monitor import MonitorDocument
from service.registry.monitoring import put_monitor
from service.runs.erasing_rows import COUNTED
from service.runs.tables import Erasure, Measurement, Report, RowFinding, Window
from tests.integration.privacy.conftest import PSEUDONYMS, Serve
from tests.integration.runs.bench import Bench
from tests.integration.sweep import traces

SUBJECT, CITY, COMMENT = "customer-planted-17", "Plantedville", "planted street 5"
INCOME = 98765432.25
IDS = ("planted-a", "planted-b", "planted-c")
NEEDLES = (SUBJECT, PSEUDONYMS.of("subject", SUBJECT), CITY, COMMENT, INCOME, "planted-")
DAY = (datetime.now(UTC) - timedelta(days=30)).replace(hour=0, minute=0, second=0, microsecond=0)
FEATURES = [
    {"name": "income", "kind": "numeric"},
    {"name": "city", "kind": "categorical"},
    {"name": "comment", "kind": "text"},
]
ALLOWED = {"erasure.subject"}


@pytest.fixture
def client(serve: Serve, bench: Bench) -> httpx.Client:
    client = serve()
    for model in ("loans", "other"):
        assert client.put(f"/v1/models/{model}", json={}).is_success
        for version in ("1", "2"):
            body = {"features": FEATURES, "classes": ["0", "1"], "positive_class": "1"}
            answer = client.put(f"/v1/models/{model}/versions/{version}", json=body)
            assert answer.is_success, answer.text
    with bench.sessions.begin() as session:
        document = {"model": "loans", "min_rows": 10, "slices": [{"column": "city"}]}
        put_monitor(session, "loans", MonitorDocument.model_validate(document))
    return client


def row(prediction_id: str, at: datetime, **overrides: Any) -> dict[str, Any]:
    number = sum(prediction_id.encode())
    return {
        "prediction_id": prediction_id,
        "ts": at.isoformat(),
        "features": {
            "income": float(number % 97),
            "city": ("Paris", "Rome")[number % 2],
            "comment": "a word or two",
        },
        "prediction": str(number % 2),
        "score": (number % 89) / 100,
        "tags": {"channel": "web"},
        **overrides,
    }


def planted(prediction_id: str, at: datetime) -> dict[str, Any]:
    return row(
        prediction_id,
        at,
        features={"income": INCOME, "city": CITY, "comment": COMMENT},
        subject=SUBJECT,
        tags={"channel": "planted-tag"},
    )


def send(client: httpx.Client, *records: Any, model: str = "loans", version: str = "1") -> Any:
    body = {"model": model, "version": version, "records": list(records)}
    return client.post("/v1/predictions", json=body).json()


def label(client: httpx.Client, *ids: str, model: str = "loans", at: datetime = DAY) -> Any:
    moment = (at + timedelta(days=2)).isoformat()
    records = [{"prediction_id": name, "label": "1", "label_ts": moment} for name in ids]
    return client.post("/v1/labels", json={"model": model, "records": records}).json()


def put_reference(client: httpx.Client, rows: int = 300) -> None:
    columns: dict[str, Any] = {
        "income": [float(n % 97) for n in range(rows - 1)] + [INCOME],
        "city": ["Paris", "Rome"] * (rows // 2 - 1) + ["Paris", CITY],
        "comment": ["a word or two"] * (rows - 1) + [COMMENT],
        "subject": [f"somebody {n}" for n in range(rows - 1)] + [SUBJECT],
        "score": [(n % 89) / 100 for n in range(rows)],
        "prediction": [n % 2 for n in range(rows)],
        "label": [n % 2 for n in range(rows)],
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    answer = client.put(
        "/v1/models/loans/versions/1/reference",
        content=buffer.getvalue(),
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )
    assert answer.is_success, answer.text


def fill(client: httpx.Client, bench: Bench, *, reference: bool) -> None:
    if reference:
        put_reference(client)
    for version in ("1", "2"):
        rows = [row(f"r{n}", DAY + timedelta(minutes=n)) for n in range(120)]
        assert send(client, *rows, version=version)["accepted"] == 120
    for name in IDS:
        assert send(client, planted(name, DAY + timedelta(hours=5)))["accepted"] == 1
    assert send(client, planted(IDS[0], DAY), version="2")["accepted"] == 1
    assert send(client, planted("planted-other", DAY), model="other")["accepted"] == 1
    assert label(client, IDS[0], IDS[1], "r1", "r2")["accepted"] == 4
    bench.work()
    # Its prediction is not there when it comes, and it waits.
    label(client, IDS[2], "nobody")
    _put_aside(bench)


def _put_aside(bench: Bench) -> None:
    """Fill by hand what takes another process, or a fault, to be filled."""
    model_id = bench.version.model_id
    hashed = PSEUDONYMS.of("subject", SUBJECT)
    with bench.sessions.begin() as session:
        window = session.scalars(select(Window).where(Window.model_id == model_id)).first()
        assert window is not None
        page = zlib.compress(f"<p>{CITY}</p>".encode())
        session.add(Report(window_id=window.id, content=page))
        session.add(
            RowFinding(
                version_id=window.version_id,
                start=window.start,
                end=window.end,
                engine="rows",
                data_digest="",
                config_revision=0,
                labelled=0,
                content=[{"slice": f"city = '{CITY}'"}],
            )
        )
        session.add(
            Measurement(
                window_id=window.id,
                position=10_000,
                metric="accuracy",
                slice=f"city={CITY}",
                n=1,
                method="m",
                engine="profile",
                direction="lower_is_worse",
                reason=f"of {CITY} alone",
            )
        )
        session.add(
            DeadLetter(
                model_id=model_id,
                kind="predictions",
                prediction_id="planted-dead",
                subject=hashed,
                state="22021",
                record=CITY.encode(),
                digest=b"1",
            )
        )
        answer = json.dumps({"rejected": [{"prediction_id": IDS[0]}]}, separators=(",", ":"))
        session.add(KnownBatch(name=b"n", content=b"c", answer=answer.encode()))
        session.add(
            PendingPair(
                model_id=model_id,
                pair=b"p",
                version="1",
                correlation="planted-half",
                subject=hashed,
                request=CITY.encode(),
            )
        )


def erase(client: httpx.Client, subject: str = SUBJECT) -> dict[str, Any]:
    answer = client.delete(f"/v1/subjects/{subject}")
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def left(url: str) -> list[Any]:
    return [found for found in traces(url, *NEEDLES) if found[0] not in ALLOWED]


@pytest.mark.parametrize("reference", [True, False])
def test_a_sweep_over_every_table_finds_nothing_of_the_subject(
    client: httpx.Client, bench: Bench, database_url: str, *, reference: bool
) -> None:
    fill(client, bench, reference=reference)
    places = {place.partition(".")[0] for place, _ in traces(database_url, *NEEDLES)}
    expected = {"binning", "bucket_profile", "dead_letter", "label", "measurement", "report"}
    assert expected | {"prediction_identity", "pending_pair", "row_finding"} <= places
    assert ("reference" in places) == reference
    before = {(w.version_id, w.start): w.revision for w in bench.windows()}
    receipt = erase(client)
    assert receipt["counts"]["rows"] == 5
    assert receipt["counts"]["labels"] == 3
    assert receipt["counts"]["reference_rows"] == int(reference)
    bench.work()
    assert left(database_url) == []
    latest = {(w.version_id, w.start): w for w in bench.windows() if w.latest}
    mine = latest[bench.version.version_id, DAY]
    assert mine.revision == before[bench.version.version_id, DAY] + 1
    assert mine.rows == 120
    again = erase(client)["counts"]
    assert not any(count for name, count in again.items() if name != "edges")
    assert bench.windows()[-1].revision == latest[max(latest)].revision
    assert bench.count(Erasure) == 2
    with bench.sessions() as session:
        logged = session.scalars(select(AuditEntry).where(AuditEntry.action == "subject.erase"))
        assert [entry.subject for entry in logged] == ["erasure:1", "erasure:2"]
    listed = client.get("/v1/erasures").json()["erasures"]
    assert [own["subject"] for own in listed] == [PSEUDONYMS.of("subject", SUBJECT)] * 2


def test_nobody_else_loses_a_row_and_other_windows_keep_their_revision(
    client: httpx.Client, bench: Bench, database_url: str
) -> None:
    fill(client, bench, reference=False)
    later = DAY + timedelta(days=3)
    send(client, *(row(f"l{n}", later + timedelta(minutes=n)) for n in range(60)))
    bench.work()
    with psycopg.connect(database_url) as connection:
        query = "SELECT prediction_id, c1, n1 FROM prediction WHERE subject IS NULL ORDER BY 1"
        rows = connection.execute(query).fetchall()
    nothing = erase(client, "nobody that was ever heard of")["counts"]
    assert nothing == dict.fromkeys(COUNTED, 0)
    erase(client)
    bench.work()
    with psycopg.connect(database_url) as connection:
        assert connection.execute(query).fetchall() == rows
        labels = connection.execute("SELECT prediction_id FROM label ORDER BY 1").fetchall()
    assert labels == [("nobody",), ("r1",), ("r2",)]
    assert {w.revision for w in bench.windows() if w.start == later} == {1}


def test_what_was_erased_does_not_come_back_by_a_retry(
    client: httpx.Client, bench: Bench, database_url: str
) -> None:
    fill(client, bench, reference=False)
    erase(client)
    answer = send(
        client, planted(IDS[0], DAY), row("fresh", DAY), row("r1", DAY + timedelta(minutes=1))
    )
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert [(own["index"], own["code"]) for own in answer["rejected"]] == [(0, "erased")]
    assert label(client, IDS[1], IDS[2], "fresh")["accepted"] == 1
    everything = client.post(
        "/v1/predictions",
        json={"model": "loans", "version": "1", "records": [planted(IDS[1], DAY)]},
    )
    assert everything.status_code == 422
    bench.work()
    assert left(database_url) == []
    # Of another model it is another prediction; a new one of the subject is a new one.
    assert send(client, row(IDS[0], DAY), model="other")["accepted"] == 1
    assert send(client, planted("planted-new", DAY))["accepted"] == 1


@pytest.mark.parametrize("rows", [1, 2])
def test_a_late_half_of_what_was_erased_does_not_wait(
    client: httpx.Client, bench: Bench, database_url: str, rows: int
) -> None:
    ask = {
        "inputs": [{"name": "income", "datatype": "FP64", "shape": [rows], "data": [1.0] * rows}]
    }
    said = {
        "outputs": [{"name": "predict", "datatype": "BYTES", "shape": [rows], "data": ["1"] * rows}]
    }

    def log(side: str, content: Any, name: str = "late") -> httpx.Response:
        event = {
            "specversion": "1.0",
            "id": name,
            "source": "http://localhost/",
            "type": f"org.kubeflow.serving.inference.{side}",
            "time": DAY.isoformat(),
            "subject": SUBJECT,
        }
        headers = {f"ce-{key}": value for key, value in event.items()}
        address = "/v1/cloudevents?model=loans&version=1"
        return client.post(address, json=content, headers=headers)

    for side, content in (("request", ask), ("response", said)):
        assert log(side, content).is_success
    assert erase(client)["counts"]["rows"] == rows
    for side, content in (("request", ask), ("response", said)):
        answer = log(side, content)
        assert answer.status_code == 422, answer.text
        assert [own["code"] for own in answer.json()["rejected"]] == ["erased"]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT FROM pending_pair").fetchall() == []
    # Of another inference it is a new one.
    assert log("request", ask, "new").is_success


def test_a_receipt_repeats_the_erasure_after_a_restore(
    client: httpx.Client, bench: Bench, database_url: str
) -> None:
    fill(client, bench, reference=True)
    receipt = erase(client)
    with psycopg.connect(database_url) as connection:
        for table in ("erased_prediction", "erasure"):
            connection.execute(f"DELETE FROM {table}")
        # From a time before there was a key.
        connection.execute("UPDATE dead_letter SET subject = NULL")
    fill_again = [planted(name, DAY) for name in IDS]
    assert send(client, *fill_again)["accepted"] == 3
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE prediction SET subject = %s WHERE subject IS NOT NULL", (SUBJECT,)
        )
    assert erase(client, receipt["subject"])["counts"]["rows"] == 3
    bench.work()
    assert left(database_url) == []


def test_retries_that_race_the_erasure_bring_nothing_back(
    client: httpx.Client, serve: Serve, bench: Bench, database_url: str
) -> None:
    ids = [f"planted-{n}" for n in range(40)]
    fill(client, bench, reference=False)
    for name in ids:
        send(client, planted(name, DAY))
    stop = threading.Event()
    codes: set[str] = set()

    def retry() -> None:
        own = serve()
        while not stop.is_set():
            body = {"model": "loans", "records": [planted(name, DAY) for name in ids]}
            for version in ("1", "2"):
                answer = own.post("/v1/predictions", json={**body, "version": version}).json()
                codes.update(refused["code"] for refused in answer["rejected"])

    thread = threading.Thread(target=retry)
    thread.start()
    try:
        erase(client)
    finally:
        stop.set()
        thread.join()
    bench.work()
    # What was new while it was being erased was there before it was.
    assert left(database_url) == []
    assert codes <= {"erased"}


def test_without_a_key_nothing_can_be_erased(serve: Serve) -> None:
    answer = serve(None).delete("/v1/subjects/anybody")
    assert (answer.status_code, answer.json()["code"]) == (409, "pii-key-unset")
