"""Labels over HTTP: early, late, twice, conflicting."""

from typing import Any

from tests.integration.ingest.conftest import Api, Run, a_label, a_prediction

ARRIVALS = "SELECT kind, to_char(bucket, 'HH24'), pending FROM arrival ORDER BY id"


def counts(answer: Any) -> tuple[int, int, int]:
    document = answer.json()
    return document["accepted"], document["duplicates"], len(document["rejected"])


def test_a_late_label_marks_the_hour_of_its_prediction(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("a"))
        assert counts(await api.labels(a_label("a"))) == (1, 0, 0)
        assert api.query(ARRIVALS) == [("rows", "03", None), ("labels", "03", None)]
        logged = (await api.client.get("/v1/models/loans/predictions/a")).json()
        assert (logged["label"], logged["labels"][0]["label_ts"]) == ("1", "2026-02-01T00:00:00Z")

    run(body)


def test_an_early_label_is_listed_until_its_prediction_comes(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("known"))
        assert counts(await api.labels(a_label("b"), a_label("known"), a_label("a"))) == (3, 0, 0)
        marks = api.query(ARRIVALS)[1:]
        assert sorted(marks, key=str) == [
            ("labels", "03", None),
            ("labels", None, ["a", "b"]),
        ]

    run(body)


def test_a_label_again_is_a_duplicate_and_marks_nothing(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.labels(a_label("a"))
        same = [a_label("a"), a_label("a", label=1), a_label("a", label=True)]
        assert counts(await api.labels(*same)) == (0, 3, 0)
        assert (api.count("label"), api.count("arrival")) == (1, 1)

    run(body)


def test_a_correction_needs_a_newer_time(run: Run) -> None:
    async def body(api: Api) -> None:
        await api.predictions(a_prediction("a"))
        await api.labels(a_label("a"))
        conflict = await api.labels(a_label("a", label=0), a_label("b"))
        assert [r["code"] for r in conflict.json()["rejected"]] == ["conflicting-label"]
        newer = a_label("a", label=0, label_ts="2026-02-02T00:00:00+01:00")
        assert counts(await api.labels(newer)) == (1, 0, 0)
        logged = (await api.client.get("/v1/models/loans/predictions/a")).json()
        assert (logged["label"], len(logged["labels"])) == ("0", 2)

    run(body)


def test_a_label_is_one_of_the_classes_and_has_a_time(run: Run) -> None:
    async def body(api: Api) -> None:
        answer = await api.labels(
            a_label("a", label="maybe"),
            a_label("b", label=None),
            a_label("c", label_ts="2026-02-01T00:00:00"),
            {"prediction_id": "d", "label": 1},
            a_label("e", label={"x": 1}),
            a_label("f", label=1.0),
        )
        assert [r["code"] for r in answer.json()["rejected"]] == [
            *("unknown-class", "missing-field", "timestamp-without-zone"),
            *("missing-field", "bad-label"),
        ]
        assert answer.json()["accepted"] == 1

    run(body)


def test_labels_come_as_lines_too(run: Run) -> None:
    async def body(api: Api) -> None:
        lines = [a_label("a", model="loans"), a_label("b", model="nothing"), a_label("c")]
        answer = await api.lines(*lines, path="/v1/labels")
        assert [r["code"] for r in answer.json()["rejected"]] == ["unknown-model", "missing-field"]
        assert (await api.lines(a_label("c"), path="/v1/labels?model=loans")).status_code == 200

    run(body)
