"""What open incidents alert about, in numbers, for whoever reads an alert."""

from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from service.runs.tables import LatestWindow
from tests.integration.exporter.reading import collected
from tests.integration.seeded import (
    DAY,
    HOSTILE,
    START,
    add_drift,
    add_incident,
    add_measurement,
    add_window,
    point_latest,
    register,
)

Sessions = sessionmaker[Session]
OF_LOSS = ("performance", "", "", "")


def numbers(sessions: Sessions) -> dict[tuple[Any, ...], float]:
    left_out = {"incident_open", "incident_since_timestamp_seconds"}
    found = {k: v for k, v in collected(sessions).items() if k[0].startswith("incident_")}
    return {
        (key[0].removeprefix("incident_"), *key[1:]): value
        for key, value in found.items()
        if key[0] not in left_out
    }


def test_an_open_incident_has_the_numbers_of_what_alerts(sessions: Sessions) -> None:
    version = register(sessions, "7")
    add_incident(sessions, kind="performance", subject="")
    add_incident(sessions, kind="slice", subject="", slice=HOSTILE)
    with sessions.begin() as session:
        window = add_window(session, version)
        add_measurement(session, window, 0)
        add_measurement(session, window, 1, metric="accuracy", verdict="ok")
        add_measurement(session, window, 2, slice=HOSTILE, engine="rows", ci_low=None)
        add_drift(session, window, 3, "income")
        point_latest(session, window)
    end = ("window_end_timestamp_seconds", (START + DAY).timestamp())
    values = [
        *(("value", 0.8), ("ci_lower", 0.78), ("ci_upper", 0.82)),
        *(("threshold", 0.89), ("reference", 0.9), ("rows", 4100)),
    ]
    expected: dict[tuple[Any, ...], float] = {
        (name, *OF_LOSS, "roc_auc"): value for name, value in values
    }
    of_slice = ("slice", "", "", HOSTILE)
    expected |= {(name, *of_slice, "roc_auc"): v for name, v in values if name != "ci_lower"}
    expected |= {(end[0], *OF_LOSS): end[1], (end[0], *of_slice): end[1]}
    assert numbers(sessions) == expected


def test_the_newest_window_that_alerts_about_an_incident_tells_its_numbers(
    sessions: Sessions,
) -> None:
    version = register(sessions, "7")
    add_incident(sessions, kind="performance", subject="")
    add_incident(sessions, subject="income")
    with sessions.begin() as session:
        labelled, newest = (add_window(session, version, day) for day in (0, 1))
        for window, score in ((labelled, 0.2), (newest, 0.3)):
            add_drift(session, window, 0, "income", value=score)
        add_measurement(session, labelled, 1)
        for window, family in ((labelled, "performance"), (newest, "data")):
            session.add(
                LatestWindow(
                    version_id=version.version_id,
                    model_id=version.model_id,
                    family=family,
                    start=window.start,
                    end=window.end,
                )
            )
    found = numbers(sessions)
    of_drift = ("drift", "", "income", "")
    ends = "window_end_timestamp_seconds"
    assert found[ends, *OF_LOSS] == (START + DAY).timestamp()
    assert found[ends, *of_drift] == (START + 2 * DAY).timestamp()
    assert found["value", *of_drift, "jensen_shannon"] == 0.3


def test_no_more_metrics_than_a_sentence_names_and_no_threshold_that_was_not_crossed(
    sessions: Sessions,
) -> None:
    version = register(sessions, "7")
    add_incident(sessions, kind="performance", subject="")
    add_incident(sessions, subject=HOSTILE)
    metrics = ["roc_auc", "log_loss", "accuracy", "f1"]
    with sessions.begin() as session:
        window = add_window(session, version)
        for position, metric in enumerate(metrics):
            add_measurement(session, window, position, metric=metric)
        # A rare value has become common, and the score has hardly moved.
        add_drift(session, window, 9, HOSTILE, value=0.06)
        point_latest(session, window)
    found = numbers(sessions)
    assert [key[-1] for key in found if key[:2] == ("value", "performance")] == metrics[:3]
    of_drift = {key[0] for key in found if key[1] == "drift"}
    assert of_drift == {"window_end_timestamp_seconds", "value", "rows"}
